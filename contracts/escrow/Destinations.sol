// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Balances} from "./Balances.sol";

/// @title Destinations
/// @notice The escrow's list of where channels pay to: a payee, in a token.
/// @dev Append-only, and open to anyone by opening a channel: an index names a pair and vouches for nothing. It lets a
/// channel remember 320 bits in 40, so that it takes two words, and opening one 22,100 gas less. The first channel of a
/// pair pays 71,300 for the entry; from the fourth on, all of them together are cheaper. Two mappings and a count, because
/// an array would read its length each time.
abstract contract Destinations is Balances {
    struct Destination {
        address payee;
        address token;
    }

    // slot 1
    mapping(address payee => mapping(address token => uint40 index)) private _destinationIndex;
    // slot 2
    mapping(uint40 index => Destination) private _destinations;
    // slot 3
    uint40 private _destinationCount;

    /// @return index From 1; zero names no pair. The count overflows, and reverts, after a trillion pairs: some
    /// 10^17 gas.
    function _indexOf(address payee, address token) internal returns (uint40 index) {
        index = _destinationIndex[payee][token];
        if (index != 0) return index;

        if (payee == address(0) || payee == address(this)) revert InvalidPayee();
        _checkToken(token);
        index = ++_destinationCount;
        _destinationIndex[payee][token] = index;
        _destinations[index] = Destination({payee: payee, token: token});
    }

    function _payeeAt(uint40 index) internal view returns (address) {
        return _destinations[index].payee;
    }

    function _tokenAt(uint40 index) internal view returns (address) {
        return _destinations[index].token;
    }
}
