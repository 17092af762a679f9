// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {Vm} from "forge-std/Vm.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

contract RequestCloseWithAuthorizationTest is RelayedFixture {
    function call(bytes32 id, uint256 nonce, uint256 deadline) private view returns (bytes memory) {
        bytes memory signature = sign(payer, escrowDomain(), requestCloseHash(id, nonce, deadline));
        return abi.encodeCall(IRelayedChannels.requestCloseWithAuthorization, (id, nonce, deadline, signature));
    }

    function call(bytes32 id, uint256 nonce) private view returns (bytes memory) {
        return call(id, nonce, block.timestamp);
    }

    function test_StartsTheGracePeriodWhoeverSubmits() public {
        bytes32 id = openChannel();
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.CloseRequested(id, 1_800_000_000);
        assertTaken(call(id, 5));
        assertEq(escrow.getChannel(id).closeRequestedAt, 1_800_000_000);
        assertTrue(escrow.isNonceUsed(payer.addr, id, 5));
        assertFalse(escrow.isNonceUsed(payee.addr, id, 5));

        skip(1 hours);
        vm.prank(payer.addr);
        escrow.withdraw(id);
        assertEq(token.balanceOf(payer.addr), 1000e6);
    }

    /// @dev Nobody starts the period anew by submitting more of the payer's signatures.
    function test_AskingAgainChangesNothing() public {
        bytes32 id = openChannel();
        assertTaken(call(id, 0));
        skip(10 minutes);
        vm.recordLogs();
        assertTaken(call(id, 1));
        assertEq(vm.getRecordedLogs().length, 0);
        assertEq(escrow.getChannel(id).closeRequestedAt, 1_800_000_000);
        assertTrue(escrow.isNonceUsed(payer.addr, id, 1), "used all the same");
    }

    /// @dev Signing for a channel's vouchers is not owning its money.
    function test_RevertWhen_TheAuthorizedSignerSigns() public {
        bytes32 id = openChannelWithSigner(signer.addr);
        bytes memory signature = sign(signer, escrowDomain(), requestCloseHash(id, 0, block.timestamp));
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.requestCloseWithAuthorization(id, 0, block.timestamp, signature);
        assertTaken(call(id, 0));
    }

    function test_RevertWhen_TheNonceIsUsed() public {
        bytes32 id = openChannel();
        assertTaken(call(id, 5));
        assertRefused(call(id, 5), IRelayedChannels.NonceAlreadyUsed.selector);
        assertTaken(call(id, type(uint256).max));
    }

    /// @dev A payer that pays itself has one set of nonces for both of its roles.
    function test_RevertWhen_TheNonceIsUsedInTheOtherRole() public {
        payee = payer;
        bytes32 id = openChannel();
        assertTaken(call(id, 5));
        bytes memory close = sign(payer, escrowDomain(), closeHash(id, 0, 5, block.timestamp));
        vm.expectRevert(IRelayedChannels.NonceAlreadyUsed.selector);
        escrow.closeWithAuthorization(id, 0, 5, block.timestamp, close, "");
    }

    function test_TheDeadlineIsTheLastSecond() public {
        bytes memory late = call(openChannel(), 0);
        skip(1);
        assertRefused(late, IRelayedChannels.AuthorizationExpired.selector);
        rewind(1);
        assertTaken(late);
    }

    function test_RevertWhen_AnyArgumentIsChanged() public {
        bytes memory good = call(openChannel(), 0, block.timestamp + 1);
        assertRefused(tampered(good, 0), IChannelEscrow.ChannelNotFound.selector);
        assertRefused(tampered(good, 1), IChannelEscrow.InvalidSignature.selector);
        assertRefused(tampered(good, 2), IChannelEscrow.InvalidSignature.selector);
        assertTaken(good);
    }

    function test_RevertGiven_NoSuchChannel() public {
        assertRefused(call(keccak256("none"), 0), IChannelEscrow.ChannelNotFound.selector);
    }

    function test_RevertGiven_ChannelFinalized() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 0);
        assertRefused(call(id, 0), IChannelEscrow.ChannelFinalized.selector);
    }
}
