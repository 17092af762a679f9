// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Books} from "./Books.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice The payer's way out, and taking back what was signed for it.
abstract contract ExitHandler is Books {
    function requestClose(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        _writeCloseRequested(book);
        vm.prank(book.payer);
        escrow.requestClose(book.id);
        _count();
    }

    /// @dev A nonce is good once: a second time is asserted to be refused.
    function requestCloseWithAuthorization(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        (uint256 nonce, uint256 deadline) = (_draw(seed, "nonce", 2), _deadline(seed));
        if (_oneIn(8, seed, "late")) deadline = block.timestamp - 1;
        bytes memory signature = _signStruct(book.payer, requestCloseHash(book.id, nonce, deadline));

        bytes4 refusal;
        if (_isRefusing(book.payer)) refusal = IChannelEscrow.InvalidSignature.selector;
        else if (_usedNonce[book.payer][book.id][nonce]) refusal = IRelayedChannels.NonceAlreadyUsed.selector;
        else if (deadline < block.timestamp) refusal = IRelayedChannels.AuthorizationExpired.selector;

        if (refusal != 0) {
            vm.expectRevert(refusal);
        } else {
            _usedNonce[book.payer][book.id][nonce] = true;
            _writeCloseRequested(book);
            _count();
        }
        vm.prank(stranger);
        escrow.requestCloseWithAuthorization(book.id, nonce, deadline, signature);
    }

    /// @dev By payer or payee: whatever they signed under that nonce is worth nothing from then on.
    function invalidateNonce(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        address account = _oneIn(2, seed, "payee") ? book.payee : book.payer;
        uint256 nonce = _draw(seed, "nonce", 8); // others draw from the first two
        if (_usedNonce[account][book.id][nonce]) {
            vm.expectRevert(IRelayedChannels.NonceAlreadyUsed.selector);
        } else {
            _usedNonce[account][book.id][nonce] = true;
            _count();
        }
        vm.prank(account);
        escrow.invalidateNonce(book.id, nonce);
    }

    function withdraw(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        if (book.closeRequestedAt != 0 && _oneIn(2, seed, "waits")) skip(1 hours);
        if (_isGraceOver(book)) {
            _writeEnded(book);
            _count();
        } else {
            vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
        }
        vm.prank(book.payer);
        escrow.withdraw(book.id);
    }

    /// @dev After the time that is left to a channel, to the second: at its last, and after.
    function waitAndWithdraw(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found || book.closeRequestedAt == 0) return;
        if (!_isGraceOver(book)) {
            vm.warp(book.closeRequestedAt + 1 hours - 1);
            vm.prank(book.payer);
            vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
            escrow.withdraw(book.id);
            skip(1);
        }
        _writeEnded(book);
        vm.prank(book.payer);
        escrow.withdraw(book.id);
        _count();
    }
}
