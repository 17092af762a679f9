use lloom_node::client::MAX_INCREMENT;
use serde::{Deserialize, Serialize};

use super::Decimal;

/// `[client]`: how is bought. Amounts in the token's units.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSettings {
    /// What `chat` puts into a channel that it opens itself.
    pub channel_deposit: Decimal,
    /// The most that one request may cost.
    pub budget_per_request: Decimal,
    /// The most that is spent in 24 hours, and the most that is signed away: what an answer leaves over of its voucher counts,
    /// and pays for the next one in its channel.
    pub budget_per_day: Decimal,
    /// The same at one executor.
    pub budget_per_executor_per_day: Decimal,
    /// How many output tokens ahead it pays at the most, as what it received is paid. Executors that want more are not bought
    /// from.
    pub max_increment_tokens: u32,
    /// The longest answer asked for when nobody says.
    pub max_output_tokens: u32,
    /// How long one answer may take.
    pub request_timeout_secs: u64,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            channel_deposit: Decimal::new("1"),
            budget_per_request: Decimal::new("0.25"),
            budget_per_day: Decimal::new("10"),
            budget_per_executor_per_day: Decimal::new("5"),
            max_increment_tokens: MAX_INCREMENT.get(),
            max_output_tokens: 1024,
            request_timeout_secs: 600,
        }
    }
}
