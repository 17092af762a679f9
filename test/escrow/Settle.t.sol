// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

contract SettleTest is Fixture {
    function test_PaysWhatTheVoucherAdds() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 30e6);

        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelSettled(id, 70e6);
        settleAs(payee.addr, id, 70e6);

        assertEq(token.balanceOf(payee.addr), 70e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT - 70e6);
        assertEq(settledOf(id), 70e6);
        assertEq(escrow.getChannel(id).deposit, DEPOSIT);
    }

    function test_TakesTheAuthorizedSignersVoucherAlone() public {
        bytes32 id = openChannelWithSigner(signer.addr);

        bytes memory payers = signVoucher(payer, id, 10e6);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle(id, 10e6, payers);

        bytes memory signers = signVoucher(signer, id, 10e6);
        vm.prank(payee.addr);
        escrow.settle(id, 10e6, signers);
        assertEq(settledOf(id), 10e6);
    }

    function testFuzz_SettlesExactlyWithinTheDeposit(uint128 first, uint128 second) public {
        bytes32 id = openChannel();
        first = uint128(bound(first, 1, DEPOSIT - 1));
        second = uint128(bound(second, first + 1, DEPOSIT));
        settleAs(payee.addr, id, first);
        assertEq(token.balanceOf(payee.addr), first);
        settleAs(payee.addr, id, second);
        assertEq(token.balanceOf(payee.addr), second);
        assertEq(settledOf(id), second);
    }

    /// @dev Invariant 5: the payer's request does not make a voucher worthless before the payer withdraws.
    function test_StillPaysWhileACloseIsPending() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
        settleAs(payee.addr, id, DEPOSIT);
        assertEq(token.balanceOf(payee.addr), DEPOSIT);
    }

    function test_RevertGiven_NoSuchChannel() public {
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        settleAs(payee.addr, keccak256("none"), 1);
    }

    function test_RevertGiven_ChannelFinalized() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 10e6);
        bytes memory signature = signVoucher(payer, id, 20e6);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.settle(id, 20e6, signature);
    }

    function test_RevertWhen_CallerIsNotPayee() public {
        bytes32 id = openChannel();
        bytes memory signature = signVoucher(payer, id, 1);
        address[3] memory others = [payer.addr, operator.addr, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IChannelEscrow.NotPayee.selector);
            escrow.settle(id, 1, signature);
        }
    }

    function test_RevertWhen_AmountIsNotIncreasing() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 10e6);
        uint128[3] memory amounts = [uint128(0), 10e6 - 1, 10e6];
        for (uint256 i = 0; i < amounts.length; ++i) {
            bytes memory signature = signVoucher(payer, id, amounts[i]);
            vm.prank(payee.addr);
            vm.expectRevert(IChannelEscrow.AmountNotIncreasing.selector);
            escrow.settle(id, amounts[i], signature);
        }
    }

    function test_RevertWhen_AmountExceedsDeposit() public {
        bytes32 id = openChannel();
        uint128[2] memory amounts = [DEPOSIT + 1, type(uint128).max];
        for (uint256 i = 0; i < amounts.length; ++i) {
            bytes memory signature = signVoucher(payer, id, amounts[i]);
            vm.prank(payee.addr);
            vm.expectRevert(IChannelEscrow.AmountExceedsDeposit.selector);
            escrow.settle(id, amounts[i], signature);
        }
    }

    function test_RevertWhen_VoucherIsForAnotherAmountOrChannel() public {
        bytes32 id = openChannel();
        bytes memory other = signVoucher(payer, id, 20e6);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle(id, 10e6, other);

        other = signVoucher(payer, keccak256("another channel"), 10e6);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle(id, 10e6, other);
    }

    function test_RevertWhen_VoucherIsOfAnotherChain() public {
        bytes32 id = openChannel();
        bytes memory signature = signVoucher(payer, id, 10e6);
        vm.chainId(8453);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle(id, 10e6, signature);
    }
}
