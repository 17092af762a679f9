// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @notice An account with code (ERC-1271) whose owner's key signs for it, unless it refuses.
contract ContractWallet {
    address private immutable OWNER;
    bool public refuses;

    constructor(address owner) {
        OWNER = owner;
    }

    function setRefuses(bool on) external {
        refuses = on;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        require(!refuses, "refused");
        return ECDSA.recover(digest, signature) == OWNER ? bytes4(0x1626ba7e) : bytes4(0);
    }
}
