// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Rows} from "./Rows.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

/// @notice What is done to many channels at once: rows for good and for dead channels, of this payee and of others, with
/// amounts that may be settled, are too high or above their ceiling, with bad signatures, and some twice.
/// @dev Invariant 6 is checked twice over: the books process the rows one by one, in order, and the escrow itself is
/// asked to, in a call that is undone, before it is asked for the whole.
abstract contract BatchHandler is Rows {
    struct Batch {
        address by;
        address target;
        address payee;
        uint256 t;
        bytes32[] ids;
        uint128[] amounts; // zero: nothing comes of the row
        bytes[] calls; // each row alone
    }

    uint256 private constant ROWS = 5;

    /// @dev What the escrow comes to when it processes the rows one by one; as an error, so that all of it is undone.
    error Outcome(bytes32 digest);

    function claimVouchers(uint256 seed) external {
        (bool found, Batch memory batch) = _newBatch(seed);
        if (!found) return;
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](ROWS);
        for (uint256 i = 0; i < ROWS; ++i) {
            (Book storage book, uint256 chance) = _drawRow(batch, seed, i);
            (uint128 amount, uint128 ceiling, bool isBad) = _drawVoucher(book, chance);
            rows[i] = _voucherRow(book, ceiling, amount);
            if (isBad) rows[i].r ^= bytes32(uint256(1));
            bool isSigned = !isBad && _isSignedByKey(book);
            _addRow(batch, i, book, isSigned && ceiling >= amount ? amount : 0);
            batch.calls[i] = abi.encodeCall(escrow.claimVouchers, (batch.payee, _assetOf(batch), rowsOf(rows[i])));
        }
        bytes32 outcome = _tryOneByOne(batch);
        uint256 expected = _writeRows(batch);
        vm.prank(batch.by);
        uint256 paid = escrow.claimVouchers(batch.payee, _assetOf(batch), rows);
        assertEq(paid, expected, "6: paid what the rows come to");
        _compare(outcome, batch);
        if (expected != 0) _count();
    }

    function claimContractVouchers(uint256 seed) external {
        (bool found, Batch memory batch) = _newBatch(seed);
        if (!found) return;
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](ROWS);
        for (uint256 i = 0; i < ROWS; ++i) {
            (Book storage book, uint256 chance) = _drawRow(batch, seed, i);
            (uint128 amount, uint128 ceiling, bool isBad) = _drawVoucher(book, chance);
            rows[i] = _contractRow(book, ceiling, amount);
            if (isBad) rows[i].signature[7] ^= 0x01;
            bool isSigned = !isBad && !_isRefusing(_payerSide(book));
            _addRow(batch, i, book, isSigned && ceiling >= amount ? amount : 0);
            batch.calls[i] =
                abi.encodeCall(escrow.claimContractVouchers, (batch.payee, _assetOf(batch), _alone(rows[i])));
        }
        bytes32 outcome = _tryOneByOne(batch);
        uint256 expected = _writeRows(batch);
        vm.prank(batch.by);
        uint256 paid = escrow.claimContractVouchers(batch.payee, _assetOf(batch), rows);
        assertEq(paid, expected, "6: paid what the rows come to");
        _compare(outcome, batch);
        if (expected != 0) _count();
    }

    function claimReceipts(uint256 seed) external {
        (bool found, Batch memory batch) = _newBatch(seed);
        if (!found) return;
        (batch.by, batch.target) = (_drawOperator(seed, batch.payee), address(settlement));
        IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](ROWS);
        for (uint256 i = 0; i < ROWS; ++i) {
            (Book storage book, uint256 chance) = _drawRow(batch, seed, i);
            uint128 amount = _drawAmount(book, chance);
            rows[i] = _receiptRow(book, amount, _drawBillSigner(chance, batch.payee));
            (bool isForged, bool isUnbilled) = (_oneIn(8, chance, "forged"), _oneIn(8, chance, "unbilled"));
            if (isForged) rows[i].payerR ^= bytes32(uint256(1));
            if (isUnbilled) rows[i].operatorR ^= bytes32(uint256(1));
            bool isSigned = !isForged && !isUnbilled && _isSignedByKey(book);
            _addRow(batch, i, book, isSigned ? amount : 0);
            batch.calls[i] = abi.encodeCall(settlement.claimReceipts, (batch.payee, _assetOf(batch), rowsOf(rows[i])));
        }
        bytes32 outcome = _tryOneByOne(batch);
        uint256 expected = _writeRows(batch);
        vm.prank(batch.by);
        settlement.claimReceipts(batch.payee, _assetOf(batch), rows);
        _compare(outcome, batch);
        if (expected != 0) _count();
    }

    /// @dev Of channels in any state: those whose grace is not over, those that have ended, and unknown ones are passed
    /// over.
    function withdrawFor(uint256 seed) external {
        (bool found, Book storage first) = _openBook(seed);
        if (!found) return;
        if (first.closeRequestedAt != 0 && _oneIn(2, seed, "waits")) skip(1 hours);

        Batch memory batch = _batchOf(first);
        batch.payee = first.payer; // who is paid
        bytes32[] memory alone = new bytes32[](1);
        for (uint256 i = 0; i < ROWS; ++i) {
            (Book storage book, uint256 chance) = _drawRow(batch, seed, i);
            // Of the reentering token one: the books can't say what is in between two payments.
            bool isUnknown = i != 0 && (_focus != 0 || _oneIn(16, chance, "unknown"));
            alone[0] = batch.ids[i] = i == 0 ? first.id : isUnknown ? bytes32(i) : book.id;
            batch.calls[i] = abi.encodeCall(escrow.withdrawFor, (alone));
        }
        bytes32 outcome = _tryOneByOne(batch);
        bool isAny;
        for (uint256 i = 0; i < ROWS; ++i) {
            Book storage book = _bookOf(batch.ids[i]);
            if (book.id == 0 || book.ended || !_isGraceOver(book)) continue;
            _writeEnded(book);
            isAny = true;
        }
        vm.prank(stranger);
        escrow.withdrawFor(batch.ids);
        _compare(outcome, batch);
        if (isAny) _count();
    }

    /// @dev Never returns: says what it came to by `Outcome`.
    function processOneByOne(Batch calldata batch) external {
        for (uint256 i = 0; i < ROWS; ++i) {
            vm.prank(batch.by);
            (bool success,) = batch.target.call(batch.calls[i]);
            assertTrue(success, "6: no row reverts");
        }
        revert Outcome(_outcome(batch));
    }

    // --- Rows ---

    /// @dev For the payee of some channel, in its token.
    function _newBatch(uint256 seed) private view returns (bool found, Batch memory batch) {
        Book storage first;
        (found, first) = _anyBook(seed);
        if (found) batch = _batchOf(first);
    }

    function _batchOf(Book storage first) private view returns (Batch memory) {
        bytes32[] memory ids = new bytes32[](ROWS);
        ids[0] = first.id;
        return Batch({
            by: stranger,
            target: address(escrow),
            payee: first.payee,
            t: first.t,
            ids: ids,
            amounts: new uint128[](ROWS),
            calls: new bytes[](ROWS)
        });
    }

    /// @dev The first channel, one that was there already, or another: mostly of the same payee in the same token, if one
    /// is found soon.
    function _drawRow(Batch memory batch, uint256 seed, uint256 i)
        private
        view
        returns (Book storage book, uint256 chance)
    {
        (book, chance) = (_bookOf(batch.ids[0]), uint256(keccak256(abi.encode(seed, i))));
        if (i == 0 || _oneIn(5, chance, "again")) return (book, chance);
        for (uint256 j = 0; j < 6; ++j) {
            book = _books[uint256(keccak256(abi.encode(chance, j))) % _books.length];
            if (_oneIn(8, chance, "any") || (book.payee == batch.payee && book.t == batch.t)) break;
        }
    }

    function _addRow(Batch memory batch, uint256 i, Book storage book, uint128 amount) private view {
        batch.ids[i] = book.id;
        batch.amounts[i] = book.payee == batch.payee && book.t == batch.t ? amount : 0;
    }

    /// @dev Mostly above what is settled and within the deposit, now and then neither.
    function _drawAmount(Book storage book, uint256 chance) private view returns (uint128) {
        if (_oneIn(4, chance, "any amount")) return uint128(_draw(chance, "amount", uint256(book.deposit) + 3));
        return book.settled + uint128(_draw(chance, "amount", (book.deposit - book.settled) / 3 + 2));
    }

    function _drawVoucher(Book storage book, uint256 chance)
        private
        view
        returns (uint128 amount, uint128 ceiling, bool isBad)
    {
        amount = _drawAmount(book, chance);
        ceiling = _oneIn(8, chance, "too much") ? amount / 2 : amount + uint128(_draw(chance, "more", 1e6));
        isBad = _oneIn(6, chance, "bad");
    }

    function _alone(IChannelEscrow.ContractVoucherRow memory row)
        private
        pure
        returns (IChannelEscrow.ContractVoucherRow[] memory rows)
    {
        rows = new IChannelEscrow.ContractVoucherRow[](1);
        rows[0] = row;
    }

    function _assetOf(Batch memory batch) private view returns (address) {
        return address(_tokens[batch.t]);
    }

    // --- What comes of them ---

    function _writeRows(Batch memory batch) private returns (uint256 paid) {
        for (uint256 i = 0; i < ROWS; ++i) {
            paid += _writeRow(_bookOf(batch.ids[i]), batch.amounts[i]);
        }
        _writePaid(batch.payee, batch.t, paid);
    }

    /// @return outcome Zero while code watches the money: it would act twice.
    function _tryOneByOne(Batch memory batch) private returns (bytes32 outcome) {
        if (_focus != 0) return 0;
        try this.processOneByOne(batch) {}
        catch (bytes memory data) {
            assertEq(bytes4(data), Outcome.selector, "6: the rows can be processed one by one");
            assembly ("memory-safe") {
                outcome := mload(add(data, 0x24))
            }
        }
    }

    function _compare(bytes32 outcome, Batch memory batch) private view {
        if (outcome != 0) assertEq(_outcome(batch), outcome, "6: a batch is its rows one by one");
    }

    /// @dev The escrow's own word on the channels, and on the money of who is paid, and of all.
    function _outcome(Batch memory batch) private view returns (bytes32) {
        uint256[] memory money = new uint256[](TOKENS * 3);
        for (uint256 t = 0; t < TOKENS; ++t) {
            money[t] = _tokens[t].balanceOf(address(escrow));
            money[TOKENS + t] = _tokens[t].balanceOf(batch.payee);
            money[2 * TOKENS + t] = escrow.balanceOf(batch.payee, address(_tokens[t]));
        }
        return keccak256(abi.encode(escrow.getChannelsBatch(batch.ids), money));
    }
}
