// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Test} from "forge-std/Test.sol";
import {ChannelFunds, toChannelFunds} from "lloom/types/ChannelFunds.sol";

contract ChannelFundsTest is Test {
    function testFuzz_TheHalvesStayApart(uint128 lower, uint128 upper, uint128 other) public pure {
        ChannelFunds funds = toChannelFunds(lower, upper);
        assertEq(ChannelFunds.unwrap(funds), uint256(lower) << 128 | upper);
        assertEq(funds.lower(), lower);
        assertEq(funds.upper(), upper);
        assertEq(funds.withLower(other).lower(), other);
        assertEq(funds.withLower(other).upper(), upper);
        assertEq(funds.withUpper(other).lower(), lower);
        assertEq(funds.withUpper(other).upper(), other);
        assertEq(ChannelFunds.unwrap(funds.swapped().swapped()), ChannelFunds.unwrap(funds));
    }

    function testFuzz_AcceptsWhatIsAboveTheLowerAndWithinTheUpper(uint128 lower, uint128 upper, uint128 amount)
        public
        pure
    {
        assertEq(toChannelFunds(lower, upper).accepts(amount), lower < amount && amount <= upper);
    }

    /// @dev The whole argument for claiming on this word alone.
    function testFuzz_FinalizedOrUnknownItAcceptsNothing(uint128 settled, uint128 deposit, uint128 amount) public pure {
        settled = uint128(bound(settled, 0, deposit));
        assertFalse(toChannelFunds(settled, deposit).swapped().accepts(amount));
        assertFalse(ChannelFunds.wrap(0).accepts(amount));
    }
}
