//! All that the properties look at, once everything has settled. Plain data: a test can make up what should be noticed.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};
use lloom_ledger::{Block, ChannelState, Obligation, TransactionRecord};
use lloom_receipts::{ChannelId, RequestHash, TokenAmount, UnixSeconds};
use lloom_watcher::Call;

use crate::witness::Seen;

/// What is known at the end.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Every channel that was opened.
    pub channels: Vec<ChannelEvidence>,
    /// Everybody who is paid.
    pub payees: Vec<PayeeEvidence>,
    /// Everybody who pays.
    pub payers: Vec<PayerEvidence>,
    /// Every store.
    pub stores: Vec<StoreEvidence>,
    /// Every client.
    pub clients: Vec<ClientEvidence>,
    /// Every request that was seen on the wire.
    pub requests: BTreeMap<RequestHash, Seen>,
    /// What each key signed for each nonce, as far as it was broadcast.
    pub signed: BTreeMap<(Address, u64), Vec<(B256, Call)>>,
    /// What honest clients' channels lost.
    pub losses: Vec<LossEvidence>,
    /// What honest clients signed and should not have, when they did.
    pub oversigned: Vec<String>,
    /// What was served beyond what was covered, when it was.
    pub overserved: Vec<String>,
}

/// A channel.
#[derive(Clone, Debug)]
pub struct ChannelEvidence {
    /// Its id.
    pub id: ChannelId,
    /// What the chain says at last.
    pub on_chain: ChannelState,
    /// What its executor has acknowledged as durable, or held as claimable in its store, while there was time enough to
    /// claim it. Base units.
    pub due: TokenAmount,
    /// The bills its executor has ever made, base units.
    pub billed: TokenAmount,
}

/// Somebody who is paid.
#[derive(Clone, Debug)]
pub struct PayeeEvidence {
    /// Who.
    pub payee: Address,
    /// What it has, in its wallet and inside the escrow, base units.
    pub received: TokenAmount,
    /// What its channels have settled, base units.
    pub settled: TokenAmount,
}

/// Somebody who pays.
#[derive(Clone, Debug)]
pub struct PayerEvidence {
    /// Who.
    pub payer: Address,
    /// What it had, less what it has, in its wallet and inside the escrow, base units.
    pub lost: TokenAmount,
    /// What its channels have settled, and those still hold that are not over, base units.
    pub spent: TokenAmount,
}

/// A channel of an honest client, whoever is at its other end.
#[derive(Clone, Debug)]
pub struct LossEvidence {
    /// Its id.
    pub channel: ChannelId,
    /// What it has settled, base units.
    pub settled: TokenAmount,
    /// What was received and linked on it, and an increment for each answer that was not, base units.
    pub received: TokenAmount,
}

/// A store, and what it should know.
#[derive(Clone, Debug)]
pub struct StoreEvidence {
    /// Whose.
    pub name: String,
    /// Who signs its transactions.
    pub account: Address,
    /// Whether it is, or was, a backup that was put back: what it forgot is not its fault.
    pub restored: bool,
    /// The transactions that it had on record, each time right before a backup was put in its place.
    pub replaced: Vec<BTreeSet<B256>>,
    /// The newest block that it knows.
    pub cursor: Option<Block>,
    /// The chain's newest block.
    pub head: Block,
    /// Each channel that concerns it: what it knows, and what the chain says.
    pub channels: Vec<(ChannelId, Option<ChannelState>, ChannelState)>,
    /// Its transactions.
    pub transactions: Vec<TransactionRecord>,
    /// Those of its account that are in blocks which count as final: hash, nonce, whether it ran through.
    pub mined: Vec<(B256, u64, bool)>,
    /// Its obligations, whether they stand or not.
    pub obligations: Vec<Obligation>,
    /// The closes that payers of its channels have asked for, as the chain's final blocks have it.
    pub close_requests: Vec<CloseRequest>,
    /// What it could claim of each channel at last, base units.
    pub claimable: BTreeMap<ChannelId, TokenAmount>,
}

/// A close that a payer has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseRequest {
    /// Of which channel.
    pub channel: ChannelId,
    /// When the grace period began.
    pub requested_at: UnixSeconds,
    /// Whether the payer called it off, by a top-up.
    pub called_off: bool,
}

/// A client.
#[derive(Clone, Debug)]
pub struct ClientEvidence {
    /// Which.
    pub name: String,
    /// Whether its store was put back from a backup.
    pub restored: bool,
    /// What it may sign away in a day, base units.
    pub per_day: TokenAmount,
    /// What it may sign away in a day to one executor, base units.
    pub per_executor_per_day: TokenAmount,
    /// What its vouchers and receipts promise each executor, on all channels together, base units.
    pub signed: Vec<TokenAmount>,
    /// The most that one of its requests can cost, and the limit for it, base units.
    pub dearest: TokenAmount,
    /// The limit of one request.
    pub per_request: TokenAmount,
}
