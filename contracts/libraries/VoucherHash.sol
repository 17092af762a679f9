// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice EIP-712 struct hash of a voucher.
library VoucherHash {
    bytes32 internal constant TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");

    function hash(bytes32 channelId, uint128 cumulativeAmount) internal pure returns (bytes32) {
        return keccak256(abi.encode(TYPEHASH, channelId, cumulativeAmount));
    }
}
