// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "../interfaces/IChannelEscrow.sol";
import {Transfers} from "./Transfers.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

/// @title Balances
/// @notice Free money of accounts: for channels yet to be opened, or to be withdrawn.
abstract contract Balances is Transfers {
    // slot 0
    mapping(address account => mapping(address token => uint256)) private _balances;

    /// @inheritdoc IChannelEscrow
    function deposit(address token, uint256 amount) external {
        _deposit(msg.sender, token, amount);
    }

    /// @inheritdoc IChannelEscrow
    function depositFor(address account, address token, uint256 amount) external {
        _deposit(account, token, amount);
    }

    /// @inheritdoc IChannelEscrow
    function depositWithPermit(address token, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        _checkDeposit(msg.sender, token, amount);
        // Whoever sees the permit may submit it first. Then the allowance is there and this call fails: go on, and let
        // the transfer decide.
        try IERC20Permit(token).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _deposit(msg.sender, token, amount);
    }

    /// @inheritdoc IChannelEscrow
    function withdrawBalance(address token, uint256 amount, address to) external {
        // Check:
        _checkAccount(to);

        // Effect:
        _debit(msg.sender, token, amount);
        emit BalanceWithdrawn(msg.sender, token, to, amount);

        // Interaction:
        _pay(token, to, amount);
    }

    /// @inheritdoc IChannelEscrow
    function balanceOf(address account, address token) external view returns (uint256) {
        return _balances[account][token];
    }

    function _deposit(address account, address token, uint256 amount) private {
        _recordDeposit(account, token, msg.sender, amount);
        _pull(token, msg.sender, amount);
    }

    /// @dev The caller brings the money in.
    function _recordDeposit(address account, address token, address from, uint256 amount) internal {
        // Check:
        _checkDeposit(account, token, amount);

        // Effect:
        _credit(account, token, amount);
        emit Deposited(account, token, from, amount);
    }

    function _checkDeposit(address account, address token, uint256 amount) private view {
        if (amount == 0) revert ZeroDeposit();
        _checkAccount(account);
        _checkToken(token);
    }

    function _credit(address account, address token, uint256 amount) internal {
        _balances[account][token] += amount;
    }

    function _debit(address account, address token, uint256 amount) internal {
        uint256 available = _balances[account][token];
        if (amount > available) revert InsufficientBalance(available, amount);
        unchecked {
            _balances[account][token] = available - amount;
        }
    }

    /// @dev Pays, or credits `to` when the transfer fails: where one blocked receiver must not jam others.
    /// A caller with little gas can't force the credit where a transfer costs what transfers cost: one that starves leaves a
    /// 63rd of what starved it, too little to write the credit, and the whole call fails. With a transfer of 150,000
    /// gas or more, or a token that gives up by itself when gas is low, it can; the money is then in the balance. To refuse
    /// the credit whenever little is left would be worse: of a token that fails by burning all its gas, a blocked payee
    /// could never be credited, and would lose what it can't claim.
    function _payOrCredit(address token, address to, uint256 amount) internal {
        if (amount == 0 || _tryPay(token, to, amount)) return;
        _credit(to, token, amount);
        emit PayoutCredited(to, token, amount);
    }

    /// @dev What belongs to address zero or to the escrow itself could never be taken out.
    function _checkAccount(address account) private view {
        if (account == address(0) || account == address(this)) revert InvalidRecipient();
    }
}
