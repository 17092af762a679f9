// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice What the escrow needs of Permit2: a transfer on a signature that names what it is for.
interface IPermit2 {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce; // unordered, used once
        uint256 deadline; // Unix seconds
    }

    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    /// @notice Moves tokens of `owner` on its signature over the permit, the caller and the witness.
    /// @param witness Struct hash of what the owner was shown.
    /// @param witnessTypeString The tail of the permit's EIP-712 type, from the witness member on.
    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;
}
