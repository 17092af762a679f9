use std::fmt;

use alloy::primitives::{Address, B256, Bytes};
use lloom_receipts::{BlockNumber, ChannelId, Receipt, Signed, TokenAmount, UnixSeconds, Verified, Voucher};
use serde::{Deserialize, Serialize};

use crate::{ChannelRecord, LedgerError, Resolution, error::Failure};

/// What a channel can be claimed for, and with what.
#[derive(Clone, Debug)]
pub struct Claimable {
    /// The channel.
    pub channel: ChannelRecord,
    /// The sum of all bills, base units.
    pub billed: TokenAmount,
    /// The best usable voucher.
    pub voucher: Option<Signed<Voucher, Verified>>,
    /// The newest usable receipt within the deposit.
    pub receipt: Option<Receipt<Verified>>,
    /// The amount of the newest receipt, base units.
    pub linked: TokenAmount,
}

impl Claimable {
    /// What the channel's `settled` may become: what was billed, up to the best ceiling and the deposit, never a voucher's
    /// slack.
    pub fn amount(&self) -> TokenAmount {
        let deposit = self.channel.latest.map_or(TokenAmount::ZERO, |state| state.deposit);
        let by_voucher = self
            .voucher
            .as_ref()
            .map_or(TokenAmount::ZERO, |voucher| voucher.document().amount.min(deposit));
        let by_receipt = self
            .receipt
            .as_ref()
            .map_or(TokenAmount::ZERO, |receipt| receipt.receipt().cumulative_amount);
        self.billed.min(by_voucher.max(by_receipt))
    }

    /// What of it is not settled yet, as the newest block says.
    pub fn unclaimed(&self) -> TokenAmount {
        let settled = self.channel.latest.map_or(TokenAmount::ZERO, |state| state.settled);
        self.amount().saturating_sub(settled)
    }
}

/// Names one of a channel's authorizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationRef {
    /// The voucher over this amount.
    Voucher {
        /// Cumulative base units.
        amount: TokenAmount,
    },
    /// The receipt with this sequence.
    Receipt {
        /// Its sequence.
        sequence: u64,
    },
}

impl fmt::Display for AuthorizationRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Voucher { amount } => write!(formatter, "the voucher over {amount}"),
            Self::Receipt { sequence } => write!(formatter, "the receipt {sequence}"),
        }
    }
}

/// Names a stored transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionId(pub(crate) i64);

impl std::fmt::Display for TransactionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A signed transaction, to be stored before it is broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTransaction {
    /// Who signed it.
    pub from: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Its hash.
    pub hash: B256,
    /// What is broadcast.
    pub raw: Bytes,
    /// What it is for.
    pub purpose: Purpose,
    /// The transaction of the same nonce it is to replace.
    pub replaces: Option<TransactionId>,
    /// The most it pays for a unit of gas, wei.
    pub max_fee: u128,
    /// The tip in it, wei.
    pub priority_fee: u128,
    /// The most gas it may use.
    pub gas_limit: u64,
    /// When it has to be mined.
    pub deadline: Option<UnixSeconds>,
    /// When it was signed.
    pub now: UnixSeconds,
}

/// What a transaction is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It claims.
    Claim {
        /// With what.
        by: ClaimBy,
        /// Each channel and what its `settled` is to become, base units.
        rows: Vec<(ChannelId, TokenAmount)>,
    },
    /// It closes a channel.
    Close {
        /// The channel.
        channel: ChannelId,
        /// What its `settled` is to become, base units.
        amount: TokenAmount,
    },
    /// It only uses its nonce up: what had it before is to be mined no more, or nothing had it.
    Cancellation,
    /// Anything else: an approval, a deposit, an opening.
    Other,
}

/// What a claim puts before the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimBy {
    /// Vouchers: cheapest.
    Vouchers,
    /// Usage receipts: they publish what was used.
    Receipts,
}

