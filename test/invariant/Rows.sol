// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Books} from "./Books.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice What the two sides of a channel sign for a claim.
abstract contract Rows is Books {
    /// @dev What only keys can sign, by rows of a batch, contracts can't.
    function _isSignedByKey(Book storage book) internal view returns (bool) {
        return !_hasCode[_payerSide(book)];
    }

    function _voucher(Book storage book, uint128 amount) internal view returns (bytes memory) {
        return _sign(_payerSide(book), voucherDigest(book.id, amount));
    }

    function _voucherRow(Book storage book, uint128 ceiling, uint128 amount)
        internal
        view
        returns (IChannelEscrow.VoucherRow memory row)
    {
        (row.payer, row.salt, row.authorizedSigner) = (book.payer, book.salt, _authorizedSigner(book.kind));
        row.amounts = toVoucherAmounts(ceiling, amount);
        (row.r, row.vs) = _signCompact(_payerSide(book), voucherDigest(book.id, ceiling));
    }

    /// @dev The voucher that the channel's payee holds, as it was signed.
    function _heldRow(Book storage book, uint128 amount) internal view returns (IChannelEscrow.VoucherRow memory row) {
        (row.payer, row.salt, row.authorizedSigner) = (book.payer, book.salt, _authorizedSigner(book.kind));
        (row.r, row.vs, row.amounts) = (book.heldR, book.heldVs, toVoucherAmounts(book.held, amount));
    }

    function _contractRow(Book storage book, uint128 ceiling, uint128 amount)
        internal
        view
        returns (IChannelEscrow.ContractVoucherRow memory row)
    {
        (row.payer, row.salt, row.authorizedSigner) = (book.payer, book.salt, _authorizedSigner(book.kind));
        (row.amounts, row.signature) = (toVoucherAmounts(ceiling, amount), _voucher(book, ceiling));
    }

    /// @param billSigner The payee's operator, or the payee.
    function _receiptRow(Book storage book, uint128 amount, address billSigner)
        internal
        view
        returns (IUsageSettlement.ReceiptRow memory row)
    {
        (row.payer, row.salt, row.authorizedSigner) = (book.payer, book.salt, _authorizedSigner(book.kind));
        (row.sequence, row.cumulativeAmount) = (1, amount);
        row.billHash = billHashOf(book.id, amount);
        (row.payerR, row.payerVs) = _signCompact(_payerSide(book), receiptDigest(book.id, row));
        (row.operatorR, row.operatorVs) = _signCompact(billSigner, typedDigest(settlementDomain(), row.billHash));
    }

    /// @dev Of the two who may ask the settlement, one.
    function _drawOperator(uint256 seed, address payee_) internal view returns (address) {
        return !_isRetired[payee_] && _oneIn(2, seed, "operator") ? operator.addr : payee_;
    }

    /// @dev Of the two who may sign a bill, retired or not, one. A contract can't.
    function _drawBillSigner(uint256 seed, address payee_) internal view returns (address) {
        return _hasCode[payee_] || _oneIn(2, seed, "bill") ? operator.addr : payee_;
    }
}
