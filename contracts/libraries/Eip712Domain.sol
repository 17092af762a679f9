// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {EfficientHashLib} from "solady/utils/EfficientHashLib.sol";

/// @notice The EIP-712 domain of the calling contract.
/// @dev Computed anew each time, some 200 gas: nothing about the chain is baked into the bytecode, so a deployment's
/// code hash is the same on every chain, and a fork of the chain can't replay signatures under a cached id.
library Eip712Domain {
    bytes32 internal constant TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    function separator(bytes32 nameHash, bytes32 versionHash) internal view returns (bytes32) {
        return EfficientHashLib.hash(
            TYPEHASH, nameHash, versionHash, bytes32(block.chainid), bytes32(uint256(uint160(address(this))))
        );
    }
}
