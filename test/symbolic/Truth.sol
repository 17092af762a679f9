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
