use std::{fmt, str::FromStr};

use alloy::primitives::{B256, U256, keccak256};
use serde::{Deserialize, Serialize};

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(B256);

        impl $name {
            /// Wraps a hash that is known to be one of these.
            pub const fn new(hash: B256) -> Self {
                Self(hash)
            }

            /// The 32 bytes.
            pub const fn hash(self) -> B256 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                // In full: alloy's own Display shortens hashes, and a shortened id can't be used again.
                write!(formatter, "{:?}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = alloy::hex::FromHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

hash_id! {
    /// Names a channel: `keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, escrow, chainId))`.
    ChannelId
}
hash_id! {
    /// The struct hash of an [`InferenceRequest`](crate::InferenceRequest).
    RequestHash
}
hash_id! {
    /// The struct hash of a [`UsageBill`](crate::UsageBill).
    BillHash
}
hash_id! {
    /// The struct hash of a [`UsageReceipt`](crate::UsageReceipt).
    ReceiptHash
}
hash_id! {
    /// Names a model: keccak of its id, or of its content digest where one is announced.
    ModelHash
}

impl ModelHash {
    /// The hash of a model's id, such as `llama3.2:3b`.
    pub fn of_id(model_id: &str) -> Self {
        Self(keccak256(model_id.as_bytes()))
    }
}

impl ReceiptHash {
    /// What the first receipt of a channel names as its predecessor.
    pub const NONE: Self = Self(B256::ZERO);
}

/// Tells the requests of one channel apart. Unordered, unique in the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestNonce(U256);

impl RequestNonce {
    /// Wraps a nonce; 32 random bytes are unique enough.
    pub const fn new(nonce: U256) -> Self {
        Self(nonce)
    }

    /// The number.
    pub const fn get(self) -> U256 {
        self.0
    }
}
