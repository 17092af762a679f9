// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IDevToken} from "../IDevToken.sol";
import {FickleToken} from "../adversary/Tokens.sol";
import {stdError} from "forge-std/StdError.sol";
import {Vm} from "forge-std/Vm.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

contract ClaimReceiptsTest is Fixture {
    function claim(IUsageSettlement.ReceiptRow memory row) private {
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rowsOf(row));
    }

    /// @dev The row is skipped by `emitter` for `reason`, and that is all that happens.
    function assertSkipped(IUsageSettlement.ReceiptRow memory row, address emitter, IChannelEscrow.SkipReason reason)
        private
    {
        bytes32 id = channelIdOf(row.payer, payee.addr, address(token), row.salt, row.authorizedSigner);
        IChannelEscrow.Channel memory before = escrow.getChannel(id);
        uint256 held = token.balanceOf(payee.addr);

        vm.recordLogs();
        claim(row);

        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 1);
        assertEq(logs[0].emitter, emitter);
        assertEq(logs[0].topics[0], IUsageSettlement.RowSkipped.selector);
        assertEq(logs[0].topics[1], id);
        assertEq(logs[0].data, abi.encode(0, reason));
        assertEq(abi.encode(escrow.getChannel(id)), abi.encode(before));
        assertEq(token.balanceOf(payee.addr), held);
    }

    function assertUnsigned(IUsageSettlement.ReceiptRow memory row) private {
        assertSkipped(row, address(settlement), IChannelEscrow.SkipReason.InvalidSignature);
    }

    // --- Good rows ---

    function test_PaysThePayeeAndPublishesTheUsage() public {
        bytes32 id = openChannel();
        vm.expectEmit(address(settlement));
        emit IUsageSettlement.UsageSettled(id, payer.addr, payee.addr, 3, 4096, 1024, 40e6);
        claim(receiptRow(40e6));
        assertEq(token.balanceOf(payee.addr), 40e6);
        assertEq(settledOf(id), 40e6);
    }

    function testFuzz_PublishesWhatWasSigned(uint64 sequence, uint64 input, uint64 output, uint128 amount) public {
        bytes32 id = openChannel();
        IUsageSettlement.ReceiptRow memory row = receiptRow(uint128(bound(amount, 1, DEPOSIT)));
        (row.sequence, row.cumulativeInputTokens, row.cumulativeOutputTokens) = (sequence, input, output);
        (row.payerR, row.payerVs) = vm.signCompact(payer.key, receiptDigest(id, row));

        vm.expectEmit(address(settlement));
        emit IUsageSettlement.UsageSettled(id, payer.addr, payee.addr, sequence, input, output, row.cumulativeAmount);
        claim(row);
    }

    function test_TakesTheLargestNumbersThereAre() public {
        fund(payer.addr, type(uint128).max);
        bytes32 id = openChannel(type(uint128).max);
        IUsageSettlement.ReceiptRow memory row = receiptRow(type(uint128).max);
        row.sequence = row.cumulativeInputTokens = row.cumulativeOutputTokens = type(uint64).max;
        (row.payerR, row.payerVs) = vm.signCompact(payer.key, receiptDigest(id, row));

        uint64 max = type(uint64).max;
        vm.expectEmit(address(settlement));
        emit IUsageSettlement.UsageSettled(id, payer.addr, payee.addr, max, max, max, type(uint128).max);
        claim(row);
        assertEq(token.balanceOf(payee.addr), type(uint128).max);
    }

    /// @dev As much as a channel holds, twice.
    function test_TheSumIsNotThatOfAChannel() public {
        uint128 max = type(uint128).max;
        fund(payer.addr, 2 * uint256(max));
        IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](2);
        for (uint256 i = 0; i < rows.length; ++i) {
            vm.prank(payer.addr);
            escrow.open(payee.addr, address(token), max, bytes32(i), address(0));
            rows[i] = receiptRow(payer, payer, operator, address(0), bytes32(i), max);
        }
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rows);
        assertEq(token.balanceOf(payee.addr), 2 * uint256(max));
    }

    function test_TheAuthorizedSignerSignsForThePayer() public {
        openChannelWithSigner(signer.addr);
        assertUnsigned(receiptRow(payer, payer, operator, signer.addr, SALT, 40e6));
        claim(receiptRow(payer, signer, operator, signer.addr, SALT, 40e6));
        assertEq(token.balanceOf(payee.addr), 40e6);
    }

    function test_ThePayeeItselfMaySignBillsAndClaim() public {
        openChannel();
        vm.prank(payee.addr);
        settlement.claimReceipts(
            payee.addr, address(token), rowsOf(receiptRow(payer, payer, payee, address(0), SALT, 40e6))
        );
        assertEq(token.balanceOf(payee.addr), 40e6);
    }

    function test_ARetiredOperatorsBillsStayClaimable() public {
        openChannel();
        IUsageSettlement.ReceiptRow memory row = receiptRow(40e6);
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        vm.prank(payee.addr);
        settlement.claimReceipts(payee.addr, address(token), rowsOf(row));
        assertEq(token.balanceOf(payee.addr), 40e6);
    }

    /// @dev Between two good rows each kind of bad one; every event names its row by its place in the call.
    function test_ABadRowSinksNothingAndKeepsItsIndex() public {
        openChannel();
        vm.prank(payer.addr);
        bytes32 second = escrow.open(payee.addr, address(token), DEPOSIT, bytes32(0), address(0));
        IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](4);
        rows[0] = receiptRow(40e6);
        rows[1] = receiptRow(41e6);
        rows[1].billHash ^= bytes32(uint256(1));
        rows[2] = receiptRow(39e6);
        rows[3] = receiptRow(payer, payer, operator, address(0), bytes32(0), 10e6);

        vm.recordLogs();
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rows);

        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 4);
        assertEq(logs[0].emitter, address(settlement));
        assertEq(logs[0].data, abi.encode(1, IChannelEscrow.SkipReason.InvalidSignature));
        assertEq(logs[1].emitter, address(escrow));
        assertEq(logs[1].data, abi.encode(2, IChannelEscrow.SkipReason.AmountNotIncreasing));
        assertEq(logs[2].emitter, address(token));
        assertEq(logs[3].topics[0], IUsageSettlement.UsagesSettled.selector);
        IUsageSettlement.Usage[] memory usages = abi.decode(logs[3].data, (IUsageSettlement.Usage[]));
        assertEq(usages.length, 2);
        assertEq(usages[0].cumulativeAmount, 40e6);
        assertEq(usages[1].channelId, second);
        assertEq(token.balanceOf(payee.addr), 50e6);
    }

    /// @dev What was settled comes back in words of 256 bits: here four, in a pattern that no two of them share.
    function test_PublishesOfManyRowsExactlyThoseThatWereSettled() public {
        bytes32 id = openChannel();
        IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](1000);
        uint128 settled = 0;
        for (uint256 i = 0; i < rows.length; ++i) {
            if (uint256(keccak256(abi.encode(i))) % 2 == 0 || settled == 0) ++settled;
            rows[i] = receiptRow(settled);
            rows[i].sequence = uint64(i);
            (rows[i].payerR, rows[i].payerVs) = vm.signCompact(payer.key, receiptDigest(id, rows[i]));
        }

        vm.recordLogs();
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rows);

        Vm.Log[] memory logs = vm.getRecordedLogs();
        IUsageSettlement.Usage[] memory usages = abi.decode(logs[logs.length - 1].data, (IUsageSettlement.Usage[]));
        assertEq(usages.length, settled);
        assertEq(logs[logs.length - 1].data.length, abi.encode(usages).length, "not a byte besides");
        assertEq(logs.length, rows.length - settled + 2);
        for (uint256 i = 0; i < usages.length; ++i) {
            assertEq(usages[i].cumulativeAmount, i + 1, "each amount once, in order");
            uint64 sequence = usages[i].sequence;
            assertEq(rows[sequence].cumulativeAmount, i + 1, "published of a row that says so");
            assertTrue(sequence == 0 || rows[sequence - 1].cumulativeAmount == i, "of the first that does");
        }
    }

    /// @dev Operators differ from row to row: the one remembered must not vouch for another's bill.
    function test_EveryBillSignerIsChecked() public {
        openChannel();
        Account memory another = makeAccount("another operator");
        vm.prank(payee.addr);
        registry.addOperator(another.addr);
        IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](5);
        rows[0] = receiptRow(10e6);
        rows[1] = receiptRow(payer, payer, signer, address(0), SALT, 20e6);
        rows[2] = receiptRow(payer, payer, another, address(0), SALT, 30e6);
        rows[3] = receiptRow(payer, payer, signer, address(0), SALT, 40e6);
        rows[4] = receiptRow(payer, payer, payee, address(0), SALT, 50e6);
        vm.recordLogs();
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rows);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs[0].data, abi.encode(1, IChannelEscrow.SkipReason.InvalidSignature));
        assertEq(logs[1].data, abi.encode(3, IChannelEscrow.SkipReason.InvalidSignature));
        assertEq(token.balanceOf(payee.addr), 50e6);
    }

    function test_AnEmptyClaimDoesNothing() public {
        vm.recordLogs();
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), new IUsageSettlement.ReceiptRow[](0));
        assertEq(vm.getRecordedLogs().length, 0);
    }

    // --- Bad rows ---

    function test_SkipsWhatOneSideHasNotSigned() public {
        openChannel();
        assertUnsigned(receiptRow(payer, signer, operator, address(0), SALT, 40e6));
        assertUnsigned(receiptRow(payer, operator, operator, address(0), SALT, 40e6));
        assertUnsigned(receiptRow(payer, payer, signer, address(0), SALT, 40e6));
        assertUnsigned(receiptRow(payer, payer, payer, address(0), SALT, 40e6));
    }

    function test_SkipsWhenAnythingSignedIsChanged() public {
        openChannel();
        for (uint256 field = 0; field < 6; ++field) {
            IUsageSettlement.ReceiptRow memory row = receiptRow(40e6);
            if (field == 0) ++row.sequence;
            else if (field == 1) ++row.cumulativeInputTokens;
            else if (field == 2) ++row.cumulativeOutputTokens;
            else if (field == 3) ++row.cumulativeAmount;
            else if (field == 4) row.previousReceipt = 0;
            else row.billHash = 0;
            assertUnsigned(row);
        }
    }

    function test_SkipsSignaturesThatRecoverToNobody() public {
        openChannel();
        IUsageSettlement.ReceiptRow memory row = receiptRow(40e6);
        row.operatorR = 0;
        assertUnsigned(row);
        row = receiptRow(40e6);
        row.payerR = 0;
        assertUnsigned(row);
        row.payer = address(0);
        assertUnsigned(row);
    }

    function test_SkipsAnOperatorOfAnotherPayee() public {
        openChannel();
        vm.prank(stranger);
        registry.addOperator(signer.addr);
        assertUnsigned(receiptRow(payer, payer, signer, address(0), SALT, 40e6));
    }

    function test_SkipsWhatTheEscrowRefuses() public {
        assertSkipped(receiptRow(40e6), address(escrow), IChannelEscrow.SkipReason.ChannelNotFound);
        bytes32 id = openChannel();
        assertSkipped(receiptRow(0), address(escrow), IChannelEscrow.SkipReason.AmountNotIncreasing);
        assertSkipped(receiptRow(DEPOSIT + 1), address(escrow), IChannelEscrow.SkipReason.AmountExceedsDeposit);
        claim(receiptRow(40e6));
        assertSkipped(receiptRow(40e6), address(escrow), IChannelEscrow.SkipReason.AmountNotIncreasing);
        closeAs(payee.addr, id, 0);
        assertSkipped(receiptRow(50e6), address(escrow), IChannelEscrow.SkipReason.ChannelFinalized);
    }

    /// @dev A number too large for its type makes no event: the call data is refused.
    function testFuzz_RevertWhen_ANumberOverflowsItsType(uint256 field, uint256 bit) public {
        bytes32 id = openChannel();
        field = bound(field, 3, 6);
        bit = bound(bit, field == 6 ? 128 : 64, 255);
        bytes memory call =
            abi.encodeCall(IUsageSettlement.claimReceipts, (payee.addr, address(token), rowsOf(receiptRow(40e6))));
        uint256 position = 4 + 4 * 32 + field * 32 + 31 - bit / 8;
        call[position] |= bytes1(uint8(1 << (bit % 8)));

        vm.recordLogs();
        vm.prank(operator.addr);
        (bool success,) = address(settlement).call(call);
        assertEq(settledOf(id), 0);
        if (success) assertEq(vm.getRecordedLogs()[0].topics[0], IUsageSettlement.RowSkipped.selector);
    }

    /// @dev Also when both sides signed such a number: no event that nobody can decode, and nothing settled.
    function testFuzz_RevertWhen_ASignedNumberOverflowsItsType(uint256 field, uint256 bit) public {
        field = bound(field, 0, 3);
        assertUndecodable(openChannel(), field, bound(bit, field == 3 ? 128 : 64, 255));
    }

    function test_RevertWhen_ASignedNumberIsTheFirstTooLarge() public {
        bytes32 id = openChannel();
        for (uint256 field = 0; field < 4; ++field) {
            assertUndecodable(id, field, field == 3 ? 128 : 64);
        }
    }

    /// @dev In which this bit of the field is set, and both sides sign it.
    function assertUndecodable(bytes32 id, uint256 field, uint256 bit) private {
        IUsageSettlement.ReceiptRow memory row = receiptRow(40e6);
        uint256[4] memory numbers =
            [uint256(row.sequence), row.cumulativeInputTokens, row.cumulativeOutputTokens, row.cumulativeAmount];
        numbers[field] |= uint256(1) << bit;
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(abi.encodePacked(RECEIPT_TYPE, BILL_TYPE)), id, numbers, row.previousReceipt, row.billHash
            )
        );
        (row.payerR, row.payerVs) = vm.signCompact(payer.key, typedDigest(settlementDomain(), structHash));
        bytes memory call = abi.encodeCall(IUsageSettlement.claimReceipts, (payee.addr, address(token), rowsOf(row)));
        call[4 + (4 + 3 + field) * 32 + 31 - bit / 8] |= bytes1(uint8(1 << (bit % 8)));

        vm.prank(operator.addr);
        (bool success, bytes memory answer) = address(settlement).call(call);
        assertFalse(success);
        assertEq(answer.length, 0, "as any call data that can't be decoded");
        assertEq(settledOf(id), 0);
    }

    /// @dev By a token that lets a balance come near 2^256, and then refuses to pay: what the escrow says is passed on.
    function test_RevertWhen_ThePayeesCreditOverflows() public {
        FickleToken fickle = new FickleToken();
        token = IDevToken(address(fickle));
        fund(payer.addr, DEPOSIT);
        bytes32 id = openChannel();
        fickle.rebase(address(escrow), 0);
        fund(stranger, type(uint256).max);
        vm.prank(stranger);
        escrow.depositFor(payee.addr, address(token), type(uint256).max);
        fickle.setRefuses(true);

        vm.expectRevert(stdError.arithmeticError);
        claim(receiptRow(40e6));
        assertEq(settledOf(id), 0);
    }

    // --- Callers ---

    function test_RevertWhen_CallerIsNeitherPayeeNorActiveOperator() public {
        openChannel();
        IUsageSettlement.ReceiptRow[] memory rows = rowsOf(receiptRow(40e6));
        address[3] memory others = [stranger, payer.addr, signer.addr];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IUsageSettlement.NotOperator.selector);
            settlement.claimReceipts(payee.addr, address(token), rows);
        }
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        vm.prank(operator.addr);
        vm.expectRevert(IUsageSettlement.NotOperator.selector);
        settlement.claimReceipts(payee.addr, address(token), rows);
    }
}
