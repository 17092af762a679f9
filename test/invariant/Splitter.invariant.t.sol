// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {SplitterHandler} from "./SplitterHandler.sol";
import {Test} from "forge-std/Test.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

/// @notice What holds whoever is released when, and however money comes in:
/// 1. A splitter holds what it received less what it released, in each token by itself.
/// 2. What is due to an account is its share of all that was ever received, less what it was paid, rounded down.
/// 3. All that is due can be paid at once, and then less than a base unit an account is left.
contract SplitterInvariantTest is Test {
    SplitterHandler private handler;
    IRevenueSplitter[] private splitters;
    IDevToken[] private tokens;
    address[] private accounts;
    bytes4[] private actions;

    function setUp() public {
        handler = new SplitterHandler();
        (splitters, tokens, accounts) = (handler.splitters(), handler.tokens(), handler.accounts());
        actions = [
            SplitterHandler.pay.selector,
            SplitterHandler.credit.selector,
            SplitterHandler.collect.selector,
            SplitterHandler.release.selector
        ];
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), actions));
    }

    /// @dev One campaign checks all of it: the same calls need not be made three times.
    function invariant_HoldsWhateverAnybodyDoes() public view {
        for (uint256 s = 0; s < splitters.length; ++s) {
            for (uint256 t = 0; t < tokens.length; ++t) {
                checkSplitter(splitters[s], tokens[t]);
            }
        }
    }

    function checkSplitter(IRevenueSplitter splitter, IDevToken token) private view {
        uint256 holdings = token.balanceOf(address(splitter));
        (uint256 due, uint256 paid) = (0, 0);
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 releasable = splitter.releasable(address(token), accounts[i]);
            assertEq(releasable, handler.dueTo(splitter, token, accounts[i]), "2: due as in the books");
            uint256 released = splitter.released(address(token), accounts[i]);
            assertEq(released, handler.paid(address(splitter), address(token), accounts[i]), "2: paid as in the books");
            (due, paid) = (due + releasable, paid + released);
        }
        assertEq(splitter.totalReleased(address(token)), paid);
        assertEq(holdings + paid, handler.received(address(splitter), address(token)), "1: nothing else comes or goes");
        assertLe(due, holdings, "3: what is due is there");
        assertLt(holdings - due, accounts.length, "3: and hardly more");
    }

    /// @dev A campaign in which nothing happens proves nothing: any actions, at random, do everything there is to do.
    function test_TheHandlerReachesEveryAction() public {
        for (uint256 i = 0; i < 200; ++i) {
            bytes32 seed = keccak256(abi.encode(i));
            (uint256 a, uint256 b, uint256 c) = (uint256(seed) >> 248, uint256(seed) >> 240, uint256(seed) >> 128);
            uint256 action = uint256(seed) % 4;
            if (action == 0) handler.pay(a, b, uint128(c));
            else if (action == 1) handler.credit(a, b, uint64(c));
            else if (action == 2) handler.collect(a, b);
            else handler.release(a, b, c);
        }
        invariant_HoldsWhateverAnybodyDoes();

        string[5] memory names = ["pay", "credit", "collect", "release", "nothingToRelease"];
        for (uint256 i = 0; i < names.length; ++i) {
            assertGt(handler.done(names[i]), 0, names[i]);
        }
    }
}
