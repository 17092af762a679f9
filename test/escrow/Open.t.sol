// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

contract OpenTest is Fixture {
    function test_StoresTheChannelAndTakesTheDeposit() public {
        bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), SALT, signer.addr);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelOpened(id, payer.addr, payee.addr, address(token), signer.addr, SALT, DEPOSIT, false);
        assertEq(openChannelWithSigner(signer.addr), id);

        IChannelEscrow.Channel memory channel = escrow.getChannel(id);
        assertEq(channel.payer, payer.addr);
        assertEq(channel.payee, payee.addr);
        assertEq(channel.token, address(token));
        assertEq(channel.authorizedSigner, signer.addr);
        assertEq(channel.deposit, DEPOSIT);
        assertEq(channel.settled, 0);
        assertEq(channel.closeRequestedAt, 0);
        assertFalse(channel.finalized);
        assertFalse(channel.refundsToBalance);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT);
        assertEq(token.balanceOf(payer.addr), 900e6);
    }

    function testFuzz_TakesAnyDeposit(uint128 amount, bytes32 salt, address authorizedSigner) public {
        amount = uint128(bound(amount, 1, type(uint128).max));
        token.mint(payer.addr, amount);
        vm.prank(payer.addr);
        bytes32 id = escrow.open(payee.addr, address(token), amount, salt, authorizedSigner);

        assertEq(id, channelIdOf(payer.addr, payee.addr, address(token), salt, authorizedSigner));
        assertEq(escrow.getChannel(id).deposit, amount);
        assertEq(escrow.getChannel(id).authorizedSigner, authorizedSigner);
        assertEq(token.balanceOf(address(escrow)), amount);
    }

    function test_FromBalanceMovesNoTokens() public {
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), DEPOSIT + 5);
        bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0));
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelOpened(id, payer.addr, payee.addr, address(token), address(0), SALT, DEPOSIT, true);
        escrow.openFromBalance(payee.addr, address(token), DEPOSIT, SALT, address(0));
        vm.stopPrank();

        assertEq(escrow.balanceOf(payer.addr, address(token)), 5);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT + 5);
        assertTrue(escrow.getChannel(id).refundsToBalance);
        assertEq(escrow.getChannel(id).deposit, DEPOSIT);
    }

    function test_TwoTokensOfOnePayerStayApart() public {
        bytes32 first = openChannel();
        token = deployToken();
        fund(payer.addr, DEPOSIT);
        bytes32 second = openChannel();

        assertNotEq(first, second);
        assertNotEq(escrow.getChannel(first).token, address(token));
        assertEq(escrow.getChannel(second).token, address(token));
    }

    function test_RevertGiven_ChannelExists() public {
        openChannel();
        vm.expectRevert(IChannelEscrow.ChannelAlreadyExists.selector);
        vm.prank(payer.addr);
        escrow.open(payee.addr, address(token), 1, SALT, address(0));

        vm.startPrank(payer.addr);
        escrow.deposit(address(token), 1);
        vm.expectRevert(IChannelEscrow.ChannelAlreadyExists.selector);
        escrow.openFromBalance(payee.addr, address(token), 1, SALT, address(0));
    }

    /// @dev The word of amounts is then (deposit, 0): nothing in it says that there was a channel.
    function test_RevertGiven_ChannelWasClosedWithNothingSettled() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 0);
        assertEq(escrow.getChannel(id).settled, 0);

        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.ChannelAlreadyExists.selector);
        escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
    }

    function test_RevertGiven_ChannelWasSettledInFull() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, DEPOSIT);
        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.ChannelAlreadyExists.selector);
        escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
    }

    function test_RevertWhen_DepositIsZero() public {
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.ZeroDeposit.selector);
        escrow.open(payee.addr, address(token), 0, SALT, address(0));
        vm.expectRevert(IChannelEscrow.ZeroDeposit.selector);
        escrow.openFromBalance(payee.addr, address(token), 0, SALT, address(0));
    }

    function test_RevertWhen_PayeeCantBePaid() public {
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.InvalidPayee.selector);
        escrow.open(address(0), address(token), DEPOSIT, SALT, address(0));
        vm.expectRevert(IChannelEscrow.InvalidPayee.selector);
        escrow.open(address(escrow), address(token), DEPOSIT, SALT, address(0));
        vm.expectRevert(IChannelEscrow.InvalidPayee.selector);
        escrow.openFromBalance(address(0), address(token), DEPOSIT, SALT, address(0));
        vm.expectRevert(IChannelEscrow.InvalidPayee.selector);
        escrow.openFromBalance(address(escrow), address(token), DEPOSIT, SALT, address(0));
    }

    function test_RevertWhen_TokenIsNone() public {
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.InvalidToken.selector);
        escrow.open(payee.addr, address(0), DEPOSIT, SALT, address(0));
        vm.expectRevert(IChannelEscrow.InvalidToken.selector);
        escrow.open(payee.addr, stranger, DEPOSIT, SALT, address(0));
        vm.expectRevert(IChannelEscrow.InvalidToken.selector);
        escrow.openFromBalance(payee.addr, address(0), DEPOSIT, SALT, address(0));
        vm.expectRevert(IChannelEscrow.InvalidToken.selector);
        escrow.openFromBalance(payee.addr, stranger, DEPOSIT, SALT, address(0));
    }

    function test_RevertWhen_AllowanceIsMissing() public {
        vm.startPrank(payer.addr);
        token.approve(address(escrow), DEPOSIT - 1);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
    }

    function test_RevertWhen_BalanceIsTooSmall() public {
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), DEPOSIT - 1);
        vm.expectRevert(abi.encodeWithSelector(IChannelEscrow.InsufficientBalance.selector, DEPOSIT - 1, DEPOSIT));
        escrow.openFromBalance(payee.addr, address(token), DEPOSIT, SALT, address(0));
    }
}
