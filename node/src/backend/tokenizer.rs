use serde_json::{Value, json};

use super::{
    Server,
    body::{estimate_input, prompt_text},
    config::{Tokenizer, TokenizerEndpoint},
    error::BackendError,
    meter::at_most_one_a_byte,
};
use lloom_receipts::TokenCount;

impl TokenizerEndpoint {
    /// In the order they are tried.
    const ALL: [Self; 2] = [Self::ExtrasTokenizeCount, Self::Tokenize];

    fn path(self) -> &'static str {
        match self {
            Self::ExtrasTokenizeCount => "extras/tokenize/count",
            Self::Tokenize => "tokenize",
        }
    }

    fn question(self, model: &str, text: &str) -> Value {
        match self {
            Self::ExtrasTokenizeCount => json!({"model": model, "input": text}),
            // vLLM reads `prompt`, llama.cpp `content`; each ignores the other's.
            Self::Tokenize => json!({"model": model, "prompt": text, "content": text, "add_special_tokens": false}),
        }
    }
}

/// The count in an answer, as a number or as a list of tokens.
fn read_count(answer: &Value) -> Option<u64> {
    let counted = answer.get("count").and_then(Value::as_u64);
    counted.or_else(|| answer.get("tokens")?.as_array().map(|tokens| tokens.len() as u64))
}

/// The prompt tokens of `body` where nobody counts them.
pub(super) fn estimate(body: &Value) -> TokenCount {
    let text = prompt_text(body);
    at_most_one_a_byte(estimate_input(&text) as u64, text.len())
}

impl Server {
    /// The prompt tokens of `body`.
    pub(super) async fn count_input(&self, body: &Value) -> TokenCount {
        let text = prompt_text(body);
        let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
        let counted = self.count_tokens(model, &text).await;
        let tokens = counted.unwrap_or_else(|| estimate_input(&text) as u64);
        at_most_one_a_byte(tokens, text.len())
    }

    /// What the server's tokenizer counts; nothing when it has none or doesn't answer.
    pub(super) async fn count_tokens(&self, model: &str, text: &str) -> Option<u64> {
        if text.is_empty() {
            return Some(0);
        }
        let endpoint = match self.counting.tokenizer {
            Tokenizer::Off => return None,
            Tokenizer::At(endpoint) => endpoint,
            Tokenizer::Probe => match self.tokenizer.get() {
                Some(found) => (*found)?,
                None => return self.probe(model, text).await,
            },
        };
        match self.count_at(endpoint, model, text).await {
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(%error, "the tokenizer does not answer");
                None
            }
        }
    }

    /// Tries each endpoint and remembers what it learns. A server that can't be reached teaches nothing.
    async fn probe(&self, model: &str, text: &str) -> Option<u64> {
        for endpoint in TokenizerEndpoint::ALL {
            match self.count_at(endpoint, model, text).await {
                Ok(Some(count)) => {
                    tracing::info!(path = endpoint.path(), "the backend counts tokens");
                    // Another request may have found it at the same time.
                    let _ = self.tokenizer.set(Some(endpoint));
                    return Some(count);
                }
                Ok(None) | Err(BackendError::Status { .. } | BackendError::Garbage { .. }) => {}
                Err(error) => {
                    tracing::debug!(%error, "the backend can't be asked for a tokenizer now");
                    return None;
                }
            }
        }
        tracing::info!("the backend has no tokenizer that is known: where it reports no usage, deltas and bytes count");
        let _ = self.tokenizer.set(None);
        None
    }

    async fn count_at(
        &self,
        endpoint: TokenizerEndpoint,
        model: &str,
        text: &str,
    ) -> Result<Option<u64>, BackendError> {
        // The endpoints are the server's own, beside the API that begins at the base URL.
        let mut url = self.base.clone();
        let path = url.path().trim_end_matches('/');
        let root = path.strip_suffix("/v1").unwrap_or(path);
        let path = format!("{root}/{}", endpoint.path());
        url.set_path(&path);
        let request = self.client.post(url).json(&endpoint.question(model, text));
        let answer: Value = self.ask(request, "token count").await?;
        Ok(read_count(&answer))
    }
}
