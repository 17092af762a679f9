//! What a tower takes on, and under which conditions.

use std::time::Duration;

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Signed, TokenAmount, TowerAppointment, UnixSeconds, Verified, Voucher};
use serde::{Deserialize, Serialize};

use crate::{ChannelRecord, Claimable, Outcome};

/// Bytes that one held voucher counts for, with its place in the indexes.
pub const HELD_VOUCHER_BYTES: u64 = 512;
/// Vouchers that a tower keeps of one channel: the best, and what it falls back to.
pub const HELD_VOUCHERS_PER_CHANNEL: u32 = 4;
/// What a claim needs to be mined before a deadline: a round of the watcher, a first bid and dearer ones in its place.
/// Whoever is told of a channel with less time left promises nothing of it.
pub const CLAIM_TAKES: Duration = Duration::from_secs(300);
/// How long after its last good answer a tower still counts as cover. An executor's node asks each of its towers at least
/// once a minute whether it is there, and one that is away at least every other minute: this is some rounds missed, and
/// still a small part of a grace period.
pub const TOWER_SILENCE: Duration = Duration::from_secs(600);

/// What an executor hands to a tower: a voucher, and what to settle with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The payer side's signature.
    pub voucher: Signed<Voucher, Verified>,
    /// What the channel's `settled` is to become, base units: what was billed, never the voucher's slack.
    pub claim: TokenAmount,
}

/// What a tower promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerTerms {
    /// The only token that it takes on: what another is worth, and what its code does, the tower can't know.
    pub token: Address,
    /// The least that a claim has to bring, base units.
    pub minimum_value: TokenAmount,
    /// The most that is offered for gas, wei.
    pub max_fee_per_gas: u128,
    /// How long an appointment stands.
    pub term: Duration,
}

/// What a tower has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerQuotas {
    /// Operators that it works for.
    pub operators: u32,
    /// Channels of one operator.
    pub channels_per_operator: u32,
    /// All vouchers, at [`HELD_VOUCHER_BYTES`] each.
    pub bytes: u64,
}

/// What is to be taken on, and how.
#[derive(Clone, Debug)]
pub struct TakeOn {
    /// The tower, which will sign.
    pub tower: Address,
    /// Who brings it, proven by its connection.
    pub operator: Address,
    /// What it brings.
    pub delegations: Vec<Delegation>,
    /// What is promised.
    pub terms: TowerTerms,
    /// What there is room for.
    pub quotas: TowerQuotas,
    /// How long a payer waits between asking for a close and withdrawing.
    pub grace: Duration,
    /// Now.
    pub now: UnixSeconds,
}

/// An appointment that is in the store: the only kind a tower signs. Only this crate makes one.
///
/// Signing is deterministic, so an appointment that is asked for again after a crash gets the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedAppointment {
    pub(crate) appointment: TowerAppointment,
    pub(crate) voucher: Signed<Voucher, Verified>,
    pub(crate) outcome: Outcome,
}

impl CommittedAppointment {
    /// What was taken on. Of a delegation that was passed over, this is the better one that is held.
    pub const fn appointment(&self) -> &TowerAppointment {
        &self.appointment
    }

    /// The voucher that is held for it.
    pub const fn voucher(&self) -> &Signed<Voucher, Verified> {
        &self.voucher
    }

    /// Whether this changed anything.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }
}

