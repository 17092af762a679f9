// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RegistryFixture} from "./RegistryFixture.sol";

/// @notice Where everything lies, word by word. A change here is a change of gas, and of what proofs of storage say.
contract StorageTest is RegistryFixture {
    uint256 private constant OPERATORS = 0;
    uint256 private constant BONDS = 1;
    uint256 private constant WITHDRAWABLE = 2;
    uint256 private constant CHARGED = 3;

    function load(bytes32 slot) private view returns (uint256) {
        return uint256(vm.load(address(registry), slot));
    }

    function bondWord(uint256 word) private view returns (uint256) {
        return load(bytes32(uint256(keccak256(abi.encode(payee.addr, BONDS))) + word));
    }

    function test_AnOperatorTakesOneWord() public {
        bytes32 slot = keccak256(abi.encode(operator.addr, keccak256(abi.encode(payee.addr, OPERATORS))));
        assertEq(load(slot), 1);
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        assertEq(load(slot), uint256(1_800_000_000) << 8 | 2);
    }

    function test_ABondTakesTwoWords() public {
        giveBond(BOND);
        requestUnbond(7);
        assertEq(bondWord(0), uint256(1_800_000_000 + DELAY) << 160 | uint160(address(bondToken)));
        assertEq(bondWord(1), uint256(7) << 128 | BOND);
        assertEq(bondWord(2), 0);
    }

    function test_NothingIsLeftOfABondThatIsGone() public {
        giveBond(BOND);
        requestUnbond(BOND);
        skip(DELAY);
        withdrawBond();
        assertEq(bondWord(0), 0);
        assertEq(bondWord(1), 0);
    }

    function test_SharesAreByAccountThenToken() public {
        giveBond(BOND);
        reportOvercharge(1);
        assertEq(load(keccak256(abi.encode(bondToken, keccak256(abi.encode(payer.addr, WITHDRAWABLE))))), 40e6);
    }

    function test_ChargedFaultsAreByChannelThenRequest() public {
        giveBond(BOND);
        reportOvercharge(1);
        bytes32 requestHash = hashOf(makeRequest(1));
        assertEq(load(keccak256(abi.encode(requestHash, keccak256(abi.encode(channelId, CHARGED))))), 1);
    }
}
