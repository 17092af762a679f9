// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {FickleToken, SilentToken} from "../adversary/Tokens.sol";
import {SplitterFixture} from "./SplitterFixture.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

/// @notice Tokens that behave badly, and receivers that are blocked.
contract TokenTest is SplitterFixture {
    FickleToken private fickle;

    function setUp() public override {
        super.setUp();
        fickle = new FickleToken();
        token = IDevToken(address(fickle));
        token.mint(address(splitter), 100e6);
    }

    function test_ATokenThatAnswersNothingWorks() public {
        SilentToken silent = new SilentToken();
        token = IDevToken(address(silent));
        silent.mint(address(splitter), 100e6);
        releaseAll();
        assertShared(70e6, 20e6, 10e6);
    }

    function test_ABlockedAccountJamsNobody() public {
        fickle.setBlocked(host.addr);
        vm.expectRevert("blocked");
        splitter.release(address(token), host.addr);
        splitter.release(address(token), validators);
        token.mint(address(splitter), 100e6);
        splitter.release(address(token), validators);
        splitter.release(address(token), treasury);
        assertShared(0, 40e6, 20e6);

        fickle.setBlocked(address(0));
        splitter.release(address(token), host.addr);
        assertShared(140e6, 40e6, 20e6);
    }

    function test_RevertWhen_TheTokenAnswersFalse() public {
        fickle.setRefuses(true);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        splitter.release(address(token), host.addr);
        assertEq(splitter.releasable(address(token), host.addr), 70e6);
    }

    /// @dev Who was paid before keeps it, and the last finds too little: no account is ever paid twice.
    function test_ATokenThatFallsIsShortForTheLast() public {
        splitter.release(address(token), host.addr);
        fickle.rebase(address(splitter), 20e6);
        assertEq(splitter.releasable(address(token), host.addr), 0);
        assertEq(splitter.release(address(token), validators), 18e6);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, address(splitter), 2e6, 9e6)
        );
        splitter.release(address(token), treasury);
    }

    // --- Reentrancy: the hook runs before money moves, where what is released still counts as held ---

    function test_NoReleaseStartsInsideARelease() public {
        address[3] memory accounts = [host.addr, validators, treasury];
        for (uint256 i = 0; i < accounts.length; ++i) {
            fickle.setHook(address(splitter), abi.encodeCall(IRevenueSplitter.release, (address(token), accounts[i])));
            splitter.release(address(token), accounts[i == 0 ? 1 : 0]);
            assertFalse(fickle.hookSucceeded());
            token.mint(address(splitter), 100e6);
        }
        releaseAll();
        assertShared(280e6, 80e6, 40e6);
    }

    function test_CollectingInsideAReleaseChangesNoShare() public {
        fund(payer.addr, 100e6);
        vm.prank(payer.addr);
        escrow.depositFor(address(splitter), address(token), 100e6);
        fickle.setHook(address(splitter), abi.encodeCall(IRevenueSplitter.collect, (address(token))));
        splitter.release(address(token), host.addr);
        assertTrue(fickle.hookSucceeded());
        releaseAll();
        assertShared(140e6, 40e6, 20e6);
    }

    function test_ReleasingInsideACollectChangesNoShare() public {
        fund(payer.addr, 100e6);
        vm.prank(payer.addr);
        escrow.depositFor(address(splitter), address(token), 100e6);
        fickle.setHook(address(splitter), abi.encodeCall(IRevenueSplitter.release, (address(token), host.addr)));
        splitter.collect(address(token));
        assertTrue(fickle.hookSucceeded());
        releaseAll();
        assertShared(140e6, 40e6, 20e6);
    }
}
