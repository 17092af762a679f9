// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SplitterFixture} from "./SplitterFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

contract OperatorsTest is SplitterFixture {
    function test_TheHostNamesAndRetires() public {
        vm.startPrank(host.addr);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.OperatorAdded(address(splitter), signer.addr);
        splitter.addOperator(signer.addr);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.OperatorRetired(address(splitter), signer.addr);
        splitter.removeOperator(signer.addr);
    }

    function testFuzz_RevertWhen_CallerIsNotTheHost(address caller) public {
        vm.assume(caller != host.addr);
        vm.startPrank(caller);
        vm.expectRevert(IRevenueSplitter.NotHost.selector);
        splitter.addOperator(signer.addr);
        vm.expectRevert(IRevenueSplitter.NotHost.selector);
        splitter.removeOperator(operator.addr);
    }

    function test_RevertWhen_TheRegistryRefuses() public {
        vm.startPrank(host.addr);
        vm.expectRevert(IExecutorRegistry.InvalidOperator.selector);
        splitter.addOperator(address(0));
        vm.expectRevert(IExecutorRegistry.OperatorAlreadyActive.selector);
        splitter.addOperator(operator.addr);
        vm.expectRevert(IExecutorRegistry.OperatorNotActive.selector);
        splitter.removeOperator(signer.addr);
    }

    /// @dev The worst that a stolen operator key can do: end a channel with less than its vouchers would pay. What it
    /// forfeits returns to the payer; not a base unit can be redirected, and what was earned before is out of its reach.
    function test_AStolenOperatorKeyForfeitsAndRedirectsNothing() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        bytes32 another = escrow.open(payee.addr, address(token), DEPOSIT, bytes32(0), address(0));
        escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(30e6)));

        IChannelEscrow.VoucherRow memory row = voucherRow(90e6);
        row.amounts = toVoucherAmounts(50e6, 0);
        vm.startPrank(operator.addr);
        settlement.closeWithVoucher(payee.addr, address(token), row);
        vm.expectRevert(IChannelEscrow.NotPayee.selector);
        escrow.close(another, 0, "");
        vm.expectRevert(abi.encodeWithSelector(IChannelEscrow.InsufficientBalance.selector, 0, 1));
        escrow.withdrawBalance(address(token), 1, operator.addr);
        vm.expectRevert(IRevenueSplitter.NothingToRelease.selector);
        splitter.release(address(token), operator.addr);
        vm.expectRevert(IRevenueSplitter.NotHost.selector);
        splitter.addOperator(stranger);
        vm.stopPrank();

        assertTrue(escrow.getChannel(id).finalized);
        releaseAll();
        assertShared(21e6, 6e6, 3e6);
        assertEq(token.balanceOf(payer.addr), 870e6, "the rest of the first channel came back");
        assertEq(token.balanceOf(operator.addr), 0);
    }

    /// @dev The host ends it: once retired, the key closes nothing more, and what is left is earned in full.
    function test_TheHostRetiresAStolenKey() public {
        openChannel();
        vm.prank(host.addr);
        splitter.removeOperator(operator.addr);
        IChannelEscrow.VoucherRow memory row = voucherRow(90e6);
        row.amounts = toVoucherAmounts(50e6, 0);
        vm.prank(operator.addr);
        vm.expectRevert(IUsageSettlement.NotOperator.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);

        escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(90e6)));
        releaseAll();
        assertShared(63e6, 18e6, 9e6);
    }
}
