// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Rows} from "./Rows.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

/// @notice Claims of one channel: settling it and closing it, by the payee or by anyone on its signature.
abstract contract ClaimHandler is Rows {
    /// @dev Above the nonces that other actions draw.
    uint256 private _freshNonce = 1000;

    // --- Settling ---

    function settle(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found || book.settled == book.deposit) return;
        uint128 amount = _drawAmount(seed, book);
        bytes memory voucher = _voucher(book, amount);

        bytes4 refusal = _refusalToSettle(book);
        if (refusal != 0) vm.expectRevert(refusal);
        else _wallet[book.payee][book.t] += _writeSettled(book, amount);
        vm.prank(book.payee);
        escrow.settle(book.id, amount, voucher);
        if (refusal == 0) _count();
    }

    /// @dev A nonce is good once: a second time is asserted to be refused. It is the same nonce for closing.
    function settleWithAuthorization(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found || book.settled == book.deposit) return;
        uint128 amount = _drawAmount(seed, book);
        (uint256 nonce, uint256 deadline) = _drawNonce(seed);
        bytes memory signature = _signStruct(book.payee, settleHash(book.id, amount, nonce, deadline));
        bytes memory voucher = _voucher(book, amount);

        bytes4 refusal = _isRefusing(_payerSide(book))
            ? IChannelEscrow.InvalidSignature.selector
            : _refusalOfPayee(book, nonce, deadline);
        if (refusal == 0) refusal = _refusalToSettle(book);
        if (refusal != 0) {
            vm.expectRevert(refusal);
        } else {
            _usedNonce[book.payee][book.id][nonce] = true;
            _wallet[book.payee][book.t] += _writeSettled(book, amount);
            _count();
        }
        vm.prank(stranger);
        escrow.settleWithAuthorization(book.id, amount, nonce, deadline, signature, voucher);
    }

    // --- Closing ---

    function close(uint256 seed) external {
        (bool found, Book storage book) = _bookToClose(seed);
        if (!found) return;
        uint128 amount = uint128(_draw(seed, "amount", uint256(book.deposit) + 1));
        // Nothing more to settle: no signature is needed.
        bytes memory voucher = amount > book.settled ? _voucher(book, amount) : bytes("");

        bool isRefused = amount > book.settled && _isRefusing(_payerSide(book));
        if (isRefused) vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        else _writeClosed(book, amount);
        vm.prank(book.payee);
        escrow.close(book.id, amount, voucher);
        if (!isRefused) _count();
    }

    function closeWithAuthorization(uint256 seed) external {
        (bool found, Book storage book) = _bookToClose(seed);
        if (!found) return;
        uint128 amount = uint128(_draw(seed, "amount", uint256(book.deposit) + 1));
        bytes memory voucher = amount > book.settled ? _voucher(book, amount) : bytes("");
        (uint256 nonce, uint256 deadline) = _drawNonce(seed);
        bytes memory signature = _signStruct(book.payee, closeHash(book.id, amount, nonce, deadline));

        bytes4 refusal = amount > book.settled && _isRefusing(_payerSide(book))
            ? IChannelEscrow.InvalidSignature.selector
            : _refusalOfPayee(book, nonce, deadline);
        if (refusal != 0) {
            vm.expectRevert(refusal);
        } else {
            _usedNonce[book.payee][book.id][nonce] = true;
            _writeClosed(book, amount);
            _count();
        }
        vm.prank(stranger);
        escrow.closeWithAuthorization(book.id, amount, nonce, deadline, signature, voucher);
    }

    function closeWithVoucher(uint256 seed) external {
        (bool found, Book storage book) = _bookToClose(seed);
        if (!found) return;
        uint128 amount = uint128(_draw(seed, "amount", uint256(book.deposit) + 1));
        bool isTooMuch = amount != 0 && _oneIn(8, seed, "too much");
        uint128 ceiling = isTooMuch ? amount - 1 : amount + uint128(_draw(seed, "increment", 1e6));
        IChannelEscrow.VoucherRow memory row = _voucherRow(book, ceiling, amount);

        bytes4 refusal;
        if (amount > book.settled) {
            if (isTooMuch) refusal = IUsageSettlement.AmountExceedsVoucher.selector;
            else if (!_isSignedByKey(book)) refusal = IUsageSettlement.InvalidSignature.selector;
        }
        if (refusal != 0) vm.expectRevert(refusal);
        else _writeClosed(book, amount);
        vm.prank(_drawOperator(seed, book.payee));
        settlement.closeWithVoucher(book.payee, address(_tokens[book.t]), row);
        if (refusal == 0) _count();
    }

    function closeWithReceipt(uint256 seed) external {
        (bool found, Book storage book) = _bookToClose(seed);
        if (!found) return;
        uint128 amount = uint128(_draw(seed, "amount", uint256(book.deposit) + 1));
        IUsageSettlement.ReceiptRow memory row = _receiptRow(book, amount, _drawBillSigner(seed, book.payee));

        bool isRefused = !_isSignedByKey(book);
        if (isRefused) vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        else _writeClosed(book, amount);
        vm.prank(_drawOperator(seed, book.payee));
        settlement.closeWithReceipt(book.payee, address(_tokens[book.t]), row);
        if (!isRefused) _count();
    }

    // --- What a key has signed can be claimed until grace is over (invariant 5) ---

    /// @dev The payer side's key signs a voucher, which the payee keeps as it is.
    function authorize(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found || !_isSignedByKey(book) || book.closeRequestedAt != 0 || book.held == book.deposit) return;
        uint256 least = book.held > book.settled ? book.held : book.settled;
        if (least == book.deposit) return;
        book.held = uint128(least + _some(seed, "amount", book.deposit - least));
        (book.heldR, book.heldVs) = _signCompact(_payerSide(book), voucherDigest(book.id, book.held));
        _count();
    }

    function claimHeld(uint256 seed) external {
        (bool found, Book storage book) = _heldBook(seed);
        if (!found) return;
        if (book.closeRequestedAt == 0) {
            if (_oneIn(2, seed, "leaves")) return;
            _writeCloseRequested(book);
            vm.prank(book.payer);
            escrow.requestClose(book.id);
        }
        uint256 end = book.closeRequestedAt + 1 hours;
        if (block.timestamp < end) {
            uint256 last = end - 1 - block.timestamp;
            skip(_oneIn(2, seed, "last second") ? last : _draw(seed, "time", last + 1));
        }
        _claimHeld(book, _draw(seed, "way", 7));
        _count();
    }

    /// @dev Pays all of it, whichever way it is claimed.
    function _claimHeld(Book storage book, uint256 way) internal {
        (bytes32 id, uint128 held, address to) = (book.id, book.held, book.payee);
        address asset = address(_tokens[book.t]);
        // Who can't be paid directly, or has nobody to sign, still has the batch.
        if (way == 0 && _isBlocked(to, book.t)) way = 4;
        if ((way == 1 || way == 2) && (_isBlocked(to, book.t) || _isRefusing(to))) way = 4;

        IChannelEscrow.VoucherRow memory row = _heldRow(book, held);
        bytes memory voucher = abi.encodePacked(book.heldR, book.heldVs);
        uint256 nonce = ++_freshNonce;
        bytes memory signature = way == 1
            ? _signStruct(to, settleHash(id, held, nonce, block.timestamp))
            : _signStruct(to, closeHash(id, held, nonce, block.timestamp));

        bool closes = way == 2 || way == 3 || way == 6;
        if (closes) _writeClosed(book, held);
        else _writePaid(to, book.t, _writeSettled(book, held));
        vm.prank(way == 0 || way == 3 || way == 6 ? to : stranger);
        if (way == 0) escrow.settle(id, held, voucher);
        if (way == 1) escrow.settleWithAuthorization(id, held, nonce, block.timestamp, signature, voucher);
        if (way == 2) escrow.closeWithAuthorization(id, held, nonce, block.timestamp, signature, voucher);
        if (way == 3) escrow.close(id, held, voucher);
        if (way == 4) escrow.claimVouchers(to, asset, rowsOf(row));
        if (way == 5) {
            IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](1);
            rows[0] = IChannelEscrow.ContractVoucherRow(row.payer, row.salt, row.authorizedSigner, voucher, row.amounts);
            escrow.claimContractVouchers(to, asset, rows);
        }
        if (way == 6) settlement.closeWithVoucher(to, asset, row);
        assertEq(escrow.getChannel(id).settled, held, "5: what a key signed is settled");
    }

    // --- What is claimed ---

    /// @dev Above what is settled, within the deposit.
    function _drawAmount(uint256 seed, Book storage book) private view returns (uint128) {
        return book.settled + uint128(_some(seed, "amount", book.deposit - book.settled));
    }

    /// @dev Few nonces, in two words, so that some come again; and sometimes a deadline that has passed.
    function _drawNonce(uint256 seed) private view returns (uint256 nonce, uint256 deadline) {
        nonce = _draw(seed, "nonce", 4) * 100;
        deadline = _oneIn(8, seed, "late") ? block.timestamp - 1 : _deadline(seed);
    }

    /// @dev Half of the time none, so that channels live for a while.
    function _bookToClose(uint256 seed) private view returns (bool found, Book storage book) {
        (found, book) = _openBook(seed);
        found = found && (_focus != 0 || _oneIn(2, seed, "closes"));
    }

    function _heldBook(uint256 seed) private view returns (bool found, Book storage book) {
        book = _bookOf(0);
        for (uint256 i = 0; i < 4; ++i) {
            (found, book) = _openBook(uint256(keccak256(abi.encode(seed, i))));
            if (found && book.held > book.settled) return (true, book);
        }
        return (false, book);
    }

    function _refusalToSettle(Book storage book) private view returns (bytes4) {
        if (_isRefusing(_payerSide(book))) return IChannelEscrow.InvalidSignature.selector;
        return _isBlocked(book.payee, book.t) ? IChannelEscrow.TransferFailed.selector : bytes4(0);
    }

    function _refusalOfPayee(Book storage book, uint256 nonce, uint256 deadline) private view returns (bytes4) {
        if (_isRefusing(book.payee)) return IChannelEscrow.InvalidSignature.selector;
        if (_usedNonce[book.payee][book.id][nonce]) return IRelayedChannels.NonceAlreadyUsed.selector;
        return deadline < block.timestamp ? IRelayedChannels.AuthorizationExpired.selector : bytes4(0);
    }
}
