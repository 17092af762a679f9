// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice A channel's two amounts, in the one word that a claim reads and writes.
///
/// | bits      | open            | finalized       | unknown |
/// |-----------|-----------------|-----------------|---------|
/// | 255 – 128 | lower = settled | lower = deposit | 0       |
/// | 127 – 0   | upper = deposit | upper = settled | 0       |
///
/// @dev One rule holds in every state: a channel settles `amount` if and only if `lower < amount <= upper`.
/// While open that says "above what is settled, within the deposit". Finalizing swaps the halves, and since
/// `settled <= deposit`, no amount is above the first and within the second any more. Of an unknown channel both are
/// zero, with the same effect. So a batch can decide from this word alone; whose channel it is need not be read,
/// because the row's channel id commits to that.
///
/// Existence and finalization are never derived from these amounts (a channel closed with nothing settled, and a
/// channel settled in full, look like others): `ChannelTerms` holds that truth.
type ChannelFunds is uint256;

using {lower, upper, accepts, withLower, withUpper, swapped} for ChannelFunds global;

function toChannelFunds(uint128 lower_, uint128 upper_) pure returns (ChannelFunds) {
    return ChannelFunds.wrap((uint256(lower_) << 128) | upper_);
}

function lower(ChannelFunds self) pure returns (uint128) {
    return uint128(ChannelFunds.unwrap(self) >> 128);
}

function upper(ChannelFunds self) pure returns (uint128) {
    return uint128(ChannelFunds.unwrap(self));
}

/// @return Whether the channel, whatever its state, settles `amount`.
function accepts(ChannelFunds self, uint128 amount) pure returns (bool) {
    return amount > self.lower() && amount <= self.upper();
}

function withLower(ChannelFunds self, uint128 lower_) pure returns (ChannelFunds) {
    return toChannelFunds(lower_, self.upper());
}

function withUpper(ChannelFunds self, uint128 upper_) pure returns (ChannelFunds) {
    return toChannelFunds(self.lower(), upper_);
}

/// @notice Finalizes the word of an open channel, or reads that of a finalized one as if it were open.
function swapped(ChannelFunds self) pure returns (ChannelFunds) {
    return toChannelFunds(self.upper(), self.lower());
}
