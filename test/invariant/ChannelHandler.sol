// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {MinimalPermit2} from "../permit2/MinimalPermit2.sol";
import {Books} from "./Books.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice All ways in which a channel is opened, or its deposit raised: by the payer, or by anyone on a signature.
abstract contract ChannelHandler is Books {
    uint256 private _permit2Nonces;

    // --- Opening ---

    function open(uint256 seed) external {
        (bool can, Book memory book) = _newBook(seed, false);
        if (!can) return;
        _writeOpened(book);
        address by = _authorizedSigner(book.kind);
        vm.prank(book.payer);
        assertEq(escrow.open(book.payee, address(_tokens[book.t]), book.deposit, book.salt, by), book.id);
        _count();
    }

    function openFromBalance(uint256 seed) external {
        (bool can, Book memory book) = _newBook(seed, true);
        if (!can) return;
        _writeOpened(book);
        address by = _authorizedSigner(book.kind);
        vm.prank(book.payer);
        assertEq(escrow.openFromBalance(book.payee, address(_tokens[book.t]), book.deposit, book.salt, by), book.id);
        _count();
    }

    function openWithAuthorization(uint256 seed) external {
        (bool can, Book memory book) = _newBook(seed, false);
        if (!can || book.t != DEV || _hasCode[book.payer]) return;
        address by = _authorizedSigner(book.kind);
        bytes32 nonce = keccak256(abi.encode(book.payer, book.payee, address(token), book.salt, by));
        uint256 before = _deadline(seed) + 1;
        bytes memory signature = _signReceipt(book.payer, book.deposit, before, nonce);

        // Attack: the same money to somebody else.
        vm.expectRevert(IRelayedChannels.NonceMismatch.selector);
        escrow.openWithAuthorization(
            stranger, address(token), book.deposit, book.salt, by, book.payer, 0, before, nonce, signature
        );

        // Attack: the same money into its balance.
        vm.expectRevert(IRelayedChannels.NonceMismatch.selector);
        escrow.depositWithAuthorization(
            address(token), book.deposit, book.payer, book.salt, 0, before, nonce, signature
        );

        _writeOpened(book);
        vm.prank(stranger);
        escrow.openWithAuthorization(
            book.payee, address(token), book.deposit, book.salt, by, book.payer, 0, before, nonce, signature
        );
        _count();
    }

    function openWithPermit2(uint256 seed) external {
        (bool can, Book memory book) = _newBook(seed, false);
        if (!can) return;
        address by = _authorizedSigner(book.kind);
        (uint256 nonce, uint256 deadline) = (++_permit2Nonces, _deadline(seed));
        bytes memory signature =
            _signPermit2ToOpen(book.payer, book.t, book.deposit, nonce, deadline, book.payee, book.salt, by);

        // Attack: the same money to somebody else.
        _expectPermit2ToRefuse(book.payer);
        escrow.openWithPermit2(
            stranger, address(_tokens[book.t]), book.deposit, book.salt, by, book.payer, nonce, deadline, signature
        );

        bool isRefused = _isRefusing(book.payer);
        if (isRefused) _expectPermit2ToRefuse(book.payer);
        else _writeOpened(book);
        vm.prank(stranger);
        escrow.openWithPermit2(
            book.payee, address(_tokens[book.t]), book.deposit, book.salt, by, book.payer, nonce, deadline, signature
        );
        if (!isRefused) _count();
    }

    function openWithGrant(uint256 seed) external {
        (bool can, Book memory book) = _newBook(seed, true);
        if (!can) return;
        bool isLate = _oneIn(8, seed, "late");
        IRelayedChannels.ChannelGrant memory grant = IRelayedChannels.ChannelGrant({
            payer: book.payer,
            payee: book.payee,
            token: address(_tokens[book.t]),
            deposit: book.deposit,
            salt: book.salt,
            authorizedSigner: _authorizedSigner(book.kind),
            deadline: uint64(isLate ? block.timestamp - 1 : _deadline(seed))
        });
        bytes memory signature = _signStruct(book.payer, grantHash(grant));

        bytes4 refusal;
        if (_isRefusing(book.payer)) refusal = bytes4(keccak256("InvalidSignature()"));
        else if (isLate) refusal = IRelayedChannels.AuthorizationExpired.selector;
        if (refusal != 0) vm.expectRevert(refusal);
        else _writeOpened(book);
        vm.prank(stranger);
        escrow.openWithGrant(grant, signature);
        if (refusal == 0) _count();
    }

    // --- Topping up ---

    function topUp(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        uint128 amount = uint128(_some(seed, "amount", _spendable(book.payer, book.t)));
        if (amount == 0) return;
        _wallet[book.payer][book.t] -= amount;
        _writeToppedUp(book, amount, true);
        vm.prank(book.payer);
        escrow.topUp(book.id, amount);
        _count();
    }

    function topUpFromBalance(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        uint128 amount = uint128(_some(seed, "amount", _balance[book.payer][book.t]));
        if (amount == 0) return;
        _balance[book.payer][book.t] -= amount;
        _writeToppedUp(book, amount, true);
        vm.prank(book.payer);
        escrow.topUpFromBalance(book.id, amount);
        _count();
    }

    /// @dev By the payer, or by somebody else, who can't cancel a close.
    function topUpWithAuthorization(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found || book.t != DEV) return;
        address from = _oneIn(2, seed, "gift") ? _drawPayer(seed) : book.payer;
        uint128 amount = uint128(_some(seed, "amount", _spendable(from, DEV)));
        if (amount == 0 || _hasCode[from]) return;
        bytes32 salt = _newSalt();
        bytes32 nonce = keccak256(abi.encode(book.id, amount, from, salt));
        uint256 before = _deadline(seed) + 1;
        bytes memory signature = _signReceipt(from, amount, before, nonce);

        // Attack: with a salt that was not signed.
        vm.expectRevert(IRelayedChannels.NonceMismatch.selector);
        escrow.topUpWithAuthorization(book.id, amount, from, 0, 0, before, nonce, signature);

        _wallet[from][DEV] -= amount;
        _writeToppedUp(book, amount, from == book.payer);
        vm.prank(stranger);
        escrow.topUpWithAuthorization(book.id, amount, from, salt, 0, before, nonce, signature);

        // Attack: once more.
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, from, nonce));
        escrow.topUpWithAuthorization(book.id, amount, from, salt, 0, before, nonce, signature);
        _count();
    }

    /// @dev As above.
    function topUpWithPermit2(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        address from = _oneIn(2, seed, "gift") ? _drawPayer(seed) : book.payer;
        uint128 amount = uint128(_some(seed, "amount", _spendable(from, book.t)));
        if (amount == 0) return;
        (uint256 nonce, uint256 deadline) = (++_permit2Nonces, _deadline(seed));
        bytes memory signature = _signPermit2ToTopUp(from, book.t, amount, nonce, deadline, book.id);

        bool isRefused = _isRefusing(from);
        if (isRefused) {
            _expectPermit2ToRefuse(from);
        } else {
            _wallet[from][book.t] -= amount;
            _writeToppedUp(book, amount, from == book.payer);
            _count();
        }
        vm.prank(stranger);
        escrow.topUpWithPermit2(book.id, amount, from, nonce, deadline, signature);
    }

    function topUpWithGrant(uint256 seed) external {
        (bool found, Book storage book) = _openBook(seed);
        if (!found) return;
        uint128 amount = uint128(_some(seed, "amount", _balance[book.payer][book.t]));
        if (amount == 0) return;
        IRelayedChannels.TopUpGrant memory grant =
            IRelayedChannels.TopUpGrant(book.id, book.deposit + amount, uint64(_deadline(seed)));
        bytes memory signature = _signStruct(book.payer, grantHash(grant));

        bool isRefused = _isRefusing(book.payer);
        if (isRefused) {
            vm.expectRevert(bytes4(keccak256("InvalidSignature()")));
        } else {
            _balance[book.payer][book.t] -= amount;
            _writeToppedUp(book, amount, true);
        }
        vm.prank(stranger);
        escrow.topUpWithGrant(grant, signature);
        if (isRefused) return;

        // Attack: once more.
        vm.expectRevert(bytes4(keccak256("ZeroDeposit()")));
        escrow.topUpWithGrant(grant, signature);
        _count();
    }

    /// @dev The next call asks Permit2 for what the account did not sign, or refuses to sign now.
    function _expectPermit2ToRefuse(address account) private {
        if (_isRefusing(account)) vm.expectRevert("refused");
        else if (_hasCode[account]) vm.expectRevert(MinimalPermit2.InvalidContractSignature.selector);
        else vm.expectRevert(MinimalPermit2.InvalidSigner.selector);
    }

    // --- What is opened ---

    /// @return can Whether there is money for it, and room for another channel.
    function _newBook(uint256 seed, bool fromBalance) private returns (bool can, Book memory book) {
        if (_books.length >= MAX_CHANNELS) return (false, book);
        book.payer = _drawPayer(seed);
        book.payee = _payees[_draw(seed, "payee", _payees.length)];
        book.t = _drawToken(seed);
        book.kind = SignerKind(_draw(seed, "kind", 3));
        book.refundsToBalance = fromBalance;
        uint256 most = fromBalance ? _balance[book.payer][book.t] : _spendable(book.payer, book.t);
        book.deposit = uint128(_some(seed, "deposit", most));
        if (book.deposit == 0) return (false, book);

        book.salt = _newSalt();
        address by = _authorizedSigner(book.kind);
        book.id = channelIdOf(book.payer, book.payee, address(_tokens[book.t]), book.salt, by);
        return (true, book);
    }
}
