// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IUsageSettlement} from "../interfaces/IUsageSettlement.sol";

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
        return keccak256(
            abi.encode(
                RECEIPT_TYPEHASH,
                channelId,
                sequence,
                cumulativeInputTokens,
                cumulativeOutputTokens,
                cumulativeAmount,
                previousReceipt,
                billHash
            )
        );
    }

    function hashReceipt(bytes32 channelId, IUsageSettlement.ReceiptRow calldata row) internal pure returns (bytes32) {
        return hashReceipt(
            channelId,
            row.sequence,
            row.cumulativeInputTokens,
            row.cumulativeOutputTokens,
            row.cumulativeAmount,
            row.previousReceipt,
            row.billHash
        );
    }
}
