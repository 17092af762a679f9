// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Test} from "forge-std/Test.sol";
import {ChannelTerms, toChannelTerms} from "lloom/types/ChannelTerms.sol";

contract ChannelTermsTest is Test {
    function testFuzz_TheFieldsStayApart(
        address payer,
        uint40 index,
        bool toBalance,
        bool hasSigner,
        uint40 first,
        uint40 second
    ) public pure {
        ChannelTerms terms = toChannelTerms(payer, index, toBalance, hasSigner);
        assertEq(terms.closeRequestedAt(), 0);
        assertFalse(terms.isFinalized());

        terms = terms.withCloseRequestedAt(first).finalized().withCloseRequestedAt(second);
        assertEq(terms.payer(), payer);
        assertEq(terms.exists(), payer != address(0));
        assertEq(terms.destination(), index);
        assertEq(terms.refundsToBalance(), toBalance);
        assertEq(terms.hasSigner(), hasSigner);
        assertEq(terms.closeRequestedAt(), second);
        assertTrue(terms.isFinalized());
    }

    /// @dev The drawing in the documentation, bit by bit.
    function test_TheLayoutIsAsDrawn() public pure {
        assertEq(ChannelTerms.unwrap(toChannelTerms(address(type(uint160).max), 0, false, false)), type(uint160).max);
        assertEq(ChannelTerms.unwrap(toChannelTerms(address(0), type(uint40).max, false, false)), 0xffffffffff << 208);
        assertEq(ChannelTerms.unwrap(toChannelTerms(address(0), 0, true, false)), 2 << 200);
        assertEq(ChannelTerms.unwrap(toChannelTerms(address(0), 0, false, true)), 4 << 200);
        assertEq(ChannelTerms.unwrap(ChannelTerms.wrap(0).finalized()), 1 << 200);
        assertEq(ChannelTerms.unwrap(ChannelTerms.wrap(0).withCloseRequestedAt(1)), 1 << 160);
    }
}
