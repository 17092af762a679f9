// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {RegistryHandler} from "./RegistryHandler.sol";
import {Test} from "forge-std/Test.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

/// @notice What holds whatever anybody does, in any order:
/// 1. For every token, the registry's holdings equal all bonds, all withdrawable shares, and what refused to be burned.
/// 2. A bond is what was put in, less what was taken out after its delay, less a tenth of what there was a fault: no
///    report ever raises it.
/// 3. A slice is shared out in full: what payers, reporters and the fire got is what bonds lost.
/// 4. Each fault is charged once at most, by either proof; honest documents never (the handler's slander).
contract RegistryInvariantTest is Test {
    address private constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;

    RegistryHandler private handler;
    IExecutorRegistry private registry;
    IDevToken[] private tokens;
    bytes4[] private actions;

    function setUp() public {
        handler = new RegistryHandler();
        (registry, tokens) = handler.contracts();

        actions = [
            RegistryHandler.bond.selector,
            bytes4(keccak256("requestUnbond(uint256,uint128)")),
            bytes4(keccak256("withdrawBond(uint256,uint256)")),
            RegistryHandler.overcharge.selector,
            RegistryHandler.doubleBill.selector,
            RegistryHandler.slander.selector,
            RegistryHandler.withdraw.selector,
            RegistryHandler.changeOperator.selector,
            RegistryHandler.passTime.selector,
            RegistryHandler.refuseBurns.selector
        ];
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), actions));
    }

    /// @dev One campaign checks all of it: the same calls need not be made four times.
    function invariant_HoldsWhateverAnybodyDoes() public view {
        checkHoldings();
        checkBonds();
        checkShares();
        checkFaults();
    }

    function checkHoldings() private view {
        address[] memory accounts = handler.accounts();
        for (uint256 t = 0; t < tokens.length; ++t) {
            uint256 owed = handler.unburned(t);
            for (uint256 i = 0; i < accounts.length; ++i) {
                IExecutorRegistry.Bond memory held = registry.bondOf(accounts[i]);
                if (held.token == address(tokens[t])) owed += held.amount;
                owed += registry.withdrawableOf(accounts[i], address(tokens[t]));
            }
            assertEq(tokens[t].balanceOf(address(registry)), owed, "1: holdings are what is owed, and the unburned");
        }
    }

    function checkBonds() private view {
        RegistryHandler.Book[] memory books = handler.books();
        address[] memory payees = handler.accounts();
        for (uint256 i = 0; i < books.length; ++i) {
            IExecutorRegistry.Bond memory held = registry.bondOf(payees[i]);
            assertEq(held.amount, books[i].amount, "2: a bond is as in the books");
            assertEq(held.unbonding, books[i].unbonding);
            assertEq(held.unbondableAt, books[i].unbondableAt);
            assertEq(held.token, books[i].amount == 0 ? address(0) : address(tokens[books[i].token]));
            assertLe(held.unbonding, held.amount);
        }
    }

    function checkShares() private view {
        address[] memory accounts = handler.accounts();
        for (uint256 t = 0; t < tokens.length; ++t) {
            assertEq(tokens[t].balanceOf(BURN_ADDRESS), handler.burned(t), "3: burned is as in the books");
            for (uint256 i = 0; i < accounts.length; ++i) {
                assertEq(
                    registry.withdrawableOf(accounts[i], address(tokens[t])),
                    handler.shares(accounts[i], t),
                    "3: shares are as in the books"
                );
            }
        }
    }

    function checkFaults() private view {
        for (uint256 c = 0; c < handler.CHANNELS(); ++c) {
            for (uint256 r = 0; r < handler.REQUESTS(); ++r) {
                (bytes32 channelId, bytes32 requestHash) = handler.faultOf(c, r);
                assertLe(handler.charges(c, r), 1, "4: charged once");
                assertEq(registry.isCharged(channelId, requestHash), handler.charges(c, r) == 1);
            }
        }
    }

    /// @dev A campaign in which nothing happens proves nothing: any actions, at random, do everything there is to do.
    function test_TheHandlerReachesEveryAction() public {
        for (uint256 i = 0; i < 500; ++i) {
            bytes32 seed = keccak256(abi.encode(i));
            (uint256 a, uint256 b, uint256 c) = (uint128(uint256(seed)), uint256(seed) >> 136, uint256(seed) >> 200);
            bool flag = uint256(seed) >> 128 & 1 == 1;
            uint256 action = uint256(keccak256(abi.encode(seed))) % 10;
            if (action == 0) handler.bond(a, b, uint128(c));
            else if (action == 1) handler.requestUnbond(a, uint128(b));
            else if (action == 2) handler.withdrawBond(a, b);
            else if (action == 3) handler.overcharge(a, b, c, flag);
            else if (action == 4) handler.doubleBill(a, b, c, flag);
            else if (action == 5) handler.slander(a, b, flag);
            else if (action == 6) handler.withdraw(a, b);
            else if (action == 7) handler.changeOperator(a);
            else if (action == 8) handler.passTime(a);
            else handler.refuseBurns(flag);
        }
        invariant_HoldsWhateverAnybodyDoes();

        string[11] memory names = [
            "bond",
            "requestUnbond",
            "withdrawBond",
            "overcharge",
            "doubleBill",
            "slander",
            "withdraw",
            "changeOperator",
            "escape",
            "chargedBefore",
            "nothingAtStake"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            assertGt(handler.done(names[i]), 0, names[i]);
        }
        assertGt(handler.unburned(1), 0);
        assertGt(handler.burned(1), 0);
    }
}
