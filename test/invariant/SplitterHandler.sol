// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {SplitterFixture} from "../splitter/SplitterFixture.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

/// @notice Pays two splitters in two tokens, and releases, in any order, and keeps its own books of what came in.
/// @dev No call reverts: what can't be done now is not tried, or tried with its refusal asserted by name.
contract SplitterHandler is SplitterFixture {
    uint256 public constant TOKENS = 2;

    IRevenueSplitter[] private _splitters; // of the second, host and treasury are one
    IDevToken[] private _tokens;
    address[] private _accounts; // the last one has no share

    mapping(address splitter => mapping(address token => uint256)) public received;
    mapping(address splitter => mapping(address token => mapping(address account => uint256))) public paid;
    /// @notice How often each action did something, so that a campaign that does nothing is noticed.
    mapping(string action => uint256) public done;

    constructor() {
        SplitterFixture.setUp();
        _splitters.push(create(host.addr, validators, treasury, 3333, 3334, 3333));
        _splitters.push(create(host.addr, validators, host.addr, 1, 9998, 1));
        _tokens.push(token);
        _tokens.push(deployToken());
        _accounts = [host.addr, validators, treasury, stranger];
    }

    /// @dev As the escrow pays a payee, or as a gift: a splitter can't tell.
    function pay(uint256 which, uint256 inWhat, uint128 amount) external {
        (IRevenueSplitter to, IDevToken coin) = _choose(which, inWhat);
        // Mostly so little that the rounding shows.
        uint256 sum = amount % 4 == 0 ? amount : amount % 20_000;
        coin.mint(address(to), sum);
        received[address(to)][address(coin)] += sum;
        ++done["pay"];
    }

    /// @dev As the escrow credits a payee that was blocked.
    function credit(uint256 which, uint256 inWhat, uint64 amount) external {
        (IRevenueSplitter to, IDevToken coin) = _choose(which, inWhat);
        if (amount == 0) return;
        coin.mint(address(this), amount);
        coin.approve(address(escrow), amount);
        escrow.depositFor(address(to), address(coin), amount);
        ++done["credit"];
    }

    function collect(uint256 which, uint256 inWhat) external {
        (IRevenueSplitter to, IDevToken coin) = _choose(which, inWhat);
        uint256 due = escrow.balanceOf(address(to), address(coin));
        if (due == 0) {
            vm.expectRevert(IRevenueSplitter.NothingToCollect.selector);
            to.collect(address(coin));
            return;
        }
        assertEq(to.collect(address(coin)), due);
        received[address(to)][address(coin)] += due;
        ++done["collect"];
    }

    function release(uint256 which, uint256 inWhat, uint256 who) external {
        (IRevenueSplitter from, IDevToken coin) = _choose(which, inWhat);
        address account = _accounts[who % _accounts.length];
        uint256 due = dueTo(from, coin, account);
        if (due == 0) {
            vm.expectRevert(IRevenueSplitter.NothingToRelease.selector);
            from.release(address(coin), account);
            ++done["nothingToRelease"];
            return;
        }
        uint256 before = coin.balanceOf(account);
        assertEq(from.release(address(coin), account), due);
        assertEq(coin.balanceOf(account) - before, due);
        paid[address(from)][address(coin)][account] += due;
        ++done["release"];
    }

    function dueTo(IRevenueSplitter from, IDevToken coin, address account) public view returns (uint256) {
        uint256 share = received[address(from)][address(coin)] * from.shareOf(account) / 10_000;
        return share - paid[address(from)][address(coin)][account];
    }

    function splitters() external view returns (IRevenueSplitter[] memory) {
        return _splitters;
    }

    function tokens() external view returns (IDevToken[] memory) {
        return _tokens;
    }

    function accounts() external view returns (address[] memory) {
        return _accounts;
    }

    function _choose(uint256 which, uint256 inWhat) private view returns (IRevenueSplitter, IDevToken) {
        return (_splitters[which % _splitters.length], _tokens[inWhat % TOKENS]);
    }
}
