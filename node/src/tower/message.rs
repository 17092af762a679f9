use alloy::primitives::Address;
use lloom_ledger::{DelegationRefusal, HeldClaim};
use lloom_receipts::{
    BlockNumber, ChannelId, ChannelParameters, Domain, Signed, TokenAmount, TowerAppointment, UnixSeconds, Unverified,
    Voucher,
};
use serde::{Deserialize, Serialize};

/// The most delegations of one message.
pub const MAX_DELEGATIONS: usize = 256;
/// The most channels that one answer to [`TowerQuestion::Status`] names.
pub const MAX_HELD_CLAIMS: usize = 1024;
/// The most bytes of a question as CBOR. Whoever sends more is not read to the end.
pub(crate) const MAX_QUESTION_BYTES: usize = 256 * 1024;
/// The most bytes of an answer.
pub(crate) const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// What is asked over `/lloom/tower/1.0.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TowerQuestion {
    /// What do you promise, and how far do you see?
    Terms,
    /// Take these on.
    Update {
        /// Where the channels are.
        deployment: Deployment,
        /// At most [`MAX_DELEGATIONS`].
        delegations: Vec<DelegationMessage>,
    },
    /// What do you hold for me? In the order of the channels' ids.
    Status {
        /// Where the channels are.
        deployment: Deployment,
        /// Only those after this one.
        after: Option<ChannelId>,
    },
}

/// What a tower answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TowerAnswer {
    /// To [`TowerQuestion::Terms`].
    Terms(Box<TowerProfile>),
    /// To [`TowerQuestion::Update`]: an answer for each delegation, in their order.
    Updated(Vec<DelegationAnswer>),
    /// To [`TowerQuestion::Status`].
    Status {
        /// At most [`MAX_HELD_CLAIMS`].
        held: Vec<HeldClaim>,
        /// Whether there are others after these.
        more: bool,
    },
    /// It does none of that.
    Refused(TowerRefusal),
}

/// The contracts that settle, and their chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The chain's id.
    pub chain_id: u64,
    /// The contract that holds the money.
    pub escrow: Address,
    /// The contract that settles usage.
    pub settlement: Address,
}

impl From<&Domain> for Deployment {
    fn from(domain: &Domain) -> Self {
        Self {
            chain_id: domain.chain_id(),
            escrow: domain.escrow(),
            settlement: domain.settlement(),
        }
    }
}

/// A voucher, what its channel's id commits to, and what to settle.
///
/// The parameters prove whom the channel pays and whose signature counts, before anything is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationMessage {
    /// The channel's.
    pub parameters: ChannelParameters,
    /// The payer side's signature.
    pub voucher: Signed<Voucher, Unverified>,
    /// What the channel's `settled` is to become, base units.
    pub claim: TokenAmount,
}

/// What became of one delegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DelegationAnswer {
    /// It is stored, and this is promised.
    TakenOn(Signed<TowerAppointment, Unverified>),
    /// A better one was stored before: this is promised, and this is the voucher that it rests on.
    PassedOver {
        /// What is promised.
        appointment: Signed<TowerAppointment, Unverified>,
        /// The voucher that is held.
        voucher: Signed<Voucher, Unverified>,
    },
    /// It is not taken on.
    Refused(UpdateRefusal),
}

/// Why a delegation is not taken on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum UpdateRefusal {
    /// The voucher is of another channel than the parameters.
    #[error("the voucher is not of the channel that its parameters describe")]
    OtherChannel,
    /// Not the channel's payer side signed it.
    #[error("the voucher is not signed by {expected}")]
    WrongSigner {
        /// Who has to.
        expected: Address,
    },
    /// The store's rules say no.
    #[error(transparent)]
    Delegation(DelegationRefusal),
}

/// Why a tower does not do what it is asked: nothing of the message was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TowerRefusal {
    /// The peer is no tower.
    #[error("the peer is no tower")]
    NoTower,
    /// It works on another chain, or for other contracts.
    #[error(
        "the tower works for the escrow {} and the settlement {} on the chain {}",
        deployment.escrow, deployment.settlement, deployment.chain_id
    )]
    OtherDeployment {
        /// Where it works.
        deployment: Deployment,
    },
    /// It does not work for who asks.
    #[error("the tower does not work for {executor}")]
    UnknownExecutor {
        /// Who asked.
        executor: Address,
    },
    /// Too much was asked in the last minute.
    #[error("too many messages; the tower answers again in {seconds} s")]
    TooManyMessages {
        /// When to ask again.
        seconds: u64,
    },
    /// A message holds more than it may.
    #[error("a message holds at most {limit} delegations")]
    TooManyDelegations {
        /// The limit.
        limit: u32,
    },
    /// It is busy with others.
    #[error("the tower is busy")]
    Busy,
    /// It couldn't keep what it would promise.
    #[error("the tower {0}")]
    Impeded(Impediment),
    /// Its store failed.
    #[error("the tower's store failed")]
    Internal,
}

/// Why a tower can't promise anything at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Impediment {
    /// It can't watch: no endpoint answers it, or none shows it a new block.
    #[error("does not see the chain: it reaches no endpoint, or is shown no new block")]
    ChainOutOfSight,
    /// It can't pay for a claim.
    #[error("has no coins left for the gas of a claim")]
    NoGasMoney,
}

/// What a tower is and promises. Nothing in it is signed: what counts are its appointments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TowerProfile {
    /// Its address, which is its peer id's.
    pub tower: Address,
    /// Where it works.
    pub deployment: Deployment,
    /// The only token that it takes on.
    pub token: Address,
    /// The least that it goes out for, base units.
    pub minimum_value: TokenAmount,
    /// The most that it offers for gas, wei.
    pub max_fee_per_gas: u128,
    /// How long an appointment stands, seconds.
    pub term_secs: u64,
    /// How many operators it works for at most.
    pub max_operators: u32,
    /// How many channels it holds for one at most.
    pub max_channels: u32,
    /// How many messages of one peer it answers in a minute.
    pub messages_per_minute: u32,
    /// How many channels it holds for the asker.
    pub channels: u64,
    /// The newest block that it has taken in.
    pub head: Option<TowerHead>,
    /// What keeps it from taking anything on at the moment.
    pub impediment: Option<Impediment>,
    /// The software, for people.
    pub agent: String,
}

/// A block, as a tower tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TowerHead {
    /// Its height.
    pub number: BlockNumber,
    /// When it was made.
    pub timestamp: UnixSeconds,
}
