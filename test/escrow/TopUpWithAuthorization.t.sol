// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {RelayedFixture} from "../RelayedFixture.sol";
import {CanonicalToken, LaxToken} from "../adversary/Tokens.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

contract TopUpWithAuthorizationTest is RelayedFixture {
    function test_AddsToTheDepositAlone() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 60e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 25e6, false);
        assertTaken(encode(topUpCall(payer, id, 25e6)));
        assertEq(escrow.getChannel(id).deposit, DEPOSIT + 25e6);
        assertEq(settledOf(id), 60e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT + 25e6 - 60e6);
    }

    function test_ThePayerCancelsItsClose() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 1, true);
        assertTaken(encode(topUpCall(payer, id, 1)));
        assertEq(escrow.getChannel(id).closeRequestedAt, 0);
    }

    /// @dev Draft, "Payer-funded functions": a third party only adds; what remains is still the payer's.
    function test_AnotherCancelsNothingAndGetsNothingBack() public {
        bytes32 id = openChannel();
        fund(signer.addr, 10e6);
        vm.prank(payer.addr);
        escrow.requestClose(id);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 10e6, false);
        assertTaken(encode(topUpCall(signer, id, 10e6)));

        skip(1 hours);
        vm.prank(payer.addr);
        escrow.withdraw(id);
        assertEq(token.balanceOf(payer.addr), 1010e6);
        assertEq(token.balanceOf(signer.addr), 0);
    }

    function test_ABalanceChannelStaysOne() public {
        bytes32 id = openChannelFromBalance();
        assertTaken(encode(topUpCall(payer, id, 10e6)));
        closeAs(payee.addr, id, 0);
        assertEq(escrow.balanceOf(payer.addr, address(token)), DEPOSIT + 10e6);
    }

    function test_ReachesTheBoundButNotBeyond() public {
        bytes32 id = openChannel();
        token.mint(payer.addr, type(uint128).max);
        uint128 rest = type(uint128).max - DEPOSIT;
        assertRefused(encode(topUpCall(payer, id, rest + 1)), IChannelEscrow.DepositOverflow.selector);
        assertRefused(encode(topUpCall(payer, id, type(uint128).max)), IChannelEscrow.DepositOverflow.selector);
        assertTaken(encode(topUpCall(payer, id, rest)));
        assertEq(escrow.getChannel(id).deposit, type(uint128).max);
        assertRefused(encode(topUpCall(payer, id, 1)), IChannelEscrow.DepositOverflow.selector);
    }

    function test_IsTakenWithinItsTimesAlone() public {
        TopUpCall memory call = topUpCall(payer, openChannel(), 1);
        (call.validAfter, call.validBefore) = (block.timestamp, block.timestamp + 2);
        bytes memory encoded = encode(signed(call, payer));
        assertRefused(encoded, ERC3009.ERC3009InvalidAuthorizationTime.selector);
        skip(2);
        assertRefused(encoded, ERC3009.ERC3009InvalidAuthorizationTime.selector);
        rewind(1);
        assertTaken(encoded);
    }

    /// @dev Draft, "Front-Running Protection": every argument is bound by the nonce or by the token's signature.
    function test_RevertWhen_AnyArgumentIsChanged() public {
        bytes memory call = encode(topUpCall(payer, openChannel(), 25e6));
        bytes4[7] memory errors = [
            IChannelEscrow.ChannelNotFound.selector, // channelId
            IRelayedChannels.NonceMismatch.selector, // additionalDeposit
            IRelayedChannels.NonceMismatch.selector, // from
            IRelayedChannels.NonceMismatch.selector, // topUpSalt
            ERC3009.ERC3009InvalidSignature.selector, // validAfter
            ERC3009.ERC3009InvalidSignature.selector, // validBefore
            IRelayedChannels.NonceMismatch.selector // nonce
        ];
        for (uint256 i = 0; i < errors.length; ++i) {
            assertRefused(tampered(call, i), errors[i]);
        }
        assertTaken(call);
    }

    function test_RevertWhen_TheNonceIsDerivedForAnotherTopUp() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        bytes32 other = escrow.open(payee.addr, address(token), 1, bytes32(0), address(0));
        for (uint256 i = 0; i < 4; ++i) {
            TopUpCall memory call = topUpCall(payer, id, 25e6);
            if (i == 0) call.channelId = other;
            else if (i == 1) call.additionalDeposit = 26e6;
            else if (i == 2) call.from = signer.addr;
            else call.topUpSalt = 0;
            assertRefused(encode(call), IRelayedChannels.NonceMismatch.selector);
            call.nonce = topUpNonce(call);
            assertRefused(encode(call), ERC3009.ERC3009InvalidSignature.selector);
        }
    }

    function test_RevertWhen_TheNonceIsSignedButNotDerived() public {
        vm.expectCall(address(token), abi.encodeWithSelector(RECEIVE_SELECTOR), 0); // refused before the token is asked
        TopUpCall memory call = topUpCall(payer, openChannel(), 1);
        call.nonce = keccak256("any");
        assertRefused(encode(signed(call, payer)), IRelayedChannels.NonceMismatch.selector);
    }

    function test_RevertWhen_SubmittedTwice() public {
        bytes32 id = openChannel();
        TopUpCall memory call = topUpCall(payer, id, 25e6);
        assertTaken(encode(call));
        assertRefused(encode(call), ERC3009.ERC3009UsedAuthorization.selector);
        call.topUpSalt = 0; // another salt is another top-up
        call.nonce = topUpNonce(call);
        assertTaken(encode(signed(call, payer)));
        assertEq(escrow.getChannel(id).deposit, DEPOSIT + 50e6);
    }

    function test_RevertGiven_NoSuchChannel() public {
        assertRefused(encode(topUpCall(payer, keccak256("none"), 1)), IChannelEscrow.ChannelNotFound.selector);
        assertRefused(encode(topUpCall(payer, 0, 1)), IChannelEscrow.ChannelNotFound.selector);
    }

    function test_RevertGiven_ChannelFinalized() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 0);
        assertRefused(encode(topUpCall(payer, id, 1)), IChannelEscrow.ChannelFinalized.selector);
    }

    function test_RevertWhen_DepositIsZero() public {
        assertRefused(encode(topUpCall(payer, openChannel(), 0)), IChannelEscrow.ZeroDeposit.selector);
    }

    function test_RevertWhen_TheSignatureIsNone() public {
        TopUpCall memory call = topUpCall(payer, openChannel(), 1);
        uint16[6] memory lengths = [0, 1, 64, 65, 66, 10_000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            call.signature = new bytes(lengths[i]);
            assertRefused(encode(call), ECDSA.ECDSAInvalidSignature.selector);
        }
        call.signature = topUpCall(signer, call.channelId, 1).signature;
        assertRefused(encode(call), ERC3009.ERC3009InvalidSignature.selector);
    }

    function test_RevertWhen_TheMoneyIsMissing() public {
        fund(signer.addr, 1);
        assertRefused(encode(topUpCall(signer, openChannel(), 2)), IERC20Errors.ERC20InsufficientBalance.selector);
    }

    // --- Other tokens ---

    function test_RevertWhen_TheTokenTakesSignaturesInThreePartsAlone() public {
        token = IDevToken(address(new CanonicalToken()));
        fund(payer.addr, 2 * DEPOSIT);
        bytes32 id = openChannel();
        (bool success,) = submit(encode(topUpCall(payer, id, 1)));
        assertFalse(success);
        assertEq(escrow.getChannel(id).deposit, DEPOSIT);
    }

    function test_RevertWhen_TheTokenBringsNothingOrLess() public {
        LaxToken lax = new LaxToken();
        token = IDevToken(address(lax));
        fund(payer.addr, 2 * DEPOSIT);
        bytes32 id = openChannel();
        lax.setIdle(true);
        assertRefused(encode(topUpCall(payer, id, 10)), IChannelEscrow.UnexpectedDepositAmount.selector);
        lax.setIdle(false);
        lax.setFee(1);
        assertRefused(encode(topUpCall(payer, id, 10)), IChannelEscrow.UnexpectedDepositAmount.selector);
    }
}
