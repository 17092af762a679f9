// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice Nobody keeps a payer's money in a channel that the payer wants to leave, and nobody but the payer makes it stay.
contract HostageTest is RelayedFixture {
    bytes32 private id;
    Account private attacker;

    function setUp() public override {
        super.setUp();
        placePermit2();
        approvePermit2(payer.addr);
        attacker = makeAccount("attacker");
        fund(attacker.addr, 1000);
        approvePermit2(attacker.addr);
        vm.prank(payer.addr);
        escrow.deposit(address(token), 10e6);

        id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
    }

    /// @dev Dust by every way that is open to a third party, until the last second.
    function test_DustOfAThirdPartyCancelsNoClose() public {
        uint256 requestedAt = block.timestamp;
        for (uint128 amount = 1; amount <= 5; ++amount) {
            skip(12 minutes - 1);
            TopUpCall memory call = topUpCall(attacker, id, amount);
            assertTaken(encode(call));
            Permit2TopUpCall memory permitted = permit2TopUpCall(attacker, id, amount);
            permitted.nonce = amount;
            permitted.signature = packed(attacker, permit2Digest(permitted));
            assertTaken(encode(permitted));
            assertEq(escrow.getChannel(id).closeRequestedAt, requestedAt);
        }
        vm.warp(requestedAt + 1 hours);
        vm.prank(payer.addr);
        escrow.withdraw(id);
        assertEq(token.balanceOf(payer.addr), 990e6 + 2 * 15, "and the dust is the payer's");
    }

    function test_AThirdPartyHasNoOtherWay() public {
        vm.startPrank(attacker.addr);
        escrow.deposit(address(token), 10);
        vm.expectRevert(IChannelEscrow.NotPayer.selector);
        escrow.topUp(id, 1);
        vm.expectRevert(IChannelEscrow.NotPayer.selector);
        escrow.topUpFromBalance(id, 1);
        IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(id, DEPOSIT + 1, uint64(block.timestamp));
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.topUpWithGrant(grant, sign(attacker, escrowDomain(), grantHash(grant)));
        assertNotEq(escrow.getChannel(id).closeRequestedAt, 0);
    }

    /// @dev Draft, "topUp": the payer's own money, by every way it has, cancels the close.
    function test_ThePayersOwnMoneyCancelsIt() public {
        IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(id, DEPOSIT + 1, uint64(block.timestamp));
        bytes[5] memory calls = [
            encode(topUpCall(payer, id, 1)),
            encode(permit2TopUpCall(payer, id, 1)),
            abi.encodeCall(IRelayedChannels.topUpWithGrant, (grant, sign(payer, escrowDomain(), grantHash(grant)))),
            abi.encodeCall(IChannelEscrow.topUp, (id, 1)),
            abi.encodeCall(IChannelEscrow.topUpFromBalance, (id, 1))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            uint256 snapshot = vm.snapshotState();
            vm.expectEmit(address(escrow));
            emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 1, true);
            vm.prank(i < 3 ? stranger : payer.addr);
            (bool success,) = address(escrow).call(calls[i]);
            assertTrue(success);
            assertEq(escrow.getChannel(id).closeRequestedAt, 0);
            skip(365 days);
            vm.prank(payer.addr);
            vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
            escrow.withdraw(id);
            vm.revertToState(snapshot);
        }
    }

    /// @dev What the payer has signed is its own doing even if somebody else submits it late: a top-up that is still out cancels
    /// a close, once. The payer asks again, or takes it back first, at the token or at Permit2; of grants, see below.
    function test_ATopUpOfThePayersThatIsStillOutCancelsAClose() public {
        bytes memory topUp = encode(topUpCall(payer, id, 1));
        skip(1 hours - 1);
        vm.prank(attacker.addr);
        (bool success,) = address(escrow).call(topUp);
        assertTrue(success);
        assertEq(escrow.getChannel(id).closeRequestedAt, 0);
        vm.prank(payer.addr);
        escrow.requestClose(id);
        assertRefused(topUp, ERC3009.ERC3009UsedAuthorization.selector);
        skip(1 hours);
        vm.prank(payer.addr);
        escrow.withdraw(id);
        assertEq(token.balanceOf(payer.addr), 990e6);
    }

    /// @dev A grant has no nonce: it counts while it asks for more than there is. So of several, each cancels once.
    function test_GrantsThatAreStillOutCancelAClose() public {
        bytes[2] memory topUps = [grantOf(DEPOSIT + 1, type(uint64).max), grantOf(DEPOSIT + 2, type(uint64).max)];
        for (uint256 i = 0; i < topUps.length; ++i) {
            skip(1 hours - 1);
            assertTaken(topUps[i]);
            assertEq(escrow.getChannel(id).closeRequestedAt, 0);
            vm.prank(payer.addr);
            escrow.requestClose(id);
            assertRefused(topUps[i], IChannelEscrow.ZeroDeposit.selector);
        }
        skip(1 hours);
        vm.prank(payer.addr);
        escrow.withdraw(id);
    }

    /// @dev What a payer can do about them: submit the largest itself, take its money out first, or wait for their deadlines.
    function test_APayerGetsRidOfGrantsThatAreStillOut() public {
        uint64 deadline = uint64(block.timestamp + 10 minutes);
        bytes memory small = grantOf(DEPOSIT + 1, deadline);
        uint256 snapshot = vm.snapshotState();

        assertTaken(grantOf(DEPOSIT + 2, deadline));
        assertRefused(small, IChannelEscrow.ZeroDeposit.selector);
        vm.revertToState(snapshot);

        vm.prank(payer.addr);
        escrow.withdrawBalance(address(token), 10e6, payer.addr);
        assertRefused(small, IChannelEscrow.InsufficientBalance.selector);
        vm.revertToState(snapshot);

        vm.warp(deadline + 1);
        assertRefused(small, IRelayedChannels.AuthorizationExpired.selector);
    }

    function grantOf(uint128 deposit, uint64 deadline) private view returns (bytes memory) {
        IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(id, deposit, deadline);
        bytes memory signature = sign(payer, escrowDomain(), grantHash(grant));
        return abi.encodeCall(IRelayedChannels.topUpWithGrant, (grant, signature));
    }

    /// @dev An authorization to ask for a close counts once: after the payer changed its mind, it is spent.
    function test_AnOldRequestIsNotReplayedAfterATopUp() public {
        bytes memory request = abi.encodeCall(
            IRelayedChannels.requestCloseWithAuthorization,
            (id, 1, type(uint256).max, sign(payer, escrowDomain(), requestCloseHash(id, 1, type(uint256).max)))
        );
        assertTaken(request);
        vm.prank(payer.addr);
        escrow.topUp(id, 1);
        assertRefused(request, IRelayedChannels.NonceAlreadyUsed.selector);
        assertEq(escrow.getChannel(id).closeRequestedAt, 0);
    }

    /// @dev A gift can make a channel's deposit overflow for nobody but a token of more than 2^128 units. The payer still
    /// leaves with everything.
    function test_AGiftUpToTheBoundLocksNothing() public {
        token.mint(attacker.addr, type(uint128).max);
        assertTaken(encode(topUpCall(attacker, id, type(uint128).max - DEPOSIT)));
        assertRefused(encode(topUpCall(payer, id, 1)), IChannelEscrow.DepositOverflow.selector);
        skip(1 hours);
        vm.prank(payer.addr);
        escrow.withdraw(id);
        assertEq(token.balanceOf(payer.addr), uint256(type(uint128).max) + 890e6);
    }
}
