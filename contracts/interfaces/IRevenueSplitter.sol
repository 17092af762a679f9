// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title IRevenueSplitter
/// @notice A payee that belongs to three: what an executor earns here is shared by its host, the validators and a
/// treasury, in shares that never change.
/// @dev The escrow pays it as it pays any payee. It signs nothing: there is no ERC-1271 here, on purpose. With it, a stolen
/// key could sign away what has not been shared out. The host's operators sign the bills.
/// @dev Warning: it can't bond in the registry, for nobody could say whose the bond is.
/// @dev Warning: nothing here can be changed. A lost key loses its share, the host's also the power over operators.
///
/// Token assumptions: those of the escrow. Where a token falls by itself, who was paid before keeps what he got, and
/// what is left may not suffice for who comes last.
interface IRevenueSplitter {
    /// @notice Who shares. Two roles of one account have the sum of their shares.
    struct Parties {
        address host; // runs the executor
        address validators;
        address treasury;
    }

    /// @notice Basis points of all that is received; together 10,000.
    struct Shares {
        uint16 host;
        uint16 validators;
        uint16 treasury;
    }

    /// @notice `amount` of `token` was paid to `account`.
    event Released(address indexed token, address indexed account, uint256 amount);
    /// @notice `amount` of `token` came in from the splitter's balance in the escrow.
    event Collected(address indexed token, uint256 amount);

    /// @notice A contract, or an account that shares, is zero.
    error ZeroAddress();
    /// @notice The shares don't make a whole.
    error InvalidShares(uint256 sum);
    error NotHost();
    /// @notice Of `token`, nothing is due to that account now.
    error NothingToRelease();
    /// @notice Of `token`, the escrow holds nothing for the splitter.
    error NothingToCollect();

    /// @notice Pays `account` what is due to it of `token`. Anyone may call: the money can only go to `account`.
    /// @dev Shares are rounded down, and what that leaves, at most two base units a token, stays until more comes in. An
    /// account that a token refuses to pay keeps its claim, and the others theirs.
    /// @return amount Base units paid.
    /// @custom:reverts NothingToRelease, SafeERC20FailedOperation or the token's own error
    function release(address token, address account) external returns (uint256 amount);

    /// @notice Takes the splitter's balance of `token` out of the escrow, where a payout goes whose transfer failed.
    /// Anyone may call.
    /// @return amount Base units collected.
    /// @custom:reverts NothingToCollect, and those of the escrow's `withdrawBalance`
    function collect(address token) external returns (uint256 amount);

    /// @notice Names an operator of the splitter in the registry. For the host.
    /// @dev Warning: an operator can close the splitter's channels with less than their vouchers would pay, and harms all
    /// who share. It can never redirect money.
    /// @custom:reverts NotHost, and those of the registry's `addOperator`
    function addOperator(address operator) external;

    /// @notice Retires an operator of the splitter in the registry. For the host.
    /// @custom:reverts NotHost, and those of the registry's `removeOperator`
    function removeOperator(address operator) external;

    /// @return Base units of `token` that `release` would pay `account` now. What `collect` would bring in is not counted.
    function releasable(address token, address account) external view returns (uint256);

    /// @return Base units of `token` that `account` was paid so far.
    function released(address token, address account) external view returns (uint256);

    /// @return Base units of `token` that anybody was paid so far.
    function totalReleased(address token) external view returns (uint256);

    /// @return Basis points that `account` has, all its roles together.
    function shareOf(address account) external view returns (uint256);

    function REGISTRY() external view returns (address);
    function ESCROW() external view returns (address);
    function HOST() external view returns (address);
    function VALIDATORS() external view returns (address);
    function TREASURY() external view returns (address);
    function HOST_SHARE() external view returns (uint256);
    function VALIDATORS_SHARE() external view returns (uint256);
    function TREASURY_SHARE() external view returns (uint256);
}
