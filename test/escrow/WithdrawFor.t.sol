// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IDevToken} from "../IDevToken.sol";
import {FickleToken} from "../adversary/Tokens.sol";
import {Vm} from "forge-std/Vm.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

contract WithdrawForTest is Fixture {
    function withdraw(bytes32[] memory ids) private {
        vm.prank(stranger);
        escrow.withdrawFor(ids);
    }

    function idsOf(bytes32 id) private pure returns (bytes32[] memory ids) {
        ids = new bytes32[](1);
        ids[0] = id;
    }

    function requestClose(bytes32 id) private {
        vm.prank(escrow.getChannel(id).payer);
        escrow.requestClose(id);
    }

    function assertSkipped(bytes32 id, IChannelEscrow.SkipReason reason) private {
        bytes memory before = abi.encode(escrow.getChannel(id));
        vm.recordLogs();
        withdraw(idsOf(id));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 1);
        assertEq(logs[0].topics[0], IChannelEscrow.RowSkipped.selector);
        assertEq(logs[0].topics[1], id);
        assertEq(logs[0].data, abi.encode(0, reason));
        assertEq(abi.encode(escrow.getChannel(id)), before);
    }

    function test_PaysThePayersWhoeverCalls() public {
        bytes32[] memory ids = new bytes32[](2);
        ids[0] = openChannel();
        settleAs(payee.addr, ids[0], 20e6);
        fund(signer.addr, 7);
        vm.prank(signer.addr);
        ids[1] = escrow.open(payee.addr, address(token), 7, SALT, address(0));
        requestClose(ids[0]);
        requestClose(ids[1]);
        skip(1 hours);

        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(ids[0], 20e6, 80e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(ids[1], 0, 7);
        withdraw(ids);
        assertEq(token.balanceOf(payer.addr), 980e6);
        assertEq(token.balanceOf(signer.addr), 7);
        assertEq(token.balanceOf(stranger), 0);
        assertTrue(escrow.getChannel(ids[0]).finalized && escrow.getChannel(ids[1]).finalized);
    }

    function test_RefundsABalanceChannelToTheBalance() public {
        bytes32 id = openChannelFromBalance();
        requestClose(id);
        skip(1 hours);
        withdraw(idsOf(id));
        assertEq(escrow.balanceOf(payer.addr, address(token)), DEPOSIT);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT);
    }

    function test_ClosesAChannelWithNothingLeft() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, DEPOSIT);
        requestClose(id);
        skip(1 hours);
        withdraw(idsOf(id));
        assertTrue(escrow.getChannel(id).finalized);
        assertEq(token.balanceOf(payer.addr), 900e6);
    }

    /// @dev The last second of grace, and the first after.
    function test_SkipsUntilTheGracePeriodIsOver() public {
        bytes32 id = openChannel();
        assertSkipped(id, IChannelEscrow.SkipReason.CloseNotReady);
        requestClose(id);
        assertSkipped(id, IChannelEscrow.SkipReason.CloseNotReady);
        skip(1 hours - 1);
        assertSkipped(id, IChannelEscrow.SkipReason.CloseNotReady);
        skip(1);
        withdraw(idsOf(id));
        assertEq(token.balanceOf(payer.addr), 1000e6);
        assertSkipped(id, IChannelEscrow.SkipReason.ChannelFinalized);
    }

    function test_SkipsAnUnknownChannel() public {
        assertSkipped(keccak256("none"), IChannelEscrow.SkipReason.ChannelNotFound);
        assertSkipped(0, IChannelEscrow.SkipReason.ChannelNotFound);
    }

    /// @dev Without a request no time passes, however much does.
    function test_SkipsGivenNoCloseRequested() public {
        bytes32 id = openChannel();
        skip(365 days);
        assertSkipped(id, IChannelEscrow.SkipReason.CloseNotReady);
    }

    function test_ABadRowSinksNothingAndARowTwiceCountsOnce() public {
        bytes32 id = openChannel();
        requestClose(id);
        skip(1 hours);
        bytes32[] memory ids = new bytes32[](4);
        (ids[0], ids[1], ids[3]) = (keccak256("none"), id, id);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(ids[0], 0, IChannelEscrow.SkipReason.ChannelNotFound);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(id, 0, DEPOSIT);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(0, 2, IChannelEscrow.SkipReason.ChannelNotFound);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(id, 3, IChannelEscrow.SkipReason.ChannelFinalized);
        withdraw(ids);
        assertEq(token.balanceOf(payer.addr), 1000e6);
    }

    function test_AnEmptyCallDoesNothing() public {
        vm.recordLogs();
        withdraw(new bytes32[](0));
        assertEq(vm.getRecordedLogs().length, 0);
    }

    /// @dev A payer whom the token blocks, and a token that pays nobody, cost the others nothing.
    function test_ABlockedPayerJamsNobodyElse() public {
        bytes32[] memory ids = new bytes32[](3);
        ids[2] = openChannel();
        requestClose(ids[2]);

        FickleToken fickle = new FickleToken();
        token = IDevToken(address(fickle));
        fund(payer.addr, DEPOSIT);
        fund(signer.addr, DEPOSIT);
        ids[0] = openChannel();
        vm.prank(signer.addr);
        ids[1] = escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
        requestClose(ids[0]);
        requestClose(ids[1]);
        skip(1 hours);

        fickle.setBlocked(payer.addr);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.PayoutCredited(payer.addr, address(fickle), DEPOSIT);
        withdraw(ids);
        assertEq(escrow.balanceOf(payer.addr, address(fickle)), DEPOSIT);
        assertEq(fickle.balanceOf(signer.addr), DEPOSIT);
        assertEq(IDevToken(escrow.getChannel(ids[2]).token).balanceOf(payer.addr), 1000e6);
    }

    function testFuzz_DoesWhatThePayersWouldDoOneByOne(uint8 requested, uint256 elapsed) public {
        bytes32[] memory ids = new bytes32[](4);
        for (uint256 i = 0; i < 4; ++i) {
            vm.prank(payer.addr);
            ids[i] = escrow.open(payee.addr, address(token), uint128(10e6 + i), bytes32(i), address(0));
            if (requested & (1 << i) != 0) requestClose(ids[i]);
        }
        skip(bound(elapsed, 1 hours - 2, 1 hours + 2));

        uint256 snapshot = vm.snapshotState();
        withdraw(ids);
        bytes32 outcome = keccak256(abi.encode(escrow.getChannelsBatch(ids), token.balanceOf(payer.addr)));
        vm.revertToState(snapshot);
        for (uint256 i = 0; i < 4; ++i) {
            vm.prank(payer.addr);
            try escrow.withdraw(ids[i]) {} catch {}
        }
        assertEq(keccak256(abi.encode(escrow.getChannelsBatch(ids), token.balanceOf(payer.addr))), outcome);
    }
}
