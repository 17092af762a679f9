// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {World} from "./World.sol";

/// @notice What everybody should have, by what was done: never by asking the escrow.
/// @dev An action writes the books first and calls then, so that whoever is called in the middle finds them as the escrow
/// says it is: a payment is recorded before it is made.
abstract contract Books is World {
    struct Book {
        bytes32 id;
        address payer;
        address payee;
        uint256 t; // index of the token
        SignerKind kind;
        bytes32 salt;
        uint128 deposit;
        uint128 settled;
        uint64 closeRequestedAt;
        bool ended;
        bool refundsToBalance;
        // The highest voucher that a key signed while no close was pending, in EIP-2098 form.
        uint128 held;
        bytes32 heldR;
        bytes32 heldVs;
    }

    uint256 internal constant MAX_CHANNELS = 48;

    Book[] internal _books;
    Book private _none;
    mapping(bytes32 id => uint256) private _position; // in the books, from 1
    mapping(address account => mapping(uint256 t => uint256)) internal _wallet;
    mapping(address account => mapping(uint256 t => uint256)) internal _balance;
    /// @dev Given to the escrow by plain transfer: nobody's.
    mapping(uint256 t => uint256) internal _donated;
    mapping(address account => mapping(bytes32 id => mapping(uint256 nonce => bool))) internal _usedNonce;
    mapping(address payee => bool) internal _isRetired; // its operator
    /// @notice How often each action did something, so that a campaign that does nothing is noticed.
    mapping(bytes4 action => uint256) public done;

    function setUp() public virtual override {
        super.setUp();
        for (uint256 i = 0; i < _payers.length; ++i) {
            for (uint256 t = 0; t < TOKENS; ++t) {
                _wallet[_payers[i]][t] = WEALTH;
            }
        }
        _wallet[payer.addr][DEV] = 1000e6; // an account of the other tests, which does nothing here
    }

    /// @dev The action that runs has done something.
    function _count() internal {
        ++done[msg.sig];
    }

    // --- Choosing a channel ---

    function _authorizedSigner(SignerKind kind) internal view returns (address) {
        if (kind == SignerKind.Payer) return address(0);
        return kind == SignerKind.HotKey ? signer.addr : _committee;
    }

    /// @dev Whose signature a voucher of the channel needs.
    function _payerSide(Book storage book) internal view returns (address) {
        return book.kind == SignerKind.Payer ? book.payer : _authorizedSigner(book.kind);
    }

    /// @return book Without an id when there is no such channel.
    function _bookOf(bytes32 id) internal view returns (Book storage book) {
        uint256 position = _position[id];
        return position == 0 ? _none : _books[position - 1];
    }

    function _anyBook(uint256 seed) internal view returns (bool found, Book storage book) {
        uint256 count = _books.length;
        if (count == 0) return (false, _none);
        if (_focus != 0) return _openBook(seed);
        return (true, _books[_draw(seed, "channel", count)]);
    }

    /// @dev A channel that has not ended, of the token in focus if one is: the next from some on.
    function _openBook(uint256 seed) internal view returns (bool found, Book storage book) {
        return _nextBook(seed, false);
    }

    function _endedBook(uint256 seed) internal view returns (bool found, Book storage book) {
        return _nextBook(seed, true);
    }

    function _nextBook(uint256 seed, bool ended) private view returns (bool found, Book storage book) {
        uint256 count = _books.length;
        if (count == 0) return (false, _none);
        uint256 first = _draw(seed, "channel", count);
        for (uint256 i = 0; i < count; ++i) {
            book = _books[(first + i) % count];
            if (book.ended == ended && (_focus == 0 || book.t == _focus - 1)) return (true, book);
        }
        return (false, _none);
    }

    function _isGraceOver(Book storage book) internal view returns (bool) {
        return book.closeRequestedAt != 0 && block.timestamp >= book.closeRequestedAt + 1 hours;
    }

    // --- Money ---

    /// @dev What is in a wallet. In the middle of a payment to it, the books are ahead.
    function _spendable(address account, uint256 t) internal view returns (uint256) {
        uint256 there = _tokens[t].balanceOf(account);
        return there < _wallet[account][t] ? there : _wallet[account][t];
    }

    /// @dev A payment to a wallet, or where its transfer fails, to a balance.
    function _writePaid(address to, uint256 t, uint256 amount) internal {
        if (_isBlocked(to, t)) _balance[to][t] += amount;
        else _wallet[to][t] += amount;
    }

    // --- The life of a channel ---

    function _writeOpened(Book memory book) internal {
        if (book.refundsToBalance) _balance[book.payer][book.t] -= book.deposit;
        else _wallet[book.payer][book.t] -= book.deposit;
        _books.push(book);
        _position[book.id] = _books.length;
    }

    function _writeToppedUp(Book storage book, uint128 amount, bool cancelsClose) internal {
        assertFalse(book.ended);
        book.deposit += amount;
        if (cancelsClose) book.closeRequestedAt = 0;
    }

    /// @dev The caller writes the payment.
    function _writeSettled(Book storage book, uint128 amount) internal returns (uint128 delta) {
        assertFalse(book.ended);
        delta = amount - book.settled;
        book.settled = amount;
        assertLe(amount, book.deposit);
    }

    /// @dev What a row of a batch does: nothing, if it can't be settled.
    function _writeRow(Book storage book, uint128 amount) internal returns (uint128) {
        if (book.ended || amount <= book.settled || amount > book.deposit) return 0;
        return _writeSettled(book, amount);
    }

    function _writeCloseRequested(Book storage book) internal {
        assertFalse(book.ended);
        if (book.closeRequestedAt == 0) book.closeRequestedAt = uint64(block.timestamp);
    }

    function _writeEnded(Book storage book) internal {
        assertFalse(book.ended);
        book.ended = true;
        uint128 refund = book.deposit - book.settled;
        if (book.refundsToBalance) _balance[book.payer][book.t] += refund;
        else _writePaid(book.payer, book.t, refund);
    }

    /// @dev Settles up to `amount` if that is more than is settled, and ends.
    function _writeClosed(Book storage book, uint128 amount) internal {
        if (amount > book.settled) _writePaid(book.payee, book.t, _writeSettled(book, amount));
        _writeEnded(book);
    }
}
