// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IDevToken} from "../IDevToken.sol";
import {FickleToken} from "../adversary/Tokens.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice `deposit`, `depositFor` and `withdrawBalance`.
contract BalanceTest is Fixture {
    function test_DepositCreditsTheCaller() public {
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.Deposited(payer.addr, address(token), payer.addr, 40e6);
        vm.prank(payer.addr);
        escrow.deposit(address(token), 40e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
        assertEq(token.balanceOf(address(escrow)), 40e6);
    }

    function test_DepositForCreditsAnother() public {
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.Deposited(stranger, address(token), payer.addr, 40e6);
        vm.prank(payer.addr);
        escrow.depositFor(stranger, address(token), 40e6);
        assertEq(escrow.balanceOf(stranger, address(token)), 40e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 0);
    }

    function test_WithdrawPaysWhoeverTheOwnerNames() public {
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), 40e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.BalanceWithdrawn(payer.addr, address(token), stranger, 15e6);
        escrow.withdrawBalance(address(token), 15e6, stranger);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 25e6);
        assertEq(token.balanceOf(stranger), 15e6);
    }

    function testFuzz_WhatGoesInComesOut(uint256 amount, uint256 part) public {
        amount = bound(amount, 1, type(uint256).max - token.totalSupply());
        part = bound(part, 0, amount);
        token.mint(payer.addr, amount);
        uint256 held = token.balanceOf(payer.addr);
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), amount);
        escrow.withdrawBalance(address(token), part, payer.addr);
        assertEq(escrow.balanceOf(payer.addr, address(token)), amount - part);
        escrow.withdrawBalance(address(token), amount - part, payer.addr);
        assertEq(token.balanceOf(payer.addr), held);
    }

    // --- Refusals ---

    function test_RevertWhen_DepositIsZero() public {
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.ZeroDeposit.selector);
        escrow.deposit(address(token), 0);
        vm.expectRevert(IChannelEscrow.ZeroDeposit.selector);
        escrow.depositFor(stranger, address(token), 0);
    }

    function test_RevertWhen_TokenIsNone() public {
        vm.expectRevert(IChannelEscrow.InvalidToken.selector);
        escrow.deposit(stranger, 1);
        vm.expectRevert(IChannelEscrow.InvalidToken.selector);
        escrow.depositFor(payee.addr, stranger, 1);
    }

    function test_RevertWhen_TheTokenTakesAFee() public {
        FickleToken fickle = new FickleToken();
        token = IDevToken(address(fickle));
        fund(payer.addr, 40e6);
        fickle.setFee(1);
        bytes memory refusal = abi.encodeWithSelector(IChannelEscrow.UnexpectedDepositAmount.selector, 40e6, 40e6 - 1);
        vm.startPrank(payer.addr);
        vm.expectRevert(refusal);
        escrow.deposit(address(token), 40e6);
        vm.expectRevert(refusal);
        escrow.depositFor(payee.addr, address(token), 40e6);
        vm.expectRevert(refusal);
        escrow.depositWithPermit(address(token), 40e6, block.timestamp, 27, 0, 0);
    }

    function test_RevertWhen_AllowanceIsMissing() public {
        vm.prank(stranger);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.deposit(address(token), 1);
    }

    function test_RevertWhen_NobodyCouldTakeItOut() public {
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), 1);
        address[2] memory nobodies = [address(0), address(escrow)];
        for (uint256 i = 0; i < nobodies.length; ++i) {
            vm.expectRevert(IChannelEscrow.InvalidRecipient.selector);
            escrow.depositFor(nobodies[i], address(token), 1);
            vm.expectRevert(IChannelEscrow.InvalidRecipient.selector);
            escrow.withdrawBalance(address(token), 1, nobodies[i]);
        }
    }

    function test_RevertWhen_BalanceIsTooSmall() public {
        openChannel(); // the escrow holds tokens, but not the caller's
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IChannelEscrow.InsufficientBalance.selector, 0, 1));
        escrow.withdrawBalance(address(token), 1, stranger);
    }
}
