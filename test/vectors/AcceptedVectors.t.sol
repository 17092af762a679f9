// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ChoosingSigner} from "../adversary/Signers.sol";
import {VectorFile} from "./VectorFile.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {toChannelFunds} from "lloom/types/ChannelFunds.sol";
import {toChannelTerms} from "lloom/types/ChannelTerms.sol";

/// @notice What the escrow's relayed entry points hash is what the vectors say. Who has to sign is a wallet here that
/// answers for one digest alone: with the vector's, the escrow goes on to its other checks; with any other, it doesn't.
contract AcceptedVectorsTest is VectorFile {
    struct PayeeAuthorization {
        bytes32 channelId;
        uint128 cumulativeAmount;
        uint256 nonce;
        uint256 deadline;
    }

    struct RequestClose {
        bytes32 channelId;
        uint256 nonce;
        uint256 deadline;
    }

    bytes32 private constant MAGIC = bytes32(bytes4(0x1626ba7e));
    uint256 private constant DESTINATIONS = 2;
    uint256 private constant CHANNELS = 4;

    address private immutable PAYER = makeAddr("payer");
    address private immutable PAYEE = makeAddr("payee");

    function setUp() public {
        vm.etch(PAYER, type(ChoosingSigner).runtimeCode);
        vm.etch(PAYEE, type(ChoosingSigner).runtimeCode);
    }

    /// @dev Asks twice: with the wallet at `by` answering for the vector's digest, and for another.
    function assertAccepted(Vector memory vector, address by, bytes memory call) private {
        ChoosingSigner(by).choose(vector.digest, abi.encode(MAGIC));
        assertTrue(isTaken(vector, call), vector.name);
        ChoosingSigner(by).choose(bytes32(uint256(vector.digest) ^ 1), abi.encode(MAGIC));
        assertFalse(isTaken(vector, call), vector.name);
    }

    /// @return taken Whether the signature was. What comes of the call then, the vector's other values decide.
    function isTaken(Vector memory vector, bytes memory call) private returns (bool taken) {
        uint256 snapshot = vm.snapshotState();
        (bool success, bytes memory answer) = vector.domain.verifyingContract.call(call);
        taken = success || bytes4(answer) != IChannelEscrow.InvalidSignature.selector;
        vm.revertToState(snapshot);
    }

    /// @dev An open channel under the vector's id, made by hand, since no parameters are known that hash to it.
    function putChannel(Vector memory vector, bytes32 id) private {
        address escrow = address(escrowOf(vector.domain));
        bytes32 destination = keccak256(abi.encode(1, DESTINATIONS));
        vm.store(escrow, destination, bytes32(uint256(uint160(PAYEE))));
        bytes32 slot = keccak256(abi.encode(id, CHANNELS));
        vm.store(escrow, slot, bytes32(abi.encode(toChannelFunds(0, type(uint128).max))));
        vm.store(escrow, bytes32(uint256(slot) + 1), bytes32(abi.encode(toChannelTerms(PAYER, 1, false, false))));
        assertEq(IChannelEscrow(escrow).getChannel(id).payer, PAYER);
        assertEq(IChannelEscrow(escrow).getChannel(id).payee, PAYEE);
    }

    function test_ChannelGrant() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(
            "ChannelGrant(address payer,address payee,address token,uint128 deposit,bytes32 salt,address authorizedSigner,uint64 deadline)"
        );
        uint256 accepted = 0;
        for (uint256 i = 0; i < vectors.length; ++i) {
            escrowOf(vectors[i].domain);
            IRelayedChannels.ChannelGrant memory grant = abi.decode(messages[i], (IRelayedChannels.ChannelGrant));
            bytes memory call = abi.encodeCall(IRelayedChannels.openWithGrant, (grant, ""));
            if (grant.payer == address(0)) {
                assertFalse(isTaken(vectors[i], call), "nobody signs for nobody");
                continue;
            }
            vm.etch(grant.payer, type(ChoosingSigner).runtimeCode);
            assertAccepted(vectors[i], grant.payer, call);
            ++accepted;
        }
        assertGt(accepted, 0);
    }

    function test_TopUpGrant() public {
        (Vector[] memory vectors, bytes[] memory messages) =
            load("TopUpGrant(bytes32 channelId,uint128 deposit,uint64 deadline)");
        for (uint256 i = 0; i < vectors.length; ++i) {
            IRelayedChannels.TopUpGrant memory grant = abi.decode(messages[i], (IRelayedChannels.TopUpGrant));
            putChannel(vectors[i], grant.channelId);
            assertAccepted(vectors[i], PAYER, abi.encodeCall(IRelayedChannels.topUpWithGrant, (grant, "")));
        }
    }

    function test_RequestCloseAuthorization() public {
        (Vector[] memory vectors, bytes[] memory messages) =
            load("RequestCloseAuthorization(bytes32 channelId,uint256 nonce,uint256 deadline)");
        for (uint256 i = 0; i < vectors.length; ++i) {
            RequestClose memory request = abi.decode(messages[i], (RequestClose));
            putChannel(vectors[i], request.channelId);
            bytes memory call = abi.encodeCall(
                IRelayedChannels.requestCloseWithAuthorization, (request.channelId, request.nonce, request.deadline, "")
            );
            assertAccepted(vectors[i], PAYER, call);
        }
    }

    function test_SettleAuthorization() public {
        (Vector[] memory vectors, bytes[] memory messages) =
            load("SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
        uint256 accepted = 0;
        for (uint256 i = 0; i < vectors.length; ++i) {
            PayeeAuthorization memory authorization = abi.decode(messages[i], (PayeeAuthorization));
            if (authorization.cumulativeAmount == 0) continue; // refused before any signature is looked at
            putChannel(vectors[i], authorization.channelId);
            signVoucher(vectors[i], authorization);
            assertAccepted(vectors[i], PAYEE, callOf(IRelayedChannels.settleWithAuthorization.selector, authorization));
            ++accepted;
        }
        assertGt(accepted, 0);
    }

    function test_CloseAuthorization() public {
        (Vector[] memory vectors, bytes[] memory messages) =
            load("CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
        for (uint256 i = 0; i < vectors.length; ++i) {
            PayeeAuthorization memory authorization = abi.decode(messages[i], (PayeeAuthorization));
            putChannel(vectors[i], authorization.channelId);
            signVoucher(vectors[i], authorization);
            assertAccepted(vectors[i], PAYEE, callOf(IRelayedChannels.closeWithAuthorization.selector, authorization));
        }
    }

    function callOf(bytes4 selector, PayeeAuthorization memory authorization) private pure returns (bytes memory) {
        return abi.encodeWithSelector(
            selector,
            authorization.channelId,
            authorization.cumulativeAmount,
            authorization.nonce,
            authorization.deadline,
            "",
            ""
        );
    }

    /// @dev The payer's wallet stands for the voucher; the payee's is asked about the authorization.
    function signVoucher(Vector memory vector, PayeeAuthorization memory authorization) private {
        bytes32 digest =
            escrowOf(vector.domain).getVoucherDigest(authorization.channelId, authorization.cumulativeAmount);
        ChoosingSigner(PAYER).choose(digest, abi.encode(MAGIC));
    }
}
