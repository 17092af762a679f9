// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {AttackHandler} from "./AttackHandler.sol";
import {Audit} from "./Audit.sol";
import {ReentryHandler} from "./ReentryHandler.sol";

/// @notice Does anything that anybody may do, in any order, and keeps its own books of what should come of it.
/// @dev No call reverts: what can't be done now is not tried, or tried as an attack whose refusal is asserted.
contract EscrowHandler is ReentryHandler, AttackHandler, Audit {
    constructor() {
        setUp();
    }

    /// @dev Channels, money and promises to begin with, where a campaign is not about how they come to be.
    function begin(uint256 seed) external {
        for (uint256 i = 0; i < 12; ++i) {
            uint256 chance = uint256(keccak256(abi.encode(seed, i)));
            this.deposit(chance);
            this.open(chance);
            this.openFromBalance(chance);
            this.authorize(chance);
        }
    }

    /// @return actions Everything that changes something, each with one seed.
    function allActions() external pure returns (bytes4[] memory actions) {
        bytes4[45] memory all = [
            this.deposit.selector,
            this.depositFor.selector,
            this.depositWithPermit.selector,
            this.depositWithAuthorization.selector,
            this.withdrawBalance.selector,
            this.overdraw.selector,
            this.donate.selector,
            this.passTime.selector,
            this.blockReceiver.selector,
            this.changeMind.selector,
            this.changeOperator.selector,
            this.open.selector,
            this.openFromBalance.selector,
            this.openWithAuthorization.selector,
            this.openWithPermit2.selector,
            this.openWithGrant.selector,
            this.topUp.selector,
            this.topUpFromBalance.selector,
            this.topUpWithAuthorization.selector,
            this.topUpWithPermit2.selector,
            this.topUpWithGrant.selector,
            this.requestClose.selector,
            this.requestCloseWithAuthorization.selector,
            this.invalidateNonce.selector,
            this.withdraw.selector,
            this.waitAndWithdraw.selector,
            this.withdrawFor.selector,
            this.settle.selector,
            this.settleWithAuthorization.selector,
            this.close.selector,
            this.closeWithAuthorization.selector,
            this.closeWithVoucher.selector,
            this.closeWithReceipt.selector,
            this.authorize.selector,
            this.claimHeld.selector,
            this.claimVouchers.selector,
            this.claimContractVouchers.selector,
            this.claimReceipts.selector,
            this.reopen.selector,
            this.touchEnded.selector,
            this.trespass.selector,
            this.forge.selector,
            this.reenterPayment.selector,
            this.reenterDeposit.selector,
            this.withdrawWhileDepositing.selector
        ];
        actions = new bytes4[](all.length);
        for (uint256 i = 0; i < all.length; ++i) {
            actions[i] = all[i];
        }
    }
}
