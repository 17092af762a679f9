use std::collections::HashSet;

use alloy::primitives::Address;
use lloom_receipts::{ModelHash, Prices, TokenAmount, TokenCount};
use serde::{Deserialize, Serialize};

/// The most models one offer may hold.
pub const MAX_MODELS: usize = 128;
/// The longest model id, in bytes.
pub const MAX_MODEL_ID_BYTES: usize = 256;
/// The longest agent text, in bytes.
pub const MAX_AGENT_BYTES: usize = 128;
/// The most bytes an offer takes as CBOR. Whoever sends more is not read to the end.
pub const MAX_OFFER_BYTES: usize = 64 * 1024;

/// What an executor sells, to whom the money goes, and what it asks of a channel.
///
/// Nothing in it is signed: it comes over a connection whose peer id proves the operator's key, and what counts later is
/// what a client's signed request says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The chain that settles.
    pub chain_id: u64,
    /// The escrow that holds channels.
    pub escrow: Address,
    /// The settlement that receipts are signed for.
    pub settlement: Address,
    /// The ERC-20 the prices are in.
    pub token: Address,
    /// Who is paid.
    pub payee: Address,
    /// The executor's hot key: the sender's own address.
    pub operator: Address,
    /// What can be asked for, one entry a model.
    pub models: Vec<ModelOffer>,
    /// How far a client has to authorize ahead of what it received, in output tokens.
    pub increment: TokenCount,
    /// The smallest deposit of a channel the executor serves, in base units.
    pub min_deposit: TokenAmount,
    /// How many blocks deep a deposit must be before it counts.
    pub confirmations: u64,
    /// How many requests the executor runs at a time.
    pub capacity: u32,
    /// The software, for people.
    pub agent: String,
}

/// One model of an [`Offer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOffer {
    /// The model's name at the backend, such as `llama3.2:3b`.
    pub id: String,
    /// What requests name it by: the hash of the id, or of its content digest.
    pub hash: ModelHash,
    /// The least the executor takes.
    pub prices: Prices,
    /// The longest prompt.
    pub max_input: TokenCount,
    /// The longest answer.
    pub max_output: TokenCount,
}

impl Offer {
    /// The entry for `model`.
    pub fn model(&self, model: ModelHash) -> Option<&ModelOffer> {
        self.models.iter().find(|offered| offered.hash == model)
    }

    /// Checks that `sender` speaks for itself and that every part is within its limit.
    ///
    /// # Errors
    /// [`OfferError`] names the broken rule.
    pub fn check(&self, sender: Address) -> Result<(), OfferError> {
        if self.operator != sender {
            return Err(OfferError::WrongOperator {
                operator: self.operator,
                sender,
            });
        }
        if self.models.len() > MAX_MODELS {
            return Err(OfferError::TooManyModels {
                count: self.models.len(),
            });
        }
        if self.agent.len() > MAX_AGENT_BYTES {
            return Err(OfferError::AgentTooLong {
                bytes: self.agent.len(),
            });
        }
        if self.increment == TokenCount::default() {
            return Err(OfferError::ZeroIncrement);
        }
        let mut seen = HashSet::with_capacity(self.models.len());
        for model in &self.models {
            if model.id.is_empty() || model.id.len() > MAX_MODEL_ID_BYTES {
                return Err(OfferError::ModelIdLength { bytes: model.id.len() });
            }
            if !seen.insert(model.hash) {
                return Err(OfferError::DuplicateModel { model: model.hash });
            }
        }
        Ok(())
    }
}

/// Why an offer is not believed, or not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The peer offers in somebody else's name.
    #[error("the offer names the operator {operator}, but comes from {sender}")]
    WrongOperator {
        /// Who the offer says sells.
        operator: Address,
        /// Who sent it.
        sender: Address,
    },
    /// More than [`MAX_MODELS`].
    #[error("the offer lists {count} models, at most {MAX_MODELS} are read")]
    TooManyModels {
        /// How many.
        count: usize,
    },
    /// Empty, or beyond [`MAX_MODEL_ID_BYTES`].
    #[error("a model id of {bytes} bytes: 1 to {MAX_MODEL_ID_BYTES} are allowed")]
    ModelIdLength {
        /// How long.
        bytes: usize,
    },
    /// Two entries a request could mean.
    #[error("the offer lists the model {model} twice")]
    DuplicateModel {
        /// The model's hash.
        model: ModelHash,
    },
    /// Beyond [`MAX_AGENT_BYTES`].
    #[error("an agent text of {bytes} bytes: at most {MAX_AGENT_BYTES} are allowed")]
    AgentTooLong {
        /// How long.
        bytes: usize,
    },
    /// A client that authorizes nothing ahead never gets a token.
    #[error("the offer's increment is zero")]
    ZeroIncrement,
    /// Beyond [`MAX_OFFER_BYTES`].
    #[error("the offer takes {bytes} bytes, at most {MAX_OFFER_BYTES} are sent")]
    TooLarge {
        /// Its size as CBOR.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests;
