use std::time::Duration;

use alloy::primitives::{Address, B256};
use lloom_bindings::eip712;
use serde::{Deserialize, Serialize};

use crate::{
    ChannelId, ContentHash, Document, Domain, ModelHash, PriceOverflow, Prices, RequestHash, RequestNonce, TokenAmount,
    TokenCount, UnixSeconds, Usage, struct_hash::TypeHash,
};

/// How far ahead a request's deadline may lie (design, section 3.2).
pub const MAX_DEADLINE_AHEAD: Duration = Duration::from_secs(600);

/// What is asked of which operator, at which prices and limits. Signed by the payer side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferenceRequest {
    /// The channel that pays.
    pub channel: ChannelId,
    /// The executor's hot key that has to sign the bill.
    pub operator: Address,
    /// Unique in the channel.
    pub nonce: RequestNonce,
    /// The model asked for.
    pub model: ModelHash,
    /// Commits to the exact bytes of the prompt.
    pub prompt_hash: ContentHash,
    /// The most prompt tokens that may be billed.
    pub max_input: TokenCount,
    /// The most completion tokens that may be billed.
    pub max_output: TokenCount,
    /// What is offered for them.
    pub prices: Prices,
    /// Until when the request may be accepted.
    pub deadline: UnixSeconds,
}

impl InferenceRequest {
    /// The struct hash that names the request.
    pub fn hash(&self) -> RequestHash {
        RequestHash::new(self.struct_hash())
    }

    /// The most the request can cost.
    ///
    /// # Errors
    /// [`PriceOverflow`] when that leaves `uint128`.
    pub fn maximum(&self) -> Result<TokenAmount, PriceOverflow> {
        self.prices.charge(Usage {
            input: self.max_input,
            output: self.max_output,
        })
    }

    /// Checks what can be told from the request alone: its deadline and that its maximum fits.
    ///
    /// # Errors
    /// [`RequestError`] says which rule is broken.
    pub fn check(&self, now: UnixSeconds) -> Result<(), RequestError> {
        if self.deadline < now {
            return Err(RequestError::Expired {
                deadline: self.deadline,
                now,
            });
        }
        if self.deadline > now.plus(MAX_DEADLINE_AHEAD) {
            return Err(RequestError::DeadlineTooFar {
                deadline: self.deadline,
                now,
            });
        }
        self.maximum()?;
        Ok(())
    }
}

impl Document for InferenceRequest {
    fn struct_hash(&self) -> B256 {
        static TYPE: TypeHash = TypeHash::new();
        TYPE.hash(&eip712::InferenceRequest {
            channelId: self.channel.hash(),
            operator: self.operator,
            nonce: self.nonce.get(),
            model: self.model.hash(),
            promptHash: self.prompt_hash.hash(),
            maxInputTokens: self.max_input.get(),
            maxOutputTokens: self.max_output.get(),
            inputPrice: self.prices.input.amount().base_units(),
            outputPrice: self.prices.output.amount().base_units(),
            deadline: self.deadline.get(),
        })
    }

    fn separator(domain: &Domain) -> B256 {
        domain.settlement_separator()
    }
}

/// Why a request can't be accepted by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Its deadline has passed.
    #[error("the request expired at {deadline}, it is {now}")]
    Expired {
        /// The request's.
        deadline: UnixSeconds,
        /// Now.
        now: UnixSeconds,
    },
    /// Its deadline lies further ahead than [`MAX_DEADLINE_AHEAD`].
    #[error("the request's deadline {deadline} is more than {} seconds after {now}", MAX_DEADLINE_AHEAD.as_secs())]
    DeadlineTooFar {
        /// The request's.
        deadline: UnixSeconds,
        /// Now.
        now: UnixSeconds,
    },
    /// Its maximum does not fit `uint128`.
    #[error(transparent)]
    Price(#[from] PriceOverflow),
}
