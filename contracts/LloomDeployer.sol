// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ChannelEscrow} from "./ChannelEscrow.sol";
import {ExecutorRegistry} from "./ExecutorRegistry.sol";
import {UsageSettlement} from "./UsageSettlement.sol";

/// @title LloomDeployer
/// @notice Creates the registry, the escrow and the settlement in one transaction, and does nothing else ever after.
/// @dev All three know each other by immutables, so addresses must be known before there is anything at them. A
/// contract's creations are addressed by its own address and a count from 1: nothing but this constructor creates, so
/// all are known. Deployed by CREATE2 with the same salt, all four addresses are the same on every chain.
contract LloomDeployer {
    ExecutorRegistry public immutable REGISTRY;
    ChannelEscrow public immutable ESCROW;
    UsageSettlement public immutable SETTLEMENT;

    constructor() {
        (address escrow, address settlement) = (_creation(2), _creation(3));
        REGISTRY = new ExecutorRegistry(escrow, settlement);
        ESCROW = new ChannelEscrow(settlement);
        SETTLEMENT = new UsageSettlement(escrow, address(REGISTRY));
        assert(address(ESCROW) == escrow && address(SETTLEMENT) == settlement);
    }

    /// @dev Address of this contract's creation number `nonce`, below 128: `keccak256(rlp([this, nonce]))`.
    function _creation(uint8 nonce) private view returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes2(0xd694), address(this), nonce)))));
    }
}
