// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IChannelEscrow} from "../interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "../interfaces/IRelayedChannels.sol";
import {IERC3009} from "../interfaces/external/IERC3009.sol";
import {IPermit2} from "../interfaces/external/IPermit2.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Transfers
/// @notice The part of the escrow that calls tokens: money in, money out.
/// @dev Reentrancy. Solvency of a token means: holdings >= balances + deposits not yet paid out.
/// - Money out (`_pay`, `_tryPay`): every caller has taken all that it pays off the books before the first transfer starts,
///   so code that runs inside a transfer finds nothing that it could be paid again. Nothing is left to guard.
/// - Money in (`_pull…`): the record may precede the transfer, and the amount received is measured. Inside the transfer
///   no other pull can start (the guard), so all that holdings can do besides is to shrink together with what is
///   owed, or to grow by a gift. If the measured sum is still the amount asked for, the escrow is solvent.
/// A token that lies about its balances harms those who use that token, and nobody else: tokens never mix.
abstract contract Transfers is IChannelEscrow, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @inheritdoc IRelayedChannels
    address public constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;

    /// @dev The function's body brings exactly `amount` in, or it reverts.
    modifier measured(address token, uint256 amount) {
        uint256 before = IERC20(token).balanceOf(address(this));
        _;
        uint256 holdings = IERC20(token).balanceOf(address(this));
        uint256 received = holdings > before ? holdings - before : 0;
        if (received != amount) revert UnexpectedDepositAmount(amount, received);
    }

    /// @dev On the allowance that `from` gave the escrow.
    function _pull(address token, address from, uint256 amount) internal nonReentrant measured(token, amount) {
        if (!IERC20(token).trySafeTransferFrom(from, address(this), amount)) revert TransferFailed();
    }

    /// @dev On an EIP-3009 signature of `from`. What the token says when it refuses is passed on.
    function _pullWithAuthorization(
        address token,
        address from,
        uint256 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) internal nonReentrant measured(token, amount) {
        IERC3009(token).receiveWithAuthorization(from, address(this), amount, validAfter, validBefore, nonce, signature);
    }

    /// @dev On a Permit2 signature of `from` that names `witness`. What Permit2 says when it refuses is passed on.
    function _pullWithPermit2(
        address token,
        address from,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes32 witness,
        string memory witnessType,
        bytes calldata signature
    ) internal nonReentrant measured(token, amount) {
        if (PERMIT2.code.length == 0) revert Permit2NotDeployed();
        // Of its own, or an unoptimized build (the analyses' one) runs out of stack.
        IPermit2.TokenPermissions memory permitted = IPermit2.TokenPermissions(token, amount);
        IPermit2(PERMIT2)
            .permitWitnessTransferFrom(
                IPermit2.PermitTransferFrom(permitted, nonce, deadline),
                IPermit2.SignatureTransferDetails(address(this), amount),
                from,
                witness,
                witnessType,
                signature
            );
    }

    /// @dev Pays or reverts: for a caller who can choose to come again.
    function _pay(address token, address to, uint256 amount) internal {
        if (!_tryPay(token, to, amount)) revert TransferFailed();
    }

    function _tryPay(address token, address to, uint256 amount) internal returns (bool) {
        return IERC20(token).trySafeTransfer(to, amount);
    }

    function _checkToken(address token) internal view {
        if (token.code.length == 0) revert InvalidToken();
    }
}
