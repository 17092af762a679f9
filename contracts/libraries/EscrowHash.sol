// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IRelayedChannels} from "../interfaces/IRelayedChannels.sol";
import {EfficientHashLib} from "solady/utils/EfficientHashLib.sol";

/// @notice EIP-712 struct hashes of what is signed in the escrow's domain.
library EscrowHash {
    bytes32 internal constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");
    bytes32 internal constant SETTLE_TYPEHASH =
        keccak256("SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
    bytes32 internal constant CLOSE_TYPEHASH =
        keccak256("CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
    bytes32 internal constant REQUEST_CLOSE_TYPEHASH =
        keccak256("RequestCloseAuthorization(bytes32 channelId,uint256 nonce,uint256 deadline)");
    bytes32 internal constant CHANNEL_GRANT_TYPEHASH = keccak256(
        "ChannelGrant(address payer,address payee,address token,uint128 deposit,bytes32 salt,address authorizedSigner,"
        "uint64 deadline)"
    );
    bytes32 internal constant TOP_UP_GRANT_TYPEHASH =
        keccak256("TopUpGrant(bytes32 channelId,uint128 deposit,uint64 deadline)");

    function hashVoucher(bytes32 channelId, uint128 cumulativeAmount) internal pure returns (bytes32) {
        return EfficientHashLib.hash(VOUCHER_TYPEHASH, channelId, bytes32(uint256(cumulativeAmount)));
    }

    function hashSettle(bytes32 channelId, uint128 cumulativeAmount, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(SETTLE_TYPEHASH, channelId, cumulativeAmount, nonce, deadline));
    }

    function hashClose(bytes32 channelId, uint128 cumulativeAmount, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(CLOSE_TYPEHASH, channelId, cumulativeAmount, nonce, deadline));
    }

    function hashRequestClose(bytes32 channelId, uint256 nonce, uint256 deadline) internal pure returns (bytes32) {
        return keccak256(abi.encode(REQUEST_CLOSE_TYPEHASH, channelId, nonce, deadline));
    }

    function hashGrant(IRelayedChannels.ChannelGrant calldata grant) internal pure returns (bytes32) {
        return keccak256(abi.encode(CHANNEL_GRANT_TYPEHASH, grant));
    }

    function hashGrant(IRelayedChannels.TopUpGrant calldata grant) internal pure returns (bytes32) {
        return keccak256(abi.encode(TOP_UP_GRANT_TYPEHASH, grant));
    }
}
