use alloy::primitives::Address;
use lloom_receipts::{
    BillError, ChannelId, ContentHash, ContentSalt, InferenceRequest, Receipt, RequestHash, Signed, TokenAmount,
    UnixSeconds, Usage, UsageBill, Verified, Voucher,
};

use crate::{LedgerError, error::Failure};

/// A request to be taken on.
#[derive(Clone, Debug)]
pub struct AcceptRequest {
    /// What is asked, verified as the payer side's.
    pub request: Signed<InferenceRequest, Verified>,
    /// The salt of its content hashes.
    pub content_salt: ContentSalt,
    /// The voucher that came with it.
    pub voucher: Option<Signed<Voucher, Verified>>,
    /// What to set aside for it at once, base units: usually the prompt and the first increment.
    pub reserve: TokenAmount,
    /// How much of the payer's may be uncovered.
    pub exposure: ExposurePolicy,
    /// When it is taken on.
    pub now: UnixSeconds,
}

/// How far an executor serves a payer beyond durable authorizations (design, section 4, "Risk").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExposurePolicy {
    /// For a payer that has settled nothing yet, base units. By default zero: the first increment is prepaid.
    pub start: TokenAmount,
    /// Thousandths of the settled volume that are added.
    pub per_mille_of_settled: u32,
    /// Never more than this, base units.
    pub maximum: TokenAmount,
}

impl ExposurePolicy {
    /// The limit for a payer that has settled `settled_volume`, base units.
    pub fn limit(&self, settled_volume: TokenAmount) -> TokenAmount {
        let volume = settled_volume.base_units();
        let per_mille = u128::from(self.per_mille_of_settled);
        // Dividing first keeps the product in range; what it cuts off is less than a thousandth of itself.
        let grown = (volume / 1_000)
            .saturating_mul(per_mille)
            .saturating_add((volume % 1_000).saturating_mul(per_mille) / 1_000);
        self.start.saturating_add(TokenAmount::new(grown)).min(self.maximum)
    }
}

/// What a client says it has received of a request so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The request.
    pub request: RequestHash,
    /// The tokens.
    pub usage: Usage,
    /// The hash of the bytes.
    pub response_hash: ContentHash,
}

/// A bill that is on disk, and the only one its request will ever have. Only the ledger makes these: an executor signs
/// nothing else, so it can't be caught with two bills for one request (design, section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedBill {
    pub(crate) bill: UsageBill,
    pub(crate) operator: Option<Address>,
}

impl CommittedBill {
    /// What may be signed.
    pub const fn bill(&self) -> &UsageBill {
        &self.bill
    }

    /// Who may sign it: the operator that its request names. `None` for one that was taken back from its payer without its
    /// request, after a restore.
    pub const fn operator(&self) -> Option<Address> {
        self.operator
    }
}

/// A request that was accepted and has no bill. One of this process's operator has no stream either: an earlier process
/// died on it. One of another operator may be under way on another node of the store.
#[derive(Clone, Debug)]
pub struct InterruptedRequest {
    /// What was asked.
    pub request: Signed<InferenceRequest, Verified>,
    /// The salt of its content hashes.
    pub content_salt: ContentSalt,
    /// What the client said it had received: all that may be billed (design, section 5).
    pub acknowledged: Option<Progress>,
}

/// A channel's money as this side keeps count, base units, totals of the channel's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Serving: the best usable authorization within the confirmed deposit. Buying: the most that was signed.
    pub authorized: TokenAmount,
    /// The bills, and for requests without one what is reserved (buying: authorized).
    pub spent: TokenAmount,
    /// The bills.
    pub billed: TokenAmount,
    /// The bills that receipts link: the head's amount.
    pub linked: TokenAmount,
}

/// Why an executor's ledger refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nothing is known of the channel.
    #[error("the channel is unknown")]
    UnknownChannel,
    /// That it is open is not confirmed: its opening, or that its close was called off.
    #[error("it is not confirmed yet that the channel is open")]
    Unconfirmed,
    /// Its payer asked for its close, as the newest block says, or a transaction of this side that closes it is under way.
    #[error("the channel's close is requested")]
    ChannelClosing,
    /// It is over.
    #[error("the channel is finalized")]
    ChannelFinalized,
    /// Another request of the channel has this nonce.
    #[error("the nonce was used by another request of the channel")]
    NonceUsed,
    /// No such request was accepted.
    #[error("the request is unknown")]
    UnknownRequest,
    /// It has its bill: nothing more is delivered on it.
    #[error("the request has its bill already")]
    AlreadyBilled,
    /// It was waived, or accepted before the store was restored from a copy: it is never billed.
    #[error("the request is waived: {reason}")]
    Waived {
        /// Why.
        reason: String,
    },
    /// The authorizations and the exposure limit don't cover it.
    #[error("a voucher over {required} is needed; {authorized} is authorized, and {deposit} deposited")]
    Uncovered {
        /// The voucher that would cover it, cumulative base units. Above `deposit`, the channel needs a top-up.
        required: TokenAmount,
        /// What is authorized, base units.
        authorized: TokenAmount,
        /// What is deposited and confirmed, base units.
        deposit: TokenAmount,
    },
    /// The voucher adds nothing to one that is held.
    #[error("the voucher is not above {best}, which is held already")]
    VoucherNotIncreasing {
        /// The best voucher, base units.
        best: TokenAmount,
    },
    /// The voucher promises more than is deposited.
    #[error("the voucher is above the deposit of {deposit}")]
    VoucherOverDeposit {
        /// What is deposited and confirmed, base units.
        deposit: TokenAmount,
    },
    /// The voucher is of another channel than what it came with.
    #[error("the voucher is of the channel {channel}")]
    OtherChannel {
        /// The voucher's.
        channel: ChannelId,
    },
    /// A bill charges more than its request allows.
    #[error(transparent)]
    BillRefused(#[from] BillError),
    /// The receipt does not go on from the head.
    #[error("the receipt does not extend the head, which is receipt {}", head.as_ref().map_or(0, |head| head.receipt().sequence))]
    DoesNotExtend {
        /// The head; `None` while the channel has no receipt.
        head: Option<Box<Receipt<Verified>>>,
    },
    /// The receipt's bill is none that was committed here.
    #[error("the receipt's bill was not committed here")]
    BillNotCommitted,
    /// Another receipt links the bill.
    #[error("the receipt's bill is linked by another receipt")]
    BillAlreadyLinked,
    /// The store is a restored copy, and the request may have been served before it was restored.
    #[error("the store was restored from a copy; requests are taken whose deadline is after {until}")]
    RestoredTooRecently {
        /// Deadlines after this are safe.
        until: UnixSeconds,
    },
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Failure for ServeError {
    fn ledger(&self) -> Option<&LedgerError> {
        match self {
            Self::Ledger(error) => Some(error),
            _ => None,
        }
    }
}
