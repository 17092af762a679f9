// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {RelayedFixture} from "../RelayedFixture.sol";
import {FickleToken} from "../adversary/Tokens.sol";
import {MinimalPermit2} from "../permit2/MinimalPermit2.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IPermit2} from "lloom/interfaces/external/IPermit2.sol";

contract TopUpWithPermit2Test is RelayedFixture {
    function setUp() public override {
        super.setUp();
        placePermit2();
        approvePermit2(payer.addr);
    }

    function test_AddsToTheDepositAlone() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, 60e6);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 25e6, false);
        assertTaken(encode(permit2TopUpCall(payer, id, 25e6)));
        assertEq(escrow.getChannel(id).deposit, DEPOSIT + 25e6);
        assertEq(settledOf(id), 60e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT + 25e6 - 60e6);
    }

    /// @dev Draft, "topUpWithPermit2": the token is the channel's.
    function test_AsksPermit2ForExactlyThis() public {
        bytes32 id = openChannel();
        Permit2TopUpCall memory call = permit2TopUpCall(payer, id, 25e6);
        vm.expectCall(
            PERMIT2,
            abi.encodeCall(
                IPermit2.permitWitnessTransferFrom,
                (
                    IPermit2.PermitTransferFrom(IPermit2.TokenPermissions(address(token), 25e6), 8, call.deadline),
                    IPermit2.SignatureTransferDetails(address(escrow), 25e6),
                    payer.addr,
                    keccak256(abi.encode(keccak256("ChannelTopUpWitness(bytes32 channelId)"), id)),
                    "ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)",
                    call.signature
                )
            ),
            1
        );
        assertTaken(encode(call));
    }

    function test_ThePayerCancelsItsClose() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        vm.expectEmit(address(escrow));
        emit IChannelEscrow.ChannelToppedUp(id, DEPOSIT + 1, true);
        assertTaken(encode(permit2TopUpCall(payer, id, 1)));
        assertEq(escrow.getChannel(id).closeRequestedAt, 0);
    }

    function test_AnotherCancelsNothingAndGetsNothingBack() public {
        bytes32 id = openChannel();
        fund(signer.addr, 10e6);
        approvePermit2(signer.addr);
        vm.prank(payer.addr);
        escrow.requestClose(id);
        assertTaken(encode(permit2TopUpCall(signer, id, 10e6)));
        assertEq(escrow.getChannel(id).closeRequestedAt, block.timestamp);

        closeAs(payee.addr, id, 0);
        assertEq(token.balanceOf(payer.addr), 1010e6);
    }

    function test_ReachesTheBoundButNotBeyond() public {
        bytes32 id = openChannel();
        token.mint(payer.addr, type(uint128).max);
        uint128 rest = type(uint128).max - DEPOSIT;
        assertRefused(encode(permit2TopUpCall(payer, id, rest + 1)), IChannelEscrow.DepositOverflow.selector);
        assertTaken(encode(permit2TopUpCall(payer, id, rest)));
        assertRefused(encode(permit2TopUpCall(payer, id, 1)), IChannelEscrow.DepositOverflow.selector);
    }

    function test_TheDeadlineIsTheLastSecond() public {
        bytes memory call = encode(permit2TopUpCall(payer, openChannel(), 1));
        skip(1);
        assertRefused(call, MinimalPermit2.SignatureExpired.selector);
        rewind(1);
        assertTaken(call);
    }

    function test_RevertWhen_AnyArgumentIsChanged() public {
        bytes memory call = encode(permit2TopUpCall(payer, openChannel(), 25e6));
        assertRefused(tampered(call, 0), IChannelEscrow.ChannelNotFound.selector);
        for (uint256 i = 1; i < 5; ++i) {
            assertRefused(tampered(call, i), MinimalPermit2.InvalidSigner.selector);
        }
        assertTaken(call);
    }

    function test_RevertWhen_TheChannelIsAnother() public {
        Permit2TopUpCall memory call = permit2TopUpCall(payer, openChannel(), 25e6);
        vm.prank(payer.addr);
        call.channelId = escrow.open(payee.addr, address(token), 1, bytes32(0), address(0));
        assertRefused(encode(call), MinimalPermit2.InvalidSigner.selector);
    }

    function test_RevertWhen_SubmittedTwice() public {
        bytes32 id = openChannel();
        Permit2TopUpCall memory call = permit2TopUpCall(payer, id, 25e6);
        assertTaken(encode(call));
        assertRefused(encode(call), MinimalPermit2.InvalidNonce.selector);
        call.nonce = 9;
        call.signature = packed(payer, permit2Digest(call));
        assertTaken(encode(call));
        assertEq(escrow.getChannel(id).deposit, DEPOSIT + 50e6);
    }

    function test_RevertGiven_NoSuchChannel() public {
        assertRefused(encode(permit2TopUpCall(payer, keccak256("none"), 1)), IChannelEscrow.ChannelNotFound.selector);
    }

    function test_RevertGiven_ChannelFinalized() public {
        bytes32 id = openChannel();
        closeAs(payee.addr, id, 0);
        assertRefused(encode(permit2TopUpCall(payer, id, 1)), IChannelEscrow.ChannelFinalized.selector);
    }

    function test_RevertWhen_DepositIsZero() public {
        assertRefused(encode(permit2TopUpCall(payer, openChannel(), 0)), IChannelEscrow.ZeroDeposit.selector);
    }

    function test_RevertGiven_Permit2IsNotThere() public {
        bytes memory call = encode(permit2TopUpCall(payer, openChannel(), 1));
        vm.etch(PERMIT2, "");
        assertRefused(call, IRelayedChannels.Permit2NotDeployed.selector);
    }

    function test_RevertWhen_TheSignatureIsNone() public {
        Permit2TopUpCall memory call = permit2TopUpCall(payer, openChannel(), 1);
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

    function test_RevertWhen_TheTokenTakesAFee() public {
        FickleToken fickle = new FickleToken();
        token = IDevToken(address(fickle));
        fund(payer.addr, 2 * DEPOSIT);
        approvePermit2(payer.addr);
        bytes32 id = openChannel();
        fickle.setFee(1);
        assertRefused(encode(permit2TopUpCall(payer, id, 10)), IChannelEscrow.UnexpectedDepositAmount.selector);
    }
}
