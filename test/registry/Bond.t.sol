// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RegistryFixture} from "./RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

contract BondTest is RegistryFixture {
    function testFuzz_TakesTheTokens(uint128 amount) public {
        amount = uint128(bound(amount, 1, type(uint128).max));
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.Bonded(payee.addr, address(bondToken), amount, amount);
        giveBond(amount);

        IExecutorRegistry.Bond memory held = registry.bondOf(payee.addr);
        assertEq(held.token, address(bondToken));
        assertEq(held.amount, amount);
        assertEq(held.unbonding, 0);
        assertEq(held.unbondableAt, 0);
        assertEq(bondToken.balanceOf(address(registry)), amount);
        assertEq(bondToken.balanceOf(payee.addr), type(uint128).max - amount);
    }

    function test_AddsToABond() public {
        giveBond(BOND);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.Bonded(payee.addr, address(bondToken), 1, BOND + 1);
        giveBond(1);
        assertEq(bonded(), BOND + 1);
    }

    function test_LeavesWhatIsBeingUnbondedAsItIs() public {
        giveBond(BOND);
        requestUnbond(BOND);
        skip(1 days);
        giveBond(BOND);
        IExecutorRegistry.Bond memory held = registry.bondOf(payee.addr);
        assertEq(held.amount, 2 * BOND);
        assertEq(held.unbonding, BOND);
        assertEq(held.unbondableAt, 1_800_000_000 + DELAY);
    }

    function test_EachPayeeHasItsOwn() public {
        giveBond(BOND);
        bondToken.mint(stranger, 5);
        vm.startPrank(stranger);
        bondToken.approve(address(registry), 5);
        registry.bond(address(bondToken), 5);
        assertEq(bonded(), BOND);
        assertEq(registry.bondOf(stranger).amount, 5);
    }

    function test_AnotherTokenMayFollowOnceNothingRemains() public {
        giveBond(BOND);
        requestUnbond(BOND);
        skip(DELAY);
        withdrawBond();
        useBondToken(deployToken());
        giveBond(1);
        assertEq(registry.bondOf(payee.addr).token, address(bondToken));
    }

    function test_AnotherTokenMayFollowOnceAllWasSliced() public {
        giveBond(1);
        requestUnbond(1);
        reportOvercharge(1);
        useBondToken(deployToken());
        giveBond(BOND);
        IExecutorRegistry.Bond memory held = registry.bondOf(payee.addr);
        assertEq(held.token, address(bondToken));
        assertEq(held.unbonding, 0, "the request went with the bond it was made of");
        assertEq(held.unbondableAt, 0);
    }

    function test_RevertWhen_AmountIsZero() public {
        vm.expectRevert(IExecutorRegistry.ZeroBond.selector);
        giveBond(0);
    }

    function test_RevertWhen_TokenHasNoCode() public {
        address[2] memory tokens = [address(0), stranger];
        for (uint256 i = 0; i < tokens.length; ++i) {
            vm.prank(payee.addr);
            vm.expectRevert(IExecutorRegistry.InvalidToken.selector);
            registry.bond(tokens[i], 1);
        }
    }

    function test_RevertGiven_ABondInAnotherToken() public {
        giveBond(1);
        address first = address(bondToken);
        useBondToken(deployToken());
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.BondTokenFixed.selector, first));
        giveBond(BOND);
    }

    function test_RevertWhen_TheSumOverflows() public {
        giveBond(2);
        bondToken.mint(payee.addr, 1);
        vm.expectRevert(IExecutorRegistry.BondOverflow.selector);
        giveBond(type(uint128).max - 1);
        giveBond(type(uint128).max - 2);
        assertEq(bonded(), type(uint128).max);
    }

    function test_RevertGiven_NoAllowance() public {
        vm.startPrank(payee.addr);
        bondToken.approve(address(registry), BOND - 1);
        vm.expectRevert(IExecutorRegistry.TransferFailed.selector);
        registry.bond(address(bondToken), BOND);
    }
}
