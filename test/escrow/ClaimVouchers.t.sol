// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";

contract ClaimVouchersTest is Fixture {
    function test_SettlesAmountBelowCeiling() public {
        bytes32 id = openChannel();
        uint256 paid =
            escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(payer, address(0), SALT, 50e6, 30e6)));
        assertEq(paid, 30e6);
        assertEq(token.balanceOf(payee.addr), 30e6);
        assertEq(settledOf(id), 30e6);
    }
}
