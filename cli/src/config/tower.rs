use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

use super::Decimal;

/// `[tower]`: what `watch --tower` takes on for others. Amounts in the token's units.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TowerSettings {
    /// The operators it works for; any that a payee has named, where the list is empty.
    pub executors: Vec<Address>,
    /// How many operators it works for at most.
    pub max_operators: u32,
    /// How many channels of one operator it holds at most.
    pub max_channels_per_operator: u32,
    /// How much of the store the vouchers of others may take, in units of 1,048,576 bytes.
    pub max_store_mib: u64,
    /// How many messages of one peer it answers in a minute.
    pub messages_per_minute: u32,
    /// The least that it goes out for.
    pub minimum_value: Decimal,
    /// The most that it offers for gas, in billionths of the chain's coin.
    pub max_fee_gwei: u64,
    /// How long what it signs stands, unless it is renewed.
    pub term_days: u64,
    /// How long before a deadline it claims what the executor has not claimed, at least what a claim may take; a third of the
    /// grace period where it is missing.
    pub claim_margin_secs: Option<u64>,
    /// How long the chain may be out of sight before nothing is taken on any more.
    pub max_chain_silence_secs: u64,
}

impl Default for TowerSettings {
    fn default() -> Self {
        Self {
            executors: Vec::new(),
            max_operators: 256,
            max_channels_per_operator: 4_096,
            max_store_mib: 256,
            messages_per_minute: 120,
            minimum_value: Decimal::new("0.01"),
            max_fee_gwei: 500,
            term_days: 90,
            claim_margin_secs: None,
            max_chain_silence_secs: 300,
        }
    }
}
