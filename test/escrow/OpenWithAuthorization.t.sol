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

contract OpenWithAuthorizationTest is RelayedFixture {
    /// @dev Not one token approved: the signature alone moves the money.
    function setUp() public override {
        super.setUp();
        vm.prank(payer.addr);
        token.approve(address(escrow), 0);
    }

    function test_OpensForTheSignerWhoeverSubmits() public {
        bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0));
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelOpened(id, payer.addr, payee.addr, address(token), address(0), SALT, DEPOSIT, false);
        (bool success, bytes memory answer) = submit(encode(openCall(payer)));

        assertTrue(success);
        assertEq(abi.decode(answer, (bytes32)), id);
        IChannelEscrow.Channel memory channel = escrow.getChannel(id);
        assertEq(channel.payer, payer.addr, "not the relayer");
        assertEq(channel.deposit, DEPOSIT);
        assertFalse(channel.refundsToBalance);
        assertEq(token.balanceOf(payer.addr), 900e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT);
    }

    function test_TheAuthorizedSignerIsTheOneSignedFor() public {
        OpenCall memory call = openCall(payer);
        call.authorizedSigner = signer.addr;
        call.nonce = openNonce(call);
        assertTaken(encode(signed(call, payer)));
        bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), SALT, signer.addr);
        assertEq(escrow.getChannel(id).authorizedSigner, signer.addr);
    }

    function test_WhatRemainsReturnsToTheWallet() public {
        assertTaken(encode(openCall(payer)));
        closeAs(payee.addr, channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0)), 30e6);
        assertEq(token.balanceOf(payer.addr), 970e6);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 0);
    }

    function testFuzz_TakesAnyDeposit(uint128 amount) public {
        OpenCall memory call = openCall(payer);
        call.deposit = uint128(bound(amount, 1, type(uint128).max));
        token.mint(payer.addr, call.deposit);
        assertTaken(encode(signed(call, payer)));
        assertEq(token.balanceOf(address(escrow)), call.deposit);
    }

    /// @dev The largest amount there is, to the unit.
    function test_TakesTheBound() public {
        OpenCall memory call = openCall(payer);
        call.deposit = type(uint128).max;
        token.mint(payer.addr, call.deposit);
        assertTaken(encode(signed(call, payer)));
        assertEq(
            escrow.getChannel(channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0))).deposit,
            call.deposit
        );
    }

    /// @dev EIP-3009 excludes both ends.
    function test_IsTakenWithinItsTimesAlone() public {
        OpenCall memory call = openCall(payer);
        (call.validAfter, call.validBefore) = (block.timestamp, block.timestamp + 2);
        bytes memory encoded = encode(signed(call, payer));
        assertRefused(encoded, ERC3009.ERC3009InvalidAuthorizationTime.selector);
        skip(2);
        assertRefused(encoded, ERC3009.ERC3009InvalidAuthorizationTime.selector);
        rewind(1);
        assertTaken(encoded);
    }

    /// @dev Draft, "Front-Running Protection": what the token's signature doesn't cover its nonce does, and what its nonce
    /// doesn't cover the token's signature does.
    function test_RevertWhen_AnyArgumentIsChanged() public {
        bytes memory call = encode(openCall(payer));
        bytes4[9] memory errors = [
            IRelayedChannels.NonceMismatch.selector, // payee
            IRelayedChannels.NonceMismatch.selector, // token
            ERC3009.ERC3009InvalidSignature.selector, // deposit
            IRelayedChannels.NonceMismatch.selector, // salt
            IRelayedChannels.NonceMismatch.selector, // authorizedSigner
            IRelayedChannels.NonceMismatch.selector, // from
            ERC3009.ERC3009InvalidSignature.selector, // validAfter
            ERC3009.ERC3009InvalidSignature.selector, // validBefore
            IRelayedChannels.NonceMismatch.selector // nonce
        ];
        for (uint256 i = 0; i < errors.length; ++i) {
            assertRefused(tampered(call, i), errors[i]);
        }
        assertTaken(call);
    }

    /// @dev The same, by an attacker who derives the nonce anew: then the token refuses.
    function test_RevertWhen_TheNonceIsDerivedForAnotherChannel() public {
        for (uint256 i = 0; i < 4; ++i) {
            OpenCall memory call = openCall(payer);
            if (i == 0) call.payee = stranger;
            else if (i == 1) call.salt = 0;
            else if (i == 2) call.authorizedSigner = stranger;
            else call.from = signer.addr;
            call.nonce = openNonce(call);
            assertRefused(encode(call), ERC3009.ERC3009InvalidSignature.selector);
        }
    }

    /// @dev Draft, "Front-Running Protection": the contract must not go on with the value supplied.
    function test_RevertWhen_TheNonceIsSignedButNotDerived() public {
        vm.expectCall(address(token), abi.encodeWithSelector(RECEIVE_SELECTOR), 0); // refused before the token is asked
        OpenCall memory call = openCall(payer);
        call.nonce = keccak256("any");
        assertRefused(encode(signed(call, payer)), IRelayedChannels.NonceMismatch.selector);
        call.nonce = 0;
        assertRefused(encode(signed(call, payer)), IRelayedChannels.NonceMismatch.selector);
    }

    /// @dev Draft: `receiveWithAuthorization`, not `transferWithAuthorization`, so nobody can use the signature at the token.
    function test_RevertWhen_TheSignatureIsForATransfer() public {
        OpenCall memory call = openCall(payer);
        bytes32 typeHash = keccak256(
            "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 structHash =
            keccak256(abi.encode(typeHash, payer.addr, address(escrow), call.deposit, 0, call.validBefore, call.nonce));
        call.signature = sign(payer, domainOf("Lloom Dev Token", address(token)), structHash);
        assertRefused(encode(call), ERC3009.ERC3009InvalidSignature.selector);
    }

    function test_NobodyUsesTheSignatureAtTheToken() public {
        OpenCall memory call = openCall(payer);
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, address(escrow)));
        token.receiveWithAuthorization(
            payer.addr, address(escrow), DEPOSIT, 0, call.validBefore, call.nonce, call.signature
        );
        assertTaken(encode(call));
    }

    function test_RevertWhen_SubmittedTwice() public {
        bytes memory call = encode(openCall(payer));
        assertTaken(call);
        assertRefused(call, IChannelEscrow.ChannelAlreadyExists.selector);
    }

    /// @dev The payer's own way to take a signature back.
    function test_RevertGiven_ThePayerCancelledAtTheToken() public {
        OpenCall memory call = openCall(payer);
        bytes32 structHash = keccak256(
            abi.encode(keccak256("CancelAuthorization(address authorizer,bytes32 nonce)"), payer.addr, call.nonce)
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(payer.key, typedDigest(domainOf("Lloom Dev Token", address(token)), structHash));
        token.cancelAuthorization(payer.addr, call.nonce, v, r, s);
        assertRefused(encode(call), ERC3009.ERC3009UsedAuthorization.selector);
    }

    function test_RevertWhen_TheSignatureIsNone() public {
        OpenCall memory call = openCall(payer);
        uint16[6] memory lengths = [0, 1, 64, 65, 66, 10_000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            call.signature = new bytes(lengths[i]);
            assertRefused(encode(call), ECDSA.ECDSAInvalidSignature.selector);
        }
        call.signature = openCall(signer).signature;
        assertRefused(encode(call), ERC3009.ERC3009InvalidSignature.selector);
    }

    function test_RevertWhen_TheMoneyIsMissing() public {
        fund(signer.addr, DEPOSIT - 1);
        assertRefused(encode(openCall(signer)), IERC20Errors.ERC20InsufficientBalance.selector);
    }

    function test_RevertWhen_DepositIsZero() public {
        OpenCall memory call = openCall(payer);
        call.deposit = 0;
        assertRefused(encode(signed(call, payer)), IChannelEscrow.ZeroDeposit.selector);
    }

    function test_RevertWhen_PayeeCantBePaid() public {
        address[2] memory nobodies = [address(0), address(escrow)];
        for (uint256 i = 0; i < nobodies.length; ++i) {
            OpenCall memory call = openCall(payer);
            call.payee = nobodies[i];
            call.nonce = openNonce(call);
            assertRefused(encode(signed(call, payer)), IChannelEscrow.InvalidPayee.selector);
        }
    }

    function test_RevertWhen_TokenIsNone() public {
        OpenCall memory call = openCall(payer);
        call.token = stranger;
        call.nonce = openNonce(call);
        assertRefused(encode(call), IChannelEscrow.InvalidToken.selector);
    }

    // --- Other tokens ---

    /// @dev Draft, "openWithAuthorization": such tokens are not supported.
    function test_RevertWhen_TheTokenTakesSignaturesInThreePartsAlone() public {
        token = IDevToken(address(new CanonicalToken()));
        token.mint(payer.addr, DEPOSIT);
        (bool success, bytes memory answer) = submit(encode(openCall(payer)));
        assertFalse(success);
        assertEq(answer.length, 0, "it has no such function");
        assertEq(token.balanceOf(payer.addr), DEPOSIT);
    }

    /// @dev A token with a fallback (wrapped Ether has one) answers yes to functions that it doesn't have.
    function test_RevertWhen_TheTokenOnlySaysYes() public {
        LaxToken lax = new LaxToken();
        lax.setIdle(true);
        token = IDevToken(address(lax));
        assertRefused(encode(openCall(payer)), IChannelEscrow.UnexpectedDepositAmount.selector);
    }

    /// @dev A channel without a payer would pass for none at all, and its money for nobody's.
    function test_RevertWhen_TheTokenMovesMoneyOfNobodys() public {
        LaxToken lax = new LaxToken();
        token = IDevToken(address(lax));
        OpenCall memory call = openCall(payer);
        call.from = address(0);
        call.nonce = openNonce(call);
        assertRefused(encode(call), IChannelEscrow.InvalidPayer.selector);

        call.from = stranger; // whoever is named: what such a token allows is the trouble of its holders
        call.nonce = openNonce(call);
        lax.mint(stranger, DEPOSIT);
        assertTaken(encode(call));
    }

    function test_RevertWhen_TheTokenTakesAFee() public {
        LaxToken lax = new LaxToken();
        token = IDevToken(address(lax));
        lax.mint(payer.addr, DEPOSIT);
        lax.setFee(1);
        (bool success, bytes memory answer) = submit(encode(openCall(payer)));
        assertFalse(success);
        assertEq(answer, abi.encodeWithSelector(IChannelEscrow.UnexpectedDepositAmount.selector, DEPOSIT, DEPOSIT - 1));
    }
}
