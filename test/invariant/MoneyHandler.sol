// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {FickleToken} from "../adversary/Tokens.sol";
import {Books} from "./Books.sol";
import {ContractWallet} from "./ContractWallet.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice Money in and out of balances, and the world that the escrow does not control: time, tokens, signers.
abstract contract MoneyHandler is Books {
    function deposit(uint256 seed) external {
        (address from, uint256 t) = (_drawPayer(seed), _drawToken(seed));
        uint256 amount = _some(seed, "amount", _spendable(from, t));
        if (amount == 0) return;

        _writeDeposited(from, from, t, amount);
        vm.prank(from);
        escrow.deposit(address(_tokens[t]), amount);
        _count();
    }

    function depositFor(uint256 seed) external {
        (address from, address to, uint256 t) = (_drawPayer(seed), _drawAccount(seed), _drawToken(seed));
        uint256 amount = _some(seed, "amount", _spendable(from, t));
        if (amount == 0) return;

        _writeDeposited(from, to, t, amount);
        vm.prank(from);
        escrow.depositFor(to, address(_tokens[t]), amount);
        _count();
    }

    function depositWithPermit(uint256 seed) external {
        address from = _drawPayer(seed);
        uint256 amount = _some(seed, "amount", _spendable(from, DEV));
        if (amount == 0 || _hasCode[from]) return;
        uint256 deadline = _deadline(seed);
        (uint8 v, bytes32 r, bytes32 s) = _split(_sign(from, _permitDigest(from, amount, deadline)));

        vm.prank(from);
        token.approve(address(escrow), 0);
        bool isFrontRun = _oneIn(2, seed, "front run");
        if (isFrontRun) token.permit(from, address(escrow), amount, deadline, v, r, s);
        _writeDeposited(from, from, DEV, amount);
        vm.prank(from);
        escrow.depositWithPermit(address(token), amount, deadline, v, r, s);
        assertEq(token.allowance(from, address(escrow)), 0, "a permit was used up");
        vm.prank(from);
        token.approve(address(escrow), type(uint256).max);
        _count();
    }

    function depositWithAuthorization(uint256 seed) external {
        address from = _drawPayer(seed);
        uint256 amount = _some(seed, "amount", _spendable(from, DEV));
        if (amount == 0 || _hasCode[from]) return;
        bytes32 salt = _newSalt();
        uint256 validBefore = block.timestamp + 1;
        bytes32 nonce = keccak256(abi.encode(from, address(token), salt));
        bytes memory signature = _signReceipt(from, amount, validBefore, nonce);

        // Attack: the same money for something else.
        vm.expectRevert(IRelayedChannels.NonceMismatch.selector);
        escrow.openWithAuthorization(
            _payees[0], address(token), uint128(amount), salt, address(0), from, 0, validBefore, nonce, signature
        );

        _writeDeposited(from, from, DEV, amount);
        vm.prank(stranger);
        escrow.depositWithAuthorization(address(token), amount, from, salt, 0, validBefore, nonce, signature);

        // Attack: once more.
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, from, nonce));
        escrow.depositWithAuthorization(address(token), amount, from, salt, 0, validBefore, nonce, signature);
        _count();
    }

    function withdrawBalance(uint256 seed) external {
        (address from, uint256 t) = (_drawAccount(seed), _drawToken(seed));
        address to = _oneIn(4, seed, "elsewhere") ? _drawPayer(seed) : from;
        uint256 amount = _some(seed, "amount", _balance[from][t]);
        if (amount == 0) return;

        if (_isBlocked(to, t)) {
            vm.expectRevert(IChannelEscrow.TransferFailed.selector);
        } else {
            _balance[from][t] -= amount;
            _wallet[to][t] += amount;
            _count();
        }
        vm.prank(from);
        escrow.withdrawBalance(address(_tokens[t]), amount, to);
    }

    /// @dev Attack: more than there is.
    function overdraw(uint256 seed) external {
        (address from, uint256 t) = (_drawAccount(seed), _drawToken(seed));
        uint256 available = _balance[from][t];
        uint256 amount = available + 1 + _draw(seed, "more", 1e6);
        bytes memory refusal = abi.encodeWithSelector(IChannelEscrow.InsufficientBalance.selector, available, amount);

        vm.startPrank(from);
        vm.expectRevert(refusal);
        escrow.withdrawBalance(address(_tokens[t]), amount, from);
        vm.expectRevert(refusal);
        escrow.openFromBalance(_payees[0], address(_tokens[t]), uint128(amount), "overdrawn", address(0));
        vm.stopPrank();
        _count();
    }

    // --- The world ---

    function donate(uint256 seed) external {
        (address from, uint256 t) = (_drawPayer(seed), _drawToken(seed));
        uint256 amount = _some(seed, "amount", _spendable(from, t) / 1000);
        if (amount == 0) return;

        _wallet[from][t] -= amount;
        _donated[t] += amount;
        vm.prank(from);
        _tokens[t].transfer(address(escrow), amount);
        _count();
    }

    function passTime(uint256 seed) external {
        skip(_oneIn(3, seed, "long") ? 1 + _draw(seed, "time", 2 hours) : 1 + _draw(seed, "time", 10 minutes));
        _count();
    }

    /// @dev One account at most.
    function blockReceiver(uint256 seed) external {
        address[4] memory candidates = [address(0), _payers[0], _payers[2], _payees[1]];
        FickleToken(address(_tokens[BLOCKING])).setBlocked(candidates[_draw(seed, "blocked", 4)]);
        _count();
    }

    function changeMind(uint256 seed) external {
        ContractWallet contract_ = _signingContracts[_draw(seed, "contract", _signingContracts.length)];
        contract_.setRefuses(_oneIn(3, seed, "refuses"));
        _count();
    }

    /// @dev A payee's operator retires, or comes back. What it signed counts either way.
    function changeOperator(uint256 seed) external {
        address by = _payees[_draw(seed, "payee", _payees.length)];
        vm.prank(by);
        if (_isRetired[by]) registry.addOperator(operator.addr);
        else registry.removeOperator(operator.addr);
        _isRetired[by] = !_isRetired[by];
        _count();
    }

    function _writeDeposited(address from, address to, uint256 t, uint256 amount) internal {
        _wallet[from][t] -= amount;
        _balance[to][t] += amount;
    }

    function _split(bytes memory signature) private pure returns (uint8 v, bytes32 r, bytes32 s) {
        v = uint8(signature[64]);
        assembly ("memory-safe") {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
        }
    }
}
