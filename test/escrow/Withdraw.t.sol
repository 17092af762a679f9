// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice The payer's way out: `requestClose`, then `withdraw`.
contract WithdrawTest is Fixture {
    function requestClose(bytes32 id) private {
        vm.prank(payer.addr);
        escrow.requestClose(id);
    }

    function test_RequestStartsTheGracePeriod() public {
        bytes32 id = openChannel();
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.CloseRequested(id, 1_800_000_000);
        requestClose(id);
        assertEq(escrow.getChannel(id).closeRequestedAt, 1_800_000_000);
        assertEq(escrow.CLOSE_GRACE_PERIOD(), 1 hours);
    }

    function test_AskingAgainChangesNothing() public {
        bytes32 id = openChannel();
        requestClose(id);
        skip(10 minutes);
        vm.recordLogs();
        requestClose(id);
        assertEq(vm.getRecordedLogs().length, 0);
        assertEq(escrow.getChannel(id).closeRequestedAt, 1_800_000_000);
    }

    function test_RefundsTheRestAfterTheGracePeriod() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 20e6);
        requestClose(id);
        skip(1 hours);

        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(id, 20e6, 80e6);
        vm.prank(payer.addr);
        escrow.withdraw(id);

        assertEq(token.balanceOf(payer.addr), 980e6);
        assertEq(token.balanceOf(address(escrow)), 0);
        assertTrue(escrow.getChannel(id).finalized);
        assertEq(settledOf(id), 20e6);
        assertEq(escrow.getChannel(id).deposit, DEPOSIT);
    }

    function test_RefundsABalanceChannelToTheBalance() public {
        bytes32 id = openChannelFromBalance();
        requestClose(id);
        skip(1 hours);
        vm.prank(payer.addr);
        escrow.withdraw(id);
        assertEq(escrow.balanceOf(payer.addr, address(token)), DEPOSIT);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT);
    }

    function testFuzz_RevertWhen_TheGracePeriodStillRuns(uint256 elapsed) public {
        bytes32 id = openChannel();
        requestClose(id);
        skip(bound(elapsed, 0, 1 hours - 1));
        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
        escrow.withdraw(id);
    }

    function test_TheLastSecondOfGraceAndTheFirstAfter() public {
        bytes32 id = openChannel();
        requestClose(id);
        skip(1 hours - 1);
        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
        escrow.withdraw(id);
        skip(1);
        vm.prank(payer.addr);
        escrow.withdraw(id);
    }

    function test_RevertGiven_NoCloseRequested() public {
        bytes32 id = openChannel();
        skip(365 days);
        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
        escrow.withdraw(id);
    }

    function test_RevertGiven_NoSuchChannel() public {
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        escrow.requestClose(keccak256("none"));
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        escrow.withdraw(keccak256("none"));
    }

    function test_RevertGiven_ChannelFinalized() public {
        bytes32 id = openChannel();
        requestClose(id);
        skip(1 hours);
        vm.startPrank(payer.addr);
        escrow.withdraw(id);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.withdraw(id);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.requestClose(id);
    }

    function test_RevertWhen_CallerIsNotPayer() public {
        bytes32 id = openChannelWithSigner(signer.addr);
        address[3] memory others = [payee.addr, signer.addr, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IChannelEscrow.NotPayer.selector);
            escrow.requestClose(id);
        }
        requestClose(id);
        skip(1 hours);
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IChannelEscrow.NotPayer.selector);
            escrow.withdraw(id);
        }
    }
}
