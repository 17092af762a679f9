// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

contract CloseWithAuthorizationTest is RelayedFixture {
    function call(bytes32 id, uint128 amount, uint256 nonce, uint256 deadline, bytes memory voucher)
        private
        view
        returns (bytes memory)
    {
        return abi.encodeCall(
            IRelayedChannels.closeWithAuthorization,
            (id, amount, nonce, deadline, sign(payee, escrowDomain(), closeHash(id, amount, nonce, deadline)), voucher)
        );
    }

    function call(bytes32 id, uint128 amount, uint256 nonce) private view returns (bytes memory) {
        return call(id, amount, nonce, block.timestamp, signVoucher(payer, id, amount));
    }

    function test_PaysBothSidesAndFinalizesWhoeverSubmits() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 20e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelClosed(id, 70e6, 30e6);
        assertTaken(call(id, 70e6, 5));
        assertEq(token.balanceOf(payee.addr), 70e6);
        assertEq(token.balanceOf(payer.addr), 930e6);
        assertEq(token.balanceOf(stranger), 0);
        assertTrue(escrow.getChannel(id).finalized);
        assertTrue(escrow.isNonceUsed(payee.addr, id, 5));
    }

    function testFuzz_SplitsTheDepositExactly(uint128 settled, uint128 amount) public {
        bytes32 id = openChannel();
        settled = uint128(bound(settled, 1, DEPOSIT));
        amount = uint128(bound(amount, 0, DEPOSIT));
        settleAs(payee.addr, id, settled);
        assertTaken(call(id, amount, 0));
        uint128 final_ = amount > settled ? amount : settled;
        assertEq(token.balanceOf(payee.addr), final_);
        assertEq(token.balanceOf(payer.addr), 1000e6 - final_);
    }

    function test_RefundsABalanceChannelToTheBalance() public {
        bytes32 id = openChannelFromBalance();
        assertTaken(call(id, 40e6, 0));
        assertEq(escrow.balanceOf(payer.addr, address(token)), 60e6);
        assertEq(token.balanceOf(payer.addr), 900e6);
    }

    /// @dev Draft, "close": the forfeit path, at the last amount that is one and the first that is none.
    function test_ForfeitsWithoutAVoucher() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 20e6);
        assertRefused(call(id, 20e6 + 1, 0, block.timestamp, ""), IChannelEscrow.InvalidSignature.selector);
        assertTaken(call(id, 20e6, 0, block.timestamp, ""));
        assertEq(token.balanceOf(payee.addr), 20e6);
        assertEq(token.balanceOf(payer.addr), 980e6);
    }

    /// @dev Warned of in the manual: a claim in between turns the close into a forfeit, and takes nothing from anybody.
    function test_ForfeitsWhatWasClaimedInBetween() public {
        bytes32 id = openChannel();
        bytes memory close = call(id, 30e6, 0);
        settleAs(payee.addr, id, 40e6);
        assertTaken(close);
        assertEq(token.balanceOf(payee.addr), 40e6);
        assertEq(token.balanceOf(payer.addr), 960e6);
    }

    /// @dev Nothing takes an authorization back before its deadline, so whoever holds one chooses the moment: better vouchers
    /// that came after it are forfeited. Hence the draft's advice to sign short deadlines.
    function test_AnAuthorizationThatIsStillOutForfeitsBetterVouchers() public {
        bytes32 id = openChannel();
        bytes memory close = call(id, 30e6, 0, block.timestamp + 1 hours, signVoucher(payer, id, 30e6));
        skip(1 hours);
        vm.prank(payer.addr); // to whom it is worth most
        (bool success,) = address(escrow).call(close);
        assertTrue(success);
        assertEq(escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(90e6))), 0);
        assertEq(token.balanceOf(payee.addr), 30e6);
    }

    /// @dev The payee's signature is needed to forfeit, too.
    function test_RevertWhen_ThePayeeDidNotSign() public {
        bytes32 id = openChannel();
        bytes memory payers = sign(payer, escrowDomain(), closeHash(id, 0, 0, block.timestamp));
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.closeWithAuthorization(id, 0, 0, block.timestamp, payers, "");
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.closeWithAuthorization(id, 0, 0, block.timestamp, "", "");
    }

    function test_ClosesWhileACloseIsPending() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(2 hours);
        assertTaken(call(id, DEPOSIT, 0));
        assertEq(token.balanceOf(payee.addr), DEPOSIT);
    }

    /// @dev Draft, "Payee-initiated functions", 3: one used-set for both kinds.
    function test_RevertWhen_TheNonceIsUsedToSettle() public {
        bytes32 id = openChannel();
        bytes memory settle = sign(payee, escrowDomain(), settleHash(id, 10e6, 5, block.timestamp));
        escrow.settleWithAuthorization(id, 10e6, 5, block.timestamp, settle, signVoucher(payer, id, 10e6));
        assertRefused(call(id, 20e6, 5), IRelayedChannels.NonceAlreadyUsed.selector);
        assertTaken(call(id, 20e6, 6));
    }

    function test_TheDeadlineIsTheLastSecond() public {
        bytes memory late = call(openChannel(), 10e6, 5);
        skip(1);
        assertRefused(late, IRelayedChannels.AuthorizationExpired.selector);
        rewind(1);
        assertTaken(late);
    }

    function test_RevertGiven_NoSuchChannel() public {
        assertRefused(call(keccak256("none"), 0, 0), IChannelEscrow.ChannelNotFound.selector);
    }

    function test_RevertWhen_SubmittedTwice() public {
        bytes memory close = call(openChannel(), 10e6, 0);
        assertTaken(close);
        assertRefused(close, IChannelEscrow.ChannelFinalized.selector);
    }

    function test_RevertWhen_AmountExceedsDeposit() public {
        bytes32 id = openChannel();
        assertRefused(call(id, DEPOSIT + 1, 0), IChannelEscrow.AmountExceedsDeposit.selector);
        assertRefused(call(id, type(uint128).max, 0), IChannelEscrow.AmountExceedsDeposit.selector);
        assertTaken(call(id, DEPOSIT, 0));
    }

    function test_RevertWhen_AnyArgumentIsChanged() public {
        bytes32 id = openChannel();
        bytes memory good = call(id, 10e6, 5, block.timestamp + 1, signVoucher(payer, id, 10e6));
        assertRefused(tampered(good, 0), IChannelEscrow.ChannelNotFound.selector);
        for (uint256 i = 1; i < 4; ++i) {
            assertRefused(tampered(good, i), IChannelEscrow.InvalidSignature.selector);
        }
        assertTaken(good);
    }
}
