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

/// @notice A contract signer that says yes to everything.
contract YesSigner {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x1626ba7e;
    }
}

/// @notice A contract signer that says yes as it reverts.
contract RevokingSigner {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        assembly {
            mstore(0x00, shl(224, 0x1626ba7e))
            revert(0x00, 0x20)
        }
    }
}

/// @notice A contract signer that says yes in `size` bytes, of which only the first four say it.
contract VerboseSigner {
    uint256 public immutable SIZE;

    constructor(uint256 size) {
        SIZE = size;
    }

    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        uint256 size = SIZE;
        assembly {
            mstore(0x00, shl(224, 0x1626ba7e))
            mstore(0x20, 0)
            return(0x00, size)
        }
    }
}

/// @notice A contract signer that says yes if it gets its whole allowance of 100,000 gas, but for what it takes to look.
contract HungrySigner {
    fallback() external {
        assembly {
            if lt(gas(), 99900) { revert(0, 0) }
            mstore(0x00, shl(224, 0x1626ba7e))
            return(0x00, 0x20)
        }
    }
}

/// @notice A contract signer that makes a call of its own while it is asked, and says yes if that call came through, or
/// always when it is `indifferent`.
contract ReenteringSigner {
    address private _target;
    bytes private _call;
    bool private _indifferent;

    function plan(address target, bytes calldata call, bool indifferent) external {
        (_target, _call, _indifferent) = (target, call, indifferent);
    }

    function isValidSignature(bytes32, bytes calldata) external returns (bytes4) {
        (bool success,) = _target.call{gas: gasleft() / 2}(_call);
        return success || _indifferent ? bytes4(0x1626ba7e) : bytes4(0xffffffff);
    }
}

/// @notice A contract signer whose owner changes what it says.
contract MoodySigner {
    bool public says;

    function setSays(bool yes) external {
        says = yes;
    }

    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        require(says, "no longer");
        return 0x1626ba7e;
    }
}
