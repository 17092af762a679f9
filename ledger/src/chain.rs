use std::fmt;

use alloy::primitives::{Address, B256};
use lloom_receipts::{BlockNumber, ChannelId, ChannelParameters, TokenAmount, TokenTotal, UnixSeconds};
use serde::{Deserialize, Serialize};

/// A block, as far as following the chain needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its height.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: B256,
    /// The hash of the block before it.
    pub parent: B256,
    /// When it was made.
    pub timestamp: UnixSeconds,
}

/// Where in its block a contract said something: a log may speak of many channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPosition {
    /// The log's index in the block.
    pub log: u32,
    /// The place in the log's list, zero where it has none.
    pub entry: u32,
}

impl EventPosition {
    /// A log that says one thing.
    pub const fn of_log(log: u32) -> Self {
        Self { log, entry: 0 }
    }
}

impl fmt::Display for EventPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.log, self.entry)
    }
}

/// Something a contract of the deployment said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEvent {
    /// The block it is in.
    pub block: BlockNumber,
    /// That block's hash: with `position` it names the event.
    pub block_hash: B256,
    /// Its place in the block.
    pub position: EventPosition,
    /// The transaction that caused it.
    pub transaction: B256,
    /// What was said.
    pub kind: ChainEventKind,
}

/// What the contracts say. Amounts are base units and, where not said otherwise, totals of the channel's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainEventKind {
    /// A channel exists from here on.
    ChannelOpened {
        /// Its id.
        channel: ChannelId,
        /// What its id commits to.
        parameters: ChannelParameters,
        /// What was deposited.
        deposit: TokenAmount,
        /// Whether what remains returns to the payer's balance in the escrow, not to its wallet.
        refunds_to_balance: bool,
    },
    /// A channel has more money.
    ToppedUp {
        /// The channel.
        channel: ChannelId,
        /// The new total.
        deposit: TokenAmount,
        /// Whether this called a requested close off.
        close_cancelled: bool,
    },
    /// A channel paid its payee.
    Settled {
        /// The channel.
        channel: ChannelId,
        /// The new total.
        settled: TokenAmount,
    },
    /// The payer wants its money back; the grace period runs.
    CloseRequested {
        /// The channel.
        channel: ChannelId,
        /// When it began.
        requested_at: UnixSeconds,
    },
    /// A channel is over.
    Closed {
        /// The channel.
        channel: ChannelId,
        /// The final total.
        settled: TokenAmount,
        /// What went back to the payer.
        refunded: TokenAmount,
    },
    /// A row of a batch was passed over. No proof that it is dead: only that it was, there and then.
    RowSkipped {
        /// The channel.
        channel: ChannelId,
        /// Its place among the call's rows.
        index: u64,
        /// Why.
        reason: SkipReason,
    },
    /// A receipt's totals were published.
    UsageSettled {
        /// The channel.
        channel: ChannelId,
        /// The receipt's.
        sequence: u64,
        /// Prompt tokens.
        input: TokenTotal,
        /// Completion tokens.
        output: TokenTotal,
        /// What they cost.
        amount: TokenAmount,
    },
    /// A payee named an operator.
    OperatorAdded {
        /// The payee.
        payee: Address,
        /// Its operator.
        operator: Address,
    },
    /// A payee retired an operator. What it signed stays claimable.
    OperatorRetired {
        /// The payee.
        payee: Address,
        /// Its former operator.
        operator: Address,
    },
    /// A payout could not be transferred and went to the account's balance in the escrow.
    PayoutCredited {
        /// Whose balance.
        account: Address,
        /// Of which token.
        token: Address,
        /// How much, base units.
        amount: TokenAmount,
    },
}

impl ChainEventKind {
    /// The channel it is about.
    pub const fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::ChannelOpened { channel, .. }
            | Self::ToppedUp { channel, .. }
            | Self::Settled { channel, .. }
            | Self::CloseRequested { channel, .. }
            | Self::Closed { channel, .. }
            | Self::RowSkipped { channel, .. }
            | Self::UsageSettled { channel, .. } => Some(*channel),
            Self::OperatorAdded { .. } | Self::OperatorRetired { .. } | Self::PayoutCredited { .. } => None,
        }
    }

    /// The account it is about, where it is not about a channel.
    pub const fn account(&self) -> Option<Address> {
        match self {
            Self::OperatorAdded { payee, .. } | Self::OperatorRetired { payee, .. } => Some(*payee),
            Self::PayoutCredited { account, .. } => Some(*account),
            _ => None,
        }
    }

    /// The channel it ends or begins to end.
    pub(crate) const fn closes(&self) -> Option<ChannelId> {
        match self {
            Self::CloseRequested { channel, .. } | Self::Closed { channel, .. } => Some(*channel),
            _ => None,
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::ChannelOpened { .. } => "channel_opened",
            Self::ToppedUp { .. } => "topped_up",
            Self::Settled { .. } => "settled",
            Self::CloseRequested { .. } => "close_requested",
            Self::Closed { .. } => "closed",
            Self::RowSkipped { .. } => "row_skipped",
            Self::UsageSettled { .. } => "usage_settled",
            Self::OperatorAdded { .. } => "operator_added",
            Self::OperatorRetired { .. } => "operator_retired",
            Self::PayoutCredited { .. } => "payout_credited",
        }
    }
}

/// Why a row of a batch was passed over (the escrow's `SkipReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// No such channel.
    ChannelNotFound,
    /// The channel is over.
    ChannelFinalized,
    /// Settled up to there already.
    AmountNotIncreasing,
    /// More than was deposited.
    AmountExceedsDeposit,
    /// More than the voucher allows.
    AmountExceedsVoucher,
    /// Not signed by whom it has to be.
    InvalidSignature,
    /// Its grace period still runs, or was never begun.
    CloseNotReady,
}

/// A channel's money on the chain, at one height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// Ever deposited, base units.
    pub deposit: TokenAmount,
    /// Ever paid to the payee, base units.
    pub settled: TokenAmount,
    /// When the payer asked for its close, if it did.
    pub close_requested_at: Option<UnixSeconds>,
    /// Whether it is over.
    pub finalized: bool,
}

impl ChannelState {
    /// The state after `kind`, given the one before. `None` stays while nothing has opened the channel.
    pub(crate) fn after(before: Option<Self>, kind: &ChainEventKind) -> Option<Self> {
        if let ChainEventKind::ChannelOpened { deposit, .. } = *kind {
            return Some(Self {
                deposit,
                settled: TokenAmount::ZERO,
                close_requested_at: None,
                finalized: false,
            });
        }
        let mut state = before?;
        match *kind {
            ChainEventKind::ToppedUp {
                deposit,
                close_cancelled,
                ..
            } => {
                state.deposit = deposit;
                if close_cancelled {
                    state.close_requested_at = None;
                }
            }
            ChainEventKind::Settled { settled, .. } => state.settled = settled,
            // Of a claim by receipts the escrow says nothing else. A closing one may publish less than is settled.
            ChainEventKind::UsageSettled { amount, .. } => state.settled = state.settled.max(amount),
            ChainEventKind::CloseRequested { requested_at, .. } => state.close_requested_at = Some(requested_at),
            ChainEventKind::Closed { settled, .. } => {
                state.settled = settled;
                state.finalized = true;
            }
            _ => {}
        }
        Some(state)
    }
}

/// The totals a channel has published on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedUsage {
    /// The receipt's sequence.
    pub sequence: u64,
    /// Prompt tokens.
    pub input: TokenTotal,
    /// Completion tokens.
    pub output: TokenTotal,
    /// What they cost, base units.
    pub amount: TokenAmount,
}
