// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {MinimalPermit2} from "../permit2/MinimalPermit2.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice Whoever sees a signed call may submit it first. It changes nothing but who pays for gas: the same comes of it,
/// and whoever comes second is told by name.
contract FrontRunningTest is RelayedFixture {
    address private attacker;

    function setUp() public override {
        super.setUp();
        placePermit2();
        approvePermit2(payer.addr);
        attacker = makeAddr("attacker");
        vm.prank(payer.addr);
        escrow.deposit(address(token), DEPOSIT);
    }

    /// @dev What `call` does is the same by anybody, and the second gets `expected`.
    function assertSameByAnybody(bytes32 id, bytes memory call, bytes4 expected) private {
        uint256 snapshot = vm.snapshotState();
        vm.prank(payee.addr);
        (bool success,) = address(escrow).call(call);
        assertTrue(success);
        bytes32 outcome = stateOf(id);
        vm.revertToState(snapshot);

        vm.prank(attacker);
        (success,) = address(escrow).call(call);
        assertTrue(success);
        assertEq(stateOf(id), outcome);
        assertEq(token.balanceOf(attacker), 0);
        assertEq(escrow.balanceOf(attacker, address(token)), 0);
        assertRefused(call, expected);
        assertEq(stateOf(id), outcome);
    }

    function test_OpensAndDeposits() public {
        bytes32 id = channelIdOf(payer.addr, payee.addr, address(token), SALT, address(0));
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        bytes memory signature = sign(payer, escrowDomain(), grantHash(grant));
        bytes4 exists = IChannelEscrow.ChannelAlreadyExists.selector;
        uint256 snapshot = vm.snapshotState();
        assertSameByAnybody(id, encode(openCall(payer)), exists);
        vm.revertToState(snapshot);
        assertSameByAnybody(id, encode(permit2OpenCall(payer)), exists);
        vm.revertToState(snapshot);
        assertSameByAnybody(id, abi.encodeCall(IRelayedChannels.openWithGrant, (grant, signature)), exists);
        vm.revertToState(snapshot);
        assertSameByAnybody(id, encode(depositCall(payer, 5)), ERC3009.ERC3009UsedAuthorization.selector);
    }

    function test_TopUps() public {
        bytes32 id = openChannel();
        IRelayedChannels.TopUpGrant memory grant = IRelayedChannels.TopUpGrant(id, DEPOSIT + 5, uint64(block.timestamp));
        bytes memory signature = sign(payer, escrowDomain(), grantHash(grant));
        assertSameByAnybody(
            id, abi.encodeCall(IRelayedChannels.topUpWithGrant, (grant, signature)), IChannelEscrow.ZeroDeposit.selector
        );
        assertSameByAnybody(id, encode(topUpCall(payer, id, 5)), ERC3009.ERC3009UsedAuthorization.selector);
        assertSameByAnybody(id, encode(permit2TopUpCall(payer, id, 5)), MinimalPermit2.InvalidNonce.selector);
    }

    function test_SettlementsAndCloses() public {
        bytes32 id = openChannel();
        uint256 deadline = block.timestamp;
        bytes memory request = sign(payer, escrowDomain(), requestCloseHash(id, 1, deadline));
        assertSameByAnybody(
            id,
            abi.encodeCall(IRelayedChannels.requestCloseWithAuthorization, (id, 1, deadline, request)),
            IRelayedChannels.NonceAlreadyUsed.selector
        );
        bytes memory settle = sign(payee, escrowDomain(), settleHash(id, 40e6, 1, deadline));
        bytes memory voucher = signVoucher(payer, id, 40e6);
        assertSameByAnybody(
            id,
            abi.encodeCall(IRelayedChannels.settleWithAuthorization, (id, 40e6, 1, deadline, settle, voucher)),
            IChannelEscrow.AmountNotIncreasing.selector
        );
        bytes memory close = sign(payee, escrowDomain(), closeHash(id, 40e6, 2, deadline));
        assertSameByAnybody(
            id,
            abi.encodeCall(IRelayedChannels.closeWithAuthorization, (id, 40e6, 2, deadline, close, "")),
            IChannelEscrow.ChannelFinalized.selector
        );
    }

    // --- One signature for another purpose ---

    /// @dev The token's signature knows nothing of channels. Whatever the attacker makes of it, it is for one purpose.
    function test_AnAuthorizationIsForOnePurpose() public {
        bytes32 id = openChannel(1);
        OpenCall memory open = openCall(payer);
        open.salt = 0;
        open.nonce = openNonce(open);
        open.signature = signed(open, payer).signature;
        TopUpCall memory topUp = topUpCall(payer, id, DEPOSIT);
        DepositCall memory deposit_ = depositCall(payer, DEPOSIT);
        bytes32[3] memory nonces = [open.nonce, topUp.nonce, deposit_.nonce];
        bytes[3] memory signatures = [open.signature, topUp.signature, deposit_.signature];

        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = 0; j < 3; ++j) {
                if (i == j) continue;
                // By the nonce that the purpose derives the token refuses, by the nonce that was signed the escrow does.
                bytes memory call = withSignature(i, id, nonces[i], signatures[j]);
                assertRefused(call, ERC3009.ERC3009InvalidSignature.selector);
                call = withSignature(i, id, nonces[j], signatures[j]);
                assertRefused(call, IRelayedChannels.NonceMismatch.selector);
            }
            assertTaken(withSignature(i, id, nonces[i], signatures[i]));
        }
    }

    function withSignature(uint256 purpose, bytes32 id, bytes32 nonce, bytes memory signature)
        private
        view
        returns (bytes memory)
    {
        if (purpose == 0) {
            OpenCall memory open = openCall(payer);
            (open.salt, open.nonce, open.signature) = (0, nonce, signature);
            return encode(open);
        }
        if (purpose == 1) {
            TopUpCall memory topUp = topUpCall(payer, id, DEPOSIT);
            (topUp.nonce, topUp.signature) = (nonce, signature);
            return encode(topUp);
        }
        DepositCall memory deposit_ = depositCall(payer, DEPOSIT);
        (deposit_.nonce, deposit_.signature) = (nonce, signature);
        return encode(deposit_);
    }

    /// @dev Encodings of three, four and five words: no nonce of one purpose is one of another, whatever the values.
    function testFuzz_NoncesOfDifferentPurposesDiffer(bytes32[5] memory words) public pure {
        bytes32 deposit_ = keccak256(abi.encode(words[0], words[1], words[2]));
        bytes32 topUp = keccak256(abi.encode(words[0], words[1], words[2], words[3]));
        assertNotEq(deposit_, topUp);
        assertNotEq(topUp, keccak256(abi.encode(words)));
        assertNotEq(deposit_, keccak256(abi.encode(words)));
    }

    function test_APermitToTopUpIsNoneToOpenAndViceVersa() public {
        bytes32 id = openChannel(1);
        Permit2OpenCall memory open = permit2OpenCall(payer);
        open.salt = 0;
        Permit2TopUpCall memory topUp = permit2TopUpCall(payer, id, DEPOSIT);
        topUp.nonce = open.nonce;
        (open.signature, topUp.signature) = (packed(payer, permit2Digest(topUp)), packed(payer, permit2Digest(open)));
        assertRefused(encode(open), MinimalPermit2.InvalidSigner.selector);
        assertRefused(encode(topUp), MinimalPermit2.InvalidSigner.selector);
    }

    /// @dev The payer itself may open first, with less. Whoever serves on a grant reads the channel, not the grant.
    function test_ThePayerMayPreemptItsOwnGrantWithLess() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        bytes memory signature = sign(payer, escrowDomain(), grantHash(grant));
        bytes32 id = openChannel(1);
        assertRefused(
            abi.encodeCall(IRelayedChannels.openWithGrant, (grant, signature)),
            IChannelEscrow.ChannelAlreadyExists.selector
        );
        assertEq(escrow.getChannel(id).deposit, 1);
        assertEq(escrow.balanceOf(payer.addr, address(token)), DEPOSIT, "the grant took nothing");
    }
}
