// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {EscrowHandler} from "./EscrowHandler.sol";
import {Test} from "forge-std/Test.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice What holds whatever anybody does, in any order:
/// 1. For every token, the escrow's holdings equal all balances plus `deposit - settled` of every channel not final.
/// 2. `settled <= deposit`, and `settled` never falls.
/// 3. A payee receives or is credited exactly what was settled, a payer gets back exactly the rest, nobody else is paid.
/// 4. A finalized channel never changes again and can't be reopened.
/// 5. A key's authorization within the deposit can be claimed until the channel is final: the handler's claims, closes
///    and settlements never fail.
/// 6. A batch equals its rows one by one, in order: the handler's books process them so.
contract EscrowInvariantTest is Test {
    EscrowHandler private handler;
    IChannelEscrow private escrow;
    IDevToken[] private tokens;
    bytes4[] private actions;

    function setUp() public {
        handler = new EscrowHandler();
        (escrow, tokens) = handler.contracts();

        actions = [
            EscrowHandler.deposit.selector,
            EscrowHandler.depositFor.selector,
            EscrowHandler.withdrawBalance.selector,
            EscrowHandler.open.selector,
            EscrowHandler.reopen.selector,
            EscrowHandler.topUp.selector,
            EscrowHandler.requestClose.selector,
            EscrowHandler.withdraw.selector,
            EscrowHandler.settle.selector,
            EscrowHandler.close.selector,
            EscrowHandler.claimVouchers.selector,
            EscrowHandler.claimReceipts.selector,
            EscrowHandler.passTime.selector,
            EscrowHandler.blockReceiver.selector
        ];
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), actions));
    }

    /// @dev One campaign checks all of it: the same calls need not be made four times.
    function invariant_HoldsWhateverAnybodyDoes() public view {
        checkHoldings();
        checkChannels();
        checkAccounts();
        checkFinalChannels();
    }

    function checkHoldings() private view {
        EscrowHandler.Book[] memory books = handler.books();
        address[] memory accounts = handler.accounts();
        for (uint256 t = 0; t < tokens.length; ++t) {
            uint256 owed;
            for (uint256 i = 0; i < accounts.length; ++i) {
                owed += escrow.balanceOf(accounts[i], address(tokens[t]));
            }
            for (uint256 i = 0; i < books.length; ++i) {
                IChannelEscrow.Channel memory channel = escrow.getChannel(books[i].id);
                if (channel.token == address(tokens[t]) && !channel.finalized) {
                    owed += channel.deposit - channel.settled;
                }
            }
            assertEq(tokens[t].balanceOf(address(escrow)), owed, "1: holdings are what is owed");
        }
    }

    /// @dev The books only ever raise `settled`, so equality with them says that it never falls.
    function checkChannels() private view {
        EscrowHandler.Book[] memory books = handler.books();
        for (uint256 i = 0; i < books.length; ++i) {
            IChannelEscrow.Channel memory channel = escrow.getChannel(books[i].id);
            assertLe(channel.settled, channel.deposit, "2: settled is within the deposit");
            assertEq(channel.settled, books[i].settled, "2: settled is as in the books");
            assertEq(channel.deposit, books[i].deposit);
            assertEq(channel.closeRequestedAt, books[i].closeRequestedAt);
            assertEq(channel.finalized, books[i].finalized);
            assertEq(channel.refundsToBalance, books[i].refundsToBalance);
        }
    }

    function checkAccounts() private view {
        EscrowHandler.Book[] memory books = handler.books();
        address[] memory accounts = handler.accounts();
        for (uint256 t = 0; t < tokens.length; ++t) {
            for (uint256 i = 0; i < accounts.length; ++i) {
                uint256 gained = handler.funded(accounts[i], t);
                uint256 spent = handler.givenAway(accounts[i], t);
                for (uint256 j = 0; j < books.length; ++j) {
                    if (books[j].token != t) continue;
                    if (accounts[i] == accounts[handler.PAYERS() + books[j].payee]) gained += books[j].settled;
                    if (accounts[i] == accounts[books[j].payer]) {
                        spent += books[j].finalized ? books[j].settled : books[j].deposit;
                    }
                }
                assertEq(handler.wealth(accounts[i], t), gained - spent, "3: everybody has what is theirs");
            }
        }
    }

    function checkFinalChannels() private view {
        EscrowHandler.Book[] memory books = handler.books();
        for (uint256 i = 0; i < books.length; ++i) {
            if (!books[i].finalized) continue;
            bytes32 record = keccak256(abi.encode(escrow.getChannel(books[i].id)));
            assertEq(record, books[i].finalRecord, "4: what is final stays so");
        }
    }

    /// @dev A campaign in which nothing happens proves nothing: any actions, at random, do everything there is to do.
    function test_TheHandlerReachesEveryAction() public {
        for (uint256 i = 0; i < 700; ++i) {
            bytes32 seed = keccak256(abi.encode(i));
            bytes4 action = actions[uint256(seed) % actions.length];
            bytes memory arguments;
            for (uint256 j = 0; j < 4; ++j) {
                arguments = bytes.concat(arguments, keccak256(abi.encode(seed, j)));
            }
            // `open` and `topUp` end in flags, which are words of one bit.
            bytes memory flags = abi.encode(uint256(seed) >> 100 & 1, uint256(seed) >> 101 & 1);
            if (action == EscrowHandler.open.selector) arguments = bytes.concat(arguments, flags);
            if (action == EscrowHandler.topUp.selector) arguments = bytes.concat(slice(arguments, 64), flags);
            if (action == EscrowHandler.reopen.selector) arguments = bytes.concat(slice(arguments, 32), flags);
            (bool success,) = address(handler).call(bytes.concat(action, arguments));
            assertTrue(success);
        }
        invariant_HoldsWhateverAnybodyDoes();

        string[12] memory names = [
            "deposit",
            "depositFor",
            "withdrawBalance",
            "open",
            "reopen",
            "topUp",
            "requestClose",
            "withdraw",
            "settle",
            "close",
            "claimVouchers",
            "claimReceipts"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            assertGt(handler.done(names[i]), 0, names[i]);
        }
    }

    function slice(bytes memory from, uint256 length) private pure returns (bytes memory part) {
        part = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            part[i] = from[i];
        }
    }
}
