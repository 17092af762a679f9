// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "./RelayedFixture.sol";
import {Vm} from "forge-std/Vm.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice Call data that no compiler would make, arrays of nothing and of a thousand rows, for every function that takes
/// arguments.
contract BadInputTest is RelayedFixture {
    /// @dev A function, and what its arguments' heads are: an address, a number of `q` 128, `l` 64, `i` 32 or `b` 8 bits, a
    /// whole word, or where something of any length is. Structs of fixed length stand with their fields.
    struct Entry {
        address target;
        bytes4 selector;
        string heads;
        address first; // what a plain call has for its first argument
    }

    Entry[] private entries;
    IRevenueSplitter private splitter;

    function setUp() public override {
        super.setUp();
        IRevenueSplitter.Parties memory parties = IRevenueSplitter.Parties(stranger, stranger, stranger);
        IRevenueSplitter.Shares memory shares = IRevenueSplitter.Shares(7000, 2000, 1000);
        bytes memory terms = abi.encode(address(registry), address(escrow), parties, shares);
        splitter = IRevenueSplitter(deployCode("RevenueSplitter", terms));

        inEscrow(IChannelEscrow.open.selector, "aaqwa");
        inEscrow(IChannelEscrow.settle.selector, "wqd");
        inEscrow(IChannelEscrow.topUp.selector, "wq");
        inEscrow(IChannelEscrow.close.selector, "wqd");
        inEscrow(IChannelEscrow.requestClose.selector, "w");
        inEscrow(IChannelEscrow.withdraw.selector, "w");
        inEscrow(IChannelEscrow.deposit.selector, "aw");
        inEscrow(IChannelEscrow.depositFor.selector, "aaw");
        inEscrow(IChannelEscrow.depositWithPermit.selector, "awwbww");
        inEscrow(IChannelEscrow.withdrawBalance.selector, "awa");
        inEscrow(IChannelEscrow.openFromBalance.selector, "aaqwa");
        inEscrow(IChannelEscrow.topUpFromBalance.selector, "wq");
        inEscrow(IChannelEscrow.claimVouchers.selector, "aad");
        inEscrow(IChannelEscrow.claimContractVouchers.selector, "aad");
        inEscrow(IChannelEscrow.advanceChannels.selector, "aad");
        inEscrow(IChannelEscrow.closeChannel.selector, "wq");
        inEscrow(IChannelEscrow.getChannel.selector, "w");
        inEscrow(IChannelEscrow.getChannelsBatch.selector, "d");
        inEscrow(IChannelEscrow.balanceOf.selector, "aa");
        inEscrow(IChannelEscrow.computeChannelId.selector, "aaawa");
        inEscrow(IChannelEscrow.getVoucherDigest.selector, "wq");
        inEscrow(IRelayedChannels.openWithAuthorization.selector, "aaqwaawwwd");
        inEscrow(IRelayedChannels.topUpWithAuthorization.selector, "wqawwwwd");
        inEscrow(IRelayedChannels.openWithPermit2.selector, "aaqwaawwd");
        inEscrow(IRelayedChannels.topUpWithPermit2.selector, "wqawwd");
        inEscrow(IRelayedChannels.settleWithAuthorization.selector, "wqwwdd");
        inEscrow(IRelayedChannels.closeWithAuthorization.selector, "wqwwdd");
        inEscrow(IRelayedChannels.depositWithAuthorization.selector, "awawwwwd");
        // A grant's numbers are words here: see `test_RevertWhen_AGrantsUpperBitsAreDirty`.
        inEscrow(IRelayedChannels.openWithGrant.selector, "aaawwawd");
        inEscrow(IRelayedChannels.topUpWithGrant.selector, "wwwd");
        inEscrow(IRelayedChannels.requestCloseWithAuthorization.selector, "wwwd");
        inEscrow(IRelayedChannels.withdrawFor.selector, "d");
        inEscrow(IRelayedChannels.invalidateNonce.selector, "ww");
        inEscrow(IRelayedChannels.isNonceUsed.selector, "aww");
        inSettlement(IUsageSettlement.claimReceipts.selector, "aad");
        // A receipt's numbers are words here: they are hashed as they come, and `ClaimReceipts.t.sol` says what comes of it.
        inSettlement(IUsageSettlement.closeWithReceipt.selector, "aaaawwwwwwwwwww");
        inSettlement(IUsageSettlement.closeWithVoucher.selector, "aaawawww");
        inSettlement(IUsageSettlement.getReceiptDigest.selector, "wlllqww");
        inSettlement(IUsageSettlement.getBillDigest.selector, "w");
        inRegistry(IExecutorRegistry.addOperator.selector, "a");
        inRegistry(IExecutorRegistry.removeOperator.selector, "a");
        inRegistry(IExecutorRegistry.operatorStatus.selector, "aa");
        inRegistry(IExecutorRegistry.retiredAt.selector, "aa");
        inRegistry(IExecutorRegistry.bond.selector, "aq");
        inRegistry(IExecutorRegistry.requestUnbond.selector, "q");
        inRegistry(IExecutorRegistry.withdraw.selector, "aa");
        inRegistry(IExecutorRegistry.bondOf.selector, "a");
        inRegistry(IExecutorRegistry.withdrawableOf.selector, "aa");
        inRegistry(IExecutorRegistry.isCharged.selector, "ww");
        // A bill's numbers are words here: a request that hashes to something else than the bill says comes first.
        inRegistry(IExecutorRegistry.proveOvercharge.selector, "wawwwiiqqlwwwwwwwd");
        inRegistry(IExecutorRegistry.proveDoubleBill.selector, "wwwiiqldwwwiiqld");
        inSplitter(IRevenueSplitter.release.selector, "aa");
        inSplitter(IRevenueSplitter.collect.selector, "a");
        inSplitter(IRevenueSplitter.addOperator.selector, "a");
        inSplitter(IRevenueSplitter.removeOperator.selector, "a");
        inSplitter(IRevenueSplitter.releasable.selector, "aa");
        inSplitter(IRevenueSplitter.shareOf.selector, "a");
        inSplitter(IRevenueSplitter.totalReleased.selector, "a");
        inSplitter(IRevenueSplitter.released.selector, "aa");
    }

    function inEscrow(bytes4 selector, string memory heads) private {
        entries.push(Entry(address(escrow), selector, heads, address(0)));
    }

    /// @dev What is called with a payee is called by it.
    function inSettlement(bytes4 selector, string memory heads) private {
        address first = bytes(heads)[0] == "a" ? payee.addr : address(0);
        entries.push(Entry(address(settlement), selector, heads, first));
    }

    function inRegistry(bytes4 selector, string memory heads) private {
        entries.push(Entry(address(registry), selector, heads, address(0)));
    }

    /// @dev A token that isn't there has no balances to share out.
    function inSplitter(bytes4 selector, string memory heads) private {
        entries.push(Entry(address(splitter), selector, heads, address(token)));
    }

    /// @dev All arguments zero or empty, but for the first.
    function plainCall(Entry memory entry) private view returns (bytes memory call) {
        bytes memory heads = bytes(entry.heads);
        call = bytes.concat(entry.selector);
        for (uint256 i = 0; i < heads.length; ++i) {
            uint256 word = heads[i] == "d" ? 32 * heads.length : i == 0 ? uint160(entry.first) : 0;
            call = bytes.concat(call, bytes32(word));
        }
        call = bytes.concat(call, bytes32(0)); // no bytes, no rows
    }

    function withWord(bytes memory call, uint256 index, uint256 word) private pure returns (bytes memory other) {
        other = bytes.concat(call);
        assembly {
            mstore(add(add(other, 0x24), mul(index, 0x20)), word)
        }
    }

    function callAsPayee(Entry memory entry, bytes memory call, uint256 value) private returns (bool, bytes memory) {
        vm.deal(payee.addr, 1);
        vm.prank(payee.addr);
        return entry.target.call{value: value}(call);
    }

    /// @dev By the decoder, before any rule of the contracts: without a word.
    function assertUndecodable(Entry memory entry, bytes memory call) private {
        (bool success, bytes memory answer) = callAsPayee(entry, call, 0);
        assertFalse(success, vm.toString(call));
        assertEq(answer.length, 0, vm.toString(call));
    }

    /// @dev What the next tests spoil is decoded when nothing is spoilt.
    function test_PlainCallsAreDecoded() public {
        for (uint256 i = 0; i < entries.length; ++i) {
            (bool success, bytes memory answer) = callAsPayee(entries[i], plainCall(entries[i]), 0);
            assertTrue(success || answer.length >= 4, vm.toString(entries[i].selector));
        }
    }

    function test_RevertWhen_CallDataIsTruncated() public {
        for (uint256 i = 0; i < entries.length; ++i) {
            bytes memory call = plainCall(entries[i]);
            uint256 heads = 4 + 32 * bytes(entries[i].heads).length;
            assertUndecodable(entries[i], truncated(call, heads - 1));
            assertUndecodable(entries[i], truncated(call, 4));
            assertUndecodable(entries[i], truncated(call, 3));
        }
    }

    function truncated(bytes memory call, uint256 length) private pure returns (bytes memory other) {
        other = bytes.concat(call);
        assembly {
            mstore(other, length)
        }
    }

    function test_RevertWhen_UpperBitsAreDirty() public {
        for (uint256 i = 0; i < entries.length; ++i) {
            bytes memory heads = bytes(entries[i].heads);
            bytes memory call = plainCall(entries[i]);
            for (uint256 j = 0; j < heads.length; ++j) {
                if (heads[j] == "w" || heads[j] == "d") continue;
                uint256 bits = bitsOf(heads[j]);
                uint256 plain = j == 0 ? uint160(entries[i].first) : 0;
                assertUndecodable(entries[i], withWord(call, j, plain | 1 << bits));
                assertUndecodable(entries[i], withWord(call, j, plain | 1 << 255));
            }
        }
    }

    function bitsOf(bytes1 head) private pure returns (uint256) {
        if (head == "a") return 160;
        if (head == "q") return 128;
        if (head == "l") return 64;
        return head == "i" ? 32 : 8;
    }

    /// @dev Whatever is read first: a good signature does not make a grant of a number that is too large for its type.
    function test_RevertWhen_AGrantsUpperBitsAreDirty() public {
        vm.prank(payer.addr);
        escrow.deposit(address(token), DEPOSIT);
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        bytes memory call =
            abi.encodeCall(IRelayedChannels.openWithGrant, (grant, sign(payer, escrowDomain(), grantHash(grant))));
        Entry memory entry = Entry(address(escrow), IRelayedChannels.openWithGrant.selector, "aaaqwald", address(0));
        assertUndecodable(entry, withWord(call, 3, uint256(grant.deposit) | 1 << 128));
        assertUndecodable(entry, withWord(call, 3, uint256(grant.deposit) | 1 << 255));
        assertUndecodable(entry, withWord(call, 6, uint256(grant.deadline) | 1 << 64));
        assertTaken(call);

        IRelayedChannels.TopUpGrant memory topUp = IRelayedChannels.TopUpGrant(
            channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0)), DEPOSIT + 1, grant.deadline
        );
        call = abi.encodeCall(IRelayedChannels.topUpWithGrant, (topUp, sign(payer, escrowDomain(), grantHash(topUp))));
        assertUndecodable(entry, withWord(call, 1, uint256(topUp.deposit) | 1 << 128));
        assertUndecodable(entry, withWord(call, 2, uint256(topUp.deadline) | 1 << 64));
    }

    function test_RevertWhen_WhatFollowsIsOutOfBounds() public {
        uint256[4] memory places = [uint256(1 << 20), 1 << 64, 1 << 255, type(uint256).max];
        for (uint256 i = 0; i < entries.length; ++i) {
            bytes memory heads = bytes(entries[i].heads);
            bytes memory call = plainCall(entries[i]);
            for (uint256 j = 0; j < heads.length; ++j) {
                if (heads[j] != "d") continue;
                for (uint256 k = 0; k < places.length; ++k) {
                    assertUndecodable(entries[i], withWord(call, j, places[k]));
                    assertUndecodable(entries[i], withWord(call, heads.length, places[k])); // more than there is
                }
                assertUndecodable(entries[i], withWord(call, heads.length, 1));
            }
        }
    }

    function test_RevertWhen_EtherComesAlong() public {
        for (uint256 i = 0; i < entries.length; ++i) {
            (bool success, bytes memory answer) = callAsPayee(entries[i], plainCall(entries[i]), 1);
            assertFalse(success);
            assertEq(answer.length, 0);
        }
        assertUndecodable(entries[0], "");
        assertUndecodable(entries[entries.length - 1], "");
    }

    function test_RevertWhen_ThereIsNoSuchFunction() public {
        assertUndecodable(entries[0], hex"deadbeef");
        assertUndecodable(entries[entries.length - 1], hex"deadbeef");
    }

    /// @dev Whoever sends whatever, somebody else's channel stays as it is.
    function testFuzz_GarbageMovesNothing(uint256 index, bytes calldata arguments) public {
        bytes32 id = openChannel();
        bytes32 before = stateOf(id);
        Entry memory entry = entries[bound(index, 0, entries.length - 1)];
        vm.prank(stranger);
        (bool success,) = entry.target.call(bytes.concat(entry.selector, arguments));
        assertTrue(stateOf(id) == before || !success);
        assertEq(stateOf(id), before);
    }

    /// @dev The same with a good head: the channel itself, whatever is said about it.
    function testFuzz_GarbageAboutAChannelMovesNothing(uint256 index, bytes calldata arguments) public {
        bytes32 id = openChannel();
        bytes32 before = stateOf(id);
        Entry memory entry = entries[bound(index, 0, entries.length - 1)];
        bytes memory call = bytes.concat(plainCall(entry), arguments);
        if (bytes(entry.heads)[0] == "w") call = withWord(call, 0, uint256(id));
        vm.prank(stranger);
        (bool success,) = entry.target.call(call);
        assertTrue(stateOf(id) == before || !success);
        assertEq(stateOf(id), before);
    }

    // --- Rows ---

    function test_AThousandRowsOfGarbageAreSkipped() public {
        bytes32 id = openChannel();
        bytes32 before = stateOf(id);
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](1000);
        IChannelEscrow.ContractVoucherRow[] memory contractRows = new IChannelEscrow.ContractVoucherRow[](1000);
        IUsageSettlement.ReceiptRow[] memory receipts = new IUsageSettlement.ReceiptRow[](1000);
        for (uint256 i = 0; i < 1000; ++i) {
            bytes32 r = keccak256(abi.encode(i));
            bytes32 salt = i % 2 == 0 ? SALT : r; // a channel that exists, and one that doesn't
            rows[i] = IChannelEscrow.VoucherRow(payer.addr, salt, address(0), r, r, toVoucherAmounts(1, 1));
            contractRows[i] = IChannelEscrow.ContractVoucherRow(
                payer.addr, salt, address(0), abi.encodePacked(r, r, uint8(27)), toVoucherAmounts(1, 1)
            );
            (receipts[i].payer, receipts[i].salt, receipts[i].payerR, receipts[i].operatorR) = (payer.addr, salt, r, r);
        }

        vm.recordLogs();
        assertEq(escrow.claimVouchers(payee.addr, address(token), rows), 0);
        assertAllSkipped(1000);
        assertEq(escrow.claimContractVouchers(payee.addr, address(token), contractRows), 0);
        assertAllSkipped(1000);
        vm.prank(payee.addr);
        settlement.claimReceipts(payee.addr, address(token), receipts);
        assertAllSkipped(1000);
        assertEq(stateOf(id), before);
    }

    function assertAllSkipped(uint256 count) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, count);
        for (uint256 i = 0; i < count; ++i) {
            assertEq(logs[i].topics[0], IChannelEscrow.RowSkipped.selector);
            (uint256 index,) = abi.decode(logs[i].data, (uint256, IChannelEscrow.SkipReason));
            assertEq(index, i);
        }
    }

    function test_AThousandTimesTheSameRowPaysOnce() public {
        openChannel();
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](1000);
        IUsageSettlement.ReceiptRow[] memory receipts = new IUsageSettlement.ReceiptRow[](1000);
        (IChannelEscrow.VoucherRow memory row, IUsageSettlement.ReceiptRow memory receipt) =
            (voucherRow(40e6), receiptRow(50e6));
        for (uint256 i = 0; i < 1000; ++i) {
            (rows[i], receipts[i]) = (row, receipt);
        }
        assertEq(escrow.claimVouchers(payee.addr, address(token), rows), 40e6);
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), receipts);
        assertEq(token.balanceOf(payee.addr), 50e6);
    }

    function test_AThousandIds() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
        bytes32[] memory ids = new bytes32[](1000);
        ids[500] = id;
        assertEq(escrow.getChannelsBatch(ids)[500].deposit, DEPOSIT);
        vm.recordLogs();
        escrow.withdrawFor(ids);
        assertEq(vm.getRecordedLogs().length, 999 + 2, "every other is skipped, one is closed and paid");
        assertEq(token.balanceOf(payer.addr), 1000e6);
    }

    /// @dev An address in a row is decoded where it is read, and a call that can't be decoded settles nothing at all.
    function test_RevertWhen_ARowIsMalformed() public {
        bytes32 id = openChannel();
        bytes32 before = stateOf(id);
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](2);
        (rows[0], rows[1]) = (voucherRow(10e6), voucherRow(20e6));
        bytes memory call = abi.encodeCall(IChannelEscrow.claimVouchers, (payee.addr, address(token), rows));
        Entry memory claim = Entry(address(escrow), IChannelEscrow.claimVouchers.selector, "aad", address(0));
        assertUndecodable(claim, withWord(call, 4 + 6, uint256(uint160(payer.addr)) | 1 << 160)); // payer
        assertUndecodable(claim, withWord(call, 4 + 6 + 2, 1 << 255)); // authorizedSigner
        assertUndecodable(claim, truncated(call, call.length - 1));
        assertUndecodable(claim, withWord(call, 3, 3)); // a row more than there are

        IChannelEscrow.ContractVoucherRow[] memory contractRows = new IChannelEscrow.ContractVoucherRow[](1);
        contractRows[0] = IChannelEscrow.ContractVoucherRow(
            payer.addr, SALT, address(0), signVoucher(payer, id, 10e6), toVoucherAmounts(10e6, 10e6)
        );
        call = abi.encodeCall(IChannelEscrow.claimContractVouchers, (payee.addr, address(token), contractRows));
        assertUndecodable(claim, withWord(call, 4, 1 << 64)); // where the row is
        assertUndecodable(claim, withWord(call, 5 + 3, 1 << 64)); // where its signature is
        assertUndecodable(claim, withWord(call, 5 + 5, 1 << 64)); // how long that is
        assertUndecodable(claim, withWord(call, 5, 1 << 160)); // payer
        assertEq(stateOf(id), before);

        (bool success,) = callAsPayee(claim, call, 0);
        assertTrue(success);
        assertEq(settledOf(id), 10e6);
    }
}