/// A stored transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// Its name.
    pub id: TransactionId,
    /// Who signed it.
    pub from: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Its hash.
    pub hash: B256,
    /// What is broadcast.
    pub raw: Bytes,
    /// What it is for.
    pub purpose: Purpose,
    /// The transaction it is to replace.
    pub replaces: Option<TransactionId>,
    /// The most it pays for a unit of gas, wei.
    pub max_fee: u128,
    /// The tip in it, wei.
    pub priority_fee: u128,
    /// The most gas it may use.
    pub gas_limit: u64,
    /// When it has to be mined.
    pub deadline: Option<UnixSeconds>,
    /// When it was signed.
    pub recorded_at: UnixSeconds,
    /// When it was broadcast last, if it was.
    pub broadcast_at: Option<UnixSeconds>,
    /// What became of it; `None` while that is unknown.
    pub finish: Option<Finish>,
}

/// What became of a transaction, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It is in a final block.
    Mined {
        /// The block.
        block: BlockNumber,
        /// Whether it did not revert.
        succeeded: bool,
        /// Gas it used.
        gas_used: u64,
        /// What a unit cost, wei.
        gas_price: u128,
    },
    /// Another transaction of its nonce is in a final block.
    Replaced {
        /// Which.
        by: TransactionId,
    },
    /// Its nonce was used by a transaction that is not stored here, or it was never broadcast.
    Dropped,
}

/// Names an obligation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObligationId(pub(crate) i64);

/// A deadline: a channel that has to be claimed before its payer can withdraw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obligation {
    /// Its name.
    pub id: ObligationId,
    /// The channel.
    pub channel: ChannelId,
    /// When the grace period began.
    pub requested_at: UnixSeconds,
    /// When it ends.
    pub deadline: UnixSeconds,
    /// How it ended; `None` while it stands.
    pub resolution: Option<Resolution>,
}

/// What a payee earned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earnings {
    /// By channel, in the order they were opened.
    pub channels: Vec<ChannelEarnings>,
}

/// What a payee earned on one channel. Base units, totals of the channel's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelEarnings {
    /// The channel.
    pub channel: ChannelRecord,
    /// The bills.
    pub billed: TokenAmount,
    /// The bills that receipts link.
    pub linked: TokenAmount,
    /// What may be claimed now beyond what is settled.
    pub claimable: TokenAmount,
    /// What the chain paid, at the newest block.
    pub settled: TokenAmount,
    /// Receipts.
    pub receipts: u64,
}

/// Why the ledger refuses a change to what is settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The channel has no such authorization.
    #[error("the channel has no such authorization")]
    UnknownAuthorization,
    /// No such transaction is stored.
    #[error("there is no transaction {id}")]
    UnknownTransaction {
        /// Its name.
        id: TransactionId,
    },
    /// Something else became of the transaction already.
    #[error("the transaction {id} has finished otherwise: {finish:?}")]
    FinishedOtherwise {
        /// The transaction.
        id: TransactionId,
        /// What became of it.
        finish: Finish,
    },
    /// A transaction can only replace one of the same sender and nonce.
    #[error("the transaction {replaces} has another sender or nonce")]
    NoReplacement {
        /// The one named as replaced.
        replaces: TransactionId,
    },
    /// A close would forfeit what a request under way is billed.
    #[error("a request of the channel {channel} is still being served")]
    BeingServed {
        /// The channel.
        channel: ChannelId,
    },
    /// A close would forfeit what is claimable.
    #[error("the close of the channel {channel} would forfeit a part of the {claimable} that can be claimed")]
    Forfeits {
        /// The channel.
        channel: ChannelId,
        /// What its `settled` could become, base units.
        claimable: TokenAmount,
    },
    /// No such obligation is stored: the event it came from may have been rolled back.
    #[error("there is no such obligation")]
    UnknownObligation,
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Failure for SettleError {
    fn ledger(&self) -> Option<&LedgerError> {
        match self {
            Self::Ledger(error) => Some(error),
            _ => None,
        }
    }
}
