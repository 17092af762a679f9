// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IDevToken} from "../IDevToken.sol";
import {FickleToken} from "../adversary/Tokens.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice Does anything that anybody may do, in any order, and keeps its own books of what should come of it.
/// @dev No call reverts: what can't be done now is not tried, or tried as an attack whose failure is asserted. The books
/// know nothing of how the escrow stores things: a channel is what was put in, what was taken out, and whether it ended.
contract EscrowHandler is Fixture {
    struct Book {
        bytes32 id;
        uint256 payer;
        uint256 payee;
        uint256 token;
        bool hasSigner;
        bytes32 salt;
        uint128 deposit;
        uint128 settled;
        uint64 closeRequestedAt;
        bool finalized;
        bool refundsToBalance;
        bytes32 finalRecord; // hash of what `getChannel` said when it ended
    }

    uint256 public constant PAYERS = 3;
    uint256 public constant PAYEES = 2;
    uint256 public constant TOKENS = 2;
    uint256 private constant MAX_CHANNELS = 24;

    Account[] private _payers;
    Account[] private _payees;
    Account private _signer;
    Account private _operator; // of every payee
    IDevToken[] private _tokens; // the second one blocks receivers now and then

    Book[] private _books;
    Book private _none;
    /// @notice Base units that came into the world for an account, or were given to it.
    mapping(address account => mapping(uint256 token => uint256)) public funded;
    mapping(address account => mapping(uint256 token => uint256)) public givenAway;
    /// @notice How often each action did something, so that a campaign that does nothing is noticed.
    mapping(string action => uint256) public done;

    constructor() {
        Fixture.setUp();
        for (uint256 i = 0; i < PAYERS; ++i) {
            _payers.push(makeAccount(string.concat("payer ", vm.toString(i))));
        }
        for (uint256 i = 0; i < PAYEES; ++i) {
            _payees.push(makeAccount(string.concat("payee ", vm.toString(i))));
            vm.prank(_payees[i].addr);
            registry.addOperator(operator.addr);
        }
        (_signer, _operator) = (signer, operator);
        _tokens.push(token);
        _tokens.push(IDevToken(address(new FickleToken())));
        for (uint256 t = 0; t < TOKENS; ++t) {
            token = _tokens[t];
            for (uint256 i = 0; i < PAYERS; ++i) {
                fund(_payers[i].addr, 1_000_000e6);
                funded[_payers[i].addr][t] = 1_000_000e6;
            }
        }
    }

    // --- Money in and out of balances ---

    function deposit(uint256 who, uint256 which, uint256 amount) external {
        (address from, uint256 t) = (_payers[who % PAYERS].addr, which % TOKENS);
        amount = _affordable(from, t, amount);
        if (amount == 0) return;
        vm.prank(from);
        escrow.deposit(address(_tokens[t]), amount);
        ++done["deposit"];
    }

    function depositFor(uint256 who, uint256 whom, uint256 which, uint256 amount) external {
        (address from, uint256 t) = (_payers[who % PAYERS].addr, which % TOKENS);
        address to = whom % 2 == 0 ? _payers[whom % PAYERS].addr : _payees[whom % PAYEES].addr;
        amount = _affordable(from, t, amount);
        if (amount == 0) return;
        vm.prank(from);
        escrow.depositFor(to, address(_tokens[t]), amount);
        givenAway[from][t] += amount;
        funded[to][t] += amount;
        ++done["depositFor"];
    }

    function withdrawBalance(uint256 who, uint256 which, uint256 amount) external {
        uint256 t = which % TOKENS;
        address owner = who % 2 == 0 ? _payers[who % PAYERS].addr : _payees[who % PAYEES].addr;
        if (_isBlocked(owner, t)) return;
        amount = bound(amount, 0, escrow.balanceOf(owner, address(_tokens[t])));
        vm.prank(owner);
        escrow.withdrawBalance(address(_tokens[t]), amount, owner);
        ++done["withdrawBalance"];
    }

    // --- Channels ---

    function open(uint256 who, uint256 whom, uint256 which, uint256 amount, bool fromBalance, bool hasSigner) external {
        if (_books.length >= MAX_CHANNELS) return;
        Book memory book;
        (book.payer, book.payee, book.token) = (who % PAYERS, whom % PAYEES, which % TOKENS);
        book.hasSigner = hasSigner;
        book.salt = keccak256(abi.encode(_books.length));
        address from = _payers[book.payer].addr;
        address asset = address(_tokens[book.token]);
        (uint256 most, uint256 otherwise) = (_tokens[book.token].balanceOf(from), escrow.balanceOf(from, asset));
        if (fromBalance) (most, otherwise) = (otherwise, most);
        if (most == 0) (most, fromBalance) = (otherwise, !fromBalance);
        if (most == 0) return;
        book.refundsToBalance = fromBalance;
        book.deposit = uint128(bound(amount, 1, most));
        address by = hasSigner ? _signer.addr : address(0);

        vm.prank(from);
        book.id = fromBalance
            ? escrow.openFromBalance(_payees[book.payee].addr, asset, book.deposit, book.salt, by)
            : escrow.open(_payees[book.payee].addr, asset, book.deposit, book.salt, by);
        assertEq(book.id, channelIdOf(from, _payees[book.payee].addr, asset, book.salt, by));
        _books.push(book);
        ++done["open"];
    }

    /// @dev Attack: the parameters of a channel that exists, or existed.
    function reopen(uint256 index, bool fromBalance) external {
        if (_books.length == 0) return;
        Book storage book = _book(index);
        (address to, address asset) = (_payees[book.payee].addr, address(_tokens[book.token]));
        address by = book.hasSigner ? _signer.addr : address(0);
        vm.prank(_payers[book.payer].addr);
        vm.expectRevert(IChannelEscrow.ChannelAlreadyExists.selector);
        if (fromBalance) escrow.openFromBalance(to, asset, 1, book.salt, by);
        else escrow.open(to, asset, 1, book.salt, by);
        ++done["reopen"];
    }

    function topUp(uint256 index, uint256 amount, bool fromBalance) external {
        (bool found, Book storage book) = _openBook(index);
        if (!found) return;
        address from = _payers[book.payer].addr;
        uint256 most =
            fromBalance ? escrow.balanceOf(from, address(_tokens[book.token])) : _tokens[book.token].balanceOf(from);
        if (most == 0) return;
        uint128 extra = uint128(bound(amount, 1, most));
        vm.prank(from);
        if (fromBalance) escrow.topUpFromBalance(book.id, extra);
        else escrow.topUp(book.id, extra);
        book.deposit += extra;
        book.closeRequestedAt = 0;
        ++done["topUp"];
    }

    function requestClose(uint256 index) external {
        (bool found, Book storage book) = _openBook(index);
        if (!found) return;
        vm.prank(_payers[book.payer].addr);
        escrow.requestClose(book.id);
        if (book.closeRequestedAt == 0) book.closeRequestedAt = uint64(block.timestamp);
        ++done["requestClose"];
    }

    function withdraw(uint256 index, uint256 patience) external {
        (bool found, Book storage book) = _openBook(index);
        if (!found) return;
        skip(bound(patience, 0, 2 hours));
        if (book.closeRequestedAt == 0 || block.timestamp < book.closeRequestedAt + 1 hours) {
            vm.prank(_payers[book.payer].addr);
            vm.expectRevert(IChannelEscrow.CloseNotReady.selector);
            escrow.withdraw(book.id);
            return;
        }
        vm.prank(_payers[book.payer].addr);
        escrow.withdraw(book.id);
        _finalize(book);
        ++done["withdraw"];
    }

    // --- Claims: what a key signed within the deposit is paid whenever the channel is not final (invariant 5) ---

    function settle(uint256 index, uint256 amount) external {
        (bool found, Book storage book) = _openBook(index);
        if (!found) return;
        address to = _payees[book.payee].addr;
        if (book.settled == book.deposit || _isBlocked(to, book.token)) return;
        uint128 target = uint128(bound(amount, uint256(book.settled) + 1, book.deposit));
        bytes memory signature = signVoucher(_payerSide(book), book.id, target);
        vm.prank(to);
        escrow.settle(book.id, target, signature);
        book.settled = target;
        ++done["settle"];
    }

    function close(uint256 index, uint256 amount, uint256 way) external {
        (bool found, Book storage book) = _openBook(index);
        if (!found || _books.length < MAX_CHANNELS / 4) return; // let some life unfold first
        uint128 target = uint128(bound(amount, 0, book.deposit));
        address to = _payees[book.payee].addr;
        address asset = address(_tokens[book.token]);
        if (way % 3 == 0) {
            bytes memory signature = signVoucher(_payerSide(book), book.id, target);
            vm.prank(to);
            escrow.close(book.id, target, signature);
        } else if (way % 3 == 1) {
            IChannelEscrow.VoucherRow memory row = _voucherRow(book, target, target);
            vm.prank(_operator.addr);
            settlement.closeWithVoucher(to, asset, row);
        } else {
            IUsageSettlement.ReceiptRow memory row = _receiptRow(book, target);
            vm.prank(_operator.addr);
            settlement.closeWithReceipt(to, asset, row);
        }
        if (target > book.settled) book.settled = target;
        _finalize(book);
        ++done["close"];
    }

    /// @dev Rows for good and dead channels, with amounts that may be settled, too high, or above their ceiling. The
    /// books process them one by one, in order (invariant 6).
    function claimVouchers(uint256 index, uint256 seed) external {
        if (_books.length == 0) return;
        (uint256 p, uint256 t) = (_book(index).payee, _book(index).token);

        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](5);
        uint256 expected;
        for (uint256 i = 0; i < rows.length; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            Book storage book = _book(i == 0 ? index : seed);
            uint128 amount = _amount(book, seed);
            uint128 ceiling = seed >> 250 == 0 ? amount / 2 : amount + uint128((seed >> 64) % 1e6);
            rows[i] = _voucherRow(book, ceiling, amount);
            bool isBad = seed >> 248 & 3 == 0;
            if (isBad) rows[i].r ^= bytes32(uint256(1));
            bool counts = book.payee == p && book.token == t && !isBad && ceiling >= amount;
            if (counts) expected += _settleInBooks(book, amount);
        }
        vm.prank(stranger);
        assertEq(escrow.claimVouchers(_payees[p].addr, address(_tokens[t]), rows), expected);
        if (expected != 0) ++done["claimVouchers"];
    }

    function claimReceipts(uint256 index, uint256 seed) external {
        if (_books.length == 0) return;
        (uint256 p, uint256 t) = (_book(index).payee, _book(index).token);

        IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](4);
        uint256 expected;
        for (uint256 i = 0; i < rows.length; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            Book storage book = _book(i == 0 ? index : seed);
            uint128 amount = _amount(book, seed);
            rows[i] = _receiptRow(book, amount);
            bool isBad = seed >> 248 & 3 == 0;
            if (isBad) rows[i].operatorR ^= bytes32(uint256(1));
            if (book.payee == p && book.token == t && !isBad) expected += _settleInBooks(book, amount);
        }
        uint256 held = wealth(_payees[p].addr, t);
        vm.prank(_operator.addr);
        settlement.claimReceipts(_payees[p].addr, address(_tokens[t]), rows);
        assertEq(wealth(_payees[p].addr, t) - held, expected);
        if (expected != 0) ++done["claimReceipts"];
    }

    // --- The world ---

    function passTime(uint256 duration) external {
        skip(bound(duration, 1, 2 hours));
    }

    /// @dev Blocks one account at most: the second token refuses to pay it.
    function blockReceiver(uint256 whom) external {
        address[3] memory candidates = [address(0), _payers[0].addr, _payees[0].addr];
        FickleToken(address(_tokens[1])).setBlocked(candidates[whom % 3]);
    }

    // --- The books ---

    function books() external view returns (Book[] memory) {
        return _books;
    }

    function accounts() external view returns (address[] memory all) {
        all = new address[](PAYERS + PAYEES);
        for (uint256 i = 0; i < PAYERS; ++i) {
            all[i] = _payers[i].addr;
        }
        for (uint256 i = 0; i < PAYEES; ++i) {
            all[PAYERS + i] = _payees[i].addr;
        }
    }

    function contracts() external view returns (IChannelEscrow, IDevToken[] memory) {
        return (escrow, _tokens);
    }

    /// @return What `account` holds in its wallet and its balance.
    function wealth(address account, uint256 t) public view returns (uint256) {
        return _tokens[t].balanceOf(account) + escrow.balanceOf(account, address(_tokens[t]));
    }

    /// @dev Mostly above what is settled and within the deposit, now and then neither.
    function _amount(Book storage book, uint256 seed) private view returns (uint128) {
        if (seed >> 244 & 3 == 0) return uint128(bound(seed >> 8, 0, uint256(book.deposit) + 2));
        return book.settled + uint128(bound(seed >> 8, 0, (book.deposit - book.settled) / 3 + 1));
    }

    function _settleInBooks(Book storage book, uint128 amount) private returns (uint256 delta) {
        if (book.finalized || amount <= book.settled || amount > book.deposit) return 0;
        delta = amount - book.settled;
        book.settled = amount;
    }

    function _finalize(Book storage book) private {
        book.finalized = true;
        book.finalRecord = keccak256(abi.encode(escrow.getChannel(book.id)));
    }

    function _book(uint256 index) private view returns (Book storage) {
        return _books[index % _books.length];
    }

    /// @dev The next channel from `index` on that is not final.
    function _openBook(uint256 index) private view returns (bool found, Book storage book) {
        uint256 count = _books.length;
        if (count == 0) return (false, _none);
        for (uint256 i = 0; i < count; ++i) {
            book = _books[addmod(index, i, count)];
            if (!book.finalized) return (true, book);
        }
        return (false, _none);
    }

    function _isBlocked(address account, uint256 t) private view returns (bool) {
        return t == 1 && FickleToken(address(_tokens[1])).blocked() == account;
    }

    function _affordable(address from, uint256 t, uint256 amount) private view returns (uint256) {
        uint256 held = _tokens[t].balanceOf(from);
        return held == 0 ? 0 : bound(amount, 1, held);
    }

    function _payerSide(Book storage book) private view returns (Account memory) {
        return book.hasSigner ? _signer : _payers[book.payer];
    }

    function _voucherRow(Book storage book, uint128 ceiling, uint128 amount)
        private
        view
        returns (IChannelEscrow.VoucherRow memory row)
    {
        (row.payer, row.salt) = (_payers[book.payer].addr, book.salt);
        if (book.hasSigner) row.authorizedSigner = _signer.addr;
        row.amounts = toVoucherAmounts(ceiling, amount);
        (row.r, row.vs) = vm.signCompact(_payerSide(book).key, voucherDigest(book.id, ceiling));
    }

    function _receiptRow(Book storage book, uint128 amount)
        private
        view
        returns (IUsageSettlement.ReceiptRow memory row)
    {
        (row.payer, row.salt) = (_payers[book.payer].addr, book.salt);
        if (book.hasSigner) row.authorizedSigner = _signer.addr;
        (row.sequence, row.cumulativeAmount) = (1, amount);
        row.billHash = billHashOf(book.id, amount);
        (row.payerR, row.payerVs) = vm.signCompact(_payerSide(book).key, receiptDigest(book.id, row));
        (row.operatorR, row.operatorVs) = vm.signCompact(_operator.key, typedDigest(settlementDomain(), row.billHash));
    }
}
