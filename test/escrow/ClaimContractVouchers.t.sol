// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {BurningSigner, ChoosingSigner, MoodySigner, YesSigner} from "../adversary/Signers.sol";
import {Vm} from "forge-std/Vm.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

contract ClaimContractVouchersTest is Fixture {
    ChoosingSigner private wallet;
    bytes private constant YES = abi.encode(bytes4(0x1626ba7e));

    function setUp() public override {
        super.setUp();
        wallet = new ChoosingSigner();
    }

    function row(address authorizedSigner, bytes32 salt, uint128 ceiling, uint128 amount)
        private
        view
        returns (IChannelEscrow.ContractVoucherRow memory)
    {
        return IChannelEscrow.ContractVoucherRow(
            payer.addr, salt, authorizedSigner, "any bytes at all", toVoucherAmounts(ceiling, amount)
        );
    }

    function rowsOf(IChannelEscrow.ContractVoucherRow memory row_)
        private
        pure
        returns (IChannelEscrow.ContractVoucherRow[] memory rows)
    {
        rows = new IChannelEscrow.ContractVoucherRow[](1);
        rows[0] = row_;
    }

    function claim(IChannelEscrow.ContractVoucherRow memory row_) private returns (uint256) {
        vm.prank(stranger);
        return escrow.claimContractVouchers(payee.addr, address(token), rowsOf(row_));
    }

    function assertSkipped(IChannelEscrow.ContractVoucherRow memory row_, IChannelEscrow.SkipReason reason) private {
        bytes32 id = channelIdOf(row_.payer, payee.addr, address(token), row_.salt, row_.authorizedSigner);
        uint256 held = token.balanceOf(payee.addr);
        vm.recordLogs();
        assertEq(claim(row_), 0);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 1);
        assertEq(logs[0].topics[0], IChannelEscrow.RowSkipped.selector);
        assertEq(logs[0].topics[1], id);
        assertEq(logs[0].data, abi.encode(0, reason));
        assertEq(token.balanceOf(payee.addr), held);
    }

    function test_TheSumIsNotThatOfAChannel() public {
        uint128 max = type(uint128).max;
        address signer_ = address(new YesSigner());
        fund(payer.addr, 2 * uint256(max));
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](2);
        for (uint256 i = 0; i < rows.length; ++i) {
            vm.prank(payer.addr);
            escrow.open(payee.addr, address(token), max, bytes32(i), signer_);
            rows[i] = row(signer_, bytes32(i), max, max);
        }
        assertEq(escrow.claimContractVouchers(payee.addr, address(token), rows), 2 * uint256(max));
        assertEq(token.balanceOf(payee.addr), 2 * uint256(max));
    }

    function test_PaysAThousandChannelsInOneTransfer() public {
        address signer_ = address(new YesSigner());
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](1000);
        for (uint256 i = 0; i < rows.length; ++i) {
            vm.prank(payer.addr);
            escrow.open(payee.addr, address(token), 1e6, bytes32(i), signer_);
            rows[i] = row(signer_, bytes32(i), 1e6, uint128(i + 1));
        }
        vm.recordLogs();
        assertEq(escrow.claimContractVouchers(payee.addr, address(token), rows), 1000 * 1001 / 2);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 2, "one event for all that was settled, and a transfer");
        assertEq(abi.decode(logs[0].data, (IChannelEscrow.SettledChannel[])).length, 1000);
        assertEq(token.balanceOf(payee.addr), 1000 * 1001 / 2);
    }

    function openAt(bytes32 salt, address authorizedSigner) private returns (bytes32) {
        vm.prank(payer.addr);
        return escrow.open(payee.addr, address(token), DEPOSIT, salt, authorizedSigner);
    }

    function test_AsksAboutTheCeilingAndSettlesTheAmount() public {
        bytes32 id = openChannelWithSigner(address(wallet));
        wallet.choose(voucherDigest(id, 50e6), YES);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelSettled(id, 30e6);
        assertEq(claim(row(address(wallet), SALT, 50e6, 30e6)), 30e6);
        assertEq(claim(row(address(wallet), SALT, 50e6, 50e6)), 20e6);
        assertEq(token.balanceOf(payee.addr), 50e6);
        assertEq(settledOf(id), 50e6);
    }

    function test_AsksAPayerThatIsAContract() public {
        payer.addr = address(wallet);
        fund(payer.addr, DEPOSIT);
        bytes32 id = openChannel();
        wallet.choose(voucherDigest(id, 40e6), YES);
        assertEq(claim(row(address(0), SALT, 40e6, 40e6)), 40e6);
    }

    function test_TakesAKeysSignatureInBothForms() public {
        bytes32 id = openChannel();
        IChannelEscrow.ContractVoucherRow memory keys = row(address(0), SALT, 40e6, 10e6);
        keys.signature = signVoucher(payer, id, 40e6);
        assertEq(claim(keys), 10e6);
        (bytes32 r, bytes32 vs) = vm.signCompact(payer.key, voucherDigest(id, 40e6));
        (keys.signature, keys.amounts) = (abi.encodePacked(r, vs), toVoucherAmounts(40e6, 40e6));
        assertEq(claim(keys), 30e6);
    }

    function test_PaysManyChannelsInOneTransferUnderOneEvent() public {
        address yes = address(new YesSigner());
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](3);
        bytes32[3] memory ids;
        for (uint256 i = 0; i < 3; ++i) {
            ids[i] = openAt(bytes32(i), yes);
            rows[i] = row(yes, bytes32(i), 1e6, uint128(i + 1));
        }
        vm.recordLogs();
        assertEq(escrow.claimContractVouchers(payee.addr, address(token), rows), 6);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 2);
        assertEq(logs[0].topics[0], IChannelEscrow.ChannelsSettled.selector);
        IChannelEscrow.SettledChannel[] memory settled = abi.decode(logs[0].data, (IChannelEscrow.SettledChannel[]));
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(settled[i].channelId, ids[i]);
            assertEq(settled[i].settled, i + 1);
        }
        assertEq(token.balanceOf(payee.addr), 6);
    }

    /// @dev Neither a signer that burns its allowance nor one that changed its mind costs the others anything but gas.
    function test_ABadRowSinksNothing() public {
        (address burning, address moody, address yes) =
            (address(new BurningSigner()), address(new MoodySigner()), address(new YesSigner()));
        bytes32 burningId = openAt(0, burning);
        bytes32 moodyId = openAt(0, moody);
        bytes32 id = openAt(0, yes);
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](4);
        rows[0] = row(burning, 0, 40e6, 40e6);
        rows[1] = row(moody, 0, 40e6, 40e6);
        rows[2] = row(yes, 0, 40e6, 40e6);
        rows[3] = row(yes, 0, 40e6, 40e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(burningId, 0, IChannelEscrow.SkipReason.InvalidSignature);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(moodyId, 1, IChannelEscrow.SkipReason.InvalidSignature);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(id, 3, IChannelEscrow.SkipReason.AmountNotIncreasing);
        assertEq(escrow.claimContractVouchers(payee.addr, address(token), rows), 40e6);
    }

    function test_AnEmptyClaimDoesNothing() public {
        vm.recordLogs();
        IChannelEscrow.ContractVoucherRow[] memory none = new IChannelEscrow.ContractVoucherRow[](0);
        assertEq(escrow.claimContractVouchers(payee.addr, address(token), none), 0);
        assertEq(vm.getRecordedLogs().length, 0);
    }

    function test_SkipsWithTheTrueReason() public {
        address yes = address(new YesSigner());
        assertSkipped(row(yes, SALT, 1, 1), IChannelEscrow.SkipReason.ChannelNotFound);
        bytes32 id = openChannelWithSigner(yes);
        assertSkipped(row(yes, SALT, 0, 0), IChannelEscrow.SkipReason.AmountNotIncreasing);
        assertEq(claim(row(yes, SALT, 10e6, 10e6)), 10e6);
        assertSkipped(row(yes, SALT, 10e6, 10e6), IChannelEscrow.SkipReason.AmountNotIncreasing);
        assertSkipped(row(yes, SALT, type(uint128).max, DEPOSIT + 1), IChannelEscrow.SkipReason.AmountExceedsDeposit);
        assertSkipped(row(yes, SALT, 20e6, 20e6 + 1), IChannelEscrow.SkipReason.AmountExceedsVoucher);
        assertSkipped(row(address(0), SALT, 20e6, 20e6), IChannelEscrow.SkipReason.ChannelNotFound);
        vm.prank(payee.addr);
        escrow.close(id, 0, "");
        assertSkipped(row(yes, SALT, 20e6, 20e6), IChannelEscrow.SkipReason.ChannelFinalized);
    }

    function test_SkipsWhatTheContractRefuses() public {
        bytes32 id = openChannelWithSigner(address(wallet));
        wallet.choose(voucherDigest(id, 10e6), YES);
        assertSkipped(row(address(wallet), SALT, 11e6, 10e6), IChannelEscrow.SkipReason.InvalidSignature);
        wallet.choose(voucherDigest(id, 10e6), abi.encode(bytes4(0xffffffff)));
        assertSkipped(row(address(wallet), SALT, 10e6, 10e6), IChannelEscrow.SkipReason.InvalidSignature);
    }

    /// @dev Too little gas to hear it out is not the signer's no: the call fails, and the row is not skipped.
    function test_RevertWhen_TheGasLeftCantCoverTheAllowance() public {
        address yes = address(new YesSigner());
        openChannelWithSigner(yes);
        vm.prank(stranger);
        vm.expectRevert(IChannelEscrow.InsufficientGas.selector);
        escrow.claimContractVouchers{gas: 105_000}(payee.addr, address(token), rowsOf(row(yes, SALT, 1, 1)));
    }

    /// @dev Invariant 6.
    function testFuzz_ABatchEqualsItsRowsOneByOne(uint128[4] memory amounts, uint128[4] memory ceilings) public {
        address yes = address(new YesSigner());
        bytes32 id = openChannelWithSigner(yes);
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](4);
        for (uint256 i = 0; i < 4; ++i) {
            uint128 ceiling = uint128(bound(ceilings[i], 0, DEPOSIT + 10));
            rows[i] = row(yes, SALT, ceiling, uint128(bound(amounts[i], 0, ceiling + 3)));
        }
        uint256 snapshot = vm.snapshotState();
        uint256 batch = escrow.claimContractVouchers(payee.addr, address(token), rows);
        uint128 settled = settledOf(id);
        vm.revertToState(snapshot);
        uint256 sum;
        for (uint256 i = 0; i < 4; ++i) {
            sum += claim(rows[i]);
        }
        assertEq(sum, batch);
        assertEq(settledOf(id), settled);
        assertEq(token.balanceOf(payee.addr), settled);
    }
}
