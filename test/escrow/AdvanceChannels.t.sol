// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {Vm} from "forge-std/Vm.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice The settlement's narrow entry: `advanceChannels` and `closeChannel`.
contract AdvanceChannelsTest is Fixture {
    function advance(IChannelEscrow.Advance[] memory rows) private returns (uint256[] memory) {
        vm.prank(address(settlement));
        return escrow.advanceChannels(payee.addr, address(token), rows);
    }

    function test_AdvancesSkipsAndLeavesGapsInSilence() public {
        bytes32 id = openChannel();
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](4);
        rows[1] = IChannelEscrow.Advance(id, 30e6);
        rows[2] = IChannelEscrow.Advance(id, 20e6);
        rows[3] = IChannelEscrow.Advance(id, DEPOSIT);

        vm.recordLogs();
        uint256[] memory settledRows = advance(rows);

        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 2, "a skipped row and a transfer: the settlement speaks of the others");
        assertEq(logs[0].topics[0], IChannelEscrow.RowSkipped.selector);
        assertEq(logs[0].data, abi.encode(2, IChannelEscrow.SkipReason.AmountNotIncreasing));
        assertEq(logs[1].emitter, address(token));
        assertEq(settledOf(id), DEPOSIT);
        assertEq(settledRows.length, 1);
        assertEq(settledRows[0], 0x0a);
        assertEq(token.balanceOf(payee.addr), DEPOSIT);
    }

    function test_TheBitmapHasAWordForEvery256Rows() public {
        assertEq(advance(new IChannelEscrow.Advance[](0)).length, 0);
        assertEq(advance(new IChannelEscrow.Advance[](256)).length, 1);

        bytes32 id = openChannel();
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](257);
        rows[256] = IChannelEscrow.Advance(id, 1);
        uint256[] memory settledRows = advance(rows);
        assertEq(settledRows.length, 2);
        assertEq(settledRows[0], 0);
        assertEq(settledRows[1], 1);
    }

    /// @dev A thousand rows, of which two thirds go on where the row before has left off.
    function test_AThousandRowsAreEachForThemselves() public {
        bytes32 id = openChannel();
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](1000);
        uint128 amount = 0;
        for (uint256 i = 0; i < rows.length; ++i) {
            if (i % 3 != 0) ++amount;
            rows[i] = IChannelEscrow.Advance(id, amount);
        }
        uint256[] memory settledRows = advance(rows);
        for (uint256 i = 0; i < rows.length; ++i) {
            assertEq(settledRows[i / 256] >> (i % 256) & 1, i % 3 == 0 ? 0 : 1);
        }
        assertEq(settledRows.length, 4);
        assertEq(token.balanceOf(payee.addr), amount);
    }

    function test_SkipsWithTheTrueReason() public {
        bytes32 id = openChannel();
        bytes32 unknown = keccak256("unknown");
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](2);
        rows[0] = IChannelEscrow.Advance(unknown, 1);
        rows[1] = IChannelEscrow.Advance(id, DEPOSIT + 1);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(unknown, 0, IChannelEscrow.SkipReason.ChannelNotFound);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(id, 1, IChannelEscrow.SkipReason.AmountExceedsDeposit);
        assertEq(advance(rows)[0], 0);

        closeAs(payee.addr, id, 0);
        rows[1].amount = 1;
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(id, 1, IChannelEscrow.SkipReason.ChannelFinalized);
        assertEq(advance(rows)[0], 0);
    }

    function test_ClosesAtTheAmountOrAtWhatIsSettled() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 40e6);
        vm.prank(address(settlement));
        escrow.closeChannel(id, 30e6);
        assertEq(settledOf(id), 40e6);
        assertEq(token.balanceOf(payer.addr), 960e6);
    }

    function test_RevertWhen_CloseIsImpossible() public {
        bytes32 id = openChannel();
        vm.startPrank(address(settlement));
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        escrow.closeChannel(keccak256("unknown"), 0);
        vm.expectRevert(IChannelEscrow.AmountExceedsDeposit.selector);
        escrow.closeChannel(id, DEPOSIT + 1);
        escrow.closeChannel(id, DEPOSIT);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.closeChannel(id, DEPOSIT);
    }

    function testFuzz_RevertWhen_CallerIsNotTheSettlement(address caller) public {
        vm.assume(caller != address(settlement));
        bytes32 id = openChannel();
        vm.startPrank(caller);
        vm.expectRevert(IChannelEscrow.NotSettlement.selector);
        escrow.advanceChannels(payee.addr, address(token), new IChannelEscrow.Advance[](0));
        vm.expectRevert(IChannelEscrow.NotSettlement.selector);
        escrow.closeChannel(id, 0);
    }
}
