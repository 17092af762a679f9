// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice What the escrow needs of an EIP-3009 token: the overload with the signature as bytes that USDC has had since
/// version 2.2, which the draft's relayed profile asks for.
interface IERC3009 {
    /// @notice Moves `value` from `from` to `to`, the caller, on a signature of `from`. A nonce is used once.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}
