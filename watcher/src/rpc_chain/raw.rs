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
    chain::{Call, ChainError},
};

/// Fewer blocks than these make no market.
const LEAST_BLOCKS: usize = 3;

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
    /// How full each block was; missing at endpoints that don't say.
    #[serde(default)]
    gas_used_ratio: Option<Vec<f64>>,
}

/// What blocks were paid lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LatelyPaid {
    /// The next block's base fee.
    pub(super) base_fee: u128,
    /// The median of what was paid beyond it; `None` where too few blocks tell.
    pub(super) priority_fee: Option<u128>,
}

impl RawFeeHistory {
    /// What blocks were paid lately, or `None` where the answer lacks it. A block that was used and paid nothing counts, as
    /// most of a rollup's do: else the one payer in haste among them would be all there is. One that was empty says nothing.
    pub(super) fn lately_paid(&self) -> Option<LatelyPaid> {
        let base_fee = self.base_fee_per_gas.last()?.to();
        let used = |block: usize| self.gas_used_ratio.as_ref().and_then(|ratios| ratios.get(block));
        let rewards = self.reward.as_ref()?.iter().enumerate();
        let mut paid: Vec<u128> = rewards
            .filter_map(|(block, rewards)| Some((block, rewards.first()?.to::<u128>())))
            .filter(|(block, fee)| *fee > 0 || used(*block).is_some_and(|ratio| *ratio > 0.0))
            .map(|(_, fee)| fee)
            .collect();
        paid.sort_unstable();
        let median = paid.get(paid.len() / 2).copied();
        Some(LatelyPaid {
            base_fee,
            priority_fee: median.filter(|_| paid.len() >= LEAST_BLOCKS),
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
