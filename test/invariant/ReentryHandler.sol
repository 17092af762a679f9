// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {FickleToken} from "../adversary/Tokens.sol";
import {BatchHandler} from "./BatchHandler.sol";
import {ChannelHandler} from "./ChannelHandler.sol";
import {ClaimHandler} from "./ClaimHandler.sol";
import {ExitHandler} from "./ExitHandler.sol";
import {MoneyHandler} from "./MoneyHandler.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice One action in the middle of another: while the reentering token moves money, before it has moved.
abstract contract ReentryHandler is MoneyHandler, ChannelHandler, ExitHandler, ClaimHandler, BatchHandler {
    /// @dev While money goes out, anything may be done: it is recorded as gone.
    function reenterPayment(uint256 seed) external {
        function(uint256) external[9] memory payments = [
            this.withdrawBalance,
            this.settle,
            this.settleWithAuthorization,
            this.claimVouchers,
            this.claimContractVouchers,
            this.claimReceipts,
            this.withdrawFor,
            this.waitAndWithdraw,
            this.closeWithReceipt
        ];
        function(uint256) external[10] memory others = [
            this.settle,
            this.closeWithVoucher,
            this.claimVouchers,
            this.claimReceipts,
            this.deposit,
            this.open,
            this.topUp,
            this.requestClose,
            this.withdrawBalance,
            this.openFromBalance
        ];
        uint256 way = _draw(seed, "payment", payments.length);
        // While a close pays the payee, what returns to the payer's balance is not there yet.
        uint256 choices = way == 8 ? 8 : 10;
        uint256 other = _draw(seed, "other", choices);
        if (_isReentered(seed, payments[way], others[other])) _count();
    }

    /// @dev While money comes in, what moves none may be done, and nothing else may come in.
    function reenterDeposit(uint256 seed) external {
        function(uint256) external[6] memory deposits =
            [this.deposit, this.depositFor, this.open, this.topUp, this.openWithPermit2, this.topUpWithPermit2];
        function(uint256) external[8] memory others = [
            this.openFromBalance,
            this.topUpFromBalance,
            this.openWithGrant,
            this.topUpWithGrant,
            this.requestClose,
            this.requestCloseWithAuthorization,
            this.depositTwice,
            this.withdrawAndGiveBack
        ];
        uint256 way = _draw(seed, "deposit", deposits.length);
        if (_isReentered(seed, deposits[way], others[_draw(seed, "other", others.length)])) _count();
    }

    /// @dev Attack: money that goes out while other money comes in makes it look like less than was asked for.
    function withdrawWhileDepositing(uint256 seed) external {
        (address from, address owner) = (_drawPayer(seed), _drawAccount(seed));
        uint256 amount = _some(seed, "amount", _wallet[from][REENTERING]);
        uint256 taken = _some(seed, "taken", _balance[owner][REENTERING]);
        if (amount == 0 || taken == 0) return;

        _arm(abi.encodeCall(this.take, (owner, taken)));
        uint256 received = amount > taken ? amount - taken : 0;
        vm.prank(from);
        vm.expectRevert(abi.encodeWithSelector(IChannelEscrow.UnexpectedDepositAmount.selector, amount, received));
        escrow.deposit(address(_tokens[REENTERING]), amount);
        _disarm();
        _count();
    }

    // --- Called by the token ---

    function reenter(function(uint256) external action, uint256 seed) external {
        _focus = 0;
        action(seed);
    }

    function take(address owner, uint256 amount) external {
        vm.prank(owner);
        escrow.withdrawBalance(address(_tokens[REENTERING]), amount, owner);
    }

    function depositTwice(uint256 seed) external {
        (address from, uint256 t) = (_drawPayer(seed), _drawToken(seed));
        if (_wallet[from][t] == 0) return;
        vm.prank(from);
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        escrow.deposit(address(_tokens[t]), 1);
    }

    /// @dev What goes out comes back as a gift: the amount received is right again, and so are the books.
    function withdrawAndGiveBack(uint256 seed) external {
        address owner = _drawPayer(seed);
        // The balance may be that of the deposit whose money is still to come.
        uint256 there = _tokens[REENTERING].balanceOf(address(escrow));
        uint256 amount =
            _some(seed, "amount", there < _balance[owner][REENTERING] ? there : _balance[owner][REENTERING]);
        if (amount == 0) return;
        _balance[owner][REENTERING] -= amount;
        _donated[REENTERING] += amount;
        vm.prank(owner);
        escrow.withdrawBalance(address(_tokens[REENTERING]), amount, owner);
        vm.prank(owner);
        _tokens[REENTERING].transfer(address(escrow), amount);
    }

    function _isReentered(uint256 seed, function(uint256) external action, function(uint256) external other)
        private
        returns (bool happened)
    {
        FickleToken hooked = FickleToken(address(_tokens[REENTERING]));
        _arm(abi.encodeCall(this.reenter, (other, uint256(keccak256(abi.encode(seed))))));
        _focus = REENTERING + 1;
        action(seed);
        _focus = 0;
        happened = hooked.hooked() == address(0);
        if (happened) assertTrue(hooked.hookSucceeded(), "the action within did as it should");
        else _disarm();
    }

    function _arm(bytes memory call) private {
        FickleToken(address(_tokens[REENTERING])).setHook(address(this), call);
    }

    function _disarm() private {
        FickleToken(address(_tokens[REENTERING])).setHook(address(0), "");
    }
}
