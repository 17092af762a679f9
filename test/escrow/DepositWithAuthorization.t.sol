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

contract DepositWithAuthorizationTest is RelayedFixture {
    function test_CreditsTheSignerWhoeverSubmits() public {
        vm.prank(payer.addr);
        token.approve(address(escrow), 0);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.Deposited(payer.addr, address(token), payer.addr, 40e6);
        assertTaken(encode(depositCall(payer, 40e6)));
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
        assertEq(escrow.balanceOf(stranger, address(token)), 0);
        assertEq(token.balanceOf(address(escrow)), 40e6);
    }

    function testFuzz_TakesAnyAmount(uint256 amount) public {
        amount = bound(amount, 1, type(uint256).max - token.totalSupply());
        token.mint(payer.addr, amount);
        assertTaken(encode(depositCall(payer, amount)));
        assertEq(escrow.balanceOf(payer.addr, address(token)), amount);
    }

    function test_IsTakenWithinItsTimesAlone() public {
        DepositCall memory call = depositCall(payer, 1);
        (call.validAfter, call.validBefore) = (block.timestamp, block.timestamp + 2);
        bytes memory encoded = encode(signed(call, payer));
        assertRefused(encoded, ERC3009.ERC3009InvalidAuthorizationTime.selector);
        skip(2);
        assertRefused(encoded, ERC3009.ERC3009InvalidAuthorizationTime.selector);
        rewind(1);
        assertTaken(encoded);
    }

    function test_RevertWhen_AnyArgumentIsChanged() public {
        bytes memory call = encode(depositCall(payer, 40e6));
        bytes4[7] memory errors = [
            IRelayedChannels.NonceMismatch.selector, // token
            ERC3009.ERC3009InvalidSignature.selector, // amount
            IRelayedChannels.NonceMismatch.selector, // from
            IRelayedChannels.NonceMismatch.selector, // depositSalt
            ERC3009.ERC3009InvalidSignature.selector, // validAfter
            ERC3009.ERC3009InvalidSignature.selector, // validBefore
            IRelayedChannels.NonceMismatch.selector // nonce
        ];
        for (uint256 i = 0; i < errors.length; ++i) {
            assertRefused(tampered(call, i), errors[i]);
        }
        assertTaken(call);
    }

    function test_RevertWhen_TheNonceIsDerivedForAnotherDeposit() public {
        DepositCall memory call = depositCall(payer, 40e6);
        call.depositSalt = 0;
        call.nonce = depositNonce(call);
        assertRefused(encode(call), ERC3009.ERC3009InvalidSignature.selector);
        call = depositCall(payer, 40e6);
        call.from = signer.addr;
        call.nonce = depositNonce(call);
        assertRefused(encode(call), ERC3009.ERC3009InvalidSignature.selector);
    }

    function test_RevertWhen_SubmittedTwice() public {
        bytes memory call = encode(depositCall(payer, 40e6));
        assertTaken(call);
        assertRefused(call, ERC3009.ERC3009UsedAuthorization.selector);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 40e6);
    }

    function test_RevertWhen_TheSignatureIsNone() public {
        DepositCall memory call = depositCall(payer, 1);
        uint16[6] memory lengths = [0, 1, 64, 65, 66, 10_000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            call.signature = new bytes(lengths[i]);
            assertRefused(encode(call), ECDSA.ECDSAInvalidSignature.selector);
        }
    }

    function test_RevertWhen_TheMoneyIsMissing() public {
        assertRefused(encode(depositCall(payer, 1000e6 + 1)), IERC20Errors.ERC20InsufficientBalance.selector);
    }

    function test_RevertWhen_DepositIsZero() public {
        assertRefused(encode(depositCall(payer, 0)), IChannelEscrow.ZeroDeposit.selector);
    }

    function test_RevertWhen_TokenIsNone() public {
        DepositCall memory call = depositCall(payer, 1);
        call.token = stranger;
        call.nonce = depositNonce(call);
        assertRefused(encode(call), IChannelEscrow.InvalidToken.selector);
    }

    function test_RevertWhen_NobodyCouldTakeItOut() public {
        token = IDevToken(address(new LaxToken()));
        address[2] memory nobodies = [address(0), address(escrow)];
        for (uint256 i = 0; i < nobodies.length; ++i) {
            DepositCall memory call = depositCall(payer, 1);
            call.from = nobodies[i];
            call.nonce = depositNonce(call);
            assertRefused(encode(call), IChannelEscrow.InvalidRecipient.selector);
        }
    }

    // --- Other tokens ---

    function test_RevertWhen_TheTokenTakesSignaturesInThreePartsAlone() public {
        token = IDevToken(address(new CanonicalToken()));
        token.mint(payer.addr, 1);
        (bool success,) = submit(encode(depositCall(payer, 1)));
        assertFalse(success);
        assertEq(escrow.balanceOf(payer.addr, address(token)), 0);
    }

    function test_RevertWhen_TheTokenBringsNothingOrLess() public {
        LaxToken lax = new LaxToken();
        token = IDevToken(address(lax));
        lax.mint(payer.addr, 10);
        lax.setIdle(true);
        assertRefused(encode(depositCall(payer, 10)), IChannelEscrow.UnexpectedDepositAmount.selector);
        lax.setIdle(false);
        lax.setFee(1);
        assertRefused(encode(depositCall(payer, 10)), IChannelEscrow.UnexpectedDepositAmount.selector);
    }
}
