// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title IExecutorRegistry
/// @notice Who signs for an executor: the operators (hot keys) a payee names.
interface IExecutorRegistry {
    enum OperatorStatus {
        None,
        Active, // may sign bills, claim and close
        Retired // its signatures stay claimable; it may do nothing new
    }

    event OperatorAdded(address indexed payee, address indexed operator);
    event OperatorRetired(address indexed payee, address indexed operator);

    error InvalidOperator();
    error OperatorAlreadyActive();
    error OperatorNotActive();

    /// @notice Names `operator` for the caller; a retired one becomes active again.
    function addOperator(address operator) external;
    /// @notice Retires `operator` of the caller.
    function removeOperator(address operator) external;
    function operatorStatus(address payee, address operator) external view returns (OperatorStatus);
}
