// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice What a channel is: whose, in which token, and how far it has come in its life.
///
/// | bits      | field            |                                                      |
/// |-----------|------------------|------------------------------------------------------|
/// | 255 – 240 |                  | unused, zero                                         |
/// | 239 – 208 | tokenIndex       | index into the escrow's list of tokens, from 1       |
/// | 207 – 200 | flags            | 1: finalized, 2: refunds to balance, 4: has a signer |
/// | 199 – 160 | closeRequestedAt | Unix seconds, 0: not requested                       |
/// | 159 – 0   | payer            | never zero: a zero payer means no such channel       |
///
/// @dev The token is an index and not an address so that a channel without a signer of its own takes three words
/// (funds, terms, payee) instead of four.
type ChannelTerms is uint256;

using {
    payer,
    closeRequestedAt,
    tokenIndex,
    exists,
    isFinalized,
    refundsToBalance,
    hasSigner,
    withCloseRequestedAt,
    finalized
} for ChannelTerms global;

uint256 constant CLOSE_REQUESTED_AT_SHIFT = 160;
uint256 constant TOKEN_INDEX_SHIFT = 208;
uint256 constant FINALIZED_FLAG = 1 << 200;
uint256 constant REFUNDS_TO_BALANCE_FLAG = 1 << 201;
uint256 constant HAS_SIGNER_FLAG = 1 << 202;

/// @notice The terms of a channel that is being opened.
function toChannelTerms(address payer_, uint32 tokenIndex_, bool refundsToBalance_, bool hasSigner_)
    pure
    returns (ChannelTerms)
{
    uint256 word = uint256(uint160(payer_)) | (uint256(tokenIndex_) << TOKEN_INDEX_SHIFT);
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

function tokenIndex(ChannelTerms self) pure returns (uint32) {
    // What the cast cuts off are the fields above.
    // forge-lint: disable-next-line(unsafe-typecast)
    return uint32(ChannelTerms.unwrap(self) >> TOKEN_INDEX_SHIFT);
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

/// @return Whether the channel's fourth word, its authorized signer, was written.
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
