// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {RelayedFixture} from "../RelayedFixture.sol";
import {ExpensiveToken} from "../adversary/Tokens.sol";
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

    /// @dev The payer's way out of two channels. The first returns to its balance, so that a credit after it is as cheap as
    /// one can be.
    function prepareWithdrawal() private returns (bytes memory) {
        bytes32[] memory ids = new bytes32[](2);
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), 5e6);
        ids[0] = escrow.openFromBalance(payee.addr, address(token), 5e6, bytes32(0), address(0));
        ids[1] = id;
        escrow.requestClose(ids[0]);
        escrow.requestClose(id);
        vm.stopPrank();
        skip(1 hours);
        return abi.encodeCall(IRelayedChannels.withdrawFor, (ids));
    }

    function test_WithdrawFor() public {
        assertPaidOrNothing(prepareWithdrawal(), 0, DEPOSIT, 5e6);
    }

    // --- Tokens whose transfers cost more than transfers cost ---

    function useExpensiveToken() private returns (ExpensiveToken expensive) {
        expensive = new ExpensiveToken();
        token = IDevToken(address(expensive));
        fund(payer.addr, 2 * DEPOSIT);
        id = openChannel();
    }

    /// @dev How many gas limits turn the payout of `call` into a credit.
    function countForced(bytes memory call, uint256 cost) private returns (uint256 forced) {
        for (uint256 gasLimit = cost + 30_000; gasLimit < cost + 90_000; gasLimit += 497) {
            uint256 snapshot = vm.snapshotState();
            vm.prank(stranger);
            (bool success,) = address(escrow).call{gas: gasLimit}(call);
            if (success && escrow.balanceOf(payer.addr, address(token)) == 5e6 + DEPOSIT) ++forced;
            vm.revertToState(snapshot);
        }
    }

    /// @dev A 63rd of what such a transfer costs pays for a credit from some 160,000 gas on.
    function test_TransfersOf120000GasCanNotBeStarvedAndOf300000Can() public {
        ExpensiveToken expensive = useExpensiveToken();
        bytes memory call = prepareWithdrawal();
        expensive.setCost(120_000);
        assertEq(countForced(call, 120_000), 0);
        expensive.setCost(300_000);
        assertGt(countForced(call, 300_000), 0, "as SECURITY.md says");
    }

    /// @dev Why the escrow doesn't ask for more gas before it credits: who is blocked by such a token would get nothing.
    function test_ATransferThatBurnsAllItsGasIsCredited() public {
        useExpensiveToken().setCost(type(uint256).max);
        uint256 paid = escrow.claimVouchers{gas: 3_000_000}(payee.addr, address(token), rowsOf(voucherRow(40e6)));
        assertEq(paid, 40e6);
        assertEq(escrow.balanceOf(payee.addr, address(token)), 40e6);
    }
}
