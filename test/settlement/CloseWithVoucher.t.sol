// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

contract CloseWithVoucherTest is Fixture {
    function test_SettlesUpToTheCeilingAndCloses() public {
        bytes32 id = openChannel();
        IChannelEscrow.VoucherRow memory row = voucherRow(payer, address(0), SALT, 50e6, 40e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(id, 40e6, 60e6);
        vm.prank(operator.addr);
        settlement.closeWithVoucher(payee.addr, address(token), row);

        assertEq(token.balanceOf(payee.addr), 40e6);
        assertEq(token.balanceOf(payer.addr), 960e6);
        assertTrue(escrow.getChannel(id).finalized);
    }

    function test_TheAuthorizedSignerSignsForThePayer() public {
        bytes32 id = openChannelWithSigner(signer.addr);
        IChannelEscrow.VoucherRow memory row = voucherRow(payer, signer.addr, SALT, 50e6, 40e6);
        vm.startPrank(operator.addr);
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);

        (row.r, row.vs) = vm.signCompact(signer.key, voucherDigest(id, 50e6));
        settlement.closeWithVoucher(payee.addr, address(token), row);
        assertEq(token.balanceOf(payee.addr), 40e6);
    }

    /// @dev The draft's forfeit path: nothing new is taken, so nothing need be signed, and the ceiling is not looked at.
    function testFuzz_ForfeitsWithoutASignature(uint128 settled, uint128 amount) public {
        bytes32 id = openChannel();
        settled = uint128(bound(settled, 1, DEPOSIT));
        settleAs(payee.addr, id, settled);
        IChannelEscrow.VoucherRow memory row;
        (row.payer, row.salt) = (payer.addr, SALT);
        row.amounts = toVoucherAmounts(0, uint128(bound(amount, 0, settled)));
        vm.prank(operator.addr);
        settlement.closeWithVoucher(payee.addr, address(token), row);
        assertEq(token.balanceOf(payee.addr), settled);
        assertEq(settledOf(id), settled);
    }

    function test_RevertWhen_AmountExceedsTheVoucher() public {
        openChannel();
        IChannelEscrow.VoucherRow memory row = voucherRow(payer, address(0), SALT, 50e6, 50e6 + 1);
        vm.prank(operator.addr);
        vm.expectRevert(IUsageSettlement.AmountExceedsVoucher.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);
    }

    function test_RevertWhen_SignatureIsBad() public {
        bytes32 id = openChannel();
        IChannelEscrow.VoucherRow memory row = voucherRow(50e6);
        (row.r, row.vs) = vm.signCompact(operator.key, voucherDigest(id, 50e6));
        vm.startPrank(operator.addr);
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);
        row.r = 0;
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);
    }

    function test_RevertWhen_TheEscrowRefuses() public {
        IChannelEscrow.VoucherRow memory row = voucherRow(DEPOSIT + 1);
        vm.prank(operator.addr);
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);

        openChannel();
        vm.startPrank(operator.addr);
        vm.expectRevert(IChannelEscrow.AmountExceedsDeposit.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);
        row = voucherRow(40e6);
        settlement.closeWithVoucher(payee.addr, address(token), row);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);
    }

    function test_RevertWhen_CallerIsNeitherPayeeNorActiveOperator() public {
        openChannel();
        IChannelEscrow.VoucherRow memory row = voucherRow(40e6);
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        address[3] memory others = [stranger, payer.addr, operator.addr];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IUsageSettlement.NotOperator.selector);
            settlement.closeWithVoucher(payee.addr, address(token), row);
        }
        vm.prank(payee.addr);
        settlement.closeWithVoucher(payee.addr, address(token), row);
    }

    /// @dev An operator speaks for its payee alone: the id it can name commits to that payee.
    function test_RevertWhen_ChannelIsAnotherPayees() public {
        openChannel();
        IChannelEscrow.VoucherRow memory row = voucherRow(40e6);
        vm.prank(stranger);
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithVoucher(stranger, address(token), row);
        row.amounts = toVoucherAmounts(50e6, 0);
        vm.prank(stranger);
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        settlement.closeWithVoucher(stranger, address(token), row);
    }
}
