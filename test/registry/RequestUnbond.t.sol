// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RegistryFixture} from "./RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

contract RequestUnbondTest is RegistryFixture {
    function assertRequest(uint128 unbonding, uint64 unbondableAt) private view {
        IExecutorRegistry.Bond memory held = registry.bondOf(payee.addr);
        assertEq(held.unbonding, unbonding);
        assertEq(held.unbondableAt, unbondableAt);
        assertEq(held.amount, BOND, "all of it is still at stake");
        assertEq(held.token, address(bondToken));
    }

    function test_StartsTheDelay() public {
        assertEq(registry.UNBONDING_DELAY(), DELAY);
        giveBond(BOND);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.UnbondRequested(payee.addr, BOND, 1_800_000_000 + DELAY);
        requestUnbond(BOND);
        assertRequest(BOND, 1_800_000_000 + DELAY);
    }

    /// @dev Also one that was ripe: whoever asks again waits again.
    function testFuzz_ReplacesAnEarlierRequest(uint128 first, uint128 second, uint32 later) public {
        giveBond(BOND);
        requestUnbond(uint128(bound(first, 1, BOND)));
        skip(later);
        second = uint128(bound(second, 1, BOND));
        requestUnbond(second);
        assertRequest(second, uint64(1_800_000_000 + uint256(later)) + DELAY);
    }

    function test_ZeroCancels() public {
        giveBond(BOND);
        requestUnbond(BOND);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.UnbondRequested(payee.addr, 0, 0);
        requestUnbond(0);
        assertRequest(0, 0);
        skip(DELAY);
        vm.expectRevert(IExecutorRegistry.UnbondNotReady.selector);
        withdrawBond();
    }

    function test_RevertWhen_MoreThanTheBond() public {
        giveBond(BOND);
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.InsufficientBond.selector, BOND, BOND + 1));
        requestUnbond(BOND + 1);
    }

    function test_RevertGiven_NoBond() public {
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.InsufficientBond.selector, 0, 1));
        requestUnbond(1);
    }
}
