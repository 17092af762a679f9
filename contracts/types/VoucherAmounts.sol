// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice The two amounts of a claimed voucher, in one word of call data.
///
/// | bits      | field            |                                                          |
/// |-----------|------------------|----------------------------------------------------------|
/// | 255 – 128 | cumulativeAmount | what the voucher signs: the ceiling, base units          |
/// | 127 – 0   | amount           | what the channel's `settled` becomes, at most the ceiling |
type VoucherAmounts is uint256;

using {ceiling, amount} for VoucherAmounts global;

function toVoucherAmounts(uint128 ceiling_, uint128 amount_) pure returns (VoucherAmounts) {
    return VoucherAmounts.wrap((uint256(ceiling_) << 128) | amount_);
}

function ceiling(VoucherAmounts self) pure returns (uint128) {
    return uint128(VoucherAmounts.unwrap(self) >> 128);
}

function amount(VoucherAmounts self) pure returns (uint128) {
    // The cast alone need not clear the ceiling above, and assembly (`SettledList`) takes a number as it lies.
    return uint128(VoucherAmounts.unwrap(self) & type(uint128).max);
}
