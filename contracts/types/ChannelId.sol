// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice The name of a channel, as the draft's section "Channel State" derives it. It commits to everything about a
/// channel that never changes, so that whoever knows the id and its preimage need not ask who the channel belongs to.
function deriveChannelId(
    address payer,
    address payee,
    address token,
    bytes32 salt,
    address authorizedSigner,
    address escrow
) view returns (bytes32) {
    return keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, escrow, block.chainid));
}
