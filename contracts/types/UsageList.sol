// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IUsageSettlement} from "../interfaces/IUsageSettlement.sol";

/// @notice The usage that a claim publishes, written row by row into memory where it is announced from: a pointer.
///
/// | bytes      |                                                                             |
/// |------------|-----------------------------------------------------------------------------|
/// | 0 – 31     | where the next entry goes                                                   |
/// | 32 – 95    | the head of an ABI-encoded array                                            |
/// | 96 + 192 n | channel id, payer, sequence, cumulative input, output and amount of entry `n` |
///
/// @dev See `SettledList`. The last four words of an entry lie in call data as the event has them, and are copied as they
/// are.
type UsageList is uint256;

using {push, announce} for UsageList global;

/// @param capacity How many entries are pushed at most. Not checked: the caller's loop bounds them.
function newUsageList(uint256 capacity) pure returns (UsageList list) {
    assembly ("memory-safe") {
        list := mload(0x40)
        let entries := add(list, 0x60)
        mstore(0x40, add(entries, mul(capacity, 0xc0)))
        mstore(list, entries)
    }
}

/// @dev Reverts where a number is too large for its type: nobody could decode the event.
function push(UsageList self, bytes32 channelId, IUsageSettlement.ReceiptRow calldata row) pure {
    address payer = row.payer;
    assembly ("memory-safe") {
        let entry := mload(self)
        mstore(entry, channelId)
        mstore(add(entry, 0x20), payer)
        calldatacopy(add(entry, 0x40), add(row, 0x60), 0x80)
        let tokens := or(mload(add(entry, 0x60)), mload(add(entry, 0x80)))
        if or(shr(64, or(mload(add(entry, 0x40)), tokens)), shr(128, mload(add(entry, 0xa0)))) { revert(0, 0) }
        mstore(self, add(entry, 0xc0))
    }
}

/// @notice Emits `UsageSettled` under topic `one` for a single entry, `UsagesSettled` under topic `many` for several, and
/// nothing for none.
function announce(UsageList self, bytes32 one, bytes32 many, address payee) {
    assembly ("memory-safe") {
        let entries := add(self, 0x60)
        let size := sub(mload(self), entries)
        switch size
        case 0 {}
        case 0xc0 { log4(add(entries, 0x40), 0x80, one, mload(entries), mload(add(entries, 0x20)), payee) }
        default {
            mstore(add(self, 0x20), 0x20)
            mstore(add(self, 0x40), div(size, 0xc0))
            log2(add(self, 0x20), add(size, 0x40), many, payee)
        }
    }
}
