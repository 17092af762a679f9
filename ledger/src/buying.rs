use std::time::Duration;

use alloy::primitives::{Address, B256};
use lloom_receipts::{
    ChannelParameters, ContentSalt, InferenceRequest, Receipt, Signed, TokenAmount, UnixSeconds, Verified, Voucher,
};

use crate::{LedgerError, error::Failure};

/// A channel this client is about to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewChannel {
    /// What its id commits to.
    pub parameters: ChannelParameters,
    /// The operator it is committed to.
    pub operator: Address,
    /// The random part of the commitment.
    pub client_random: B256,
    /// What will be deposited, base units. Vouchers may be signed up to it, or up to what the chain says once it does.
    pub deposit: TokenAmount,
}

/// A request this client is about to send.
#[derive(Clone, Debug)]
pub struct OwnRequest {
    /// What is asked.
    pub request: Signed<InferenceRequest, Verified>,
    /// The salt of its content hashes.
    pub content_salt: ContentSalt,
    /// The voucher that goes with it.
    pub voucher: Option<Signed<Voucher, Verified>>,
    /// What of that voucher is for this request, base units.
    pub authorized: TokenAmount,
    /// What may be spent.
    pub budget: Budget,
    /// When it is sent.
    pub now: UnixSeconds,
}

/// What a client may spend, base units of the channel's token. [`TokenAmount::MAX`] is no limit.
///
/// The limits of a day hold for two sums alike. One is what requests cost: a request counts with its maximum until it is
/// linked (then with its bill) or abandoned (then not at all). The other is what is signed away: what vouchers grow by when
/// they are signed, so that what an answer leaves over of its voucher counts, and pays for the channel's next ones; and what
/// open requests may still add to it. A day is the last 24 hours, rounded up to whole hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// On one request.
    pub per_request: TokenAmount,
    /// In a day, on all channels.
    pub per_day: TokenAmount,
    /// In a day, at one operator.
    pub per_executor_per_day: TokenAmount,
}

impl Budget {
    /// No limit at all.
    pub const UNLIMITED: Self = Self {
        per_request: TokenAmount::MAX,
        per_day: TokenAmount::MAX,
        per_executor_per_day: TokenAmount::MAX,
    };
}

/// Which limit of a [`Budget`] was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetLimit {
    /// [`Budget::per_request`].
    Request,
    /// [`Budget::per_day`].
    Day,
    /// [`Budget::per_executor_per_day`].
    ExecutorDay,
}

/// A request this client made.
#[derive(Clone, Debug)]
pub struct OwnRequestRecord {
    /// What was asked.
    pub request: Signed<InferenceRequest, Verified>,
    /// The salt of its content hashes.
    pub content_salt: ContentSalt,
    /// What was authorized for it, base units.
    pub authorized: TokenAmount,
    /// Whether its bill is linked.
    pub billed: bool,
    /// Why it was abandoned, if it was.
    pub abandoned: Option<String>,
    /// When it was begun.
    pub begun_at: UnixSeconds,
}

/// An own receipt that was taken back. It was signed all the same, and perhaps sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithdrawnReceipt {
    /// What was signed, by both sides.
    pub receipt: Receipt<Verified>,
    /// When it was taken back.
    pub withdrawn_at: UnixSeconds,
    /// Why.
    pub reason: String,
}

/// How an executor did on one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// When.
    pub at: UnixSeconds,
    /// How it ended.
    pub outcome: ObservedOutcome,
    /// From sending the request to the first token.
    pub time_to_first_token: Option<Duration>,
    /// Completion tokens a second, from the first to the last.
    pub tokens_per_second: Option<f64>,
}

/// How a request ended, for the executor's score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedOutcome {
    /// It was served, and its bill was right.
    Completed,
    /// It broke off, or nobody answered.
    Failed,
    /// It was refused.
    Refused,
    /// Its bill was outside the tolerance.
    Overbilled,
}

/// An executor's score: how its newest [`QUALITY_WINDOW`] observations went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// How many there are.
    pub observations: u32,
    /// Completed ones among them, 0 to 1; 0 when there are none.
    pub success_rate: f64,
    /// The median.
    pub time_to_first_token: Option<Duration>,
    /// The median.
    pub tokens_per_second: Option<f64>,
}

/// Observations of an executor that count.
pub const QUALITY_WINDOW: u32 = 256;

/// Why a client's ledger refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuyError {
    /// The channel was not recorded as one to buy on.
    #[error("the channel is unknown")]
    UnknownChannel,
    /// Another request of the channel has this nonce, or the request was begun before.
    #[error("the nonce was used by another request of the channel")]
    NonceUsed,
    /// No such request was begun.
    #[error("the request is unknown")]
    UnknownRequest,
    /// The request was abandoned.
    #[error("the request was abandoned: {reason}")]
    Abandoned {
        /// Why.
        reason: String,
    },
    /// The request's bill is linked: nothing more is authorized for it.
    #[error("the request's bill is linked already")]
    AlreadyLinked,
    /// More would be signed away, or might have to be, than the budget has left.
    #[error("{required} may have to be signed for it, and {} budget has {left} left", match limit { BudgetLimit::Request => "a request's", BudgetLimit::Day => "the day's", BudgetLimit::ExecutorDay => "this executor's" })]
    OverBudget {
        /// Which limit.
        limit: BudgetLimit,
        /// What may have to be signed, beyond what is, base units.
        required: TokenAmount,
        /// What is left, base units.
        left: TokenAmount,
    },
    /// The request's maximum does not fit `uint128`, or more is authorized than it can cost.
    #[error("more than the request can cost, which is {maximum}")]
    OverMaximum {
        /// The most it can cost, base units.
        maximum: TokenAmount,
    },
    /// The voucher promises more than is deposited.
    #[error("the voucher is above the deposit of {deposit}")]
    VoucherOverDeposit {
        /// What is deposited, or will be, base units.
        deposit: TokenAmount,
    },
    /// The receipt does not go on from the own head.
    #[error("the receipt does not extend the head, which is receipt {}", head.as_ref().map_or(0, |head| head.receipt().sequence))]
    DoesNotExtend {
        /// The own head; `None` while the channel has no receipt.
        head: Option<Box<Receipt<Verified>>>,
    },
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Failure for BuyError {
    fn ledger(&self) -> Option<&LedgerError> {
        match self {
            Self::Ledger(error) => Some(error),
            _ => None,
        }
    }
}
