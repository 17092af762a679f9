use std::{io, time::Duration};

use alloy::primitives::Address;
use lloom_ledger::LedgerError;
use lloom_receipts::{ChannelId, ModelHash, PriceOverflow, TokenCount};

use super::{
    tally::{Overbilled, Overcount},
    treasurer::TreasurerError,
};
use crate::wire::{Refusal, WireError};

/// Why a chat has no (complete) answer, or its bill is not paid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The executor does not offer the model.
    #[error("the executor does not offer the model {model}")]
    UnknownModel {
        /// What was asked for.
        model: ModelHash,
    },
    /// The executor wants to be paid farther ahead than this client pays.
    #[error("the executor wants to be paid {} tokens ahead, and this client pays at most {} ahead", wanted.get(), limit.get())]
    FarAhead {
        /// The increment in its offer.
        wanted: TokenCount,
        /// [`ClientConfig::max_increment`](super::ClientConfig::max_increment).
        limit: TokenCount,
    },
    /// No open channel pays that executor.
    #[error("no open channel pays the executor {operator}")]
    NoChannel {
        /// The executor's operator.
        operator: Address,
    },
    /// The channel was not opened by this client, so what commits it to its executor is not known.
    #[error("the channel {channel} was not opened here")]
    ForeignChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// The body can't be sent.
    #[error("the chat request: {0}")]
    Body(&'static str),
    /// The request's maximum does not fit a channel.
    #[error(transparent)]
    Price(#[from] PriceOverflow),
    /// Nothing was signed: a budget, the deposit, the ledger.
    #[error(transparent)]
    Treasurer(#[from] TreasurerError),
    /// No stream to the executor.
    #[error("no stream to the executor")]
    Open(#[source] io::Error),
    /// The stream failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The executor ended the stream.
    #[error("the executor ended the stream while {awaited} was awaited")]
    Ended {
        /// What was awaited.
        awaited: &'static str,
    },
    /// The executor did not answer in time.
    #[error("no {awaited} came within {} s", patience.as_secs_f32())]
    Timeout {
        /// What was awaited.
        awaited: &'static str,
        /// How long.
        patience: Duration,
    },
    /// The executor refused.
    #[error("the executor refuses: {0}")]
    Refused(Refusal),
    /// The executor sent something else than what the protocol has there.
    #[error("the executor sent another frame where {awaited} was awaited")]
    Unexpected {
        /// What was awaited.
        awaited: &'static str,
    },
    /// The executor announces more tokens than what came can have. Nothing more is paid.
    #[error("the executor overcounts")]
    Overcount(#[source] Overcount),
    /// The bill is not owed. It is not paid; the executor's signature under it is logged.
    #[error("the executor's bill is not owed")]
    Overbilled(#[source] Overbilled),
    /// The bill is not signed by the operator that was asked.
    #[error("the bill is not signed by the operator {operator}")]
    ForeignBill {
        /// Who was asked.
        operator: Address,
    },
    /// A second, different bill for a request that is paid: a fault that the registry punishes.
    #[error("the executor has signed two bills for one request")]
    SecondBill,
    /// What the executor calls the channel's head is not signed by both sides, or contradicts the own head.
    #[error("the executor's head of the channel {channel} is not to be believed")]
    FalseHead {
        /// The channel.
        channel: ChannelId,
    },
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
