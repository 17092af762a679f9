use std::collections::BTreeMap;

use alloy::primitives::Address;
use lloom_receipts::Decimals;
use serde::{Deserialize, Serialize};

use super::Decimal;

/// `[watcher]`: how the chain is followed and claimed from. Amounts in the token's units.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatcherSettings {
    /// What a claim publishes.
    pub publish: Publish,
    /// How often the chain is asked for new blocks; two seconds where it is missing, less on development networks.
    pub poll_interval_millis: Option<u64>,
    /// How deep a block must lie before deposits in it count; the network's own number where it is missing.
    pub confirmations: Option<u64>,
    /// A claim has to be worth this many times its fee.
    pub min_value_over_fee: u32,
    /// What one whole native coin costs in the token. Where it is missing, `min_claim` decides instead of the fee.
    pub coin_price: Option<Decimal>,
    /// The least a claim has to bring where `coin_price` is missing.
    pub min_claim: Decimal,
    /// The most that is paid for gas while nothing presses, gwei.
    pub max_fee_gwei: u64,
    /// The most that is paid for gas within the safety margin, gwei.
    pub urgent_max_fee_gwei: u64,
    /// How long a transaction may wait for a block before it is made dearer.
    pub replace_after_secs: u64,
    /// How long before a payer may leave a claim stops waiting for a better price.
    pub safety_margin_secs: u64,
    /// A channel is claimed early once no more than this of its deposit is left.
    pub claim_when_deposit_left: Decimal,
    /// The most channels of one transaction.
    pub max_rows: usize,
    /// Where several nodes share a database: for how long the one that leads may fail, get nowhere with what is due (for want
    /// of gas money, say), or have an endpoint that stands still, until it lets another one lead.
    pub yield_after_secs: u64,
    /// Thresholds of single tokens, by their addresses. Channels in these tokens are claimed too.
    pub tokens: BTreeMap<Address, TokenSettings>,
}

/// `[watcher.tokens."0x…"]`: when a claim in one token is worth its fee. What is missing here is as in `[watcher]`, if the
/// token is the network's; of another token nothing can be taken over but `min_value_over_fee`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// How many decimals its unit has; the network's number where it is the network's token.
    pub decimals: Option<Decimals>,
    /// As [`WatcherSettings::min_value_over_fee`].
    pub min_value_over_fee: Option<u32>,
    /// As [`WatcherSettings::coin_price`].
    pub coin_price: Option<Decimal>,
    /// As [`WatcherSettings::min_claim`].
    pub min_claim: Option<Decimal>,
    /// As [`WatcherSettings::claim_when_deposit_left`].
    pub claim_when_deposit_left: Option<Decimal>,
}

/// What a claim publishes on chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// Amounts only: cheapest.
    #[default]
    Vouchers,
    /// The tokens used, too, at every claim.
    Receipts,
    /// The tokens used, once, when a channel is closed.
    ReceiptsOnClose,
}

impl Default for WatcherSettings {
    fn default() -> Self {
        Self {
            publish: Publish::default(),
            poll_interval_millis: None,
            confirmations: None,
            min_value_over_fee: 10,
            coin_price: None,
            min_claim: Decimal::new("1"),
            max_fee_gwei: 200,
            urgent_max_fee_gwei: 2_000,
            replace_after_secs: 90,
            safety_margin_secs: 30 * 60,
            claim_when_deposit_left: Decimal::new("0"),
            max_rows: 100,
            yield_after_secs: 120,
            tokens: BTreeMap::new(),
        }
    }
}
