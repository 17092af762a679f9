// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

contract ClaimReceiptsTest is Fixture {
    function claim(IUsageSettlement.ReceiptRow memory row) private {
        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rowsOf(row));
    }

    function expectSkip(bytes32 id, uint256 index, IChannelEscrow.SkipReason reason, address by) private {
        vm.expectEmit(by);
        emit IChannelEscrow.RowSkipped(id, index, reason);
    }

    function test_PaysPayeeAndPublishesUsage() public {
        bytes32 id = openChannel();

        vm.expectEmit(address(settlement));
        emit IUsageSettlement.UsageSettled(id, payer.addr, payee.addr, 3, 4096, 1024, 40e6);
        claim(receiptRow(40e6));

        assertEq(token.balanceOf(payee.addr), 40e6);
        assertEq(settledOf(id), 40e6);
    }
}
