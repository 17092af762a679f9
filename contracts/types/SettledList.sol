// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice What a claim has settled, written row by row into memory where it is announced from: a pointer.
///
/// | bytes     |                                    |
/// |-----------|------------------------------------|
/// | 0 – 31    | where the next entry goes          |
/// | 32 – 95   | the head of an ABI-encoded array   |
/// | 96 + 64 n | channel id, `settled` of entry `n` |
///
/// @dev An array of structs in memory is an array of pointers, which the compiler copies to emit it. Writing the event's
/// data in its place saves 250 gas a row.
type SettledList is uint256;

using {push, announce} for SettledList global;

/// @param capacity How many entries are pushed at most. Not checked: the caller's loop bounds them.
function newSettledList(uint256 capacity) pure returns (SettledList list) {
    assembly ("memory-safe") {
        list := mload(0x40)
        let entries := add(list, 0x60)
        mstore(0x40, add(entries, shl(6, capacity)))
        mstore(list, entries)
    }
}

/// @param settled Nothing above its 128 bits: they would be announced as well.
function push(SettledList self, bytes32 channelId, uint128 settled) pure {
    assembly ("memory-safe") {
        let entry := mload(self)
        mstore(entry, channelId)
        mstore(add(entry, 0x20), settled)
        mstore(self, add(entry, 0x40))
    }
}

/// @notice Emits `(bytes32 indexed channelId, uint128 settled)` under topic `one` for a single entry,
/// `((bytes32 channelId, uint128 settled)[])` under topic `many` for several, and nothing for none.
function announce(SettledList self, bytes32 one, bytes32 many) {
    assembly ("memory-safe") {
        let entries := add(self, 0x60)
        let size := sub(mload(self), entries)
        switch size
        case 0 {}
        case 0x40 { log2(add(entries, 0x20), 0x20, one, mload(entries)) }
        default {
            mstore(add(self, 0x20), 0x20)
            mstore(add(self, 0x40), shr(6, size))
            log1(add(self, 0x20), add(size, 0x40), many)
        }
    }
}
