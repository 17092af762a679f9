// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

contract TopUpTest is Fixture {
    function topUp(bytes32 id, uint128 amount) private {
        vm.prank(payer.addr);
        escrow.topUp(id, amount);
    }

    function test_AddsToTheDepositAlone() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 60e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 25e6, false);
        topUp(id, 25e6);

        assertEq(escrow.getChannel(id).deposit, DEPOSIT + 25e6);
        assertEq(settledOf(id), 60e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT + 25e6 - 60e6);
        settleAs(payee.addr, id, DEPOSIT + 25e6);
        assertEq(token.balanceOf(payee.addr), DEPOSIT + 25e6);
    }

    function test_CancelsAPendingClose() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(30 minutes);

        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 1, true);
        topUp(id, 1);
        assertEq(escrow.getChannel(id).closeRequestedAt, 0);

        skip(1 hours);
        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
        escrow.withdraw(id);
    }

    function test_FromBalance() public {
        bytes32 id = openChannel();
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), 30e6);
        escrow.requestClose(id);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 30e6, true);
        escrow.topUpFromBalance(id, 30e6);

        assertEq(escrow.balanceOf(payer.addr, address(token)), 0);
        assertEq(escrow.getChannel(id).deposit, DEPOSIT + 30e6);
        assertFalse(escrow.getChannel(id).refundsToBalance, "fixed by opening");
    }

    function test_ReachesTheBoundButNotBeyond() public {
        bytes32 id = openChannel();
        token.mint(payer.addr, type(uint128).max);
        topUp(id, type(uint128).max - DEPOSIT);
        assertEq(escrow.getChannel(id).deposit, type(uint128).max);

        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.DepositOverflow.selector);
        escrow.topUp(id, 1);
    }

    function test_RevertGiven_NoSuchChannel() public {
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        escrow.topUp(keccak256("none"), 1);
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        escrow.topUpFromBalance(keccak256("none"), 1);
    }

    function test_RevertGiven_ChannelFinalized() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 0);
        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.topUp(id, 1);
    }

    function test_RevertWhen_CallerIsNotPayer() public {
        bytes32 id = openChannel();
        vm.startPrank(payee.addr);
        vm.expectRevert(IChannelEscrow.NotPayer.selector);
        escrow.topUp(id, 1);
        vm.expectRevert(IChannelEscrow.NotPayer.selector);
        escrow.topUpFromBalance(id, 1);
    }

    function test_RevertWhen_DepositIsZero() public {
        bytes32 id = openChannel();
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.ZeroDeposit.selector);
        escrow.topUp(id, 0);
        vm.expectRevert(IChannelEscrow.ZeroDeposit.selector);
        escrow.topUpFromBalance(id, 0);
    }

    function test_RevertWhen_MoneyIsMissing() public {
        bytes32 id = openChannel();
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.topUp(id, 901e6);
        vm.expectRevert(abi.encodeWithSelector(IChannelEscrow.InsufficientBalance.selector, 0, 1));
        escrow.topUpFromBalance(id, 1);
    }
}