/// Why a tower does not take a delegation on. The others of its message are not affected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DelegationRefusal {
    /// The chain has no such channel, as far as the tower has followed it.
    #[error("the tower knows no such channel")]
    UnknownChannel,
    /// The channel's opening is not confirmed yet.
    #[error("the channel's deposit is not confirmed yet")]
    NotConfirmed,
    /// The channel's payee has not named who brings it.
    #[error("the channel's payee {payee} has not named {operator} as its operator")]
    NotOperator {
        /// The channel's payee.
        payee: Address,
        /// Who brought it.
        operator: Address,
    },
    /// The channel pays in a token that the tower does not take on.
    #[error("the channel is in another token than {token}")]
    OtherToken {
        /// The tower's.
        token: Address,
    },
    /// The channel is over.
    #[error("the channel is over")]
    Finalized,
    /// More is to be claimed than the voucher signs.
    #[error("the voucher is over {ceiling}, which is less than what is to be claimed")]
    AboveCeiling {
        /// What the voucher signs.
        ceiling: TokenAmount,
    },
    /// More is to be claimed than the channel holds.
    #[error("the channel's confirmed deposit is {deposit}, which is less than what is to be claimed")]
    AboveDeposit {
        /// What it holds.
        deposit: TokenAmount,
    },
    /// It is settled already: there is nothing to defend.
    #[error("the channel has settled {settled} already")]
    Settled {
        /// What it has settled.
        settled: TokenAmount,
    },
    /// What the claim would bring is less than what the tower goes out for.
    #[error("the tower claims no less than {minimum}, and this would bring {value}")]
    BelowMinimum {
        /// The tower's minimum.
        minimum: TokenAmount,
        /// What it would bring.
        value: TokenAmount,
    },
    /// The payer has asked for a close, and may withdraw before a claim is mined.
    #[error("it is too late: the payer may withdraw from {deadline} on, and a claim takes up to {} s", CLAIM_TAKES.as_secs())]
    TooLate {
        /// When the grace period is over.
        deadline: UnixSeconds,
    },
    /// The chain has refused this very voucher.
    #[error("the chain has refused this voucher")]
    Unusable,
    /// The tower works for as many operators as it can.
    #[error("the tower works for no more operators: {limit} is its limit")]
    TooManyOperators {
        /// Its limit.
        limit: u32,
    },
    /// The tower holds as many channels of this operator as it will.
    #[error("the tower holds no more channels of this operator: {limit} is its limit")]
    TooManyChannels {
        /// Its limit.
        limit: u32,
    },
    /// The tower's store is full.
    #[error("the tower's store is full: {limit} bytes")]
    Full {
        /// Its limit.
        limit: u64,
    },
}

/// A channel that a tower holds a voucher of.
#[derive(Clone, Debug)]
pub struct Held {
    /// The channel and its best usable voucher: `billed` is what the executor asked to have claimed.
    pub claimable: Claimable,
    /// What was promised.
    pub terms: HeldTerms,
}

/// The part of an appointment's terms that decides whether a claim is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldTerms {
    /// The least that the claim has to bring, base units.
    pub minimum_value: TokenAmount,
    /// The most that was promised for gas, wei.
    pub max_fee_per_gas: u128,
}

/// What a tower holds of one channel for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldClaim {
    /// The channel.
    pub channel: ChannelId,
    /// What would be claimed, base units.
    pub claim: TokenAmount,
    /// Until when.
    pub expires_at: UnixSeconds,
}

/// All that a tower holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldTotals {
    /// Operators it works for.
    pub operators: u64,
    /// Their channels.
    pub channels: u64,
    /// Their vouchers, at [`HELD_VOUCHER_BYTES`] each.
    pub bytes: u64,
}

/// A channel of an executor whose newest authorization a tower has not acknowledged.
#[derive(Clone, Debug)]
pub struct Undelegated {
    /// The channel.
    pub channel: ChannelRecord,
    /// What to hand over.
    pub delegation: Delegation,
}

/// How a tower did, as its executor saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerRecord {
    /// The tower.
    pub address: Address,
    /// Its last good answer.
    pub heard_at: Option<UnixSeconds>,
    /// What went wrong since.
    pub problem: Option<String>,
    /// The last thing that an honest tower would never have said, and when.
    pub fault: Option<(String, UnixSeconds)>,
}

impl TowerRecord {
    /// Whether it was heard lately enough to count as cover ([`TOWER_SILENCE`]).
    pub fn is_heard(&self, now: UnixSeconds) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) <= TOWER_SILENCE)
    }
}

/// A channel that a tower does not take on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingRefusal {
    /// The channel.
    pub channel: ChannelId,
    /// What was to be claimed, base units.
    pub claim: TokenAmount,
    /// Why not, in the tower's words.
    pub reason: String,
    /// Since when.
    pub since: UnixSeconds,
}

/// A stored appointment, with its tower's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppointmentRecord {
    /// What the tower signed.
    pub appointment: Signed<TowerAppointment, Verified>,
    /// When the tower was found not to hold it any more.
    pub lost_at: Option<UnixSeconds>,
}

/// What a payee would lose if its executors stayed away while every payer left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueAtRisk {
    /// What could be claimed now, base units.
    pub claimable: TokenAmount,
    /// What of it a tower has promised to claim that was heard within [`TOWER_SILENCE`].
    pub covered: TokenAmount,
    /// Channels with something to claim.
    pub channels: u64,
    /// Of these, the ones that no such tower has promised to claim in full.
    pub uncovered_channels: u64,
}

impl ValueAtRisk {
    /// What no tower has promised to claim that was heard lately, base units.
    pub fn uncovered(&self) -> TokenAmount {
        self.claimable.saturating_sub(self.covered)
    }
}
