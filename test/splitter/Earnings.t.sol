// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SplitterFixture} from "./SplitterFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice Every way in which an executor is paid whose payee is a splitter.
contract EarningsTest is SplitterFixture {
    function test_ATowerClaimsVouchers() public {
        openChannel();
        vm.prank(stranger);
        escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(40e6)));
        releaseAll();
        assertShared(28e6, 8e6, 4e6);
    }

    function test_TheOperatorClaimsReceipts() public {
        openChannel();
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rowsOf(receiptRow(40e6)));
        releaseAll();
        assertShared(28e6, 8e6, 4e6);
    }

    function test_TheOperatorClosesWithAVoucher() public {
        openChannel();
        vm.prank(operator.addr);
        settlement.closeWithVoucher(payee.addr, address(token), voucherRow(40e6));
        releaseAll();
        assertShared(28e6, 8e6, 4e6);
        assertEq(token.balanceOf(payer.addr), 960e6);
    }

    function test_TheOperatorClosesWithAReceipt() public {
        openChannel();
        vm.prank(operator.addr);
        settlement.closeWithReceipt(payee.addr, address(token), receiptRow(40e6));
        releaseAll();
        assertShared(28e6, 8e6, 4e6);
    }

    function test_ClaimsAndReleasesTakeTurns() public {
        openChannel();
        uint128[3] memory amounts = [uint128(10e6), 30e6, 100e6];
        for (uint256 i = 0; i < amounts.length; ++i) {
            IChannelEscrow.VoucherRow[] memory rows = rowsOf(voucherRow(amounts[i]));
            escrow.claimVouchers(payee.addr, address(token), rows);
            splitter.release(address(token), i % 2 == 0 ? host.addr : treasury);
        }
        splitter.release(address(token), validators);
        splitter.release(address(token), treasury);
        assertShared(70e6, 20e6, 10e6);
    }
}
