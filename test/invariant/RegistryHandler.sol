// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {FickleToken} from "../adversary/Tokens.sol";
import {RegistryFixture} from "../registry/RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

/// @notice Bonds, unbonds, cheats and reports, in any order, and keeps its own books of what should come of it.
/// @dev No call reverts: what can't be done now is not tried, or tried with its refusal asserted by name.
contract RegistryHandler is RegistryFixture {
    /// @dev A payee's bond, as what was put in, asked for, taken out and sliced makes it.
    struct Book {
        uint256 token;
        uint128 amount;
        uint128 unbonding;
        uint64 unbondableAt;
    }

    uint256 public constant PAYEES = 2;
    uint256 public constant PAYERS = 2;
    uint256 public constant CHANNELS = PAYEES * PAYERS;
    uint256 public constant TOKENS = 2;
    /// @dev Few, so that what was charged is reported again.
    uint256 public constant REQUESTS = 4;

    Account[] private _payees;
    Account[] private _operators; // one of each payee
    Account[] private _payers;
    bytes32[] private _channels; // of payee `index / PAYERS` and payer `index % PAYERS`
    IDevToken[] private _tokens; // the second one refuses now and then to be burned

    Book[] private _books;
    uint64[] private _retiredAt; // of a payee's operator; zero while active
    mapping(address account => mapping(uint256 token => uint256)) public shares;
    mapping(uint256 token => uint256) public burned;
    mapping(uint256 token => uint256) public unburned;
    mapping(uint256 channel => mapping(uint256 request => uint256)) public charges;
    /// @notice How often each action did something, so that a campaign that does nothing is noticed.
    mapping(string action => uint256) public done;

    constructor() {
        RegistryFixture.setUp();
        _tokens.push(bondToken);
        _tokens.push(IDevToken(address(new FickleToken())));
        for (uint256 i = 0; i < PAYERS; ++i) {
            _payers.push(makeAccount(string.concat("payer ", vm.toString(i))));
            fund(_payers[i].addr, PAYEES * DEPOSIT);
        }
        for (uint256 i = 0; i < PAYEES; ++i) {
            _payees.push(makeAccount(string.concat("payee ", vm.toString(i))));
            _operators.push(makeAccount(string.concat("operator ", vm.toString(i))));
            _books.push();
            _retiredAt.push();
            payee = _payees[i];
            vm.prank(payee.addr);
            registry.addOperator(_operators[i].addr);
            for (uint256 t = 0; t < TOKENS; ++t) {
                useBondToken(_tokens[t]);
            }
            for (uint256 j = 0; j < PAYERS; ++j) {
                vm.prank(_payers[j].addr);
                _channels.push(escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0)));
            }
        }
    }

    // --- Bonds ---

    function bond(uint256 whose, uint256 which, uint128 amount) external {
        uint256 p = _choosePayee(whose);
        Book storage book = _books[p];
        uint256 t = which % TOKENS;
        bondToken = _tokens[t];
        // Mostly small ones, which a few slices use up.
        amount = uint128(bound(amount, 1, amount % 3 == 0 ? 1000e6 : 12));
        if (book.amount != 0 && book.token != t) {
            vm.expectRevert(
                abi.encodeWithSelector(IExecutorRegistry.BondTokenFixed.selector, address(_tokens[book.token]))
            );
            giveBond(amount);
            return;
        }
        giveBond(amount);
        book.token = t;
        book.amount += amount;
        ++done["bond"];
    }

    function requestUnbond(uint256 whose, uint128 amount) external {
        Book storage book = _books[_choosePayee(whose)];
        amount = uint128(bound(amount, 0, book.amount));
        requestUnbond(amount);
        book.unbonding = amount;
        book.unbondableAt = amount == 0 ? 0 : uint64(block.timestamp) + DELAY;
        ++done["requestUnbond"];
    }

    function withdrawBond(uint256 whose, uint256 patience) external {
        Book storage book = _books[_choosePayee(whose)];
        skip(bound(patience, 0, 2 * DELAY));
        if (book.unbonding == 0 || block.timestamp < book.unbondableAt) {
            vm.expectRevert(IExecutorRegistry.UnbondNotReady.selector);
            withdrawBond();
            return;
        }
        uint256 held = _tokens[book.token].balanceOf(payee.addr);
        withdrawBond();
        assertEq(_tokens[book.token].balanceOf(payee.addr) - held, book.unbonding);
        book.amount -= book.unbonding;
        (book.unbonding, book.unbondableAt) = (0, 0);
        ++done["withdrawBond"];
    }

    // --- Faults ---

    function overcharge(uint256 which, uint256 request, uint256 who, bool signedByPayee) external {
        (uint256 c, uint256 p) = _chooseChannel(which, signedByPayee);
        reporter = _payers[who % PAYERS].addr;
        request %= REQUESTS;
        bool charged = _expectOutcome(c, p, request, signedByPayee);
        reportOvercharge(request);
        if (!charged) return;
        _charge(c, p, request);
        ++done["overcharge"];
    }

    function doubleBill(uint256 which, uint256 request, uint256 who, bool signedByPayee) external {
        (uint256 c, uint256 p) = _chooseChannel(which, signedByPayee);
        reporter = _payees[who % PAYEES].addr;
        request %= REQUESTS;
        bool charged = _expectOutcome(c, p, request, signedByPayee);
        reportDoubleBill(request);
        if (!charged) return;
        _charge(c, p, request);
        ++done["doubleBill"];
    }

    /// @dev Attack: honest documents, reported.
    function slander(uint256 which, uint256 request, bool signedByPayee) external {
        _chooseChannel(which, signedByPayee);
        IExecutorRegistry.InferenceRequest memory asked = makeRequest(request % REQUESTS);
        IExecutorRegistry.UsageBill memory bill = makeBill(asked);
        bytes memory signature = sign(operator, bill);
        vm.expectRevert(IExecutorRegistry.NotOvercharged.selector);
        registry.proveOvercharge(asked, bill, signature);
        vm.expectRevert(IExecutorRegistry.SameBill.selector);
        registry.proveDoubleBill(bill, signature, bill, signature);
        ++done["slander"];
    }

    function withdraw(uint256 whose, uint256 which) external {
        address account = whose % 2 == 0 ? _payers[whose % PAYERS].addr : _payees[whose % PAYEES].addr;
        uint256 t = which % TOKENS;
        if (shares[account][t] == 0) {
            vm.prank(account);
            vm.expectRevert(IExecutorRegistry.NothingToWithdraw.selector);
            registry.withdraw(address(_tokens[t]), stranger);
            return;
        }
        uint256 held = _tokens[t].balanceOf(stranger);
        vm.prank(account);
        registry.withdraw(address(_tokens[t]), stranger);
        assertEq(_tokens[t].balanceOf(stranger) - held, shares[account][t]);
        shares[account][t] = 0;
        ++done["withdraw"];
    }

    // --- The world ---

    function changeOperator(uint256 whose) external {
        uint256 p = _choosePayee(whose);
        bool isActive = _retiredAt[p] == 0;
        vm.prank(payee.addr);
        if (isActive) registry.removeOperator(_operators[p].addr);
        else registry.addOperator(_operators[p].addr);
        _retiredAt[p] = isActive ? uint64(block.timestamp) : 0;
        ++done["changeOperator"];
    }

    function passTime(uint256 duration) external {
        skip(bound(duration, 1, 2 * DELAY));
    }

    /// @dev The second token refuses to be burned, or stops refusing.
    function refuseBurns(bool refuses) external {
        FickleToken(address(_tokens[1])).setBlocked(refuses ? BURN_ADDRESS : address(0));
    }

    // --- The books ---

    function books() external view returns (Book[] memory) {
        return _books;
    }

    function contracts() external view returns (IExecutorRegistry, IDevToken[] memory) {
        return (registry, _tokens);
    }

    function accounts() external view returns (address[] memory all) {
        all = new address[](PAYEES + PAYERS);
        for (uint256 i = 0; i < PAYEES; ++i) {
            all[i] = _payees[i].addr;
        }
        for (uint256 i = 0; i < PAYERS; ++i) {
            all[PAYEES + i] = _payers[i].addr;
        }
    }

    function faultOf(uint256 channel, uint256 request) external view returns (bytes32 id, bytes32 requestHash) {
        IExecutorRegistry.InferenceRequest memory asked = makeRequest(request);
        id = _channels[channel];
        asked.channelId = id;
        requestHash = hashOf(asked);
    }

    /// @dev A request says the same whenever it is made: without that, none would be reported twice.
    function makeRequest(uint256 nonce) internal view override returns (IExecutorRegistry.InferenceRequest memory) {
        IExecutorRegistry.InferenceRequest memory request = super.makeRequest(nonce);
        request.operator = stranger;
        request.deadline = 0;
        return request;
    }

    function _choosePayee(uint256 whose) private returns (uint256 p) {
        p = whose % PAYEES;
        payee = _payees[p];
    }

    /// @dev Makes the channel's parties those of the fixture, and its `operator` whoever signs.
    function _chooseChannel(uint256 which, bool signedByPayee) private returns (uint256 c, uint256 p) {
        c = which % CHANNELS;
        p = _choosePayee(c / PAYERS);
        channelId = _channels[c];
        payer = _payers[c % PAYERS];
        operator = signedByPayee ? payee : _operators[p];
    }

    /// @return charged Whether the report that follows must succeed; else its refusal is expected by name.
    function _expectOutcome(uint256 c, uint256 p, uint256 request, bool signedByPayee) private returns (bool charged) {
        bool escaped = !signedByPayee && _retiredAt[p] != 0 && block.timestamp >= _retiredAt[p] + DELAY;
        if (escaped) {
            vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.NotPunishable.selector, operator.addr));
            ++done["escape"];
        } else if (charges[c][request] != 0) {
            vm.expectRevert(IExecutorRegistry.AlreadyCharged.selector);
            ++done["chargedBefore"];
        } else if (_books[p].amount == 0) {
            vm.expectRevert(IExecutorRegistry.NothingAtStake.selector);
            ++done["nothingAtStake"];
        } else {
            charged = true;
        }
    }

    function _charge(uint256 c, uint256 p, uint256 request) private {
        ++charges[c][request];
        Book storage book = _books[p];
        uint256 t = book.token;
        uint128 slice = (book.amount + 9) / 10;
        book.amount -= slice;
        if (book.unbonding > book.amount) book.unbonding = book.amount;
        if (book.amount == 0) book.unbondableAt = 0;

        shares[payer.addr][t] += slice * 4 / 10;
        shares[reporter][t] += slice / 10;
        uint256 rest = slice - slice * 4 / 10 - slice / 10;
        bool isRefused = t == 1 && FickleToken(address(_tokens[1])).blocked() == BURN_ADDRESS;
        if (isRefused) unburned[t] += rest;
        else burned[t] += rest;
    }
}
