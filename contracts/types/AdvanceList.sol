// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "../interfaces/IChannelEscrow.sol";

/// @notice The call data of `IChannelEscrow.advanceChannels`, written row by row into memory: a pointer.
///
/// | bytes      |                                                                         |
/// |------------|-------------------------------------------------------------------------|
/// | 28 – 31    | selector                                                                |
/// | 32 – 159   | payee, token, where the array is (ABI), number of rows                  |
/// | 160 + 64 n | channel id, amount of row `n`, both zero for a gap                      |
///
/// @dev An array of structs in memory is an array of pointers, which the compiler copies to pass it on. Writing the call
/// in its place saves 300 gas a row.
type AdvanceList is uint256;

using {set, channelAt, send} for AdvanceList global;

/// @dev The rows are not zeroed: `set` every one of them.
function newAdvanceList(address payee, address token, uint256 count) pure returns (AdvanceList list) {
    bytes4 selector = IChannelEscrow.advanceChannels.selector;
    assembly ("memory-safe") {
        list := mload(0x40)
        mstore(0x40, add(list, add(0xa0, shl(6, count))))
        mstore(list, shr(224, selector))
        mstore(add(list, 0x20), payee)
        mstore(add(list, 0x40), token)
        mstore(add(list, 0x60), 0x60)
        mstore(add(list, 0x80), count)
    }
}

/// @param index Below the list's count: not checked.
/// @param amount Nothing above its 128 bits: the escrow would refuse the whole call.
function set(AdvanceList self, uint256 index, bytes32 channelId, uint128 amount) pure {
    assembly ("memory-safe") {
        let row := add(self, add(0xa0, shl(6, index)))
        mstore(row, channelId)
        mstore(add(row, 0x20), amount)
    }
}

/// @param index Below the list's count: not checked.
function channelAt(AdvanceList self, uint256 index) pure returns (bytes32 channelId) {
    assembly ("memory-safe") {
        channelId := mload(add(self, add(0xa0, shl(6, index))))
    }
}

/// @param escrow The escrow itself: its answer is taken as it comes.
/// @return settledRows What `advanceChannels` returns. If that reverts, so does this, with the same data.
function send(AdvanceList self, address escrow) returns (uint256[] memory settledRows) {
    assembly ("memory-safe") {
        let size := add(0x84, shl(6, mload(add(self, 0x80))))
        let success := call(gas(), escrow, 0, add(self, 0x1c), size, 0, 0)
        settledRows := mload(0x40)
        if iszero(success) {
            returndatacopy(settledRows, 0, returndatasize())
            revert(settledRows, returndatasize())
        }
        // After the word that says where it is, an array is returned as it lies in memory.
        size := sub(returndatasize(), 0x20)
        returndatacopy(settledRows, 0x20, size)
        mstore(0x40, add(settledRows, size))
    }
}
