// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

/// @notice What tests call of `LloomDeployer`.
interface ILloomDeployer {
    function ESCROW() external view returns (IChannelEscrow);
    function SETTLEMENT() external view returns (IUsageSettlement);
    function REGISTRY() external view returns (IExecutorRegistry);
}
