// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {EfficientHashLib} from "solady/utils/EfficientHashLib.sol";

/// @notice EIP-712 struct hash of a voucher.
library VoucherHash {
    bytes32 internal constant TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");

    function hash(bytes32 channelId, uint128 cumulativeAmount) internal pure returns (bytes32) {
        return EfficientHashLib.hash(TYPEHASH, channelId, bytes32(uint256(cumulativeAmount)));
    }
}
