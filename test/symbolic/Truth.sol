// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @dev `&&` and `||` without a jump: each jump of a test doubles what a solver has to go through.

function both(bool a, bool b) pure returns (bool c) {
    assembly ("memory-safe") {
        c := and(a, b)
    }
}

function either(bool a, bool b) pure returns (bool c) {
    assembly ("memory-safe") {
        c := or(a, b)
    }
}

/// @return result The value where the condition holds, zero where it doesn't.
function where(bool condition, uint256 value) pure returns (uint256 result) {
    assembly ("memory-safe") {
        result := and(sub(0, condition), value)
    }
}
