// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {FickleToken} from "../adversary/Tokens.sol";
import {ClaimHandler} from "./ClaimHandler.sol";
import {ContractWallet} from "./ContractWallet.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice Compares the escrow and the tokens with the books.
abstract contract Audit is ClaimHandler {
    /// @dev 1: for every token, holdings are all balances plus `deposit - settled` of every channel not final, and gifts.
    function checkHoldings() public view {
        IChannelEscrow.Channel[] memory channels = _channels();
        for (uint256 t = 0; t < TOKENS; ++t) {
            uint256 owed = _donated[t];
            for (uint256 i = 0; i < _accounts.length; ++i) {
                owed += escrow.balanceOf(_accounts[i], address(_tokens[t]));
            }
            for (uint256 i = 0; i < channels.length; ++i) {
                if (channels[i].token != address(_tokens[t]) || channels[i].finalized) continue;
                owed += channels[i].deposit - channels[i].settled;
            }
            assertEq(_tokens[t].balanceOf(address(escrow)), owed, "1: holdings are what is owed");
        }
    }

    /// @dev 2 and 4. The books only ever raise `settled`, and write nothing more of a channel that has ended.
    function checkChannels() public view {
        IChannelEscrow.Channel[] memory channels = _channels();
        for (uint256 i = 0; i < channels.length; ++i) {
            IChannelEscrow.Channel memory channel = channels[i];
            Book storage book = _books[i];
            assertLe(channel.settled, channel.deposit, "2: settled is within the deposit");
            bytes32 recorded = keccak256(
                abi.encode(
                    book.payer,
                    book.payee,
                    _tokens[book.t],
                    _authorizedSigner(book.kind),
                    book.deposit,
                    book.settled,
                    book.closeRequestedAt,
                    book.ended,
                    book.refundsToBalance
                )
            );
            if (keccak256(abi.encode(channel)) == recorded) continue;
            assertEq(channel.settled, book.settled, "2: settled is as in the books");
            assertEq(channel.deposit, book.deposit, "the deposit is as in the books");
            assertEq(channel.closeRequestedAt, book.closeRequestedAt, "the close is as in the books");
            assertEq(channel.finalized, book.ended, "4: what is final stays so, and nothing else is");
            assertEq(keccak256(abi.encode(channel)), recorded, "4: whose channel it is never changes");
        }
    }

    /// @dev 3: everybody has what was settled for them, what remained of theirs, and what they kept; nobody has more.
    function checkAccounts() public view {
        for (uint256 t = 0; t < TOKENS; ++t) {
            uint256 held = _tokens[t].balanceOf(address(escrow));
            for (uint256 i = 0; i < _accounts.length; ++i) {
                address account = _accounts[i];
                uint256 inWallet = _tokens[t].balanceOf(account);
                assertEq(inWallet, _wallet[account][t], "3: wallets are as in the books");
                assertEq(
                    escrow.balanceOf(account, address(_tokens[t])),
                    _balance[account][t],
                    "3: balances are as in the books"
                );
                held += inWallet;
            }
            assertEq(held, _tokens[t].totalSupply(), "3: nobody else is paid");
        }
    }

    /// @dev What-if, at the end of a run: every voucher that a key signed is claimed in the last second of its grace
    /// (5), every payer leaves, every balance is withdrawn, and nothing but gifts remains.
    function windUp() external {
        FickleToken(address(_tokens[BLOCKING])).setBlocked(address(0));
        for (uint256 i = 0; i < _books.length; ++i) {
            Book storage book = _books[i];
            if (book.ended) continue;
            _leave(book);
            if (book.held > book.settled) _claimHeld(book, i % 7);
        }
        skip(2 hours);
        bytes32[] memory ids = new bytes32[](_books.length);
        for (uint256 i = 0; i < _books.length; ++i) {
            ids[i] = _books[i].id;
            if (!_books[i].ended) _writeEnded(_books[i]);
        }
        escrow.withdrawFor(ids);
        checkHoldings();
        checkChannels();
        checkAccounts();
        for (uint256 t = 0; t < TOKENS; ++t) {
            for (uint256 i = 0; i < _accounts.length; ++i) {
                vm.prank(_accounts[i]);
                escrow.withdrawBalance(address(_tokens[t]), _balance[_accounts[i]][t], _accounts[i]);
            }
            assertEq(_tokens[t].balanceOf(address(escrow)), _donated[t], "1: all that is owed can be paid");
        }
    }

    /// @dev Asks for the close, unless that was done, and waits for the last second of grace, unless it has passed.
    function _leave(Book storage book) private {
        if (book.closeRequestedAt == 0) {
            _writeCloseRequested(book);
            vm.prank(book.payer);
            escrow.requestClose(book.id);
        }
        if (_isGraceOver(book)) return;
        // Each channel is a what-if of its own: time may go back to the last second of the next.
        vm.warp(book.closeRequestedAt + 1 hours - 1);
        vm.prank(book.payer);
        vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
        escrow.withdraw(book.id);
    }

    function _channels() private view returns (IChannelEscrow.Channel[] memory) {
        bytes32[] memory ids = new bytes32[](_books.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            ids[i] = _books[i].id;
        }
        return escrow.getChannelsBatch(ids);
    }
}
