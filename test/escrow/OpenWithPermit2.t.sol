// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {RelayedFixture} from "../RelayedFixture.sol";
import {ChoosingSigner, MoodySigner} from "../adversary/Signers.sol";
import {FickleToken, SilentToken} from "../adversary/Tokens.sol";
import {MinimalPermit2} from "../permit2/MinimalPermit2.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IPermit2} from "lloom/interfaces/external/IPermit2.sol";

contract OpenWithPermit2Test is RelayedFixture {
    /// @dev Nothing is approved to the escrow: Permit2 alone may move the payer's tokens.
    function setUp() public override {
        super.setUp();
        placePermit2();
        approvePermit2(payer.addr);
        vm.prank(payer.addr);
        token.approve(address(escrow), 0);
    }

    function test_OpensForTheSignerWhoeverSubmits() public {
        bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0));
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelOpened(id, payer.addr, payee.addr, address(token), address(0), SALT, DEPOSIT, false);
        (bool success, bytes memory answer) = submit(encode(permit2OpenCall(payer)));

        assertTrue(success, vm.toString(answer));
        assertEq(abi.decode(answer, (bytes32)), id);
        assertEq(escrow.getChannel(id).payer, payer.addr, "not the relayer");
        assertEq(escrow.getChannel(id).deposit, DEPOSIT);
        assertEq(token.balanceOf(payer.addr), 900e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT);
        closeAs(payee.addr, id, 0);
        assertEq(token.balanceOf(payer.addr), 1000e6);
    }

    /// @dev Draft, "openWithPermit2": what the escrow must ask Permit2 for, word for word.
    function test_AsksPermit2ForExactlyThis() public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        bytes32 witness = keccak256(
            abi.encode(
                keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)"),
                payee.addr,
                SALT,
                address(0)
            )
        );
        vm.expectCall(
            PERMIT2,
            abi.encodeCall(
                IPermit2.permitWitnessTransferFrom,
                (
                    IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(token), DEPOSIT), 7, call.deadline),
                    IPermit2.SignatureTransferDetails(address(escrow), DEPOSIT),
                    payer.addr,
                    witness,
                    "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)",
                    call.signature
                )
            ),
            1
        );
        assertTaken(encode(call));
    }

    function test_TheCanonicalPermit2IsTheOneUsed() public view {
        assertEq(escrow.PERMIT2(), PERMIT2);
    }

    function testFuzz_TakesAnyDepositAndNonce(uint128 amount, uint256 nonce) public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        (call.deposit, call.nonce) = (uint128(bound(amount, 1, type(uint128).max)), nonce);
        token.mint(payer.addr, call.deposit);
        call.signature = packed(payer, permit2Digest(call));
        assertTaken(encode(call));
        assertEq(token.balanceOf(address(escrow)), call.deposit);
    }

    function test_TakesTheBound() public {
        testFuzz_TakesAnyDepositAndNonce(type(uint128).max, type(uint256).max);
    }

    /// @dev Permit2 is for tokens that know nothing of signatures.
    function test_TakesATokenWithoutSignatures() public {
        SilentToken silent = new SilentToken();
        silent.mint(payer.addr, DEPOSIT);
        token = IDevToken(address(silent));
        assertTaken(encode(permit2OpenCall(payer)));
        assertEq(silent.balanceOf(address(escrow)), DEPOSIT);
    }

    function test_TakesAContractPayersSignature() public {
        ChoosingSigner wallet = new ChoosingSigner();
        token.mint(address(wallet), DEPOSIT);
        approvePermit2(address(wallet));
        Permit2OpenCall memory call = permit2OpenCall(payer);
        call.from = address(wallet);
        wallet.choose(permit2Digest(call), abi.encode(bytes4(0x1626ba7e)));
        assertTaken(encode(call));

        call.salt = 0; // asked about another digest, it reverts
        call.nonce = 9;
        (bool success,) = submit(encode(call));
        assertFalse(success);
    }

    /// @dev Permit2 asks an account that has code by its code alone: there, and only there, a delegated account (EIP-7702) can
    /// take back what its key has signed.
    function test_RevertWhen_ADelegatedPayersCodeSaysNo() public {
        bytes memory call = encode(permit2OpenCall(payer));
        vm.etch(payer.addr, abi.encodePacked(hex"ef0100", address(new MoodySigner())));
        (bool success,) = submit(call);
        assertFalse(success);
        vm.etch(payer.addr, "");
        assertTaken(call);
    }

    function test_TheDeadlineIsTheLastSecond() public {
        bytes memory call = encode(permit2OpenCall(payer));
        skip(1);
        assertRefused(call, MinimalPermit2.SignatureExpired.selector);
        rewind(1);
        assertTaken(call);
    }

    /// @dev Draft, "openWithPermit2": a channel other than the one signed is refused by Permit2 itself.
    function test_RevertWhen_AnyArgumentIsChanged() public {
        bytes memory call = encode(permit2OpenCall(payer));
        for (uint256 i = 0; i < 8; ++i) {
            bool isToken = i == 1; // and no token at all: refused before Permit2 is asked
            assertRefused(
                tampered(call, i),
                isToken ? IChannelEscrow.InvalidToken.selector : MinimalPermit2.InvalidSigner.selector
            );
        }
        assertTaken(call);
    }

    function test_RevertWhen_TheTokenIsAnother() public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        FickleToken other = new FickleToken();
        call.token = address(other);
        assertRefused(encode(call), MinimalPermit2.InvalidSigner.selector);
    }

    /// @dev A plain transfer permit, and a top-up's, are not what was shown to the payer.
    function test_RevertWhen_TheSignatureIsForAnotherPurpose() public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        bytes32 plain = keccak256(
            abi.encode(
                keccak256(
                    "PermitTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline)TokenPermissions(address token,uint256 amount)"
                ),
                keccak256(
                    abi.encode(keccak256("TokenPermissions(address token,uint256 amount)"), address(token), DEPOSIT)
                ),
                address(escrow),
                call.nonce,
                call.deadline
            )
        );
        call.signature = packed(payer, typedDigest(MinimalPermit2(PERMIT2).DOMAIN_SEPARATOR(), plain));
        assertRefused(encode(call), MinimalPermit2.InvalidSigner.selector);

        bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0));
        Permit2TopUpCall memory topUp = permit2TopUpCall(payer, id, DEPOSIT);
        topUp.nonce = call.nonce;
        call.signature = packed(payer, permit2Digest(topUp));
        assertRefused(encode(call), MinimalPermit2.InvalidSigner.selector);
    }

    /// @dev The spender that Permit2 hashes is its caller: nobody but the escrow can use the signature.
    function test_NobodyElseUsesTheSignature() public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        bytes32 witness = keccak256(
            abi.encode(
                keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)"),
                payee.addr,
                SALT,
                address(0)
            )
        );
        vm.prank(stranger);
        vm.expectRevert(MinimalPermit2.InvalidSigner.selector);
        MinimalPermit2(PERMIT2)
            .permitWitnessTransferFrom(
                IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(token), DEPOSIT), 7, call.deadline),
                IPermit2.SignatureTransferDetails(stranger, DEPOSIT),
                payer.addr,
                witness,
                "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)",
                call.signature
            );
    }

    function test_RevertWhen_SubmittedTwice() public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        assertTaken(encode(call));
        assertRefused(encode(call), IChannelEscrow.ChannelAlreadyExists.selector);

        call.salt = 0; // the same nonce for another channel
        call.signature = packed(payer, permit2Digest(call));
        assertRefused(encode(call), MinimalPermit2.InvalidNonce.selector);
    }

    function test_RevertWhen_TheSignatureIsNone() public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        uint16[6] memory lengths = [0, 1, 64, 65, 66, 10_000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            call.signature = new bytes(lengths[i]);
            bool isForm = lengths[i] == 64 || lengths[i] == 65;
            assertRefused(
                encode(call),
                isForm ? MinimalPermit2.InvalidSignature.selector : MinimalPermit2.InvalidSignatureLength.selector
            );
        }
    }

    function test_RevertWhen_TheMoneyOrTheApprovalIsMissing() public {
        fund(signer.addr, DEPOSIT);
        assertRefused(encode(permit2OpenCall(signer)), IERC20Errors.ERC20InsufficientAllowance.selector);
        approvePermit2(signer.addr);
        vm.prank(signer.addr);
        token.transfer(stranger, 1);
        assertRefused(encode(permit2OpenCall(signer)), IERC20Errors.ERC20InsufficientBalance.selector);
    }

    function test_RevertGiven_Permit2IsNotThere() public {
        bytes memory call = encode(permit2OpenCall(payer));
        vm.etch(PERMIT2, "");
        assertRefused(call, IRelayedChannels.Permit2NotDeployed.selector);
    }

    function test_RevertWhen_DepositIsZero() public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        call.deposit = 0;
        call.signature = packed(payer, permit2Digest(call));
        assertRefused(encode(call), IChannelEscrow.ZeroDeposit.selector);
    }

    function test_RevertWhen_PayeeOrPayerIsNobody() public {
        Permit2OpenCall memory call = permit2OpenCall(payer);
        call.payee = address(0);
        assertRefused(encode(call), IChannelEscrow.InvalidPayee.selector);
        call.payee = address(escrow);
        assertRefused(encode(call), IChannelEscrow.InvalidPayee.selector);
        call = permit2OpenCall(payer);
        call.from = address(0);
        assertRefused(encode(call), IChannelEscrow.InvalidPayer.selector);
    }

    function test_RevertWhen_TheTokenTakesAFeeOrSaysNo() public {
        FickleToken fickle = new FickleToken();
        token = IDevToken(address(fickle));
        token.mint(payer.addr, DEPOSIT);
        approvePermit2(payer.addr);
        fickle.setFee(1);
        assertRefused(encode(permit2OpenCall(payer)), IChannelEscrow.UnexpectedDepositAmount.selector);
        fickle.setRefuses(true);
        assertRefused(encode(permit2OpenCall(payer)), SafeERC20.SafeERC20FailedOperation.selector);
    }
}
