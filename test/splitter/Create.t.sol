// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SplitterFixture} from "./SplitterFixture.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

contract CreateTest is SplitterFixture {
    function test_KeepsWhatItIsGiven() public view {
        assertEq(splitter.REGISTRY(), address(registry));
        assertEq(splitter.ESCROW(), address(escrow));
        assertEq(splitter.HOST(), host.addr);
        assertEq(splitter.VALIDATORS(), validators);
        assertEq(splitter.TREASURY(), treasury);
        assertEq(splitter.HOST_SHARE(), 7000);
        assertEq(splitter.VALIDATORS_SHARE(), 2000);
        assertEq(splitter.TREASURY_SHARE(), 1000);
        assertEq(splitter.shareOf(host.addr), 7000);
        assertEq(splitter.shareOf(validators), 2000);
        assertEq(splitter.shareOf(treasury), 1000);
        assertEq(splitter.shareOf(stranger), 0);
    }

    function test_AShareMayBeZeroOrAll() public {
        IRevenueSplitter all = create(host.addr, validators, treasury, 10_000, 0, 0);
        assertEq(all.shareOf(host.addr), 10_000);
        assertEq(all.shareOf(validators), 0);
    }

    function test_RolesOfOneAccountAddUp() public {
        assertEq(create(host.addr, host.addr, treasury, 7000, 2000, 1000).shareOf(host.addr), 9000);
        assertEq(create(host.addr, host.addr, host.addr, 7000, 2000, 1000).shareOf(host.addr), 10_000);
    }

    /// @dev By the opcode: `deployCode` hides why a creation reverted. And by its results: a failure of `vm.expectRevert`
    /// would be another creation that reverts.
    function expectRefused(address[5] memory with, uint16[3] memory shares, bytes memory reason) private {
        bytes memory arguments = abi.encode(
            with[0],
            with[1],
            IRevenueSplitter.Parties(with[2], with[3], with[4]),
            IRevenueSplitter.Shares(shares[0], shares[1], shares[2])
        );
        bytes memory code = bytes.concat(vm.getCode("RevenueSplitter"), arguments);
        address created;
        bytes memory answer;
        assembly ("memory-safe") {
            created := create(0, add(code, 0x20), mload(code))
            answer := mload(0x40)
            mstore(answer, returndatasize())
            returndatacopy(add(answer, 0x20), 0, returndatasize())
            mstore(0x40, and(add(add(answer, 0x3f), returndatasize()), not(0x1f)))
        }
        assertEq(created, address(0));
        assertEq(answer, reason);
    }

    function test_RevertWhen_AnAddressIsZero() public {
        for (uint256 i = 0; i < 5; ++i) {
            address[5] memory with = [address(registry), address(escrow), host.addr, validators, treasury];
            with[i] = address(0);
            expectRefused(with, [uint16(7000), 2000, 1000], abi.encodePacked(IRevenueSplitter.ZeroAddress.selector));
        }
    }

    function testFuzz_RevertWhen_TheSharesDontMakeAWhole(uint16[3] memory shares) public {
        uint256 sum = uint256(shares[0]) + shares[1] + shares[2];
        vm.assume(sum != 10_000);
        expectRefused(
            [address(registry), address(escrow), host.addr, validators, treasury],
            shares,
            abi.encodeWithSelector(IRevenueSplitter.InvalidShares.selector, sum)
        );
    }

    /// @dev A sum that is right in 16 bits, and wrong.
    function test_RevertWhen_TheSharesOverflow() public {
        expectRefused(
            [address(registry), address(escrow), host.addr, validators, treasury],
            [type(uint16).max, 10_000, 1],
            abi.encodeWithSelector(IRevenueSplitter.InvalidShares.selector, 75_536)
        );
    }
}
