// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {RelayedFixture} from "../RelayedFixture.sol";
import {Accomplice, FickleToken, LaxToken} from "../adversary/Tokens.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice Tokens that behave badly in what anyone may submit: calls from inside of transfers, blocked receivers, holdings
/// that change.
contract TokenRelayedTest is RelayedFixture {
    LaxToken private lax;
    Accomplice private accomplice;

    /// @dev The fixture's `token` is one that asks for no signature and calls whoever it is told to.
    function setUp() public override {
        super.setUp();
        placePermit2();
        lax = new LaxToken();
        accomplice = new Accomplice();
        token = IDevToken(address(lax));
        fund(payer.addr, 1000e6);
        approvePermit2(payer.addr);
    }

    function accompliceDoes(bytes memory call) private {
        lax.setHook(address(accomplice), abi.encodeCall(Accomplice.insist, (address(escrow), call)));
    }

    // --- Reentrancy ---

    /// @dev Every way in, from inside of every way in.
    function test_NoPullStartsInsideAPull() public {
        bytes32 id = openChannel();
        lax.mint(signer.addr, 100e6);
        approvePermit2(signer.addr);
        fund(address(accomplice), 100e6);
        bytes[7] memory inner = [
            encode(openCall(signer)),
            encode(topUpCall(signer, id, 10e6)),
            encode(depositCall(signer, 10e6)),
            encode(permit2TopUpCall(signer, id, 10e6)),
            encode(permit2OpenCall(signer)),
            abi.encodeCall(IChannelEscrow.deposit, (address(token), 10e6)),
            abi.encodeCall(IChannelEscrow.open, (payee.addr, address(token), 10e6, SALT, address(0)))
        ];
        for (uint256 i = 0; i < inner.length; ++i) {
            for (uint256 j = 0; j < 5; ++j) {
                uint256 snapshot = vm.snapshotState();
                uint256 held = lax.balanceOf(address(escrow));
                accompliceDoes(inner[i]);
                assertTaken(outer(j, id));
                assertFalse(lax.hookSucceeded(), "a pull inside a pull");
                assertEq(lax.hooked(), address(0), "it was tried");
                assertEq(lax.balanceOf(address(escrow)), held + 10e6);
                vm.revertToState(snapshot);
            }
        }
    }

    /// @dev The five ways in that anyone may submit, 10e6 of the payer's each.
    function outer(uint256 way, bytes32 id) private view returns (bytes memory) {
        if (way == 0) {
            OpenCall memory open = openCall(payer);
            (open.salt, open.deposit) = (0, 10e6);
            open.nonce = openNonce(open);
            return encode(open);
        }
        if (way == 1) return encode(topUpCall(payer, id, 10e6));
        if (way == 2) return encode(depositCall(payer, 10e6));
        if (way == 3) return encode(permit2TopUpCall(payer, id, 10e6));
        Permit2OpenCall memory permit = permit2OpenCall(payer);
        (permit.salt, permit.deposit) = (0, 10e6);
        permit.signature = packed(payer, permit2Digest(permit));
        return encode(permit);
    }

    /// @dev What is recorded before it has arrived can't be taken out in between: not a balance, not a channel.
    function test_RevertWhen_MoneyIsTakenOutBeforeItArrives() public {
        openChannel(); // others' money
        lax.mint(signer.addr, 10e6);

        DepositCall memory mine = depositCall(signer, 10e6);
        mine.from = address(accomplice);
        mine.nonce = depositNonce(mine);
        lax.mint(address(accomplice), 10e6);
        accompliceDoes(abi.encodeCall(IChannelEscrow.withdrawBalance, (address(token), 10e6, address(accomplice))));
        assertRefused(encode(mine), IChannelEscrow.UnexpectedDepositAmount.selector);

        OpenCall memory open = openCall(signer);
        open.deposit = 10e6;
        bytes32 id = channelIdOf(signer.addr, payee.addr, address(token), SALT, address(0));
        IChannelEscrow.VoucherRow[] memory rows = rowsOf(voucherRow(signer, address(0), SALT, 10e6, 10e6));
        accompliceDoes(abi.encodeCall(IChannelEscrow.claimVouchers, (payee.addr, address(token), rows)));
        assertRefused(encode(open), IChannelEscrow.UnexpectedDepositAmount.selector);
        assertEq(escrow.getChannel(id).deposit, 0);
        assertEq(lax.balanceOf(address(escrow)), DEPOSIT);
    }

    /// @dev Inside of a payout the money is gone from the books, whatever is submitted again.
    function test_NothingIsPaidTwice() public {
        bytes32 id = openChannel();
        uint256 deadline = block.timestamp;
        bytes memory voucher = signVoucher(payer, id, 40e6);
        bytes memory settleSignature = sign(payee, escrowDomain(), settleHash(id, 40e6, 1, deadline));
        bytes memory closeSignature = sign(payee, escrowDomain(), closeHash(id, 40e6, 2, deadline));
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](1);
        rows[0] = IChannelEscrow.ContractVoucherRow(payer.addr, SALT, address(0), voucher, toVoucherAmounts(40e6, 40e6));
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = id;
        bytes[4] memory payouts = [
            abi.encodeCall(IRelayedChannels.settleWithAuthorization, (id, 40e6, 1, deadline, settleSignature, voucher)),
            abi.encodeCall(IRelayedChannels.closeWithAuthorization, (id, 40e6, 2, deadline, closeSignature, voucher)),
            abi.encodeCall(IChannelEscrow.claimContractVouchers, (payee.addr, address(token), rows)),
            abi.encodeCall(IRelayedChannels.withdrawFor, (ids))
        ];
        vm.prank(payer.addr);
        escrow.requestClose(id);
        fund(signer.addr, DEPOSIT);
        vm.prank(signer.addr);
        escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0)); // others' money
        for (uint256 i = 0; i < payouts.length; ++i) {
            for (uint256 j = 0; j < payouts.length; ++j) {
                uint256 snapshot = vm.snapshotState();
                if (i == 3 || j == 3) skip(1 hours);
                accompliceDoes(payouts[j]);
                vm.prank(stranger);
                (bool success,) = address(escrow).call(payouts[i]);
                assertEq(success, i >= 2 || j != 3, "an authorization is too late when grace is over");
                if (success) assertEq(lax.hooked(), address(0), "it was tried");
                uint256 paid = lax.balanceOf(payee.addr) + lax.balanceOf(payer.addr) - 900e6;
                assertLe(paid, DEPOSIT);
                IChannelEscrow.Channel memory channel = escrow.getChannel(id);
                assertEq(lax.balanceOf(payee.addr), channel.settled);
                assertEq(paid, channel.finalized ? channel.deposit : channel.settled);
                assertEq(lax.balanceOf(address(escrow)), 2 * DEPOSIT - paid);
                vm.revertToState(snapshot);
            }
        }
    }

    // --- Blocked receivers ---

    function test_ABlockedSideJamsNoClose() public {
        address[2] memory sides = [payer.addr, payee.addr];
        for (uint256 i = 0; i < 2; ++i) {
            uint256 snapshot = vm.snapshotState();
            bytes32 id = openChannel();
            lax.setBlocked(sides[i]);
            bytes memory signature = sign(payee, escrowDomain(), closeHash(id, 40e6, 0, block.timestamp));
            escrow.closeWithAuthorization(id, 40e6, 0, block.timestamp, signature, signVoucher(payer, id, 40e6));
            assertTrue(escrow.getChannel(id).finalized);
            assertEq(escrow.balanceOf(sides[i], address(token)), i == 0 ? 60e6 : 40e6);
            assertEq(escrow.balanceOf(sides[1 - i], address(token)), 0);
            assertEq(lax.balanceOf(sides[1 - i]), i == 0 ? 40e6 : 960e6);
            vm.revertToState(snapshot);
        }
    }

    function test_ABlockedPayeesContractVouchersAreCredited() public {
        bytes32 id = openChannel();
        lax.setBlocked(payee.addr);
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](1);
        rows[0] = IChannelEscrow.ContractVoucherRow(
            payer.addr, SALT, address(0), signVoucher(payer, id, 40e6), toVoucherAmounts(40e6, 40e6)
        );
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.PayoutCredited(payee.addr, address(token), 40e6);
        assertEq(escrow.claimContractVouchers(payee.addr, address(token), rows), 40e6);
        assertEq(escrow.balanceOf(payee.addr, address(token)), 40e6);
    }

    /// @dev A settlement alone can be tried again: it fails, and its nonce stays good.
    function test_RevertWhen_ABlockedPayeeSettles() public {
        bytes32 id = openChannel();
        lax.setBlocked(payee.addr);
        bytes memory call = abi.encodeCall(
            IRelayedChannels.settleWithAuthorization,
            (
                id,
                40e6,
                1,
                block.timestamp,
                sign(payee, escrowDomain(), settleHash(id, 40e6, 1, block.timestamp)),
                signVoucher(payer, id, 40e6)
            )
        );
        assertRefused(call, IChannelEscrow.TransferFailed.selector);
        assertFalse(escrow.isNonceUsed(payee.addr, id, 1));
        lax.setBlocked(address(0));
        assertTaken(call);
    }

    /// @dev Also where the token says false instead of reverting.
    function test_ATokenThatSaysFalseIsCredited() public {
        bytes32 id = openChannel();
        lax.setRefuses(true);
        bytes memory signature = sign(payee, escrowDomain(), closeHash(id, 40e6, 0, block.timestamp));
        escrow.closeWithAuthorization(id, 40e6, 0, block.timestamp, signature, signVoucher(payer, id, 40e6));
        assertEq(escrow.balanceOf(payee.addr, address(token)), 40e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 60e6);
    }

    // --- Holdings that change by themselves ---

    /// @dev A token that rebases, or charges a fee from some day on, must not be used, and can't be recognized: two channels
    /// in one, and one in another, which none of it may touch.
    function openTwoAndOneInAnother() private returns (bytes32 first, bytes32 second, FickleToken fickle) {
        openChannel();
        fickle = new FickleToken();
        token = IDevToken(address(fickle));
        fund(payer.addr, 2 * DEPOSIT);
        (first, second) = (openChannel(), openChannelWithSigner(signer.addr));
    }

    function assertOtherTokenPays(IDevToken other) private {
        token = other;
        settleAs(payee.addr, channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0)), DEPOSIT);
        assertEq(token.balanceOf(payee.addr), DEPOSIT);
        assertEq(token.balanceOf(address(escrow)), 0);
    }

    /// @dev What it loses, its own holders lose: who comes first is paid, who comes last is credited, and goes without.
    function test_WhatATokenLosesItsLastHolderLoses() public {
        IDevToken other = token;
        (bytes32 first, bytes32 second, FickleToken fickle) = openTwoAndOneInAnother();
        fickle.rebase(address(escrow), DEPOSIT + 10e6);

        closeAs(payee.addr, first, 40e6);
        assertEq(fickle.balanceOf(payee.addr), 40e6);
        assertEq(fickle.balanceOf(payer.addr), 60e6);

        vm.expectEmit(address(escrow));
        emit IChannelEscrow.PayoutCredited(payer.addr, address(token), DEPOSIT);
        closeAs(payee.addr, second, 0);
        vm.startPrank(payer.addr);
        vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        escrow.withdrawBalance(address(token), DEPOSIT, payer.addr);
        escrow.withdrawBalance(address(token), 10e6, payer.addr);
        vm.stopPrank();
        assertEq(escrow.balanceOf(payer.addr, address(token)), DEPOSIT - 10e6, "owed for good");
        assertOtherTokenPays(other);
    }

    function test_WhatATokenGainsIsNobodys() public {
        IDevToken other = token;
        (bytes32 first, bytes32 second, FickleToken fickle) = openTwoAndOneInAnother();
        fickle.rebase(address(escrow), 3 * DEPOSIT);
        closeAs(payee.addr, first, 40e6);
        closeAs(payee.addr, second, 0);
        assertEq(fickle.balanceOf(payee.addr), 40e6);
        assertEq(fickle.balanceOf(payer.addr), 2 * DEPOSIT - 40e6);
        assertEq(fickle.balanceOf(address(escrow)), DEPOSIT);
        assertOtherTokenPays(other);
    }

    /// @dev Who is paid, pays it. No more comes in.
    function test_AFeeThatBeginsLaterIsTheReceivers() public {
        IDevToken other = token;
        (bytes32 first, bytes32 second, FickleToken fickle) = openTwoAndOneInAnother();
        fickle.setFee(1e6);
        closeAs(payee.addr, first, 40e6);
        assertEq(fickle.balanceOf(payee.addr), 39e6);
        assertEq(fickle.balanceOf(payer.addr), 59e6);
        assertEq(fickle.balanceOf(address(escrow)), DEPOSIT);
        vm.startPrank(payer.addr);
        vm.expectRevert(abi.encodeWithSelector(IChannelEscrow.UnexpectedDepositAmount.selector, 10e6, 9e6));
        escrow.topUp(second, 10e6);
        vm.stopPrank();
        assertOtherTokenPays(other);
    }

    /// @dev Amounts are base units, whatever a token's decimals are: one unit, and the most a channel holds. Nothing here asks
    /// for decimals, and this test fails where something does and depends on it.
    function test_AnyDecimals() public {
        uint8[4] memory decimals = [0, 6, 18, 24];
        for (uint256 i = 0; i < decimals.length; ++i) {
            token = IDevToken(address(new LaxToken()));
            LaxToken(address(token)).setDecimals(decimals[i]);
            assertEq(token.decimals(), decimals[i]);
            uint128[3] memory amounts = [uint128(1), uint128(10 ** uint256(decimals[i])), type(uint128).max];
            for (uint256 j = 0; j < amounts.length; ++j) {
                token.mint(payer.addr, amounts[j]);
                OpenCall memory call = openCall(payer);
                (call.deposit, call.salt) = (amounts[j], bytes32(j));
                call.nonce = openNonce(call);
                assertTaken(encode(call));
                uint256 held = token.balanceOf(payee.addr);
                bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), bytes32(j), address(0));
                closeAs(payee.addr, id, amounts[j]);
                assertEq(token.balanceOf(payee.addr), held + amounts[j]);
            }
        }
    }
}
