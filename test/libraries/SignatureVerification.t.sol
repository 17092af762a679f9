// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {BurningSigner} from "../adversary/Signers.sol";
import {Test} from "forge-std/Test.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {SignatureVerification} from "lloom/libraries/SignatureVerification.sol";

/// @notice Asks the library on a budget.
contract Asker {
    /// @return signed Whether `signer` signed `digest`.
    /// @return left The gas that remained of the budget after that.
    function ask(address signer, bytes32 digest, bytes calldata signature)
        external
        view
        returns (bool signed, uint256 left)
    {
        signed = SignatureVerification.isSigned(signer, digest, signature);
        left = gasleft();
    }

    /// @dev Not from the test itself, whose calls are transactions with costs of their own.
    function askWith(uint256 budget, address signer) external view returns (bool signed, uint256 left) {
        return this.ask{gas: budget}(signer, keccak256("digest"), "");
    }

    function isSignedByKey(address signer, bytes32 digest, bytes32 r, bytes32 vs) external pure returns (bool) {
        return SignatureVerification.isSignedByKey(signer, digest, r, vs);
    }
}

/// @notice The rules that no caller shows alone: see `escrow/Signers.t.sol` for all others.
contract SignatureVerificationTest is Test {
    uint256 private constant ALLOWANCE = 100_000;
    uint256 private constant PLENTY = 1_000_000;
    /// @dev Of gas, too little to ask a contract.
    uint256 private constant LITTLE = 50_000;

    Asker private asker = new Asker();

    /// @dev To recover no signer gives zero as well.
    function test_ZeroSignsNothing() public view {
        (bool signed,) = asker.ask(address(0), keccak256("digest"), new bytes(65));
        assertFalse(signed);
        assertFalse(asker.isSignedByKey(address(0), keccak256("digest"), 0, 0));
    }

    function test_WithoutCodeThereIsNobodyToAsk() public {
        (bool signed,) = asker.askWith(LITTLE, makeAddr("without code"));
        assertFalse(signed);
    }

    function test_AByteOfCodeIsAsked() public {
        address signer = makeAddr("stop");
        vm.etch(signer, hex"00");
        vm.expectRevert(IChannelEscrow.InsufficientGas.selector);
        asker.askWith(LITTLE, signer);
        (bool signed,) = asker.askWith(PLENTY, signer);
        assertFalse(signed);
    }

    /// @dev The signer says yes if what it has left, after the opcode that asks for it, is its allowance exactly:
    /// `gas() == 99998 ? 0x1626ba7e : 0`.
    function test_TheSignerGetsItsAllowanceAndNoMore() public {
        address signer = makeAddr("exact");
        vm.etch(signer, hex"5a6201869e14631626ba7e0260e01b60005260206000f3");
        (bool signed,) = asker.askWith(PLENTY, signer);
        assertTrue(signed);
        (signed,) = asker.askWith(leastBudget(signer), signer);
        assertTrue(signed);
    }

    /// @dev 64/63 of the allowance and 4,000, before the call. It and what stands around it cost some hundreds, so more
    /// than 5,587 can't be left, and with a smaller margin less would be.
    function test_TheMarginIsWhatACallMayTake() public {
        address signer = address(new BurningSigner());
        (bool signed, uint256 left) = asker.askWith(leastBudget(signer), signer);
        assertFalse(signed);
        uint256 margin = ALLOWANCE * 64 / 63 + 4000 - ALLOWANCE;
        assertLt(left, margin - 100, "the call costs that at least");
        assertGt(left, margin - 1000);
    }

    /// @dev The smallest budget with which the signer is asked.
    function leastBudget(address signer) private view returns (uint256 high) {
        uint256 low = LITTLE;
        high = PLENTY;
        while (high - low > 1) {
            uint256 middle = (low + high) / 2;
            try asker.askWith(middle, signer) returns (bool, uint256) {
                high = middle;
            } catch {
                low = middle;
            }
        }
    }
}
