// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

contract CloseTest is Fixture {
    function test_PaysBothSidesAndFinalizes() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 20e6);

        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(id, 70e6, 30e6);
        closeAs(payee.addr, id, 70e6);

        assertEq(token.balanceOf(payee.addr), 70e6);
        assertEq(token.balanceOf(payer.addr), 930e6);
        assertEq(token.balanceOf(address(escrow)), 0);
        IChannelEscrow.Channel memory channel = escrow.getChannel(id);
        assertTrue(channel.finalized);
        assertEq(channel.settled, 70e6, "read as before the halves were swapped");
        assertEq(channel.deposit, DEPOSIT);
    }

    function testFuzz_SplitsTheDepositExactly(uint128 settled, uint128 amount) public {
        bytes32 id = openChannel();
        settled = uint128(bound(settled, 1, DEPOSIT));
        amount = uint128(bound(amount, 0, DEPOSIT));
        settleAs(payee.addr, id, settled);
        closeAs(payee.addr, id, amount);

        uint128 final_ = amount > settled ? amount : settled;
        assertEq(token.balanceOf(payee.addr), final_);
        assertEq(token.balanceOf(payer.addr), 1000e6 - final_);
        assertEq(settledOf(id), final_);
    }

    function test_ForfeitsWithoutASignature() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 20e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(id, 20e6, 80e6);
        vm.prank(payee.addr);
        escrow.close(id, 20e6, "");

        assertEq(token.balanceOf(payee.addr), 20e6);
        assertEq(token.balanceOf(payer.addr), 980e6);
    }

    function test_RefundsABalanceChannelToTheBalance() public {
        bytes32 id = openChannelFromBalance();
        closeAs(payee.addr, id, 40e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 60e6);
        assertEq(token.balanceOf(payer.addr), 900e6);
        assertEq(token.balanceOf(payee.addr), 40e6);
    }

    function test_ClosesWhileACloseIsPending() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(2 hours);
        closeAs(payee.addr, id, DEPOSIT);
        assertEq(token.balanceOf(payee.addr), DEPOSIT);
    }

    function test_NothingMovesAFinalizedChannel() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 70e6);
        bytes memory signature = signVoucher(payer, id, 80e6);

        vm.startPrank(payee.addr);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.close(id, 80e6, signature);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.close(id, 0, "");
        vm.stopPrank();

        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.requestClose(id);
        vm.expectRevert(IChannelEscrow.ChannelFinalized.selector);
        escrow.withdraw(id);
    }

    function test_RevertGiven_NoSuchChannel() public {
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.ChannelNotFound.selector);
        escrow.close(keccak256("none"), 0, "");
    }

    function test_RevertWhen_CallerIsNotPayee() public {
        bytes32 id = openChannel();
        bytes memory signature = signVoucher(payer, id, 1);
        address[3] memory others = [payer.addr, operator.addr, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IChannelEscrow.NotPayee.selector);
            escrow.close(id, 1, signature);
        }
    }

    function test_RevertWhen_AmountExceedsDeposit() public {
        bytes32 id = openChannel();
        bytes memory signature = signVoucher(payer, id, DEPOSIT + 1);
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.AmountExceedsDeposit.selector);
        escrow.close(id, DEPOSIT + 1, signature);
    }

    function test_RevertWhen_SignatureIsBad() public {
        bytes32 id = openChannel();
        bytes memory signature = signVoucher(signer, id, 1);
        vm.startPrank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.close(id, 1, signature);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.close(id, 1, "");
    }
}
