use std::path::PathBuf;

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

use super::Decimal;

/// `[executor]`: what is sold. Amounts in the token's units.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutorSettings {
    /// Who is paid; the node's own key where it is missing.
    #[serde(default)]
    pub payee: Option<Address>,
    /// Where the LLM server's API starts, such as `http://localhost:11434/v1`.
    pub backend_url: String,
    /// A file with the server's API key.
    #[serde(default)]
    pub backend_api_key_file: Option<PathBuf>,
    /// How long the server may take to its first token.
    #[serde(default = "first_token_timeout")]
    pub first_token_timeout_secs: u64,
    /// How long the server may pause between two tokens.
    #[serde(default = "idle_timeout")]
    pub idle_timeout_secs: u64,
    /// How far clients pay ahead, in output tokens.
    #[serde(default = "increment")]
    pub increment_tokens: u32,
    /// The smallest deposit of a channel that is served.
    #[serde(default = "min_deposit")]
    pub min_deposit: Decimal,
    /// How many requests run at a time.
    #[serde(default = "max_concurrent_requests")]
    pub max_concurrent_requests: u32,
    /// How long the chain may be out of sight before requests are refused: a close that a payer asks for meanwhile has to
    /// be seen with most of its grace period left. How old the newest block may be is `monitoring.max_head_age_secs`.
    #[serde(default = "max_chain_silence")]
    pub max_chain_silence_secs: u64,
    /// What is served on credit.
    #[serde(default)]
    pub exposure: ExposureSettings,
    /// The models, with their prices.
    pub models: Vec<ModelSettings>,
}

/// `[executor.exposure]`: what one payer is served on credit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExposureSettings {
    /// To a payer that never settled anything.
    pub start: Decimal,
    /// Beyond it, for each thousand that the payer settled.
    pub per_mille_of_settled: u32,
    /// The most.
    pub maximum: Decimal,
}

impl Default for ExposureSettings {
    fn default() -> Self {
        Self {
            start: Decimal::new("0"),
            per_mille_of_settled: 0,
            maximum: Decimal::new("0"),
        }
    }
}

/// One of `[[executor.models]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// The model's name at the LLM server.
    pub id: String,
    /// What a million prompt tokens cost.
    pub input_price: Decimal,
    /// What a million completion tokens cost.
    pub output_price: Decimal,
    /// The longest prompt.
    #[serde(default = "max_input_tokens")]
    pub max_input_tokens: u32,
    /// The longest answer.
    #[serde(default = "max_output_tokens")]
    pub max_output_tokens: u32,
}

const fn first_token_timeout() -> u64 {
    300
}

const fn idle_timeout() -> u64 {
    120
}

const fn increment() -> u32 {
    64
}

fn min_deposit() -> Decimal {
    Decimal::new("0")
}

const fn max_concurrent_requests() -> u32 {
    16
}

const fn max_chain_silence() -> u64 {
    300
}

const fn max_input_tokens() -> u32 {
    8_192
}

const fn max_output_tokens() -> u32 {
    4_096
}
