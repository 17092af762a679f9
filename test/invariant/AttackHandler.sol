// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Rows} from "./Rows.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

/// @notice What must be refused, and for which reason, whenever it is tried.
abstract contract AttackHandler is Rows {
    /// @dev The parameters of a channel that exists, or existed, in one of the ways to open one.
    function reopen(uint256 seed) external {
        (bool found, Book storage book) = _anyBook(seed);
        if (!found) return;
        bytes memory call = _callToOpen(book, _draw(seed, "way", 5));
        _assertRefused(book.payer, address(escrow), call, IChannelEscrow.ChannelAlreadyExists.selector);
        _count();
    }

    function _callToOpen(Book storage book, uint256 way) private view returns (bytes memory) {
        (address from, address to, address asset) = (book.payer, book.payee, address(_tokens[book.t]));
        (bytes32 salt, address by, uint64 deadline) =
            (book.salt, _authorizedSigner(book.kind), uint64(block.timestamp + 1));
        if (way == 0) return abi.encodeCall(escrow.open, (to, asset, 1, salt, by));
        if (way == 1) return abi.encodeCall(escrow.openFromBalance, (to, asset, 1, salt, by));
        if (way == 2) {
            return abi.encodeCall(escrow.openWithPermit2, (to, asset, 1, salt, by, from, 0, deadline, ""));
        }
        if (way == 3) {
            bytes32 nonce = keccak256(abi.encode(from, to, asset, salt, by));
            return abi.encodeCall(escrow.openWithAuthorization, (to, asset, 1, salt, by, from, 0, deadline, nonce, ""));
        }
        IRelayedChannels.ChannelGrant memory grant =
            IRelayedChannels.ChannelGrant(from, to, asset, 1, salt, by, deadline);
        return abi.encodeCall(escrow.openWithGrant, (grant, _signStruct(from, grantHash(grant))));
    }

    /// @dev Anything with a channel that has ended, by those who had every right to it, with all signatures.
    function touchEnded(uint256 seed) external {
        (bool found, Book storage book) = _endedBook(seed);
        if (!found) return;
        uint256 way = _draw(seed, "way", 13);
        bytes memory call = way < 7 ? _callOfPayer(book, way) : _callOfPayee(book, way - 7);
        _assertRefused(
            way < 7 ? book.payer : book.payee,
            way == 12 ? address(settlement) : address(escrow),
            call,
            IChannelEscrow.ChannelFinalized.selector
        );
        _count();
    }

    function _callOfPayer(Book storage book, uint256 way) private view returns (bytes memory) {
        (bytes32 id, address from, uint64 deadline) = (book.id, book.payer, uint64(block.timestamp + 1));
        if (way == 0) return abi.encodeCall(escrow.requestClose, (id));
        if (way == 1) return abi.encodeCall(escrow.withdraw, (id));
        if (way == 2) return abi.encodeCall(escrow.topUp, (id, 1));
        if (way == 3) return abi.encodeCall(escrow.topUpFromBalance, (id, 1));
        if (way == 4) return abi.encodeCall(escrow.topUpWithPermit2, (id, 1, from, 0, deadline, ""));
        if (way == 5) {
            bytes32 nonce = keccak256(abi.encode(id, uint128(1), from, book.salt));
            return abi.encodeCall(escrow.topUpWithAuthorization, (id, 1, from, book.salt, 0, deadline, nonce, ""));
        }
        IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(id, book.deposit + 1, deadline);
        return abi.encodeCall(escrow.topUpWithGrant, (grant, _signStruct(from, grantHash(grant))));
    }

    function _callOfPayee(Book storage book, uint256 way) private view returns (bytes memory) {
        (bytes32 id, uint128 all, uint256 deadline) = (book.id, book.deposit, block.timestamp);
        bytes memory voucher = _voucher(book, all);
        if (way == 0) return abi.encodeCall(escrow.settle, (id, all, voucher));
        if (way == 1) return abi.encodeCall(escrow.close, (id, all, voucher));
        if (way == 2) {
            bytes memory signature = _signStruct(book.payee, settleHash(id, all, 7, deadline));
            return abi.encodeCall(escrow.settleWithAuthorization, (id, all, 7, deadline, signature, voucher));
        }
        if (way == 3) {
            bytes memory signature = _signStruct(book.payee, closeHash(id, all, 7, deadline));
            return abi.encodeCall(escrow.closeWithAuthorization, (id, all, 7, deadline, signature, voucher));
        }
        if (way == 4) {
            bytes memory signature = _signStruct(book.payer, requestCloseHash(id, 7, deadline));
            return abi.encodeCall(escrow.requestCloseWithAuthorization, (id, 7, deadline, signature));
        }
        // By a voucher for nothing more, whose signature is not asked for.
        return
            abi.encodeCall(settlement.closeWithVoucher, (book.payee, address(_tokens[book.t]), _voucherRow(book, 0, 0)));
    }

    /// @dev The other side's rights, and those of nobody.
    function trespass(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        uint256 way = _draw(seed, "way", 9);
        // Payee and payer may be one: then a stranger tries.
        bool isOne = book.payer == book.payee;
        if (way < 4) {
            bytes memory call = _callOfPayer(book, way);
            _assertRefused(isOne ? stranger : book.payee, address(escrow), call, IChannelEscrow.NotPayer.selector);
        } else if (way < 6) {
            bytes memory call = _callOfPayee(book, way - 4);
            _assertRefused(isOne ? stranger : book.payer, address(escrow), call, IChannelEscrow.NotPayee.selector);
        } else if (way < 8) {
            bytes memory call = way == 6 ? _claimOf(book) : _callOfPayee(book, 5);
            address by = _isRetired[book.payee] ? operator.addr : stranger;
            _assertRefused(by, address(settlement), call, IUsageSettlement.NotOperator.selector);
        } else {
            bytes memory call = abi.encodeCall(escrow.closeChannel, (book.id, 0));
            _assertRefused(book.payee, address(escrow), call, IChannelEscrow.NotSettlement.selector);
        }
        _count();
    }

    function _claimOf(Book storage book) private view returns (bytes memory) {
        IUsageSettlement.ReceiptRow[] memory rows = rowsOf(_receiptRow(book, book.deposit, operator.addr));
        return abi.encodeCall(settlement.claimReceipts, (book.payee, address(_tokens[book.t]), rows));
    }

    /// @dev The right caller, with what the other side has not signed, or not for this.
    function forge(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found || book.settled == book.deposit) return;
        uint256 way = _draw(seed, "way", 9);
        bytes4 refusal = IChannelEscrow.InvalidSignature.selector;
        if (way == 7) refusal = IChannelEscrow.AmountExceedsDeposit.selector;
        if (way == 8) refusal = IChannelEscrow.AmountNotIncreasing.selector;
        _assertRefused(book.payee, way == 6 ? address(settlement) : address(escrow), _forgedCall(book, way), refusal);
        _count();
    }

    /// @dev The operator's key signs nothing but bills.
    function _forgedCall(Book storage book, uint256 way) private view returns (bytes memory) {
        (bytes32 id, uint128 all, uint256 deadline, address forger) =
            (book.id, book.deposit, block.timestamp, operator.addr);
        bytes memory voucher = _sign(forger, voucherDigest(id, all));
        if (way == 0) return abi.encodeCall(escrow.settle, (id, all, voucher));
        if (way == 1) return abi.encodeCall(escrow.close, (id, all, voucher));
        if (way == 2) {
            bytes memory signature = _signStruct(forger, settleHash(id, all, 7, deadline));
            bytes memory good = _voucher(book, all);
            return abi.encodeCall(escrow.settleWithAuthorization, (id, all, 7, deadline, signature, good));
        }
        if (way == 3) {
            bytes memory signature = _signStruct(forger, closeHash(id, 0, 7, deadline));
            return abi.encodeCall(escrow.closeWithAuthorization, (id, 0, 7, deadline, signature, ""));
        }
        if (way == 4) {
            bytes memory signature = _signStruct(forger, requestCloseHash(id, 7, deadline));
            return abi.encodeCall(escrow.requestCloseWithAuthorization, (id, 7, deadline, signature));
        }
        if (way == 5) {
            IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(id, all + 1, uint64(deadline));
            return abi.encodeCall(escrow.topUpWithGrant, (grant, _signStruct(forger, grantHash(grant))));
        }
        if (way == 6) {
            IUsageSettlement.ReceiptRow memory row = _receiptRow(book, all, forger);
            row.payerR ^= bytes32(uint256(1));
            return abi.encodeCall(settlement.closeWithReceipt, (book.payee, address(_tokens[book.t]), row));
        }
        if (way == 7) return abi.encodeCall(escrow.settle, (id, all + 1, _voucher(book, all + 1)));
        return abi.encodeCall(escrow.settle, (id, book.settled, _voucher(book, book.settled)));
    }

    function _assertRefused(address by, address target, bytes memory call, bytes4 refusal) private {
        vm.prank(by);
        (bool success, bytes memory data) = target.call(call);
        assertFalse(success, "what must be refused was done");
        assertEq(bytes4(data), refusal, "refused for another reason");
    }
}
