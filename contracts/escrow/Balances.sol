// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "../interfaces/IChannelEscrow.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Balances
/// @notice The part of the escrow that touches tokens: free money of accounts, money in, money out.
/// @dev Reentrancy. Solvency of a token means: holdings >= balances + deposits not yet paid out.
/// - Money out (`_pay`, `_payOrCredit`): every caller has recorded the payment before it starts the transfer, so code
///   that runs inside a transfer sees a state in which the money is already gone. Nothing is left to guard.
/// - Money in (`_pull`): the record may precede the transfer, and the amount received is measured. Inside the transfer
///   no other pull can start (the guard), so all that holdings can do besides is to shrink together with what is
///   owed, or to grow by a gift. If the measured sum is still the amount asked for, the escrow is solvent.
/// A token that lies about its balances harms those who use that token, and nobody else: tokens never mix.
abstract contract Balances is IChannelEscrow, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

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
        _checkToken(token);
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
        // Check:
        if (amount == 0) revert ZeroDeposit();
        _checkAccount(account);
        _checkToken(token);

        // Effect:
        _credit(account, token, amount);
        emit Deposited(account, token, msg.sender, amount);

        // Interaction:
        _pull(token, msg.sender, amount);
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

    /// @dev Takes exactly `amount` from `from`, or reverts.
    function _pull(address token, address from, uint256 amount) internal nonReentrant {
        uint256 before = IERC20(token).balanceOf(address(this));
        if (!IERC20(token).trySafeTransferFrom(from, address(this), amount)) revert TransferFailed();
        uint256 holdings = IERC20(token).balanceOf(address(this));

        uint256 received = holdings > before ? holdings - before : 0;
        if (received != amount) revert UnexpectedDepositAmount(amount, received);
    }

    /// @dev Pays or reverts: for a caller who can choose to come again.
    function _pay(address token, address to, uint256 amount) internal {
        if (!IERC20(token).trySafeTransfer(to, amount)) revert TransferFailed();
    }

    /// @dev Pays, or credits `to` when the transfer fails: where one blocked receiver must not jam others.
    /// Nobody can force the credit by calling with little gas: a transfer that starves leaves a 63rd of what starved
    /// it, too little to write the credit, and the whole call fails.
    function _payOrCredit(address token, address to, uint256 amount) internal {
        if (amount == 0 || IERC20(token).trySafeTransfer(to, amount)) return;
        _credit(to, token, amount);
        emit PayoutCredited(to, token, amount);
    }

    function _checkToken(address token) internal view {
        if (token.code.length == 0) revert InvalidToken();
    }

    /// @dev What belongs to address zero or to the escrow itself could never be taken out.
    function _checkAccount(address account) private view {
        if (account == address(0) || account == address(this)) revert InvalidRecipient();
    }
}
