// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice A claim and a close of the same channel in one block, in both orders.
contract RaceTest is RelayedFixture {
    bytes32 private id;

    function setUp() public override {
        super.setUp();
        id = openChannel();
    }

    function claim(uint128 amount) private returns (uint256) {
        vm.prank(stranger);
        return escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(amount)));
    }

    function requestCloseAndWait() private {
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
    }

    function assertSplit(uint128 paid) private view {
        assertEq(token.balanceOf(payee.addr), paid);
        assertEq(token.balanceOf(payer.addr), 1000e6 - paid);
        assertEq(token.balanceOf(address(escrow)), 0);
        assertTrue(escrow.getChannel(id).finalized);
    }

    function test_AClaimThenTheWithdrawal() public {
        requestCloseAndWait();
        assertEq(claim(60e6), 60e6);
        vm.prank(payer.addr);
        escrow.withdraw(id);
        assertSplit(60e6);
    }

    /// @dev Warned of in the manual: what is not claimed by then is lost.
    function test_TheWithdrawalThenAClaim() public {
        requestCloseAndWait();
        vm.prank(payer.addr);
        escrow.withdraw(id);
        assertEq(claim(60e6), 0);
        assertSplit(0);
    }

    function test_AClaimThenThePayeesClose() public {
        assertEq(claim(60e6), 60e6);
        closeAs(payee.addr, id, 40e6); // an older voucher: nothing is taken back
        assertSplit(60e6);
    }

    function test_ThePayeesCloseThenAClaim() public {
        closeAs(payee.addr, id, 40e6);
        assertEq(claim(60e6), 0);
        assertSplit(40e6);
    }

    function test_AClaimThenAReceiptsClose() public {
        assertEq(claim(60e6), 60e6);
        vm.prank(operator.addr);
        settlement.closeWithReceipt(payee.addr, address(token), receiptRow(40e6));
        assertSplit(60e6);
    }

    function test_AReceiptsCloseThenAClaim() public {
        vm.prank(operator.addr);
        settlement.closeWithReceipt(payee.addr, address(token), receiptRow(40e6));
        assertEq(claim(60e6), 0);
        assertSplit(40e6);
    }

    /// @dev Anyone who has a voucher may claim it before the receipts come: the money is the same, and the usage is published
    /// when the channel is closed by a receipt, not by the claim, which finds nothing new.
    function test_AVoucherThenItsReceiptPublishesUsageAtTheClose() public {
        assertEq(claim(60e6), 60e6);
        IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](1);
        rows[0] = receiptRow(60e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.RowSkipped(id, 0, IChannelEscrow.SkipReason.AmountNotIncreasing);
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rows);

        vm.expectEmit(address(settlement));
        emit IUsageSettlement.UsageSettled(id, payer.addr, payee.addr, 3, 4096, 1024, 60e6);
        vm.prank(operator.addr);
        settlement.closeWithReceipt(payee.addr, address(token), rows[0]);
        assertSplit(60e6);
    }

    function test_TheCloseOfOneSideThenOfTheOther() public {
        requestCloseAndWait();
        closeAs(payee.addr, id, 60e6);
        vm.prank(payer.addr);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.withdraw(id);
        assertSplit(60e6);
    }

    /// @dev Invariant 5, at every second of grace, the first and the last included.
    function testFuzz_AVoucherIsGoodAllThroughGrace(uint256 elapsed, uint128 amount) public {
        amount = uint128(bound(amount, 1, DEPOSIT));
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(bound(elapsed, 0, 1 hours - 1));
        assertEq(claim(amount), amount);
        assertEq(token.balanceOf(payee.addr), amount);
    }

    /// @dev Receipts and vouchers, each by whoever may bring it, in any order and with any gaps: nothing is paid twice, and
    /// the sum is the highest that was good.
    function testFuzz_ReceiptsAndVouchersPayTheHighestOnce(uint128[8] memory amounts, uint8 kinds, uint8 batch) public {
        uint128 highest;
        for (uint256 i = 0; i < 8; ++i) {
            uint128 amount = uint128(bound(amounts[i], 0, DEPOSIT + 20));
            if (kinds & (1 << i) != 0) {
                uint256 count = batch & (1 << i) != 0 ? 2 : 1; // now and then the same row twice
                IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](count);
                rows[0] = receiptRow(amount);
                if (count == 2) rows[1] = rows[0];
                vm.prank(operator.addr);
                settlement.claimReceipts(payee.addr, address(token), rows);
            } else if (batch & (1 << i) != 0) {
                IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](1);
                rows[0] = IChannelEscrow.ContractVoucherRow(
                    payer.addr, SALT, address(0), signVoucher(payer, id, amount), toVoucherAmounts(amount, amount)
                );
                escrow.claimContractVouchers(payee.addr, address(token), rows);
            } else {
                claim(amount);
            }
            if (amount <= DEPOSIT && amount > highest) highest = amount;
            assertEq(settledOf(id), highest);
            assertEq(token.balanceOf(payee.addr), highest);
        }
        closeAs(payee.addr, id, 0);
        assertSplit(highest);
    }
}
