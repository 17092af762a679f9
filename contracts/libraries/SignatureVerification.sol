// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "../interfaces/IChannelEscrow.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @notice Whether a signer signed a digest.
library SignatureVerification {
    /// @notice Gas a contract signer gets to answer.
    uint256 internal constant ERC1271_GAS = 100_000;

    /// @notice By key alone: low-s ECDSA in EIP-2098 form, as the rows of a batch carry it.
    function isSignedByKey(address signer, bytes32 digest, bytes32 r, bytes32 vs) internal pure returns (bool) {
        return signer != address(0) && recover(digest, r, vs) == signer;
    }

    /// @return The signer's address, zero when there is none. Zero is never a signer.
    function recover(bytes32 digest, bytes32 r, bytes32 vs) internal pure returns (address) {
        (address signer,,) = ECDSA.tryRecover(digest, r, vs);
        return signer;
    }

    /// @notice By key: 65 bytes, or 64 in EIP-2098 form.
    /// @return signer Zero when there is none. Zero is never a signer.
    function recover(bytes32 digest, bytes calldata signature) internal pure returns (address signer) {
        if (signature.length == 64) return recover(digest, bytes32(signature[:32]), bytes32(signature[32:]));
        (signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
    }

    /// @notice By key (65 bytes, or 64 in EIP-2098 form) or, where no key matches, by the signer's ERC-1271 code.
    /// @dev The order matters. A matching key is final whatever code the signer's address has: an account that gained
    /// code later (EIP-7702) can't take back what its key has signed.
    function isSigned(address signer, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        if (signer == address(0)) return false;
        return recover(digest, signature) == signer || isSignedByContract(signer, digest, signature);
    }

    /// @dev The signer's code is hostile until proven otherwise: it can't write (`staticcall`), can't burn more than
    /// its allowance, and of what it returns one word is read.
    function isSignedByContract(address signer, bytes32 digest, bytes calldata signature) private view returns (bool) {
        if (signer.code.length == 0) return false;

        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        // A call passes on at most 63/64 of the gas left; the margin pays for the call itself: 100, its address warm by
        // now, and 2,600 more where that is delegated (EIP-7702) to code that is not.
        if (gasleft() < ERC1271_GAS * 64 / 63 + 4000) revert IChannelEscrow.InsufficientGas();

        bool answered;
        bytes32 answer;
        assembly ("memory-safe") {
            answered := staticcall(ERC1271_GAS, signer, add(question, 0x20), mload(question), 0x00, 0x20)
            answered := and(answered, gt(returndatasize(), 0x1f))
            answer := mload(0x00)
        }
        return answered && answer == bytes32(IERC1271.isValidSignature.selector);
    }
}
