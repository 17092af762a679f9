// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice A contract signer whose answer can be chosen.
contract ChoosingSigner {
    bytes private _answer;
    bytes32 private _digest;

    /// @dev Answers `answer` to a question about `digest`, and reverts otherwise.
    function choose(bytes32 digest, bytes memory answer) external {
        (_digest, _answer) = (digest, answer);
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        require(digest == _digest, "asked about another digest");
        bytes memory answer = _answer;
        assembly {
            return(add(answer, 0x20), mload(answer))
        }
    }
}

/// @notice A contract signer that burns all the gas it gets.
contract BurningSigner {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        assembly {
            invalid()
        }
    }
}

/// @notice A contract signer that tries to write while it is asked.
contract WritingSigner {
    uint256 public asked;

    function isValidSignature(bytes32, bytes calldata) external returns (bytes4) {
        ++asked;
        return 0x1626ba7e;
    }
}
