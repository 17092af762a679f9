// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SplitterFixture} from "./SplitterFixture.sol";

/// @notice Where everything lies, word by word: what was paid, and nothing else.
contract StorageTest is SplitterFixture {
    uint256 private constant TOTAL_RELEASED = 0;
    uint256 private constant RELEASED = 1;

    function load(bytes32 slot) private view returns (uint256) {
        return uint256(vm.load(address(splitter), slot));
    }

    function test_PaymentsAreByTokenThenAccount() public {
        token.mint(address(splitter), 100e6);
        splitter.release(address(token), host.addr);
        splitter.release(address(token), treasury);
        assertEq(load(keccak256(abi.encode(token, TOTAL_RELEASED))), 80e6);
        assertEq(load(keccak256(abi.encode(host.addr, keccak256(abi.encode(token, RELEASED))))), 70e6);
        assertEq(load(keccak256(abi.encode(treasury, keccak256(abi.encode(token, RELEASED))))), 10e6);
    }
}
