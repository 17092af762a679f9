// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IDevToken} from "../IDevToken.sol";
import {Accomplice, FickleToken, SilentToken} from "../adversary/Tokens.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice Tokens that behave badly, and receivers that are blocked.
contract TokenTest is Fixture {
    FickleToken private fickle;
    Accomplice private accomplice;

    /// @dev The fixture's `token` is the fickle one here.
    function setUp() public override {
        super.setUp();
        fickle = new FickleToken();
        accomplice = new Accomplice();
        token = IDevToken(address(fickle));
        fund(payer.addr, 1000e6);
    }

    // --- Tokens that answer nothing, or no ---

    function test_ATokenThatAnswersNothingWorks() public {
        SilentToken silent = new SilentToken();
        token = IDevToken(address(silent));
        silent.mint(payer.addr, 1000e6);
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 30e6);
        closeAs(payee.addr, id, 50e6);
        assertEq(silent.balanceOf(payee.addr), 50e6);
        assertEq(silent.balanceOf(payer.addr), 950e6);
    }

    function test_RevertWhen_TheTokenAnswersFalse() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.deposit(address(token), 10e6);
        fickle.setRefuses(true);

        bytes memory signature = signVoucher(payer, id, 1);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.settle(id, 1, signature);

        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.deposit(address(token), 1);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.open(payee.addr, address(token), 1, bytes32(0), address(0));
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.topUp(id, 1);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.withdrawBalance(address(token), 1, payer.addr);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 10e6);
    }

    // --- Fees ---

    function test_RevertWhen_TheTokenTakesAFee() public {
        bytes32 id = openChannel();
        fickle.setFee(1e6);
        bytes memory short = abi.encodeWithSelector(IChannelEscrow.UnexpectedDepositAmount.selector, 10e6, 9e6);
        vm.startPrank(payer.addr);
        vm.expectRevert(short);
        escrow.deposit(address(token), 10e6);
        vm.expectRevert(short);
        escrow.open(payee.addr, address(token), 10e6, bytes32(0), address(0));
        vm.expectRevert(short);
        escrow.topUp(id, 10e6);
    }

    /// @dev The fee is more than the deposit: holdings fall, and nothing underflows.
    function test_RevertWhen_TheFeeExceedsTheDeposit() public {
        openChannel();
        fickle.setFee(20e6);
        vm.prank(payer.addr);
        vm.expectRevert(abi.encodeWithSelector(IChannelEscrow.UnexpectedDepositAmount.selector, 10e6, 0));
        escrow.deposit(address(token), 10e6);
    }

    // --- Blocked receivers ---

    function test_ABlockedPayeesClaimIsCredited() public {
        bytes32 id = openChannel();
        fickle.setBlocked(payee.addr);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.PayoutCredited(payee.addr, address(token), 40e6);
        assertEq(escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(40e6))), 40e6);

        assertEq(settledOf(id), 40e6);
        assertEq(escrow.balanceOf(payee.addr, address(token)), 40e6);
        vm.prank(payee.addr);
        escrow.withdrawBalance(address(token), 40e6, stranger);
        assertEq(token.balanceOf(stranger), 40e6);
    }

    function test_ABlockedPayeesReceiptsAreCredited() public {
        openChannel();
        fickle.setBlocked(payee.addr);
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rowsOf(receiptRow(40e6)));
        assertEq(escrow.balanceOf(payee.addr, address(token)), 40e6);
    }

    function test_RevertWhen_ABlockedPayeeSettlesDirectly() public {
        bytes32 id = openChannel();
        fickle.setBlocked(payee.addr);
        bytes memory signature = signVoucher(payer, id, 40e6);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.settle(id, 40e6, signature);
    }

    function test_ABlockedPayerJamsNoClose() public {
        bytes32 id = openChannel();
        fickle.setBlocked(payer.addr);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.PayoutCredited(payer.addr, address(token), 60e6);
        closeAs(payee.addr, id, 40e6);
        assertEq(token.balanceOf(payee.addr), 40e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 60e6);
    }

    function test_ABlockedPayeeJamsNoClose() public {
        bytes32 id = openChannel();
        fickle.setBlocked(payee.addr);
        closeAs(payee.addr, id, 40e6);
        assertEq(escrow.balanceOf(payee.addr, address(token)), 40e6);
        assertEq(token.balanceOf(payer.addr), 960e6);
    }

    function test_ABlockedPayersWithdrawalIsCredited() public {
        bytes32 id = openChannel();
        fickle.setBlocked(payer.addr);
        vm.startPrank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
        escrow.withdraw(id);
        assertEq(escrow.balanceOf(payer.addr, address(token)), DEPOSIT);
        escrow.withdrawBalance(address(token), DEPOSIT, stranger);
        assertEq(token.balanceOf(stranger), DEPOSIT);
    }

    /// @dev A caller can't turn a payout into a credit by sending little gas: either the transfer has enough, or the
    /// whole call fails.
    function testFuzz_StarvingATransferCreditsNobody(uint256 gasLimit) public {
        openChannel();
        gasLimit = bound(gasLimit, 30_000, 140_000);
        IChannelEscrow.VoucherRow[] memory rows = rowsOf(voucherRow(40e6));
        (bool success,) = address(escrow).call{gas: gasLimit}(
            abi.encodeCall(IChannelEscrow.claimVouchers, (payee.addr, address(token), rows))
        );
        assertEq(escrow.balanceOf(payee.addr, address(token)), 0);
        assertEq(token.balanceOf(payee.addr), success ? 40e6 : 0);
    }

    // --- Reentrancy ---

    function accompliceDoes(address target, bytes memory call) private {
        fickle.setHook(address(accomplice), abi.encodeCall(Accomplice.insist, (target, call)));
    }

    function test_NoPullStartsInsideAPull() public {
        fund(address(accomplice), 50e6);
        bytes[3] memory pulls = [
            abi.encodeCall(IChannelEscrow.deposit, (address(token), 10e6)),
            abi.encodeCall(IChannelEscrow.depositFor, (payer.addr, address(token), 10e6)),
            abi.encodeCall(IChannelEscrow.open, (payee.addr, address(token), 10e6, SALT, address(0)))
        ];
        for (uint256 i = 0; i < pulls.length; ++i) {
            accompliceDoes(address(escrow), pulls[i]);
            vm.prank(payer.addr);
            escrow.deposit(address(token), 10e6);
            assertFalse(fickle.hookSucceeded());
        }
        assertEq(escrow.balanceOf(payer.addr, address(token)), 30e6);
        assertEq(token.balanceOf(address(escrow)), 30e6);
    }

    /// @dev A fee that a nested deposit makes up for would be credited twice: the guard is what forbids it.
    function test_RevertWhen_ANestedDepositHidesAFee() public {
        fund(address(accomplice), 50e6);
        fickle.setFee(1e6);
        fickle.setExempt(address(accomplice));
        accompliceDoes(address(escrow), abi.encodeCall(IChannelEscrow.deposit, (address(token), 1e6)));
        vm.prank(payer.addr);
        vm.expectRevert(abi.encodeWithSelector(IChannelEscrow.UnexpectedDepositAmount.selector, 10e6, 9e6));
        escrow.deposit(address(token), 10e6);
    }

    /// @dev What is credited but not yet paid in can't be taken out in between.
    function test_RevertWhen_ADepositIsWithdrawnBeforeItArrives() public {
        openChannel(); // others' money
        fund(address(accomplice), 50e6);
        accompliceDoes(
            address(escrow), abi.encodeCall(IChannelEscrow.withdrawBalance, (address(token), 10e6, address(accomplice)))
        );
        vm.expectRevert("refused");
        accomplice.insist(address(escrow), abi.encodeCall(IChannelEscrow.deposit, (address(token), 10e6)));
        assertEq(token.balanceOf(address(escrow)), DEPOSIT);
        assertEq(escrow.balanceOf(address(accomplice), address(token)), 0);
    }

    /// @dev Inside a payout the money is already gone from the books: claiming again finds nothing.
    function test_APayoutCantBeClaimedTwice() public {
        bytes32 id = openChannel();
        IChannelEscrow.VoucherRow[] memory rows = rowsOf(voucherRow(40e6));
        accompliceDoes(
            address(escrow), abi.encodeCall(IChannelEscrow.claimVouchers, (payee.addr, address(token), rows))
        );
        escrow.claimVouchers(payee.addr, address(token), rows);
        assertTrue(fickle.hookSucceeded(), "it ran, and skipped its row");
        assertEq(token.balanceOf(payee.addr), 40e6);
        assertEq(settledOf(id), 40e6);
    }

    function test_ABalanceCantBeWithdrawnTwice() public {
        openChannel(); // others' money
        fund(address(accomplice), 10e6);
        accomplice.insist(address(escrow), abi.encodeCall(IChannelEscrow.deposit, (address(token), 10e6)));
        bytes memory withdrawal =
            abi.encodeCall(IChannelEscrow.withdrawBalance, (address(token), 10e6, address(accomplice)));
        accompliceDoes(address(escrow), withdrawal);
        accomplice.insist(address(escrow), withdrawal);
        assertFalse(fickle.hookSucceeded());
        assertEq(token.balanceOf(address(accomplice)), 10e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT);
    }
}
