// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

contract OpenWithGrantTest is RelayedFixture {
    function setUp() public override {
        super.setUp();
        vm.prank(payer.addr);
        escrow.deposit(address(token), DEPOSIT);
    }

    function call(IRelayedChannels.ChannelGrant memory grant) private view returns (bytes memory) {
        return abi.encodeCall(IRelayedChannels.openWithGrant, (grant, sign(payer, escrowDomain(), grantHash(grant))));
    }

    function idOf(IRelayedChannels.ChannelGrant memory grant) private view returns (bytes32) {
        return channelIdOf(grant.payer, grant.payee, grant.token, grant.salt, grant.authorizedSigner);
    }

    function test_OpensFromTheBalanceWhoeverSubmits() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        grant.authorizedSigner = signer.addr;
        bytes32 id = idOf(grant);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelOpened(id, payer.addr, payee.addr, address(token), signer.addr, SALT, DEPOSIT, true);
        (bool success, bytes memory answer) = submit(call(grant));
        assertTrue(success);
        assertEq(abi.decode(answer, (bytes32)), id);

        IChannelEscrow.Channel memory channel = escrow.getChannel(id);
        assertEq(channel.payer, payer.addr);
        assertEq(channel.authorizedSigner, signer.addr);
        assertEq(channel.deposit, DEPOSIT);
        assertTrue(channel.refundsToBalance);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 0);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT, "no token moved");
    }

    function test_WhatRemainsReturnsToTheBalance() public {
        assertTaken(call(channelGrant()));
        closeAs(payee.addr, idOf(channelGrant()), 30e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 70e6);
        assertEq(token.balanceOf(payer.addr), 900e6);
    }

    function testFuzz_TakesAnyDeposit(uint128 amount) public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        grant.deposit = uint128(bound(amount, 1, type(uint128).max));
        token.mint(payer.addr, grant.deposit);
        vm.prank(payer.addr);
        escrow.deposit(address(token), grant.deposit);
        assertTaken(call(grant));
        assertEq(escrow.balanceOf(payer.addr, address(token)), DEPOSIT);
    }

    function test_TheDeadlineIsTheLastSecond() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        vm.warp(grant.deadline + 1);
        assertRefused(call(grant), IRelayedChannels.AuthorizationExpired.selector);
        vm.warp(grant.deadline);
        assertTaken(call(grant));
    }

    function test_RevertWhen_AnyFieldIsChanged() public {
        bytes memory good = call(channelGrant());
        for (uint256 i = 0; i < 7; ++i) {
            assertRefused(tampered(good, i), IChannelEscrow.InvalidSignature.selector);
        }
        assertTaken(good);
    }

    function test_RevertWhen_SubmittedTwice() public {
        bytes memory good = call(channelGrant());
        assertTaken(good);
        assertRefused(good, IChannelEscrow.ChannelAlreadyExists.selector);
    }

    function test_RevertWhen_TheAuthorizedSignerSignsTheGrant() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        grant.authorizedSigner = signer.addr;
        bytes memory signature = sign(signer, escrowDomain(), grantHash(grant));
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.openWithGrant(grant, signature);
    }

    /// @dev A signature that recovers to nobody is not nobody's.
    function test_RevertWhen_ThePayerIsNobody() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        grant.payer = address(0);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.openWithGrant(grant, new bytes(65));
    }

    function test_RevertWhen_DepositIsZero() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        grant.deposit = 0;
        assertRefused(call(grant), IChannelEscrow.ZeroDeposit.selector);
    }

    function test_RevertWhen_PayeeCantBePaid() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        grant.payee = address(0);
        assertRefused(call(grant), IChannelEscrow.InvalidPayee.selector);
        grant.payee = address(escrow);
        assertRefused(call(grant), IChannelEscrow.InvalidPayee.selector);
    }

    function test_RevertWhen_TokenIsNone() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        grant.token = address(0);
        assertRefused(call(grant), IChannelEscrow.InvalidToken.selector);
        grant.token = stranger;
        assertRefused(call(grant), IChannelEscrow.InvalidToken.selector);
    }

    function test_RevertWhen_BalanceIsTooSmall() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        grant.deposit = DEPOSIT + 1;
        (bool success, bytes memory answer) = submit(call(grant));
        assertFalse(success);
        assertEq(
            answer, abi.encodeWithSelector(IChannelEscrow.InsufficientBalance.selector, DEPOSIT, uint256(DEPOSIT) + 1)
        );
    }

    /// @dev A balance that is there again makes the grant good again, until its deadline.
    function test_AGrantOutlivesAnEmptyBalance() public {
        vm.prank(payer.addr);
        escrow.withdrawBalance(address(token), DEPOSIT, payer.addr);
        assertRefused(call(channelGrant()), IChannelEscrow.InsufficientBalance.selector);
        vm.prank(payer.addr);
        escrow.deposit(address(token), DEPOSIT);
        assertTaken(call(channelGrant()));
    }
}
