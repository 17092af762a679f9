// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

contract SettleWithAuthorizationTest is RelayedFixture {
    function call(bytes32 id, uint128 amount, uint256 nonce, uint256 deadline) private view returns (bytes memory) {
        return abi.encodeCall(
            IRelayedChannels.settleWithAuthorization,
            (
                id,
                amount,
                nonce,
                deadline,
                sign(payee, escrowDomain(), settleHash(id, amount, nonce, deadline)),
                signVoucher(payer, id, amount)
            )
        );
    }

    function call(bytes32 id, uint128 amount, uint256 nonce) private view returns (bytes memory) {
        return call(id, amount, nonce, block.timestamp);
    }

    function test_PaysThePayeeWhoeverSubmits() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 30e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelSettled(id, 70e6);
        assertTaken(call(id, 70e6, 5));
        assertEq(token.balanceOf(payee.addr), 70e6);
        assertEq(token.balanceOf(stranger), 0);
        assertEq(settledOf(id), 70e6);
        assertTrue(escrow.isNonceUsed(payee.addr, id, 5));
    }

    function test_ThePayeesOwnSubmissionIsNoDifferent() public {
        bytes32 id = openChannel();
        bytes memory mine = call(id, 1, 0);
        vm.prank(payee.addr);
        (bool success,) = address(escrow).call(mine);
        assertTrue(success);
        assertEq(token.balanceOf(payee.addr), 1);
    }

    function test_TakesTheAuthorizedSignersVoucherAlone() public {
        bytes32 id = openChannelWithSigner(signer.addr);
        bytes memory authorization = sign(payee, escrowDomain(), settleHash(id, 1, 0, block.timestamp));
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settleWithAuthorization(id, 1, 0, block.timestamp, authorization, signVoucher(payer, id, 1));
        escrow.settleWithAuthorization(id, 1, 0, block.timestamp, authorization, signVoucher(signer, id, 1));
        assertEq(settledOf(id), 1);
    }

    function test_PaysWhileACloseIsPending() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
        assertTaken(call(id, DEPOSIT, 0));
        assertEq(token.balanceOf(payee.addr), DEPOSIT);
    }

    function testFuzz_SettlesExactlyWithinTheDeposit(uint128 first, uint128 second, uint256 nonce) public {
        bytes32 id = openChannel();
        first = uint128(bound(first, 1, DEPOSIT - 1));
        second = uint128(bound(second, first + 1, DEPOSIT));
        assertTaken(call(id, first, nonce));
        unchecked {
            assertTaken(call(id, second, nonce + 1)); // any nonce, in any order
        }
        assertEq(token.balanceOf(payee.addr), second);
    }

    // --- Nonces and deadlines ---

    /// @dev Draft, "Payee-initiated functions", 3.
    function test_RevertWhen_TheNonceIsUsed() public {
        bytes32 id = openChannel();
        assertTaken(call(id, 10e6, 5));
        assertRefused(call(id, 20e6, 5), IRelayedChannels.NonceAlreadyUsed.selector);
        uint256[4] memory others = [uint256(4), 6, 5 + 256, type(uint256).max];
        for (uint256 i = 0; i < others.length; ++i) {
            assertFalse(escrow.isNonceUsed(payee.addr, id, others[i]));
            assertTaken(call(id, uint128(20e6 + i), others[i]));
            assertTrue(escrow.isNonceUsed(payee.addr, id, others[i]));
        }
    }

    /// @dev Draft, "Payee-initiated functions", 3: one used-set for both kinds.
    function test_RevertWhen_TheNonceIsUsedToClose() public {
        bytes32 id = openChannel();
        assertTaken(call(id, 10e6, 5));
        bytes memory close = sign(payee, escrowDomain(), closeHash(id, 0, 5, block.timestamp));
        vm.expectRevert(IRelayedChannels.NonceAlreadyUsed.selector);
        escrow.closeWithAuthorization(id, 0, 5, block.timestamp, close, "");
    }

    /// @dev The scope is the payee and the channel: elsewhere the same number is another nonce.
    function test_ANonceIsUsedInItsChannelAlone() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        bytes32 other = escrow.open(payee.addr, address(token), DEPOSIT, bytes32(0), address(0));
        assertTaken(call(id, 10e6, 5));
        assertFalse(escrow.isNonceUsed(payee.addr, other, 5));
        assertFalse(escrow.isNonceUsed(payer.addr, id, 5));
        assertTaken(call(other, 10e6, 5));
    }

    /// @dev Draft, "Payee-initiated functions", 4.
    function test_TheDeadlineIsTheLastSecond() public {
        bytes32 id = openChannel();
        bytes memory late = call(id, 10e6, 5, block.timestamp);
        skip(1);
        assertRefused(late, IRelayedChannels.AuthorizationExpired.selector);
        assertFalse(escrow.isNonceUsed(payee.addr, id, 5));
        rewind(1);
        assertTaken(late);
    }

    function test_ADeadlineMayBeNever() public {
        bytes32 id = openChannel();
        bytes memory anyTime = call(id, 10e6, 5, type(uint256).max);
        assertRefused(call(id, 10e6, 5, 0), IRelayedChannels.AuthorizationExpired.selector);
        skip(365 days);
        assertTaken(anyTime);
    }

    // --- Refusals ---

    function test_RevertGiven_NoSuchChannel() public {
        assertRefused(call(keccak256("none"), 1, 0), IChannelEscrow.ChannelNotFound.selector);
    }

    function test_RevertGiven_ChannelFinalized() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 10e6);
        assertRefused(call(id, 20e6, 0), IChannelEscrow.ChannelFinalized.selector);
    }

    /// @dev Draft, "Rollback Prevention".
    function test_RevertWhen_AmountIsNotIncreasing() public {
        bytes32 id = openChannel();
        assertRefused(call(id, 0, 0), IChannelEscrow.AmountNotIncreasing.selector);
        assertTaken(call(id, 10e6, 0));
        assertRefused(call(id, 10e6, 1), IChannelEscrow.AmountNotIncreasing.selector);
        assertRefused(call(id, 10e6 - 1, 1), IChannelEscrow.AmountNotIncreasing.selector);
        assertTaken(call(id, 10e6 + 1, 1));
    }

    function test_RevertWhen_AmountExceedsDeposit() public {
        bytes32 id = openChannel();
        assertRefused(call(id, DEPOSIT + 1, 0), IChannelEscrow.AmountExceedsDeposit.selector);
        assertRefused(call(id, type(uint128).max, 0), IChannelEscrow.AmountExceedsDeposit.selector);
        assertTaken(call(id, DEPOSIT, 0));
    }

    /// @dev Each word of the call but the signatures: changed, it was not signed.
    function test_RevertWhen_AnyArgumentIsChanged() public {
        bytes memory good = call(openChannel(), 10e6, 5, block.timestamp + 1);
        assertRefused(tampered(good, 0), IChannelEscrow.ChannelNotFound.selector);
        for (uint256 i = 1; i < 4; ++i) {
            assertRefused(tampered(good, i), IChannelEscrow.InvalidSignature.selector);
        }
        assertTaken(good);
    }

    function test_RevertWhen_TheSignaturesAreSwapped() public {
        bytes32 id = openChannel();
        bytes memory authorization = sign(payee, escrowDomain(), settleHash(id, 1, 0, block.timestamp));
        bytes memory voucher = signVoucher(payer, id, 1);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settleWithAuthorization(id, 1, 0, block.timestamp, voucher, authorization);
    }

    /// @dev The payee's operators speak for it at the settlement, not here.
    function test_RevertWhen_AnOperatorSignsForThePayee() public {
        bytes32 id = openChannel();
        bytes memory operators = sign(operator, escrowDomain(), settleHash(id, 1, 0, block.timestamp));
        vm.prank(payee.addr); // the caller is nobody, whoever it is
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settleWithAuthorization(id, 1, 0, block.timestamp, operators, signVoucher(payer, id, 1));
    }
}
