//! JSON-RPC as it travels: only the fields that are read, so that other chains' additions don't disturb.

use alloy::{
    primitives::{Address, B256, Bloom, Bytes, U64, U128, U256},
    rpc::types::Log,
};
use lloom_ledger::Block;
use lloom_receipts::{BlockNumber, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{
    LogFilter,
    chain::{Call, ChainError, FeeQuote},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawBlock {
    pub(super) number: U64,
    pub(super) hash: B256,
    pub(super) parent_hash: B256,
    pub(super) timestamp: U64,
    #[serde(default)]
    pub(super) base_fee_per_gas: Option<U128>,
    #[serde(default)]
    pub(super) logs_bloom: Option<Bloom>,
}

impl From<RawBlock> for Block {
    fn from(raw: RawBlock) -> Self {
        Self {
            number: BlockNumber::new(raw.number.to()),
            hash: raw.hash,
            parent: raw.parent_hash,
            timestamp: UnixSeconds::new(raw.timestamp.to()),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawReceipt {
    pub(super) transaction_hash: B256,
    pub(super) from: Address,
    pub(super) block_number: Option<U64>,
    pub(super) block_hash: Option<B256>,
    #[serde(default)]
    pub(super) status: Option<U64>,
    pub(super) gas_used: U64,
    #[serde(default)]
    pub(super) effective_gas_price: Option<U128>,
    #[serde(default)]
    pub(super) logs: Vec<Log>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawFeeHistory {
    /// Of each block asked for, and of the next.
    base_fee_per_gas: Vec<U128>,
    /// For each block, one percentile; missing where none was asked for.
    #[serde(default)]
    reward: Option<Vec<Vec<U128>>>,
}

impl RawFeeHistory {
    /// The next block's base fee, and the median of what the blocks paid beyond theirs: one that was empty paid nothing,
    /// and one full of a single payer's haste is no reason to follow. `None` where the answer lacks either.
    pub(super) fn quote(&self) -> Option<FeeQuote> {
        let base_fee = self.base_fee_per_gas.last()?.to();
        let rewards = self.reward.as_ref()?.iter();
        let mut rewards: Vec<u128> = rewards.filter_map(|block| block.first()).map(|fee| fee.to()).collect();
        rewards.retain(|fee| *fee > 0);
        rewards.sort_unstable();
        Some(FeeQuote {
            base_fee,
            priority_fee: rewards.get(rewards.len() / 2).copied().unwrap_or(0),
        })
    }
}

/// Of which blocks logs are asked.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum RawLogPlace {
    #[serde(rename_all = "camelCase")]
    Range { from_block: U64, to_block: U64 },
    #[serde(rename_all = "camelCase")]
    Block { block_hash: B256 },
}

impl RawLogPlace {
    /// Whether it is a single block, so that there is no asking for fewer.
    pub(super) fn is_one_block(self) -> bool {
        match self {
            Self::Range { from_block, to_block } => from_block == to_block,
            Self::Block { .. } => true,
        }
    }
}

#[derive(Serialize)]
pub(super) struct RawLogFilter<'a> {
    address: &'a [Address],
    /// The first topic's choices.
    topics: [&'a [B256]; 1],
    #[serde(flatten)]
    place: RawLogPlace,
}

impl<'a> RawLogFilter<'a> {
    pub(super) fn to_json(wanted: &'a LogFilter, place: RawLogPlace) -> Result<serde_json::Value, ChainError> {
        let filter = Self {
            address: &wanted.addresses,
            topics: [&wanted.topics],
            place,
        };
        serde_json::to_value(filter).map_err(|error| ChainError::Malformed {
            operation: "eth_getLogs",
            reason: error.to_string(),
        })
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct RawCall {
    from: Address,
    to: Address,
    data: Bytes,
    #[serde(skip_serializing_if = "U256::is_zero")]
    value: U256,
}

impl RawCall {
    pub(super) fn new(from: Address, call: &Call) -> Self {
        Self {
            from,
            to: call.to,
            data: call.data.clone(),
            value: call.value,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum RawBlockId {
    Tag(&'static str),
    #[serde(rename_all = "camelCase")]
    Hash {
        block_hash: B256,
        require_canonical: bool,
    },
}
