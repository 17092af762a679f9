// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {Vm} from "forge-std/Vm.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

contract ClaimVouchersTest is Fixture {
    function claim(IChannelEscrow.VoucherRow memory row) private returns (uint256) {
        vm.prank(stranger);
        return escrow.claimVouchers(payee.addr, address(token), rowsOf(row));
    }

    /// @dev The row is skipped for `reason`, and that is all that happens.
    function assertSkipped(IChannelEscrow.VoucherRow memory row, IChannelEscrow.SkipReason reason) private {
        bytes32 id = channelIdOf(row.payer, payee.addr, address(token), row.salt, row.authorizedSigner);
        IChannelEscrow.Channel memory before = escrow.getChannel(id);
        uint256 held = token.balanceOf(payee.addr);

        vm.recordLogs();
        assertEq(claim(row), 0);

        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 1);
        assertEq(logs[0].topics[0], IChannelEscrow.RowSkipped.selector);
        assertEq(logs[0].topics[1], id);
        assertEq(logs[0].data, abi.encode(0, reason));
        assertEq(abi.encode(escrow.getChannel(id)), abi.encode(before));
        assertEq(token.balanceOf(payee.addr), held);
    }

    // --- Good rows ---

    function test_SettlesTheAmountBelowTheCeiling() public {
        bytes32 id = openChannel();
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelSettled(id, 30e6);
        assertEq(claim(voucherRow(payer, address(0), SALT, 50e6, 30e6)), 30e6);
        assertEq(token.balanceOf(payee.addr), 30e6);
        assertEq(settledOf(id), 30e6);

        assertEq(claim(voucherRow(payer, address(0), SALT, 50e6, 50e6)), 20e6);
        assertEq(token.balanceOf(payee.addr), 50e6);
    }

    function test_TakesTheAuthorizedSignersVoucherAlone() public {
        bytes32 id = openChannelWithSigner(signer.addr);
        IChannelEscrow.VoucherRow memory row = voucherRow(payer, signer.addr, SALT, 50e6, 50e6);
        assertSkipped(row, IChannelEscrow.SkipReason.InvalidSignature);
        (row.r, row.vs) = vm.signCompact(signer.key, voucherDigest(id, 50e6));
        assertEq(claim(row), 50e6);
    }

    /// @dev As much as a channel holds, twice.
    function test_TheSumIsNotThatOfAChannel() public {
        uint128 max = type(uint128).max;
        fund(payer.addr, 2 * uint256(max));
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](2);
        for (uint256 i = 0; i < rows.length; ++i) {
            vm.prank(payer.addr);
            escrow.open(payee.addr, address(token), max, bytes32(i), address(0));
            rows[i] = voucherRow(payer, address(0), bytes32(i), max, max);
        }
        assertEq(escrow.claimVouchers(payee.addr, address(token), rows), 2 * uint256(max));
        assertEq(token.balanceOf(payee.addr), 2 * uint256(max));
    }

    function test_PaysManyChannelsInOneTransfer() public {
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](1000);
        for (uint256 i = 0; i < rows.length; ++i) {
            bytes32 salt = bytes32(i);
            vm.prank(payer.addr);
            escrow.open(payee.addr, address(token), 1e6, salt, address(0));
            rows[i] = voucherRow(payer, address(0), salt, 1e6, uint128(i + 1));
        }
        vm.recordLogs();
        assertEq(escrow.claimVouchers(payee.addr, address(token), rows), 1000 * 1001 / 2);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 2, "one event for all that was settled, and a transfer");
        assertEq(logs[0].topics[0], IChannelEscrow.ChannelsSettled.selector);
        IChannelEscrow.SettledChannel[] memory settled = abi.decode(logs[0].data, (IChannelEscrow.SettledChannel[]));
        assertEq(settled.length, 1000);
        assertEq(logs[0].data.length, abi.encode(settled).length, "not a byte besides");
        assertEq(token.balanceOf(payee.addr), 1000 * 1001 / 2);
    }

    function test_ABadRowSinksNothing() public {
        openChannel();
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](3);
        rows[0] = voucherRow(payer, address(0), keccak256("unknown"), 1e6, 1e6);
        rows[1] = voucherRow(40e6);
        rows[2] = voucherRow(40e6);

        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(
            channelIdOf(payer.addr, payee.addr, address(token), keccak256("unknown"), address(0)),
            0,
            IChannelEscrow.SkipReason.ChannelNotFound
        );
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(
            channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0)),
            2,
            IChannelEscrow.SkipReason.AmountNotIncreasing
        );
        assertEq(escrow.claimVouchers(payee.addr, address(token), rows), 40e6);
        assertEq(token.balanceOf(payee.addr), 40e6);
    }

    function test_AnEmptyClaimDoesNothing() public {
        vm.recordLogs();
        assertEq(escrow.claimVouchers(payee.addr, address(token), new IChannelEscrow.VoucherRow[](0)), 0);
        assertEq(vm.getRecordedLogs().length, 0);
    }

    /// @dev Invariant 6.
    function testFuzz_ABatchEqualsItsRowsOneByOne(uint128[6] memory amounts, uint128[6] memory ceilings, uint8 picks)
        public
    {
        openChannel();
        vm.prank(payer.addr);
        escrow.open(payee.addr, address(token), DEPOSIT, bytes32(0), address(0));
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](6);
        for (uint256 i = 0; i < 6; ++i) {
            uint128 ceiling = uint128(bound(ceilings[i], 0, DEPOSIT + 10));
            uint128 amount = uint128(bound(amounts[i], 0, ceiling + 3));
            rows[i] = voucherRow(payer, address(0), picks & (1 << i) == 0 ? SALT : bytes32(0), ceiling, amount);
        }

        uint256 snapshot = vm.snapshotState();
        uint256 batch = escrow.claimVouchers(payee.addr, address(token), rows);
        bytes32 outcome = stateHash();
        vm.revertToState(snapshot);

        uint256 sum;
        for (uint256 i = 0; i < 6; ++i) {
            sum += escrow.claimVouchers(payee.addr, address(token), rowsOf(rows[i]));
        }
        assertEq(sum, batch);
        assertEq(stateHash(), outcome);
    }

    function stateHash() private view returns (bytes32) {
        return keccak256(
            abi.encode(
                escrow.getChannel(channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0))),
                escrow.getChannel(channelIdOf(payer.addr, payee.addr, address(token), bytes32(0), address(0))),
                token.balanceOf(payee.addr),
                token.balanceOf(address(escrow))
            )
        );
    }

    // --- Bad rows ---

    function test_SkipsAnUnknownChannel() public {
        assertSkipped(voucherRow(1), IChannelEscrow.SkipReason.ChannelNotFound);
        assertSkipped(voucherRow(0), IChannelEscrow.SkipReason.ChannelNotFound);
        assertSkipped(voucherRow(type(uint128).max), IChannelEscrow.SkipReason.ChannelNotFound);
    }

    /// @dev With payer zero, a signature that recovers to nobody must not pass for nobody's.
    function test_SkipsNobodysChannel() public {
        IChannelEscrow.VoucherRow memory row = voucherRow(1);
        row.payer = address(0);
        row.r = 0;
        assertSkipped(row, IChannelEscrow.SkipReason.ChannelNotFound);
    }

    /// @dev Whatever was settled, and whatever is asked for: the swapped halves accept nothing.
    function testFuzz_SkipsAFinalizedChannel(uint128 settled, uint128 amount) public {
        bytes32 id = openChannel();
        settled = uint128(bound(settled, 0, DEPOSIT));
        closeAs(payee.addr, id, settled);
        assertSkipped(voucherRow(amount), IChannelEscrow.SkipReason.ChannelFinalized);
        assertSkipped(voucherRow(settled), IChannelEscrow.SkipReason.ChannelFinalized);
        assertSkipped(voucherRow(settled + 1), IChannelEscrow.SkipReason.ChannelFinalized);
        assertSkipped(voucherRow(DEPOSIT), IChannelEscrow.SkipReason.ChannelFinalized);
    }

    function test_SkipsAWithdrawnChannel() public {
        bytes32 id = openChannel();
        vm.startPrank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
        escrow.withdraw(id);
        vm.stopPrank();
        assertSkipped(voucherRow(DEPOSIT), IChannelEscrow.SkipReason.ChannelFinalized);
    }

    function test_SkipsAnAmountThatIsNotIncreasing() public {
        openChannel();
        assertSkipped(voucherRow(0), IChannelEscrow.SkipReason.AmountNotIncreasing);
        claim(voucherRow(40e6));
        assertSkipped(voucherRow(40e6), IChannelEscrow.SkipReason.AmountNotIncreasing);
        assertSkipped(voucherRow(1), IChannelEscrow.SkipReason.AmountNotIncreasing);
    }

    function test_SkipsAnAmountOverTheDeposit() public {
        openChannel();
        assertSkipped(voucherRow(DEPOSIT + 1), IChannelEscrow.SkipReason.AmountExceedsDeposit);
        assertSkipped(voucherRow(type(uint128).max), IChannelEscrow.SkipReason.AmountExceedsDeposit);
    }

    function test_SettlesUnderACeilingOverTheDeposit() public {
        openChannel();
        assertEq(claim(voucherRow(payer, address(0), SALT, type(uint128).max, DEPOSIT)), DEPOSIT);
    }

    function test_SkipsAnAmountOverTheVoucher() public {
        openChannel();
        assertSkipped(
            voucherRow(payer, address(0), SALT, 40e6, 40e6 + 1), IChannelEscrow.SkipReason.AmountExceedsVoucher
        );
    }

    function test_SkipsABadSignature() public {
        bytes32 id = openChannel();
        IChannelEscrow.VoucherRow memory row = voucherRow(40e6);

        (row.r, row.vs) = vm.signCompact(signer.key, voucherDigest(id, 40e6));
        assertSkipped(row, IChannelEscrow.SkipReason.InvalidSignature);

        (row.r, row.vs) = vm.signCompact(payer.key, voucherDigest(id, 40e6 - 1));
        assertSkipped(row, IChannelEscrow.SkipReason.InvalidSignature);

        (row.r, row.vs) = (0, 0);
        assertSkipped(row, IChannelEscrow.SkipReason.InvalidSignature);
    }

    /// @dev A row can't name a signer that the channel was not opened with: its id would be another.
    function test_SkipsASignerTheChannelDoesNotHave() public {
        openChannel();
        assertSkipped(voucherRow(payer, signer.addr, SALT, 40e6, 40e6), IChannelEscrow.SkipReason.ChannelNotFound);
    }
}
