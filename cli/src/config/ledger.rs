use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the store is looked after.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSettings {
    /// For how long receipts stay in the store after their channel is over, before `ledger compact` archives them.
    #[serde(default = "default_keep_days")]
    pub keep_days: u32,
    /// Where the archive lies; `archive` in the home where it is missing.
    #[serde(default)]
    pub archive: Option<PathBuf>,
}

/// A quarter of a year: what somebody may ask about is at hand.
const fn default_keep_days() -> u32 {
    90
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            keep_days: default_keep_days(),
            archive: None,
        }
    }
}
