use serde::{Deserialize, Serialize};

/// `[monitoring]`: what a running node or watcher shows to Prometheus and to whoever supervises it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitoringSettings {
    /// Whether to answer at all.
    pub enabled: bool,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered, as address and port. Where it is missing,
    /// [`DEFAULT_MONITORING`], or a free port of the same address where that one is taken.
    pub listen: Option<String>,
    /// A watcher that completed no round for longer is not ready.
    pub max_round_silence_secs: u64,
    /// A store whose events are further behind the head is not ready.
    pub max_lag_secs: u64,
    /// A newest block that is older is a chain that stands still: nothing is sold then, nor promised by a tower. Three
    /// minutes where it is missing, and without limit on development networks, which mine only when there is something to
    /// mine.
    pub max_head_age_secs: Option<u64>,
}

/// Where monitoring is answered when nobody chose: the next port after those of Prometheus's own exporters.
pub const DEFAULT_MONITORING: &str = "127.0.0.1:9464";

impl Default for MonitoringSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: None,
            max_round_silence_secs: 120,
            max_lag_secs: 120,
            max_head_age_secs: None,
        }
    }
}
