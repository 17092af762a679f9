// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IUsageSettlement} from "../interfaces/IUsageSettlement.sol";
import {EfficientHashLib} from "solady/utils/EfficientHashLib.sol";

/// @notice EIP-712 struct hash of a usage receipt.
library UsageHash {
    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "UsageReceipt(bytes32 channelId,uint64 sequence,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,"
        "uint128 cumulativeAmount,bytes32 previousReceipt,UsageBill bill)"
        "UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,"
        "uint128 amount,uint64 completedAt)"
    );

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
