// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IExecutorRegistry} from "../interfaces/IExecutorRegistry.sol";

/// @title Operators
/// @notice The part of the registry that knows who signs for a payee.
abstract contract Operators is IExecutorRegistry {
    /// @dev One word: a claim reads it for every signer.
    struct OperatorRecord {
        OperatorStatus status;
        uint40 retiredAt; // Unix seconds, lasts until the year 36812; zero unless retired
    }

    // slot 0
    mapping(address payee => mapping(address operator => OperatorRecord)) private _operators;

    /// @inheritdoc IExecutorRegistry
    function addOperator(address operator) external {
        // Check:
        if (operator == address(0)) revert InvalidOperator();
        if (operatorStatus(msg.sender, operator) == OperatorStatus.Active) revert OperatorAlreadyActive();

        // Effect:
        _operators[msg.sender][operator] = OperatorRecord({status: OperatorStatus.Active, retiredAt: 0});
        emit OperatorAdded(msg.sender, operator);
    }

    /// @inheritdoc IExecutorRegistry
    function removeOperator(address operator) external {
        // Check:
        if (operatorStatus(msg.sender, operator) != OperatorStatus.Active) revert OperatorNotActive();

        // Effect:
        _operators[msg.sender][operator] =
            OperatorRecord({status: OperatorStatus.Retired, retiredAt: uint40(block.timestamp)});
        emit OperatorRetired(msg.sender, operator);
    }

    /// @inheritdoc IExecutorRegistry
    function operatorStatus(address payee, address operator) public view returns (OperatorStatus) {
        return _operators[payee][operator].status;
    }

    /// @inheritdoc IExecutorRegistry
    function retiredAt(address payee, address operator) public view returns (uint40) {
        return _operators[payee][operator].retiredAt;
    }
}
