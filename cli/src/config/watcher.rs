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
    /// How long before a payer may leave a claim stops waiting for a better price.
    pub safety_margin_secs: u64,
    /// A channel is claimed early once no more than this of its deposit is left.
    pub claim_when_deposit_left: Decimal,
    /// The most channels of one transaction.
    pub max_rows: usize,
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
            safety_margin_secs: 30 * 60,
            claim_when_deposit_left: Decimal::new("0"),
            max_rows: 100,
        }
    }
}
