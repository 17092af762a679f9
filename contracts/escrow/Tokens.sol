// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Balances} from "./Balances.sol";

/// @title Tokens
/// @notice The escrow's list of tokens that channels were opened in.
/// @dev Append-only, and open to anyone by opening a channel: an index names a token and vouches for nothing. It lets a
/// channel remember its token in 32 bits. Two mappings and a count, because an array would read its length each time.
abstract contract Tokens is Balances {
    // slot 1
    mapping(address token => uint32 index) private _tokenIndex;
    // slot 2
    mapping(uint32 index => address token) private _tokens;
    // slot 3
    uint32 private _tokenCount;

    /// @return index From 1; zero names no token. After 4 billion tokens the count overflows, and reverts.
    function _indexOf(address token) internal returns (uint32 index) {
        index = _tokenIndex[token];
        if (index != 0) return index;

        _checkToken(token);
        index = ++_tokenCount;
        _tokenIndex[token] = index;
        _tokens[index] = token;
    }

    function _tokenAt(uint32 index) internal view returns (address) {
        return _tokens[index];
    }
}
