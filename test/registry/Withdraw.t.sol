// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RegistryFixture} from "./RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

contract WithdrawTest is RegistryFixture {
    function setUp() public override {
        super.setUp();
        giveBond(BOND);
    }

    function withdraw(address account, address to) private {
        vm.prank(account);
        registry.withdraw(address(bondToken), to);
    }

    function test_PaysTheShareOnce() public {
        reportOvercharge(1);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.Withdrawn(payer.addr, address(bondToken), stranger, 40e6);
        withdraw(payer.addr, stranger);
        withdraw(reporter, reporter);
        assertEq(bondToken.balanceOf(stranger), 40e6);
        assertEq(bondToken.balanceOf(reporter), 10e6);
        assertEq(shareOf(payer.addr), 0);

        vm.expectRevert(IExecutorRegistry.NothingToWithdraw.selector);
        withdraw(payer.addr, stranger);
    }

    function test_PaysTheSumOfManySlices() public {
        reportOvercharge(1);
        reportDoubleBill(2);
        withdraw(payer.addr, stranger);
        assertEq(bondToken.balanceOf(stranger), 40e6 + 36e6);
    }

    /// @dev A payer that reports has both shares.
    function test_APayerThatReportsHasHalf() public {
        reporter = payer.addr;
        reportOvercharge(1);
        withdraw(payer.addr, payer.addr);
        assertEq(bondToken.balanceOf(payer.addr), 50e6);
    }

    function test_EachTokenIsApart() public {
        reportOvercharge(1);
        requestUnbond(bonded());
        skip(DELAY);
        withdrawBond();
        address first = address(bondToken);
        useBondToken(deployToken());
        giveBond(10 * BOND);
        reportOvercharge(2);
        assertEq(registry.withdrawableOf(payer.addr, first), 40e6);
        assertEq(shareOf(payer.addr), 400e6);
        withdraw(payer.addr, payer.addr);
        assertEq(bondToken.balanceOf(payer.addr), 400e6);
        assertEq(registry.withdrawableOf(payer.addr, first), 40e6);
    }

    function test_RevertWhen_ReceiverIsZeroOrTheRegistry() public {
        reportOvercharge(1);
        vm.expectRevert(IExecutorRegistry.InvalidRecipient.selector);
        withdraw(payer.addr, address(0));
        vm.expectRevert(IExecutorRegistry.InvalidRecipient.selector);
        withdraw(payer.addr, address(registry));
    }

    function test_RevertGiven_NoShare() public {
        vm.expectRevert(IExecutorRegistry.NothingToWithdraw.selector);
        withdraw(payer.addr, payer.addr);
        reportOvercharge(1);
        vm.expectRevert(IExecutorRegistry.NothingToWithdraw.selector);
        withdraw(payee.addr, payee.addr);
    }
}
