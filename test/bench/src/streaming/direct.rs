use std::time::Instant;

use eyre::{Result, WrapErr, eyre};
use serde_json::Value;

use super::{Streamed, body};

/// The backend, called without anything in between.
pub struct Direct {
    client: reqwest::Client,
    url: String,
}

impl Direct {
    /// Calls the API at `base_url`.
    pub fn new(base_url: &str) -> Self {
        Self {
            client: reqwest::Client::new(),
            url: format!("{base_url}/chat/completions"),
        }
    }

    /// Streams one answer and parses its events, as the paid path does.
    pub async fn stream(&self) -> Result<Streamed> {
        let start = Instant::now();
        let response = self.client.post(&self.url).json(&body()).send().await?;
        let mut response = response.error_for_status().wrap_err("calling the backend")?;
        let mut first_token = None;
        let mut tokens = 0;
        let mut rest = Vec::new();
        while let Some(bytes) = response.chunk().await? {
            rest.extend_from_slice(&bytes);
            while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = rest.drain(..end + 2).collect();
                if has_token(&event) {
                    tokens += 1;
                    first_token.get_or_insert_with(|| start.elapsed());
                }
            }
        }
        Ok(Streamed {
            first_token: first_token.ok_or_else(|| eyre!("the backend sent no token"))?,
            tokens,
            refusals: 0,
        })
    }
}

fn has_token(event: &[u8]) -> bool {
    let data = event.strip_prefix(b"data: ").unwrap_or_default();
    let event: Value = serde_json::from_slice(data).unwrap_or_default();
    let content = event["choices"][0]["delta"]["content"].as_str();
    content.is_some_and(|content| !content.is_empty())
}
