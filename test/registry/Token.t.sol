// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {Accomplice, FickleToken, SilentToken} from "../adversary/Tokens.sol";
import {RegistryFixture} from "./RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

/// @notice Bonds in tokens that behave badly, and receivers that are blocked.
contract TokenTest is RegistryFixture {
    FickleToken private fickle;
    Accomplice private accomplice;

    /// @dev The fixture's `bondToken` is the fickle one here.
    function setUp() public override {
        super.setUp();
        fickle = new FickleToken();
        accomplice = new Accomplice();
        useBondToken(IDevToken(address(fickle)));
    }

    /// @dev Somebody else's bond in the same token, which none of this may touch.
    function bondOfAnother() private {
        address another = makeAddr("another payee");
        fickle.mint(another, BOND);
        vm.startPrank(another);
        fickle.approve(address(registry), BOND);
        registry.bond(address(fickle), BOND);
        vm.stopPrank();
    }

    // --- Tokens that answer nothing, or no ---

    function test_ATokenThatAnswersNothingWorks() public {
        SilentToken silent = new SilentToken();
        bondToken = IDevToken(address(silent));
        silent.mint(payee.addr, BOND);
        giveBond(BOND);
        reportOvercharge(1);
        requestUnbond(bonded());
        skip(DELAY);
        withdrawBond();
        vm.prank(payer.addr);
        registry.withdraw(address(silent), payer.addr);
        assertEq(silent.balanceOf(payee.addr), 900e6);
        assertEq(silent.balanceOf(payer.addr), 40e6);
        assertEq(silent.balanceOf(BURN_ADDRESS), 50e6);
    }

    function test_RevertWhen_TheTokenAnswersFalse() public {
        giveBond(BOND);
        requestUnbond(1);
        skip(DELAY);
        reportOvercharge(1);
        fickle.setRefuses(true);
        vm.expectRevert(IExecutorRegistry.TransferFailed.selector);
        giveBond(1);
        vm.expectRevert(IExecutorRegistry.TransferFailed.selector);
        withdrawBond();
        vm.prank(payer.addr);
        vm.expectRevert(IExecutorRegistry.TransferFailed.selector);
        registry.withdraw(address(fickle), payer.addr);
        assertEq(bonded(), 900e6);
        assertEq(shareOf(payer.addr), 40e6);
    }

    // --- Tokens that refuse to be burned ---

    function assertUnburnedStays() private {
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.BurnRefused(address(fickle), 50e6);
        reportOvercharge(1);
        assertEq(bonded(), 900e6);
        assertEq(shareOf(payer.addr), 40e6);
        assertEq(fickle.balanceOf(address(registry)), BOND);

        // Everybody takes what is theirs; what is nobody's stays.
        fickle.setRefuses(false);
        requestUnbond(900e6);
        skip(DELAY);
        withdrawBond();
        vm.prank(payer.addr);
        registry.withdraw(address(fickle), payer.addr);
        vm.prank(reporter);
        registry.withdraw(address(fickle), reporter);
        assertEq(fickle.balanceOf(address(registry)), 50e6);
    }

    function test_WhatTheTokenRefusesToBurnStaysForEver() public {
        giveBond(BOND);
        fickle.setBlocked(BURN_ADDRESS);
        assertUnburnedStays();
    }

    function test_WhatTheTokenAnswersFalseToStaysForEver() public {
        giveBond(BOND);
        fickle.setRefuses(true);
        assertUnburnedStays();
    }

    /// @dev A reporter that sends too little gas for the burn gains nothing: either all is charged, or nothing is, and
    /// what is not burned is nobody's.
    function testFuzz_StarvingTheBurnGainsNothing(uint256 gasLimit) public {
        giveBond(BOND);
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        bytes memory call = abi.encodeCall(registry.proveOvercharge, (request, bill, sign(operator, bill)));
        vm.prank(reporter);
        (bool success,) = address(registry).call{gas: bound(gasLimit, 100_000, 250_000)}(call);
        assertEq(bonded(), success ? 900e6 : BOND);
        assertEq(shareOf(reporter), success ? 10e6 : 0);
        uint256 burned = fickle.balanceOf(BURN_ADDRESS);
        assertTrue(burned == 0 || burned == 50e6);
        assertEq(fickle.balanceOf(address(registry)) + burned, BOND);
    }

    // --- Fees ---

    function test_RevertWhen_TheTokenTakesAFee() public {
        fickle.setFee(1e6);
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.UnexpectedBondAmount.selector, 10e6, 9e6));
        giveBond(10e6);
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.UnexpectedBondAmount.selector, 1e6, 0));
        giveBond(1e6);
        assertEq(bonded(), 0);
    }

    /// @dev The fee is more than the bond: holdings fall, and nothing underflows.
    function test_RevertWhen_TheFeeExceedsTheBond() public {
        bondOfAnother();
        fickle.setFee(20e6);
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.UnexpectedBondAmount.selector, 10e6, 0));
        giveBond(10e6);
    }

    // --- Blocked receivers ---

    function test_ABlockedPayerJamsNoReport() public {
        giveBond(BOND);
        fickle.setBlocked(payer.addr);
        reportOvercharge(1);
        vm.startPrank(payer.addr);
        vm.expectRevert(IExecutorRegistry.TransferFailed.selector);
        registry.withdraw(address(fickle), payer.addr);
        registry.withdraw(address(fickle), stranger);
        assertEq(fickle.balanceOf(stranger), 40e6);
    }

    function test_ABlockedPayeeKeepsItsBond() public {
        giveBond(BOND);
        requestUnbond(BOND);
        skip(DELAY);
        fickle.setBlocked(payee.addr);
        vm.expectRevert(IExecutorRegistry.TransferFailed.selector);
        withdrawBond();
        reportOvercharge(1);
        fickle.setBlocked(address(0));
        withdrawBond();
        assertEq(fickle.balanceOf(payee.addr), type(uint128).max - 100e6);
    }

    // --- Rebasing ---

    /// @dev Who comes last finds too little, in this token alone.
    function test_ATokenThatRebasesDownHarmsItsOwnUsersOnly() public {
        bondOfAnother();
        IDevToken sound = deployToken();
        sound.mint(stranger, BOND);
        vm.startPrank(stranger);
        sound.approve(address(registry), BOND);
        registry.bond(address(sound), BOND);
        registry.requestUnbond(BOND);
        vm.stopPrank();
        giveBond(BOND);
        requestUnbond(BOND);
        fickle.rebase(address(registry), BOND + 1);
        skip(DELAY);

        withdrawBond();
        assertEq(fickle.balanceOf(address(registry)), 1);
        vm.startPrank(makeAddr("another payee"));
        registry.requestUnbond(BOND);
        skip(DELAY);
        vm.expectRevert(IExecutorRegistry.TransferFailed.selector);
        registry.withdrawBond();
        vm.startPrank(stranger);
        registry.withdrawBond();
        assertEq(sound.balanceOf(stranger), BOND);
    }

    // --- Reentrancy ---

    function accompliceDoes(bytes memory call) private {
        fickle.setHook(address(accomplice), abi.encodeCall(Accomplice.insist, (address(registry), call)));
    }

    function equipAccomplice() private {
        fickle.mint(address(accomplice), BOND);
        accomplice.insist(address(fickle), abi.encodeCall(fickle.approve, (address(registry), BOND)));
    }

    /// @dev A fee that a nested bond makes up for would be credited twice: the guard is what forbids it.
    function test_NoPullStartsInsideAPull() public {
        equipAccomplice();
        accompliceDoes(abi.encodeCall(registry.bond, (address(fickle), 10e6)));
        giveBond(10e6);
        assertFalse(fickle.hookSucceeded());
        assertEq(fickle.balanceOf(address(registry)), 10e6);
    }

    function test_RevertWhen_ANestedBondHidesAFee() public {
        equipAccomplice();
        fickle.setFee(1e6);
        fickle.setExempt(address(accomplice));
        accompliceDoes(abi.encodeCall(registry.bond, (address(fickle), 1e6)));
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.UnexpectedBondAmount.selector, 10e6, 9e6));
        giveBond(10e6);
    }

    /// @dev The slice of a bond that is recorded but has not arrived would be paid from others' bonds.
    function test_RevertWhen_ABondIsPunishedBeforeItArrives() public {
        bondOfAnother();
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        accompliceDoes(abi.encodeCall(registry.proveOvercharge, (request, bill, sign(operator, bill))));
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.UnexpectedBondAmount.selector, BOND, BOND - 50e6));
        giveBond(BOND);
        assertEq(fickle.balanceOf(address(registry)), BOND);
        assertFalse(registry.isCharged(channelId, hashOf(request)));
    }

    function test_RevertWhen_ABondIsWithdrawnBeforeMoreArrives() public {
        bondOfAnother();
        equipAccomplice();
        accomplice.insist(address(registry), abi.encodeCall(registry.bond, (address(fickle), 10e6)));
        accomplice.insist(address(registry), abi.encodeCall(registry.requestUnbond, (10e6)));
        skip(DELAY);
        accompliceDoes(abi.encodeCall(registry.withdrawBond, ()));
        vm.expectRevert("refused");
        accomplice.insist(address(registry), abi.encodeCall(registry.bond, (address(fickle), 20e6)));
        assertEq(registry.bondOf(address(accomplice)).amount, 10e6);
    }

    /// @dev Inside a payout the bond is already gone from the books.
    function test_ABondCantBeWithdrawnTwice() public {
        bondOfAnother();
        equipAccomplice();
        accomplice.insist(address(registry), abi.encodeCall(registry.bond, (address(fickle), BOND)));
        accomplice.insist(address(registry), abi.encodeCall(registry.requestUnbond, (BOND)));
        skip(DELAY);
        accompliceDoes(abi.encodeCall(registry.withdrawBond, ()));
        accomplice.insist(address(registry), abi.encodeCall(registry.withdrawBond, ()));
        assertFalse(fickle.hookSucceeded());
        assertEq(fickle.balanceOf(address(registry)), BOND);
    }

    function test_AShareCantBeWithdrawnTwice() public {
        giveBond(BOND);
        reporter = address(accomplice);
        reportOvercharge(1);
        bytes memory withdrawal = abi.encodeCall(registry.withdraw, (address(fickle), address(accomplice)));
        accompliceDoes(withdrawal);
        accomplice.insist(address(registry), withdrawal);
        assertFalse(fickle.hookSucceeded());
        assertEq(fickle.balanceOf(address(accomplice)), 10e6);
    }

    /// @dev Inside the burn the fault is charged: the same report fails, another one is an honest second slice.
    function test_AFaultCantBeChargedTwice() public {
        giveBond(BOND);
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        accompliceDoes(abi.encodeCall(registry.proveOvercharge, (request, bill, sign(operator, bill))));
        reportOvercharge(1);
        assertFalse(fickle.hookSucceeded());
        assertEq(bonded(), 900e6);

        (request, bill) = makeOvercharge(2);
        accompliceDoes(abi.encodeCall(registry.proveOvercharge, (request, bill, sign(operator, bill))));
        reportOvercharge(3);
        assertTrue(fickle.hookSucceeded());
        assertEq(bonded(), 729e6);
        assertEq(fickle.balanceOf(BURN_ADDRESS), 50e6 + 45e6 + 40.5e6);
    }
}
