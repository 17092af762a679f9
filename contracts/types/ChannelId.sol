// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {EfficientHashLib} from "solady/utils/EfficientHashLib.sol";

/// @notice The name of a channel, as the draft's section "Channel State" derives it:
/// `keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, escrow, block.chainid))`.
/// @dev It commits to everything about a channel that never changes, so that whoever knows the id and its preimage need
/// not ask who the channel belongs to. Hashed without `abi.encode`, which would leave 256 bytes of memory behind for
/// each row of a batch.
function deriveChannelId(
    address payer,
    address payee,
    address token,
    bytes32 salt,
    address authorizedSigner,
    address escrow
) view returns (bytes32) {
    return EfficientHashLib.hash(
        uint256(uint160(payer)),
        uint256(uint160(payee)),
        uint256(uint160(token)),
        uint256(salt),
        uint256(uint160(authorizedSigner)),
        uint256(uint160(escrow)),
        block.chainid
    );
}
