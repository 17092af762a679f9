// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "./interfaces/IChannelEscrow.sol";
import {IExecutorRegistry} from "./interfaces/IExecutorRegistry.sol";
import {IRevenueSplitter} from "./interfaces/IRevenueSplitter.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title RevenueSplitter
/// @notice See `IRevenueSplitter`, which is the manual.
/// @dev Reentrancy. What was received is what is held and what was released. While a release's transfer runs, the amount
/// may count as both, and another account's share of it would be overpaid: so no release starts inside another.
contract RevenueSplitter is IRevenueSplitter, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 private constant BASIS_POINTS = 10_000;

    /// @inheritdoc IRevenueSplitter
    address public immutable REGISTRY;
    /// @inheritdoc IRevenueSplitter
    address public immutable ESCROW;
    /// @inheritdoc IRevenueSplitter
    address public immutable HOST;
    /// @inheritdoc IRevenueSplitter
    address public immutable VALIDATORS;
    /// @inheritdoc IRevenueSplitter
    address public immutable TREASURY;
    /// @inheritdoc IRevenueSplitter
    uint256 public immutable HOST_SHARE;
    /// @inheritdoc IRevenueSplitter
    uint256 public immutable VALIDATORS_SHARE;
    /// @inheritdoc IRevenueSplitter
    uint256 public immutable TREASURY_SHARE;

    // slot 0
    /// @inheritdoc IRevenueSplitter
    mapping(address token => uint256) public totalReleased;
    // slot 1
    /// @inheritdoc IRevenueSplitter
    mapping(address token => mapping(address account => uint256)) public released;

    modifier onlyHost() {
        if (msg.sender != HOST) revert NotHost();
        _;
    }

    constructor(address registry, address escrow, Parties memory parties, Shares memory shares) {
        if (registry == address(0) || escrow == address(0)) revert ZeroAddress();
        if (parties.host == address(0) || parties.validators == address(0) || parties.treasury == address(0)) {
            revert ZeroAddress();
        }
        uint256 sum = uint256(shares.host) + shares.validators + shares.treasury;
        if (sum != BASIS_POINTS) revert InvalidShares(sum);

        (REGISTRY, ESCROW) = (registry, escrow);
        (HOST, VALIDATORS, TREASURY) = (parties.host, parties.validators, parties.treasury);
        (HOST_SHARE, VALIDATORS_SHARE, TREASURY_SHARE) = (shares.host, shares.validators, shares.treasury);
    }

    /// @inheritdoc IRevenueSplitter
    function release(address token, address account) external nonReentrant returns (uint256 amount) {
        // Check:
        amount = releasable(token, account);
        if (amount == 0) revert NothingToRelease();

        // Effect:
        totalReleased[token] += amount;
        released[token][account] += amount;
        emit Released(token, account, amount);

        // Interaction:
        IERC20(token).safeTransfer(account, amount);
    }

    /// @inheritdoc IRevenueSplitter
    function collect(address token) external returns (uint256 amount) {
        // Check:
        amount = IChannelEscrow(ESCROW).balanceOf(address(this), token);
        if (amount == 0) revert NothingToCollect();
        emit Collected(token, amount);

        // Interaction:
        IChannelEscrow(ESCROW).withdrawBalance(token, amount, address(this));
    }

    /// @inheritdoc IRevenueSplitter
    function addOperator(address operator) external onlyHost {
        IExecutorRegistry(REGISTRY).addOperator(operator);
    }

    /// @inheritdoc IRevenueSplitter
    function removeOperator(address operator) external onlyHost {
        IExecutorRegistry(REGISTRY).removeOperator(operator);
    }

    /// @inheritdoc IRevenueSplitter
    function releasable(address token, address account) public view returns (uint256) {
        uint256 received = IERC20(token).balanceOf(address(this)) + totalReleased[token];
        uint256 due = received * shareOf(account) / BASIS_POINTS;
        uint256 paid = released[token][account];
        // Less than was paid where the token fell by itself.
        return due > paid ? due - paid : 0;
    }

    /// @inheritdoc IRevenueSplitter
    function shareOf(address account) public view returns (uint256 share) {
        if (account == HOST) share += HOST_SHARE;
        if (account == VALIDATORS) share += VALIDATORS_SHARE;
        if (account == TREASURY) share += TREASURY_SHARE;
    }
}
