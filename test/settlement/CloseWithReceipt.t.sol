// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

contract CloseWithReceiptTest is Fixture {
    function close(IUsageSettlement.ReceiptRow memory row) private {
        vm.prank(operator.addr);
        settlement.closeWithReceipt(payee.addr, address(token), row);
    }

    function test_SettlesPublishesAndCloses() public {
        bytes32 id = openChannel();
        vm.expectEmit(address(settlement));
        emit IUsageSettlement.UsageSettled(id, payer.addr, payee.addr, 3, 4096, 1024, 40e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(id, 40e6, 60e6);
        close(receiptRow(40e6));

        assertEq(token.balanceOf(payee.addr), 40e6);
        assertEq(token.balanceOf(payer.addr), 960e6);
        assertTrue(escrow.getChannel(id).finalized);
    }

    /// @dev A voucher has paid this already, or more: the usage is published all the same.
    function testFuzz_PublishesWhatIsSettledAlready(uint128 settled, uint128 amount) public {
        bytes32 id = openChannel();
        settled = uint128(bound(settled, 1, DEPOSIT));
        amount = uint128(bound(amount, 0, settled));
        settleAs(payee.addr, id, settled);

        vm.expectEmit(address(settlement));
        emit IUsageSettlement.UsageSettled(id, payer.addr, payee.addr, 3, 4096, 1024, amount);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(id, settled, DEPOSIT - settled);
        close(receiptRow(amount));
        assertEq(token.balanceOf(payee.addr), settled);
    }

    function test_RevertWhen_ASideHasNotSigned() public {
        openChannel();
        vm.startPrank(operator.addr);
        IUsageSettlement.ReceiptRow memory row = receiptRow(payer, signer, operator, address(0), SALT, 40e6);
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);
        row = receiptRow(payer, payer, signer, address(0), SALT, 40e6);
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);
        row = receiptRow(payer, signer, operator, address(0), SALT, 0); // forfeits, and would publish a lie
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);
    }

    function test_RevertWhen_TheEscrowRefuses() public {
        IUsageSettlement.ReceiptRow memory row = receiptRow(DEPOSIT + 1);
        vm.startPrank(operator.addr);
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);
        vm.stopPrank();

        openChannel();
        vm.startPrank(operator.addr);
        vm.expectRevert(IChannelEscrow.AmountExceedsDeposit.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);

        row = receiptRow(40e6);
        settlement.closeWithReceipt(payee.addr, address(token), row);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);
    }

    function test_RevertWhen_CallerIsNeitherPayeeNorActiveOperator() public {
        openChannel();
        IUsageSettlement.ReceiptRow memory row = receiptRow(40e6);
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        address[3] memory others = [stranger, payer.addr, operator.addr];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IUsageSettlement.NotOperator.selector);
            settlement.closeWithReceipt(payee.addr, address(token), row);
        }
        vm.prank(payee.addr);
        settlement.closeWithReceipt(payee.addr, address(token), row);
    }
}
