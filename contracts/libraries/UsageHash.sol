// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IExecutorRegistry} from "../interfaces/IExecutorRegistry.sol";
import {IUsageSettlement} from "../interfaces/IUsageSettlement.sol";
import {EfficientHashLib} from "solady/utils/EfficientHashLib.sol";

/// @notice EIP-712 struct hashes of requests, bills and usage receipts.
library UsageHash {
    bytes32 internal constant REQUEST_TYPEHASH = keccak256(
        "InferenceRequest(bytes32 channelId,address operator,uint256 nonce,bytes32 model,bytes32 promptHash,"
        "uint32 maxInputTokens,uint32 maxOutputTokens,uint128 inputPrice,uint128 outputPrice,uint64 deadline)"
    );
    bytes32 internal constant BILL_TYPEHASH = keccak256(
        "UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,"
        "uint128 amount,uint64 completedAt)"
    );
    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "UsageReceipt(bytes32 channelId,uint64 sequence,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,"
        "uint128 cumulativeAmount,bytes32 previousReceipt,UsageBill bill)"
        "UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,"
        "uint128 amount,uint64 completedAt)"
    );

    /// @dev All members are of static types: the struct's ABI encoding is the one that EIP-712 asks for.
    function hashRequest(IExecutorRegistry.InferenceRequest calldata request) internal pure returns (bytes32) {
        return keccak256(abi.encode(REQUEST_TYPEHASH, request));
    }

    /// @dev As above.
    function hashBill(IExecutorRegistry.UsageBill calldata bill) internal pure returns (bytes32) {
        return keccak256(abi.encode(BILL_TYPEHASH, bill));
    }

    /// @param billHash Struct hash of the receipt's bill: EIP-712 encodes a nested struct by its hash.
    function hashReceipt(
        bytes32 channelId,
        uint64 sequence,
        uint64 cumulativeInputTokens,
        uint64 cumulativeOutputTokens,
        uint128 cumulativeAmount,
        bytes32 previousReceipt,
        bytes32 billHash
    ) internal pure returns (bytes32) {
        return EfficientHashLib.hash(
            RECEIPT_TYPEHASH,
            channelId,
            bytes32(uint256(sequence)),
            bytes32(uint256(cumulativeInputTokens)),
            bytes32(uint256(cumulativeOutputTokens)),
            bytes32(uint256(cumulativeAmount)),
            previousReceipt,
            billHash
        );
    }

    /// @dev The same, of a row: from `sequence` to `billHash` its six words lie in call data as EIP-712 encodes them, and
    /// are copied as they are, which saves 400 gas a row. A number too large for its type is not caught here: it makes
    /// a hash that is no receipt's, and the caller reverts when it publishes the number.
    function hashReceipt(bytes32 channelId, IUsageSettlement.ReceiptRow calldata row)
        internal
        pure
        returns (bytes32 structHash)
    {
        bytes32 typeHash = RECEIPT_TYPEHASH;
        assembly ("memory-safe") {
            let encoded := mload(0x40)
            mstore(encoded, typeHash)
            mstore(add(encoded, 0x20), channelId)
            calldatacopy(add(encoded, 0x40), add(row, 0x60), 0xc0)
            structHash := keccak256(encoded, 0x100)
        }
    }
}
