// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice Nobody turns a payout into a credit by submitting with little gas: either it is made, or the whole call fails.
contract StarvationTest is RelayedFixture {
    bytes32 private id;

    function setUp() public override {
        super.setUp();
        id = openChannel();
    }

    /// @dev With any gas, either nothing happens, or `toPayee` and `toPayer` arrive in the wallets; `credited` is the payer's
    /// balance either way when it succeeds.
    function assertPaidOrNothing(bytes memory call, uint256 toPayee, uint256 toPayer, uint256 credited) private {
        bytes32 before = stateOf(id);
        (uint256 payeeHeld, uint256 payerHeld) = (token.balanceOf(payee.addr), token.balanceOf(payer.addr));
        (uint256 failures, uint256 successes) = (0, 0);
        for (uint256 gasLimit = 30_000; gasLimit < 230_000; gasLimit += 251) {
            uint256 snapshot = vm.snapshotState();
            vm.prank(stranger);
            (bool success,) = address(escrow).call{gas: gasLimit}(call);
            if (success) {
                ++successes;
                assertEq(token.balanceOf(payee.addr), payeeHeld + toPayee);
                assertEq(token.balanceOf(payer.addr), payerHeld + toPayer);
                assertEq(escrow.balanceOf(payee.addr, address(token)), 0);
                assertEq(escrow.balanceOf(payer.addr, address(token)), credited);
            } else {
                ++failures;
                assertEq(stateOf(id), before);
            }
            vm.revertToState(snapshot);
        }
        assertTrue(failures != 0 && successes != 0);
    }

    function test_ClaimContractVouchers() public {
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](1);
        rows[0] = IChannelEscrow.ContractVoucherRow(
            payer.addr, SALT, address(0), signVoucher(payer, id, 40e6), toVoucherAmounts(40e6, 40e6)
        );
        bytes memory call = abi.encodeCall(IChannelEscrow.claimContractVouchers, (payee.addr, address(token), rows));
        assertPaidOrNothing(call, 40e6, 0, 0);
    }

    function test_CloseWithAuthorization() public {
        uint256 deadline = block.timestamp;
        bytes memory signature = sign(payee, escrowDomain(), closeHash(id, 40e6, 0, deadline));
        bytes memory call = abi.encodeCall(
            IRelayedChannels.closeWithAuthorization, (id, 40e6, 0, deadline, signature, signVoucher(payer, id, 40e6))
        );
        assertPaidOrNothing(call, 40e6, 60e6, 0);
    }

    /// @dev The first channel returns to the payer's balance, so that a credit after it is as cheap as one can be.
    function test_WithdrawFor() public {
        bytes32[] memory ids = new bytes32[](2);
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), 5e6);
        ids[0] = escrow.openFromBalance(payee.addr, address(token), 5e6, bytes32(0), address(0));
        ids[1] = id;
        escrow.requestClose(ids[0]);
        escrow.requestClose(id);
        vm.stopPrank();
        skip(1 hours);
        assertPaidOrNothing(abi.encodeCall(IRelayedChannels.withdrawFor, (ids)), 0, DEPOSIT, 5e6);
    }
}
