// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IExecutorRegistry} from "../interfaces/IExecutorRegistry.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title Bonds
/// @notice The part of the registry that touches tokens: bonds, their slices, and the shares in those.
/// @dev Reentrancy. Solvency of a token means: holdings >= bonds + withdrawable shares + what refused to be burned.
/// - Money out (`_pay`, `_burn`): every caller has recorded it as gone before the transfer starts, so code that runs
///   inside a transfer sees a state in which nothing is left to take.
/// - Money in (`bond`): the record precedes the transfer, and the amount received is measured. Inside the transfer no
///   other pull can start (the guard), so all that holdings can do besides is to shrink together with what is owed, or
///   to grow by a gift. If the measured sum is still the amount asked for, the token is solvent. A bond that is
///   punished or withdrawn before it arrives makes the sum fall short, and all of that is undone.
/// A token that lies about its balances harms those who use that token, and nobody else: tokens never mix.
abstract contract Bonds is IExecutorRegistry, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    uint256 private constant BASIS_POINTS = 10_000;
    /// @dev Nobody has its key. Not zero, to which most tokens refuse to transfer.
    address private constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;

    /// @inheritdoc IExecutorRegistry
    uint64 public constant UNBONDING_DELAY = 7 days;
    /// @inheritdoc IExecutorRegistry
    uint256 public constant SLICE_SHARE = 1000;
    /// @inheritdoc IExecutorRegistry
    uint256 public constant PAYER_SHARE = 4000;
    /// @inheritdoc IExecutorRegistry
    uint256 public constant REPORTER_SHARE = 1000;

    // slot 1
    mapping(address payee => Bond) private _bonds;
    // slot 2
    mapping(address account => mapping(address token => uint256)) private _withdrawable;

    /// @inheritdoc IExecutorRegistry
    function bond(address token, uint128 amount) external {
        // Check:
        if (amount == 0) revert ZeroBond();
        if (token.code.length == 0) revert InvalidToken();
        Bond storage held = _bonds[msg.sender];
        uint128 before = held.amount;
        if (before != 0 && held.token != token) revert BondTokenFixed(held.token);
        if (amount > type(uint128).max - before) revert BondOverflow();

        // Effect:
        (held.token, held.amount) = (token, before + amount);
        emit Bonded(msg.sender, token, amount, before + amount);

        // Interaction:
        _pull(token, msg.sender, amount);
    }

    /// @inheritdoc IExecutorRegistry
    function requestUnbond(uint128 amount) external {
        // Check:
        Bond storage held = _bonds[msg.sender];
        if (amount > held.amount) revert InsufficientBond(held.amount, amount);

        // Effect:
        uint64 unbondableAt = amount == 0 ? 0 : uint64(block.timestamp) + UNBONDING_DELAY;
        (held.unbonding, held.unbondableAt) = (amount, unbondableAt);
        emit UnbondRequested(msg.sender, amount, unbondableAt);
    }

    /// @inheritdoc IExecutorRegistry
    function withdrawBond() external {
        // Check:
        Bond storage held = _bonds[msg.sender];
        (address token, uint128 amount) = (held.token, held.unbonding);
        if (amount == 0 || block.timestamp < held.unbondableAt) revert UnbondNotReady();

        // Effect:
        (held.unbonding, held.unbondableAt) = (0, 0);
        _shrink(held, held.amount - amount);
        emit BondWithdrawn(msg.sender, token, amount);

        // Interaction:
        _pay(token, msg.sender, amount);
    }

    /// @inheritdoc IExecutorRegistry
    function withdraw(address token, address to) external {
        // Check:
        if (to == address(0) || to == address(this)) revert InvalidRecipient();
        uint256 amount = _withdrawable[msg.sender][token];
        if (amount == 0) revert NothingToWithdraw();

        // Effect:
        _withdrawable[msg.sender][token] = 0;
        emit Withdrawn(msg.sender, token, to, amount);

        // Interaction:
        _pay(token, to, amount);
    }

    /// @inheritdoc IExecutorRegistry
    function bondOf(address payee) external view returns (Bond memory) {
        return _bonds[payee];
    }

    /// @inheritdoc IExecutorRegistry
    function withdrawableOf(address account, address token) external view returns (uint256) {
        return _withdrawable[account][token];
    }

    /// @dev Takes a slice off the bond of `payee`, and credits its shares.
    /// @return token The bond's.
    /// @return slice Base units, at least one.
    /// @return rest What of the slice the caller must burn, half of it or more.
    function _slice(address payee, address payer, address reporter)
        internal
        returns (address token, uint128 slice, uint256 rest)
    {
        // Check:
        Bond storage held = _bonds[payee];
        uint128 amount = held.amount;
        if (amount == 0) revert NothingAtStake();

        // Effect:
        token = held.token;
        slice = Math.ceilDiv(amount * SLICE_SHARE, BASIS_POINTS).toUint128();
        _shrink(held, amount - slice);
        uint256 payerShare = slice * PAYER_SHARE / BASIS_POINTS;
        uint256 reporterShare = slice * REPORTER_SHARE / BASIS_POINTS;
        _withdrawable[payer][token] += payerShare;
        _withdrawable[reporter][token] += reporterShare;
        rest = slice - payerShare - reporterShare;
    }

    /// @dev Burns what is recorded as nobody's. Where the token refuses, that stays here: no record names it, so no
    /// payment can ever reach it. The same happens to a caller who sends too little gas, and hurts nobody.
    function _burn(address token, uint256 amount) internal {
        if (!IERC20(token).trySafeTransfer(BURN_ADDRESS, amount)) emit BurnRefused(token, amount);
    }

    /// @dev Leaves `remaining` in the bond, and no more of it being unbonded. Of an empty bond nothing is kept, neither
    /// its token nor its request.
    function _shrink(Bond storage held, uint128 remaining) private {
        held.amount = remaining;
        if (held.unbonding > remaining) held.unbonding = remaining;
        if (remaining == 0) (held.token, held.unbondableAt) = (address(0), 0);
    }

    /// @dev Takes exactly `amount` from `from`, or reverts.
    function _pull(address token, address from, uint256 amount) private nonReentrant {
        uint256 before = IERC20(token).balanceOf(address(this));
        if (!IERC20(token).trySafeTransferFrom(from, address(this), amount)) revert TransferFailed();
        uint256 holdings = IERC20(token).balanceOf(address(this));

        uint256 received = holdings > before ? holdings - before : 0;
        if (received != amount) revert UnexpectedBondAmount(amount, received);
    }

    function _pay(address token, address to, uint256 amount) private {
        if (!IERC20(token).trySafeTransfer(to, amount)) revert TransferFailed();
    }
}
