// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IExecutorRegistry} from "./interfaces/IExecutorRegistry.sol";

/// @title ExecutorRegistry
/// @notice See `IExecutorRegistry`, which is the manual.
contract ExecutorRegistry is IExecutorRegistry {
    // slot 0
    /// @inheritdoc IExecutorRegistry
    mapping(address payee => mapping(address operator => OperatorStatus)) public operatorStatus;

    /// @inheritdoc IExecutorRegistry
    function addOperator(address operator) external {
        // Check:
        if (operator == address(0)) revert InvalidOperator();
        if (operatorStatus[msg.sender][operator] == OperatorStatus.Active) revert OperatorAlreadyActive();

        // Effect:
        operatorStatus[msg.sender][operator] = OperatorStatus.Active;
        emit OperatorAdded(msg.sender, operator);
    }

    /// @inheritdoc IExecutorRegistry
    function removeOperator(address operator) external {
        // Check:
        if (operatorStatus[msg.sender][operator] != OperatorStatus.Active) revert OperatorNotActive();

        // Effect:
        operatorStatus[msg.sender][operator] = OperatorStatus.Retired;
        emit OperatorRetired(msg.sender, operator);
    }
}
