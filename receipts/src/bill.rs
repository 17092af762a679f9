use alloy::primitives::B256;
use lloom_bindings::eip712;
use serde::{Deserialize, Serialize};

use crate::{
    BillHash, ChannelId, ContentHash, Document, Domain, InferenceRequest, PriceOverflow, RequestHash, TokenAmount,
    UnixSeconds, Usage, struct_hash::TypeHash,
};

/// What one inference used and costs. Signed by the operator or the payee, exactly once for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBill {
    /// The channel that pays.
    pub channel: ChannelId,
    /// The request it answers.
    pub request: RequestHash,
    /// Commits to the exact bytes that were sent.
    pub response_hash: ContentHash,
    /// What was used.
    pub usage: Usage,
    /// What it costs, base units.
    pub amount: TokenAmount,
    /// When it was complete.
    pub completed_at: UnixSeconds,
}

impl UsageBill {
    /// The bill for `usage` under `request`, at the request's prices.
    ///
    /// # Errors
    /// [`BillError::OverLimit`] when the usage is above the request's limits.
    pub fn for_request(
        request: &InferenceRequest,
        usage: Usage,
        response_hash: ContentHash,
        completed_at: UnixSeconds,
    ) -> Result<Self, BillError> {
        if usage.input > request.max_input || usage.output > request.max_output {
            return Err(BillError::OverLimit { usage });
        }
        let amount = request.prices.charge(usage)?;
        Ok(Self {
            channel: request.channel,
            request: request.hash(),
            response_hash,
            usage,
            amount,
            completed_at,
        })
    }

    /// The struct hash that names the bill.
    pub fn hash(&self) -> BillHash {
        BillHash::new(self.struct_hash())
    }

    /// Checks that the bill answers `request` and charges no more than it allows: what the registry's overcharge proof
    /// looks at (design, section 3.3). Less is always fine.
    ///
    /// # Errors
    /// [`BillError`] says which rule is broken.
    pub fn check(&self, request: &InferenceRequest) -> Result<(), BillError> {
        if self.request != request.hash() || self.channel != request.channel {
            return Err(BillError::OtherRequest { named: self.request });
        }
        if self.usage.input > request.max_input || self.usage.output > request.max_output {
            return Err(BillError::OverLimit { usage: self.usage });
        }
        let allowed = request.prices.charge(self.usage)?;
        if self.amount > allowed {
            return Err(BillError::Overcharged {
                amount: self.amount,
                allowed,
            });
        }
        Ok(())
    }

    pub(crate) fn to_sol(self) -> eip712::UsageBill {
        eip712::UsageBill {
            channelId: self.channel.hash(),
            requestHash: self.request.hash(),
            responseHash: self.response_hash.hash(),
            inputTokens: self.usage.input.get(),
            outputTokens: self.usage.output.get(),
            amount: self.amount.base_units(),
            completedAt: self.completed_at.get(),
        }
    }
}

impl Document for UsageBill {
    fn struct_hash(&self) -> B256 {
        static TYPE: TypeHash = TypeHash::new();
        TYPE.hash(&self.to_sol())
    }

    fn separator(domain: &Domain) -> B256 {
        domain.settlement_separator()
    }
}

/// Why a bill is not owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BillError {
    /// It names another request or channel.
    #[error("the bill names the request {named}, not the one asked")]
    OtherRequest {
        /// The request it names.
        named: RequestHash,
    },
    /// More tokens than the request allows.
    #[error("{} input and {} output tokens are above the request's limits", usage.input, usage.output)]
    OverLimit {
        /// The bill's.
        usage: Usage,
    },
    /// More money than the tokens cost at the request's prices.
    #[error("the bill asks {amount} where the request's prices allow {allowed}")]
    Overcharged {
        /// The bill's, base units.
        amount: TokenAmount,
        /// The most that is owed, base units.
        allowed: TokenAmount,
    },
    /// The charge does not fit `uint128`.
    #[error(transparent)]
    Price(#[from] PriceOverflow),
}
