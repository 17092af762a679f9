use serde::{Deserialize, Serialize};

use super::Decimal;

/// `[towers]`: who defends this executor's channels while it is away. Amounts in the token's units.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TowersSettings {
    /// Where they are: multiaddresses that end in the tower's peer id, as `lloomctl watch --tower` prints them.
    pub peers: Vec<String>,
    /// How long what is earned is gathered before it is handed over.
    pub interval_secs: u64,
    /// What no tower covers is handed over at once when it has grown by this; never at once where it is zero.
    pub urgent_value: Decimal,
}

impl Default for TowersSettings {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            interval_secs: 10,
            urgent_value: Decimal::new("1"),
        }
    }
}
