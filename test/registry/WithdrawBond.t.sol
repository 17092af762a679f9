// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RegistryFixture} from "./RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

contract WithdrawBondTest is RegistryFixture {
    function assertBond(address token_, uint128 amount, uint128 unbonding, uint64 unbondableAt) private view {
        IExecutorRegistry.Bond memory held = registry.bondOf(payee.addr);
        assertEq(held.token, token_);
        assertEq(held.amount, amount);
        assertEq(held.unbonding, unbonding);
        assertEq(held.unbondableAt, unbondableAt);
        assertEq(bondToken.balanceOf(address(registry)), amount);
    }

    function test_PaysThePayee() public {
        giveBond(BOND);
        requestUnbond(BOND);
        skip(DELAY);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.BondWithdrawn(payee.addr, address(bondToken), BOND);
        withdrawBond();
        assertEq(bondToken.balanceOf(payee.addr), type(uint128).max);
        assertBond(address(0), 0, 0, 0);
    }

    function testFuzz_LeavesTheRestAtStake(uint128 amount) public {
        amount = uint128(bound(amount, 1, BOND - 1));
        giveBond(BOND);
        requestUnbond(amount);
        skip(DELAY);
        withdrawBond();
        assertBond(address(bondToken), BOND - amount, 0, 0);
    }

    function test_TakesTheLargestBond() public {
        giveBond(type(uint128).max);
        requestUnbond(type(uint128).max);
        skip(DELAY);
        withdrawBond();
        assertEq(bondToken.balanceOf(payee.addr), type(uint128).max);
    }

    function test_PaysOnlyWhatASliceHasLeft() public {
        giveBond(BOND);
        requestUnbond(BOND);
        reportOvercharge(1);
        assertEq(registry.bondOf(payee.addr).unbonding, BOND - BOND / 10);
        skip(DELAY);
        withdrawBond();
        assertEq(bondToken.balanceOf(payee.addr), type(uint128).max - BOND / 10);
        assertEq(bonded(), 0);
    }

    /// @dev What is not asked for bears the slice first.
    function test_PaysAllThatWasAskedForWhereEnoughRemains() public {
        giveBond(BOND);
        requestUnbond(BOND - BOND / 10);
        reportOvercharge(1);
        skip(DELAY);
        withdrawBond();
        assertEq(bondToken.balanceOf(payee.addr), type(uint128).max - BOND / 10);
    }

    function test_RevertGiven_TheLastSecondOfTheDelay() public {
        giveBond(BOND);
        requestUnbond(BOND);
        skip(DELAY - 1);
        vm.expectRevert(IExecutorRegistry.UnbondNotReady.selector);
        withdrawBond();
        reportOvercharge(1); // still at stake
        skip(1);
        withdrawBond();
    }

    function test_RevertGiven_NothingIsBeingUnbonded() public {
        vm.expectRevert(IExecutorRegistry.UnbondNotReady.selector);
        withdrawBond();
        giveBond(BOND);
        vm.expectRevert(IExecutorRegistry.UnbondNotReady.selector);
        withdrawBond();
    }

    function test_RevertGiven_ItWasWithdrawn() public {
        giveBond(BOND);
        requestUnbond(1);
        skip(DELAY);
        withdrawBond();
        vm.expectRevert(IExecutorRegistry.UnbondNotReady.selector);
        withdrawBond();
    }
}
