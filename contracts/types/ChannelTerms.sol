// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice What a channel is: whose, for whom in which token, and how far it has come in its life.
///
/// | bits      | field            |                                                      |
/// |-----------|------------------|------------------------------------------------------|
/// | 255 – 248 |                  | unused, zero                                         |
/// | 247 – 208 | destination      | index into the escrow's list of payees and tokens    |
/// | 207 – 200 | flags            | 1: finalized, 2: refunds to balance, 4: has a signer |
/// | 199 – 160 | closeRequestedAt | Unix seconds, 0: not requested                       |
/// | 159 – 0   | payer            | never zero: a zero payer means no such channel       |
///
/// @dev Payee and token are one index and not two addresses, so that a channel without a signer of its own takes two
/// words (funds, terms) instead of four.
type ChannelTerms is uint256;

using {
    payer,
    closeRequestedAt,
    destination,
    exists,
    isFinalized,
    refundsToBalance,
    hasSigner,
    withCloseRequestedAt,
    finalized
} for ChannelTerms global;

uint256 constant CLOSE_REQUESTED_AT_SHIFT = 160;
uint256 constant DESTINATION_SHIFT = 208;
uint256 constant FINALIZED_FLAG = 1 << 200;
uint256 constant REFUNDS_TO_BALANCE_FLAG = 1 << 201;
uint256 constant HAS_SIGNER_FLAG = 1 << 202;

/// @notice The terms of a channel that is being opened.
function toChannelTerms(address payer_, uint40 destination_, bool refundsToBalance_, bool hasSigner_)
    pure
    returns (ChannelTerms)
{
    uint256 word = uint256(uint160(payer_)) | (uint256(destination_) << DESTINATION_SHIFT);
    if (refundsToBalance_) word |= REFUNDS_TO_BALANCE_FLAG;
    if (hasSigner_) word |= HAS_SIGNER_FLAG;
    return ChannelTerms.wrap(word);
}

function payer(ChannelTerms self) pure returns (address) {
    return address(uint160(ChannelTerms.unwrap(self)));
}

/// @return Unix seconds, or zero when no close is pending. 40 bits last until the year 36812.
function closeRequestedAt(ChannelTerms self) pure returns (uint40) {
    // What the cast cuts off are the fields above.
    // forge-lint: disable-next-line(unsafe-typecast)
    return uint40(ChannelTerms.unwrap(self) >> CLOSE_REQUESTED_AT_SHIFT);
}

function destination(ChannelTerms self) pure returns (uint40) {
    // What the cast cuts off are the fields above.
    // forge-lint: disable-next-line(unsafe-typecast)
    return uint40(ChannelTerms.unwrap(self) >> DESTINATION_SHIFT);
}

function exists(ChannelTerms self) pure returns (bool) {
    return self.payer() != address(0);
}

function isFinalized(ChannelTerms self) pure returns (bool) {
    return ChannelTerms.unwrap(self) & FINALIZED_FLAG != 0;
}

function refundsToBalance(ChannelTerms self) pure returns (bool) {
    return ChannelTerms.unwrap(self) & REFUNDS_TO_BALANCE_FLAG != 0;
}

/// @return Whether the channel's third word, its authorized signer, was written.
function hasSigner(ChannelTerms self) pure returns (bool) {
    return ChannelTerms.unwrap(self) & HAS_SIGNER_FLAG != 0;
}

function withCloseRequestedAt(ChannelTerms self, uint40 timestamp) pure returns (ChannelTerms) {
    uint256 cleared = ChannelTerms.unwrap(self) & ~(uint256(type(uint40).max) << CLOSE_REQUESTED_AT_SHIFT);
    return ChannelTerms.wrap(cleared | (uint256(timestamp) << CLOSE_REQUESTED_AT_SHIFT));
}

/// @notice The terms with the flag that is never cleared again.
function finalized(ChannelTerms self) pure returns (ChannelTerms) {
    return ChannelTerms.wrap(ChannelTerms.unwrap(self) | FINALIZED_FLAG);
}
