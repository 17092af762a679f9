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
    /// The most that is signed away in 24 hours. What an answer leaves over of what was signed for it counts, and pays for the
    /// next one in its channel.
    pub budget_per_day: Decimal,
    /// The most that is signed away to one executor in 24 hours.
    pub budget_per_executor_per_day: Decimal,
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
            max_output_tokens: 1024,
            request_timeout_secs: 600,
        }
    }
}
