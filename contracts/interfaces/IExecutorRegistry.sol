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

    /// @notice `operator` speaks for `payee` from now on.
    event OperatorAdded(address indexed payee, address indexed operator);
    /// @notice `operator` may do nothing new for `payee`; what it signed stays claimable.
    event OperatorRetired(address indexed payee, address indexed operator);

    /// @notice Zero is no operator.
    error InvalidOperator();
    error OperatorAlreadyActive();
    error OperatorNotActive();

    /// @notice Names `operator` for the caller; a retired one becomes active again.
    /// @dev Warning: an active operator can close the caller's channels with less than their vouchers would pay. It can
    /// never redirect money: that only goes to payee and payer.
    /// @custom:reverts InvalidOperator, OperatorAlreadyActive
    function addOperator(address operator) external;

    /// @notice Retires `operator` of the caller.
    /// @dev Bills it has signed stay claimable: the money only reaches the caller.
    /// @custom:reverts OperatorNotActive
    function removeOperator(address operator) external;

    /// @return What `operator` is to `payee`. A payee need not be its own operator.
    function operatorStatus(address payee, address operator) external view returns (OperatorStatus);
}
