// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

contract TopUpWithGrantTest is RelayedFixture {
    function setUp() public override {
        super.setUp();
        vm.prank(payer.addr);
        escrow.deposit(address(token), 50e6);
    }

    function call(bytes32 id, uint128 total, uint64 deadline) private view returns (bytes memory) {
        IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(id, total, deadline);
        return abi.encodeCall(IRelayedChannels.topUpWithGrant, (grant, sign(payer, escrowDomain(), grantHash(grant))));
    }

    function call(bytes32 id, uint128 total) private view returns (bytes memory) {
        return call(id, total, uint64(block.timestamp));
    }

    function test_RaisesTheDepositToTheTotalWhoeverSubmits() public {
        bytes32 id = openChannel();
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 30e6, false);
        assertTaken(call(id, DEPOSIT + 30e6));
        assertEq(escrow.getChannel(id).deposit, DEPOSIT + 30e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 20e6);
        assertFalse(escrow.getChannel(id).refundsToBalance, "fixed by opening");
    }

    function test_CancelsAPendingClose() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 1, true);
        assertTaken(call(id, DEPOSIT + 1));
        assertEq(escrow.getChannel(id).closeRequestedAt, 0);
    }

    /// @dev Of two grants the higher one holds in whichever order they come, and neither counts twice.
    function test_TheHigherOfTwoGrantsHolds() public {
        bytes32 id = openChannel();
        (bytes memory lower, bytes memory higher) = (call(id, DEPOSIT + 10e6), call(id, DEPOSIT + 30e6));
        uint256 snapshot = vm.snapshotState();
        assertTaken(lower);
        assertTaken(higher);
        assertRefused(higher, IChannelEscrow.ZeroDeposit.selector);
        bytes32 outcome = stateOf(id);
        vm.revertToState(snapshot);
        assertTaken(higher);
        assertRefused(lower, IChannelEscrow.ZeroDeposit.selector);
        assertEq(stateOf(id), outcome);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 20e6);
    }

    /// @dev What somebody else has given, the payer need not.
    function test_AGiftCountsTowardsTheTotal() public {
        bytes32 id = openChannel();
        fund(signer.addr, 20e6);
        assertTaken(encode(topUpCall(signer, id, 20e6)));
        assertTaken(call(id, DEPOSIT + 30e6));
        assertEq(escrow.getChannel(id).deposit, DEPOSIT + 30e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
    }

    function test_ReachesTheBound() public {
        bytes32 id = openChannel();
        token.mint(payer.addr, type(uint128).max);
        vm.prank(payer.addr);
        escrow.deposit(address(token), type(uint128).max);
        assertTaken(call(id, type(uint128).max));
        assertEq(escrow.getChannel(id).deposit, type(uint128).max);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 50e6 + DEPOSIT);
    }

    function test_TheDeadlineIsTheLastSecond() public {
        bytes memory late = call(openChannel(), DEPOSIT + 1);
        skip(1);
        assertRefused(late, IRelayedChannels.AuthorizationExpired.selector);
        rewind(1);
        assertTaken(late);
    }

    function test_RevertWhen_AnyFieldIsChanged() public {
        bytes memory good = call(openChannel(), DEPOSIT + 10e6, uint64(block.timestamp + 1));
        assertRefused(tampered(good, 0), IChannelEscrow.ChannelNotFound.selector);
        assertRefused(tampered(good, 1), IChannelEscrow.InvalidSignature.selector);
        assertRefused(tampered(good, 2), IChannelEscrow.InvalidSignature.selector);
        assertTaken(good);
    }

    function test_RevertWhen_TheAuthorizedSignerSignsTheGrant() public {
        bytes32 id = openChannelWithSigner(signer.addr);
        IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(id, DEPOSIT + 1, uint64(block.timestamp));
        bytes memory signature = sign(signer, escrowDomain(), grantHash(grant));
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.topUpWithGrant(grant, signature);
    }

    function test_RevertGiven_TheDepositIsAsHighAlready() public {
        bytes32 id = openChannel();
        assertRefused(call(id, 0), IChannelEscrow.ZeroDeposit.selector);
        assertRefused(call(id, DEPOSIT - 1), IChannelEscrow.ZeroDeposit.selector);
        assertRefused(call(id, DEPOSIT), IChannelEscrow.ZeroDeposit.selector);
    }

    function test_RevertGiven_NoSuchChannel() public {
        assertRefused(call(keccak256("none"), 1), IChannelEscrow.ChannelNotFound.selector);
    }

    function test_RevertGiven_ChannelFinalized() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 0);
        assertRefused(call(id, DEPOSIT + 1), IChannelEscrow.ChannelFinalized.selector);
    }

    function test_RevertWhen_BalanceIsTooSmall() public {
        bytes32 id = openChannel();
        assertRefused(call(id, DEPOSIT + 50e6 + 1), IChannelEscrow.InsufficientBalance.selector);
        assertTaken(call(id, DEPOSIT + 50e6));
    }
}
