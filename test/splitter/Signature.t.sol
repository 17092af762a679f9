// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SplitterFixture} from "./SplitterFixture.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

/// @notice Nobody signs for a splitter, its host least of all: with ERC-1271 a stolen key could sign away what has not
/// been shared out.
contract SignatureTest is SplitterFixture {
    function test_AnswersNoQuestionsAboutSignatures() public {
        (bool success,) =
            address(splitter).staticcall(abi.encodeCall(IERC1271.isValidSignature, (keccak256("digest"), "")));
        assertFalse(success);
    }

    /// @dev As the authorized signer of a payer's channel.
    function test_RevertWhen_TheHostSignsAVoucherForIt() public {
        bytes32 id = openChannelWithSigner(address(splitter));
        expectVoucherRefused(id);
        IChannelEscrow.VoucherRow memory row = voucherRow(payer, address(splitter), SALT, 40e6, 40e6);
        (row.r, row.vs) = vm.signCompact(host.key, voucherDigest(id, 40e6));
        assertEq(escrow.claimVouchers(payee.addr, address(token), rowsOf(row)), 0);
        vm.prank(operator.addr);
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithVoucher(payee.addr, address(token), row);
    }

    /// @dev It opens no channels. Had it one all the same, the host could not spend it.
    function test_RevertWhen_TheHostSignsForItAsThePayer() public {
        fund(address(splitter), DEPOSIT);
        vm.prank(address(splitter));
        bytes32 id = escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
        expectVoucherRefused(id);
        IChannelEscrow.VoucherRow memory row =
            voucherRow(Account(address(splitter), host.key), address(0), SALT, 40e6, 40e6);
        assertEq(escrow.claimVouchers(payee.addr, address(token), rowsOf(row)), 0);
        assertEq(settledOf(id), 0);
    }

    function expectVoucherRefused(bytes32 id) private {
        bytes memory signature = signVoucher(host, id, 40e6);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle(id, 40e6, signature);
    }

    /// @dev A bill is signed by the operators that the host named, not by the host.
    function test_TheHostsBillsAreNotTheSplitters() public {
        bytes32 id = openChannel();
        IUsageSettlement.ReceiptRow memory row = receiptRow(payer, payer, host, address(0), SALT, 40e6);
        vm.startPrank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rowsOf(row));
        assertEq(settledOf(id), 0);
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);
    }

    function test_RevertWhen_TheHostClaimsOrClosesForIt() public {
        bytes32 id = openChannel();
        IUsageSettlement.ReceiptRow memory row = receiptRow(40e6);
        vm.startPrank(host.addr);
        vm.expectRevert(IUsageSettlement.NotOperator.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);
        vm.expectRevert(IChannelEscrow.NotPayee.selector);
        escrow.close(id, 0, "");
    }
}
