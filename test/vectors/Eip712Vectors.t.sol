// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {VectorFile} from "./VectorFile.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {IPermit2} from "lloom/interfaces/external/IPermit2.sol";

/// @notice The test vectors against Solidity's own encoding, and against what the contracts say. Each type has a test:
/// it hashes the messages by the type string written here, and then asks the contract whose domain they belong to.
contract Eip712VectorsTest is VectorFile {
    struct Voucher {
        bytes32 channelId;
        uint128 cumulativeAmount;
    }

    /// @dev Of a `SettleAuthorization` and of a `CloseAuthorization`.
    struct PayeeAuthorization {
        bytes32 channelId;
        uint128 cumulativeAmount;
        uint256 nonce;
        uint256 deadline;
    }

    struct RequestCloseAuthorization {
        bytes32 channelId;
        uint256 nonce;
        uint256 deadline;
    }

    struct UsageReceipt {
        bytes32 channelId;
        uint64 sequence;
        uint64 cumulativeInputTokens;
        uint64 cumulativeOutputTokens;
        uint128 cumulativeAmount;
        bytes32 previousReceipt;
        IExecutorRegistry.UsageBill bill;
    }

    struct TowerAppointment {
        bytes32 channelId;
        address tower;
        address operator;
        uint128 cumulativeAmount;
        uint128 claimAmount;
        uint128 minimumValue;
        uint128 maxFeePerGas;
        uint64 takenAt;
        uint64 expiresAt;
    }

    struct ReceiveWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    struct ChannelOpenWitness {
        address payee;
        bytes32 salt;
        address authorizedSigner;
    }

    struct PermitToOpen {
        IPermit2.TokenPermissions permitted;
        address spender;
        uint256 nonce;
        uint256 deadline;
        ChannelOpenWitness witness;
    }

    struct ChannelTopUpWitness {
        bytes32 channelId;
    }

    struct PermitToTopUp {
        IPermit2.TokenPermissions permitted;
        address spender;
        uint256 nonce;
        uint256 deadline;
        ChannelTopUpWitness witness;
    }

    struct NamedDomain {
        string name;
        uint256 chainId;
        address verifyingContract;
    }

    struct ChannelPreimage {
        address payer;
        address payee;
        address token;
        bytes32 salt;
        address authorizedSigner;
        address escrow;
        uint256 chainId;
    }

    struct OpenNoncePreimage {
        address from;
        address payee;
        address token;
        bytes32 salt;
        address authorizedSigner;
    }

    struct TopUpNoncePreimage {
        bytes32 channelId;
        uint128 additionalDeposit;
        address from;
        bytes32 topUpSalt;
    }

    struct DepositNoncePreimage {
        address from;
        address token;
        bytes32 depositSalt;
    }

    string private constant VOUCHER = "Voucher(bytes32 channelId,uint128 cumulativeAmount)";
    string private constant SETTLE =
        "SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)";
    string private constant CLOSE =
        "CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)";
    string private constant REQUEST_CLOSE =
        "RequestCloseAuthorization(bytes32 channelId,uint256 nonce,uint256 deadline)";
    string private constant GRANT =
        "ChannelGrant(address payer,address payee,address token,uint128 deposit,bytes32 salt,address authorizedSigner,uint64 deadline)";
    string private constant TOP_UP_GRANT = "TopUpGrant(bytes32 channelId,uint128 deposit,uint64 deadline)";
    string private constant REQUEST =
        "InferenceRequest(bytes32 channelId,address operator,uint256 nonce,bytes32 model,bytes32 promptHash,uint32 maxInputTokens,uint32 maxOutputTokens,uint128 inputPrice,uint128 outputPrice,uint64 deadline)";
    string private constant BILL =
        "UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,uint128 amount,uint64 completedAt)";
    string private constant RECEIPT =
        "UsageReceipt(bytes32 channelId,uint64 sequence,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,uint128 cumulativeAmount,bytes32 previousReceipt,UsageBill bill)UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,uint128 amount,uint64 completedAt)";
    string private constant APPOINTMENT =
        "TowerAppointment(bytes32 channelId,address tower,address operator,uint128 cumulativeAmount,uint128 claimAmount,uint128 minimumValue,uint128 maxFeePerGas,uint64 takenAt,uint64 expiresAt)";
    string private constant RECEIVE =
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)";

    // Permit2's type is its stub and a witness type string, which the escrow gives it.
    string private constant PERMIT_STUB =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";
    string private constant TOKEN_PERMISSIONS = "TokenPermissions(address token,uint256 amount)";
    string private constant OPEN_WITNESS = "ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)";
    string private constant OPEN_WITNESS_TYPE =
        "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)";
    string private constant TOP_UP_WITNESS = "ChannelTopUpWitness(bytes32 channelId)";
    string private constant TOP_UP_WITNESS_TYPE =
        "ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)";

    // --- Nothing in the file goes untested ---

    function test_EveryVectorIsOfATypeTestedHere() public view {
        string[13] memory known = [
            VOUCHER,
            SETTLE,
            CLOSE,
            REQUEST_CLOSE,
            GRANT,
            TOP_UP_GRANT,
            REQUEST,
            BILL,
            RECEIPT,
            APPOINTMENT,
            RECEIVE,
            string.concat(PERMIT_STUB, OPEN_WITNESS_TYPE),
            string.concat(PERMIT_STUB, TOP_UP_WITNESS_TYPE)
        ];
        Vector[] memory vectors = allVectors(vm.readFile(FILE));
        for (uint256 i = 0; i < vectors.length; ++i) {
            bool found = false;
            for (uint256 j = 0; j < known.length; ++j) {
                found = found || same(vectors[i].encodedType, known[j]);
            }
            assertTrue(found, vectors[i].name);
        }
    }

    function test_EveryDerivationIsOfAKindTestedHere() public view {
        string[5] memory known = ["channelId", "openNonce", "topUpNonce", "depositNonce", "domainSeparator"];
        Derivation[] memory derivations = allDerivations(vm.readFile(FILE));
        for (uint256 i = 0; i < derivations.length; ++i) {
            bool found = false;
            for (uint256 j = 0; j < known.length; ++j) {
                found = found || same(derivations[i].kind, known[j]);
            }
            assertTrue(found, derivations[i].name);
        }
    }

    // --- The escrow's domain ---

    function test_Voucher() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(VOUCHER);
        for (uint256 i = 0; i < vectors.length; ++i) {
            Voucher memory voucher = abi.decode(messages[i], (Voucher));
            bytes32 structHash =
                keccak256(abi.encode(keccak256(bytes(VOUCHER)), voucher.channelId, voucher.cumulativeAmount));
            check(vectors[i], "EVM Payment Channel", structHash);

            IChannelEscrow escrow = escrowOf(vectors[i].domain);
            assertEq(
                escrow.getVoucherDigest(voucher.channelId, voucher.cumulativeAmount), vectors[i].digest, vectors[i].name
            );
        }
    }

    function test_SettleAuthorization() public {
        checkPayeeAuthorizations(SETTLE);
    }

    function test_CloseAuthorization() public {
        checkPayeeAuthorizations(CLOSE);
    }

    function test_RequestCloseAuthorization() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(REQUEST_CLOSE);
        for (uint256 i = 0; i < vectors.length; ++i) {
            RequestCloseAuthorization memory request = abi.decode(messages[i], (RequestCloseAuthorization));
            bytes32 structHash = keccak256(
                abi.encode(keccak256(bytes(REQUEST_CLOSE)), request.channelId, request.nonce, request.deadline)
            );
            check(vectors[i], "EVM Payment Channel", structHash);
        }
    }

    function test_ChannelGrant() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(GRANT);
        for (uint256 i = 0; i < vectors.length; ++i) {
            IRelayedChannels.ChannelGrant memory grant = abi.decode(messages[i], (IRelayedChannels.ChannelGrant));
            bytes32 structHash = keccak256(
                abi.encode(
                    keccak256(bytes(GRANT)),
                    grant.payer,
                    grant.payee,
                    grant.token,
                    grant.deposit,
                    grant.salt,
                    grant.authorizedSigner,
                    grant.deadline
                )
            );
            check(vectors[i], "EVM Payment Channel", structHash);
        }
    }

    function test_TopUpGrant() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(TOP_UP_GRANT);
        for (uint256 i = 0; i < vectors.length; ++i) {
            IRelayedChannels.TopUpGrant memory grant = abi.decode(messages[i], (IRelayedChannels.TopUpGrant));
            bytes32 structHash =
                keccak256(abi.encode(keccak256(bytes(TOP_UP_GRANT)), grant.channelId, grant.deposit, grant.deadline));
            check(vectors[i], "EVM Payment Channel", structHash);
        }
    }

    function checkPayeeAuthorizations(string memory encodedType) private {
        (Vector[] memory vectors, bytes[] memory messages) = load(encodedType);
        for (uint256 i = 0; i < vectors.length; ++i) {
            PayeeAuthorization memory authorization = abi.decode(messages[i], (PayeeAuthorization));
            bytes32 structHash = keccak256(
                abi.encode(
                    keccak256(bytes(encodedType)),
                    authorization.channelId,
                    authorization.cumulativeAmount,
                    authorization.nonce,
                    authorization.deadline
                )
            );
            check(vectors[i], "EVM Payment Channel", structHash);
        }
    }

    // --- The settlement's domain ---

    function test_InferenceRequest() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(REQUEST);
        for (uint256 i = 0; i < vectors.length; ++i) {
            IExecutorRegistry.InferenceRequest memory request =
                abi.decode(messages[i], (IExecutorRegistry.InferenceRequest));
            bytes32 structHash = keccak256(
                abi.encode(
                    keccak256(bytes(REQUEST)),
                    request.channelId,
                    request.operator,
                    request.nonce,
                    request.model,
                    request.promptHash,
                    request.maxInputTokens,
                    request.maxOutputTokens,
                    request.inputPrice,
                    request.outputPrice,
                    request.deadline
                )
            );
            check(vectors[i], "Lloom", structHash);
        }
    }

    function test_UsageBill() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(BILL);
        for (uint256 i = 0; i < vectors.length; ++i) {
            bytes32 structHash = hash(abi.decode(messages[i], (IExecutorRegistry.UsageBill)));
            check(vectors[i], "Lloom", structHash);

            IUsageSettlement settlement = settlementOf(vectors[i].domain);
            assertEq(settlement.getBillDigest(structHash), vectors[i].digest, vectors[i].name);
        }
    }

    function test_UsageReceipt() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(RECEIPT);
        for (uint256 i = 0; i < vectors.length; ++i) {
            UsageReceipt memory receipt = abi.decode(messages[i], (UsageReceipt));
            bytes32 billHash = hash(receipt.bill);
            bytes32 structHash = keccak256(
                abi.encode(
                    keccak256(bytes(RECEIPT)),
                    receipt.channelId,
                    receipt.sequence,
                    receipt.cumulativeInputTokens,
                    receipt.cumulativeOutputTokens,
                    receipt.cumulativeAmount,
                    receipt.previousReceipt,
                    billHash
                )
            );
            check(vectors[i], "Lloom", structHash);

            bytes32 digest = settlementOf(vectors[i].domain)
                .getReceiptDigest(
                    receipt.channelId,
                    receipt.sequence,
                    receipt.cumulativeInputTokens,
                    receipt.cumulativeOutputTokens,
                    receipt.cumulativeAmount,
                    receipt.previousReceipt,
                    billHash
                );
            assertEq(digest, vectors[i].digest, vectors[i].name);
        }
    }

    /// @dev A tower's word to an executor: no contract is asked.
    function test_TowerAppointment() public view {
        (Vector[] memory vectors, bytes[] memory messages) = load(APPOINTMENT);
        for (uint256 i = 0; i < vectors.length; ++i) {
            TowerAppointment memory appointment = abi.decode(messages[i], (TowerAppointment));
            bytes32 structHash = keccak256(abi.encode(keccak256(bytes(APPOINTMENT)), appointment));
            check(vectors[i], "Lloom", structHash);
        }
    }

    function hash(IExecutorRegistry.UsageBill memory bill) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(bytes(BILL)),
                bill.channelId,
                bill.requestHash,
                bill.responseHash,
                bill.inputTokens,
                bill.outputTokens,
                bill.amount,
                bill.completedAt
            )
        );
    }

    // --- Foreign domains ---

    function test_ReceiveWithAuthorization() public {
        (Vector[] memory vectors, bytes[] memory messages) = load(RECEIVE);
        for (uint256 i = 0; i < vectors.length; ++i) {
            ReceiveWithAuthorization memory transfer = abi.decode(messages[i], (ReceiveWithAuthorization));
            bytes32 structHash = keccak256(
                abi.encode(
                    keccak256(bytes(RECEIVE)),
                    transfer.from,
                    transfer.to,
                    transfer.value,
                    transfer.validAfter,
                    transfer.validBefore,
                    transfer.nonce
                )
            );
            check(vectors[i], "Lloom Dev Token", structHash);

            // The extremes aren't signed by whom they name.
            if (vectors[i].signer == transfer.from) receiveTokens(vectors[i], transfer);
        }
    }

    function test_PermitToOpen() public {
        string memory encodedType = string.concat(PERMIT_STUB, OPEN_WITNESS_TYPE);
        (Vector[] memory vectors, bytes[] memory messages) = load(encodedType);
        for (uint256 i = 0; i < vectors.length; ++i) {
            PermitToOpen memory permit = abi.decode(messages[i], (PermitToOpen));
            ChannelOpenWitness memory witness = permit.witness;
            bytes32 witnessHash = keccak256(
                abi.encode(keccak256(bytes(OPEN_WITNESS)), witness.payee, witness.salt, witness.authorizedSigner)
            );
            bytes32 structHash = keccak256(
                abi.encode(
                    keccak256(bytes(encodedType)),
                    hash(permit.permitted),
                    permit.spender,
                    permit.nonce,
                    permit.deadline,
                    witnessHash
                )
            );
            checkIn(permit2Domain(vectors[i].domain), vectors[i], structHash);
        }
    }

    function test_PermitToTopUp() public {
        string memory encodedType = string.concat(PERMIT_STUB, TOP_UP_WITNESS_TYPE);
        (Vector[] memory vectors, bytes[] memory messages) = load(encodedType);
        for (uint256 i = 0; i < vectors.length; ++i) {
            PermitToTopUp memory permit = abi.decode(messages[i], (PermitToTopUp));
            bytes32 witnessHash = keccak256(abi.encode(keccak256(bytes(TOP_UP_WITNESS)), permit.witness.channelId));
            bytes32 structHash = keccak256(
                abi.encode(
                    keccak256(bytes(encodedType)),
                    hash(permit.permitted),
                    permit.spender,
                    permit.nonce,
                    permit.deadline,
                    witnessHash
                )
            );
            checkIn(permit2Domain(vectors[i].domain), vectors[i], structHash);
        }
    }

    function receiveTokens(Vector memory vector, ReceiveWithAuthorization memory transfer) private {
        IDevToken token = tokenOf(vector.domain);
        token.mint(transfer.from, transfer.value);
        uint256 held = token.balanceOf(transfer.to);
        vm.warp(transfer.validBefore - 1);
        vm.prank(transfer.to);
        token.receiveWithAuthorization(
            transfer.from,
            transfer.to,
            transfer.value,
            transfer.validAfter,
            transfer.validBefore,
            transfer.nonce,
            vector.signature
        );
        assertEq(token.balanceOf(transfer.to), held + transfer.value, vector.name);
    }

    function hash(IPermit2.TokenPermissions memory permitted) private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(TOKEN_PERMISSIONS)), permitted.token, permitted.amount));
    }

    // --- Derivations ---

    function test_ChannelId() public {
        (Derivation[] memory derivations, bytes[] memory inputs) = loadDerivations(
            "channelId",
            "ChannelPreimage(address payer,address payee,address token,bytes32 salt,address authorizedSigner,address escrow,uint256 chainId)"
        );
        for (uint256 i = 0; i < derivations.length; ++i) {
            ChannelPreimage memory channel = abi.decode(inputs[i], (ChannelPreimage));
            bytes memory encoded = abi.encode(
                channel.payer,
                channel.payee,
                channel.token,
                channel.salt,
                channel.authorizedSigner,
                channel.escrow,
                channel.chainId
            );
            check(derivations[i], encoded);

            bytes32 id = escrowOf(Domain(channel.chainId, channel.escrow))
                .computeChannelId(channel.payer, channel.payee, channel.token, channel.salt, channel.authorizedSigner);
            assertEq(id, derivations[i].hash, derivations[i].name);
        }
    }

    function test_OpenNonce() public view {
        (Derivation[] memory derivations, bytes[] memory inputs) = loadDerivations(
            "openNonce",
            "OpenNoncePreimage(address from,address payee,address token,bytes32 salt,address authorizedSigner)"
        );
        for (uint256 i = 0; i < derivations.length; ++i) {
            OpenNoncePreimage memory nonce = abi.decode(inputs[i], (OpenNoncePreimage));
            check(derivations[i], abi.encode(nonce.from, nonce.payee, nonce.token, nonce.salt, nonce.authorizedSigner));
        }
    }

    function test_TopUpNonce() public view {
        (Derivation[] memory derivations, bytes[] memory inputs) = loadDerivations(
            "topUpNonce",
            "TopUpNoncePreimage(bytes32 channelId,uint128 additionalDeposit,address from,bytes32 topUpSalt)"
        );
        for (uint256 i = 0; i < derivations.length; ++i) {
            TopUpNoncePreimage memory nonce = abi.decode(inputs[i], (TopUpNoncePreimage));
            check(derivations[i], abi.encode(nonce.channelId, nonce.additionalDeposit, nonce.from, nonce.topUpSalt));
        }
    }

    function test_DepositNonce() public view {
        (Derivation[] memory derivations, bytes[] memory inputs) =
            loadDerivations("depositNonce", "DepositNoncePreimage(address from,address token,bytes32 depositSalt)");
        for (uint256 i = 0; i < derivations.length; ++i) {
            DepositNoncePreimage memory nonce = abi.decode(inputs[i], (DepositNoncePreimage));
            check(derivations[i], abi.encode(nonce.from, nonce.token, nonce.depositSalt));
        }
    }

    function test_DomainSeparator() public {
        (Derivation[] memory derivations, bytes[] memory inputs) =
            loadDerivations("domainSeparator", "NamedDomain(string name,uint256 chainId,address verifyingContract)");
        for (uint256 i = 0; i < derivations.length; ++i) {
            NamedDomain memory named = abi.decode(inputs[i], (NamedDomain));
            Domain memory domain = Domain(named.chainId, named.verifyingContract);
            bytes32 separator = same(named.name, "Permit2") ? permit2Domain(domain) : domainOf(named.name, domain);
            assertEq(derivations[i].hash, separator, derivations[i].name);
            assertEq(derivations[i].hash, keccak256(derivations[i].encoded), derivations[i].name);

            if (same(named.name, "EVM Payment Channel")) assertEq(escrowOf(domain).domainSeparator(), separator);
            else if (same(named.name, "Lloom")) assertEq(settlementOf(domain).domainSeparator(), separator);
            else if (same(named.name, "Lloom Dev Token")) assertEq(tokenOf(domain).DOMAIN_SEPARATOR(), separator);
            else assertEq(named.name, "Permit2");
        }
    }

    function check(Derivation memory derivation, bytes memory encoded) private pure {
        assertEq(derivation.encoded, encoded, derivation.name);
        assertEq(derivation.hash, keccak256(encoded), derivation.name);
    }

    // --- What a vector claims ---

    function check(Vector memory vector, string memory domainName, bytes32 structHash) private pure {
        checkIn(domainOf(domainName, vector.domain), vector, structHash);
    }

    function checkIn(bytes32 separator, Vector memory vector, bytes32 structHash) private pure {
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator, structHash));
        assertEq(vector.domainSeparator, separator, vector.name);
        assertEq(vector.structHash, structHash, vector.name);
        assertEq(vector.digest, digest, vector.name);

        bytes memory compact = vector.compactSignature;
        assertEq(compact.length, 64, vector.name);
        (bytes32 r, uint256 vs) = abi.decode(compact, (bytes32, uint256));
        (bytes32 s, uint8 v) = (bytes32(vs << 1 >> 1), uint8(27 + (vs >> 255)));
        assertEq(ecrecover(digest, v, r, s), vector.signer, vector.name);
        assertEq(vector.signature, abi.encodePacked(r, s, v), vector.name);
    }

    function domainOf(string memory name, Domain memory domain) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                domain.chainId,
                domain.verifyingContract
            )
        );
    }

    function permit2Domain(Domain memory domain) private pure returns (bytes32) {
        assertEq(domain.verifyingContract, 0x000000000022D473030F116dDEE9F6B43aC78BA3);
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                domain.chainId,
                domain.verifyingContract
            )
        );
    }
}
