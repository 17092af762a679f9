//! What a client knows of one answer: what came, what it is worth at most, and when to pay ahead again.
//!
//! A pure state machine. It believes no count that the bytes can't justify, pays at most one increment ahead of what
//! came, and judges the bill at the end.

use lloom_receipts::{
    BillError, ContentHash, ContentHasher, ContentSalt, InferenceRequest, PriceOverflow, TokenAmount, TokenCount,
    Usage, UsageBill,
};
use serde_json::Value;

/// How far a count may be off before the client stops paying.
///
/// The byte bound: no tokenizer makes more tokens of a text than it has bytes. What comes on top are tokens without
/// text: ends of messages, tool-call markers, the chat template around the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// Output tokens an answer may have beyond its bytes.
    pub output_slack: TokenCount,
    /// Prompt tokens a request may have beyond its body's bytes.
    pub template_slack: TokenCount,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            output_slack: TokenCount::new(64),
            template_slack: TokenCount::new(512),
        }
    }
}

impl Tolerance {
    /// The most tokens a prompt of `bytes` can have.
    pub fn input_bound(&self, bytes: usize) -> TokenCount {
        bound(bytes as u64, self.template_slack)
    }

    fn output_bound(&self, bytes: u64) -> TokenCount {
        bound(bytes, self.output_slack)
    }
}

fn bound(bytes: u64, slack: TokenCount) -> TokenCount {
    TokenCount::new(u32::try_from(bytes).unwrap_or(u32::MAX)).saturating_add(slack)
}

/// What to tell the executor: what came, and how much of the channel the request may use from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    pub(super) received_bytes: u64,
    pub(super) received: Usage,
    pub(super) authorized: TokenAmount,
}

/// One answer as it comes.
#[derive(Debug)]
pub(super) struct Tally {
    request: InferenceRequest,
    increment: TokenCount,
    tolerance: Tolerance,
    body_bytes: usize,
    hasher: ContentHasher,
    bytes: u64,
    content: ContentBytes,
    announced: Usage,
    authorized_output: TokenCount,
    acknowledged: u64,
}

impl Tally {
    /// What a request has to be covered by before it is sent: the input's maximum and the first increment of output.
    pub(super) fn first_authorization(
        request: &InferenceRequest,
        increment: TokenCount,
    ) -> Result<TokenAmount, PriceOverflow> {
        authorization(request, increment.min(request.max_output))
    }

    /// The answer to `request`, whose first authorization is durable.
    pub(super) fn new(
        request: InferenceRequest,
        salt: ContentSalt,
        body_bytes: usize,
        increment: TokenCount,
        tolerance: Tolerance,
    ) -> Self {
        Self {
            request,
            increment,
            tolerance,
            body_bytes,
            hasher: ContentHasher::new(salt),
            bytes: 0,
            content: ContentBytes::default(),
            announced: Usage::default(),
            authorized_output: increment.min(request.max_output),
            acknowledged: 0,
        }
    }

    /// Takes a chunk that announces `usage`; the last one may say less than was counted before it. Gives the acknowledgement to send when it is time to pay ahead again.
    pub(super) fn receive(&mut self, data: &[u8], usage: Usage) -> Result<Option<Acknowledgement>, Overcount> {
        self.hasher.update(data);
        self.bytes += data.len() as u64;
        self.content.count(data);
        self.justify(usage)?;
        self.announced = usage;
        let left = self.authorized_output.get().saturating_sub(usage.output.get());
        if left > self.increment.get() / 2 {
            return Ok(None);
        }
        Ok(self.pay_ahead())
    }

    /// The acknowledgement that answers a request for a voucher: everything that came. `None` when the executor was
    /// told so before.
    pub(super) fn pay_ahead(&mut self) -> Option<Acknowledgement> {
        let ahead = self.announced.output.saturating_add(self.increment);
        let output = ahead.min(self.request.max_output);
        if output <= self.authorized_output && self.acknowledged == self.bytes {
            return None;
        }
        // Below the request's maximum, which was checked to fit.
        let authorized = authorization(&self.request, output).ok()?;
        self.authorized_output = self.authorized_output.max(output);
        self.acknowledged = self.bytes;
        Some(Acknowledgement {
            received_bytes: self.bytes,
            received: self.announced,
            authorized,
        })
    }

    /// What the executor says was used so far.
    pub(super) fn announced(&self) -> Usage {
        self.announced
    }

    /// Judges the bill over what came.
    pub(super) fn judge(&self, bill: &UsageBill) -> Result<(), Overbilled> {
        let response = self.hasher.current();
        if bill.response_hash != response {
            return Err(Overbilled::OtherResponse { received: response });
        }
        if bill.usage.output > self.announced.output || bill.usage.input > self.announced.input {
            return Err(Overbilled::BeyondAnnounced {
                announced: self.announced,
                usage: bill.usage,
            });
        }
        bill.check(&self.request)?;
        self.justify(bill.usage)?;
        Ok(())
    }

    fn justify(&self, usage: Usage) -> Result<(), Overcount> {
        let bytes = self.content.bytes;
        let (input, output) = (
            self.tolerance.input_bound(self.body_bytes).min(self.request.max_input),
            self.tolerance.output_bound(bytes).min(self.request.max_output),
        );
        if usage.input > input || usage.output > output {
            return Err(Overcount { usage, input, output });
        }
        Ok(())
    }
}

fn authorization(request: &InferenceRequest, output: TokenCount) -> Result<TokenAmount, PriceOverflow> {
    request.prices.charge(Usage {
        input: request.max_input,
        output,
    })
}

/// Counts the bytes of generated text in a stream of server-sent events: all strings inside the choices' deltas, so
/// that tool calls and reasoning count whatever a server names them.
#[derive(Debug, Default)]
struct ContentBytes {
    bytes: u64,
    partial: Vec<u8>,
}

/// The longest line that is put together of several chunks; what is beyond it counts nothing.
const MAX_PARTIAL: usize = 1 << 20;

impl ContentBytes {
    fn count(&mut self, data: &[u8]) {
        let mut rest = data;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            if self.partial.is_empty() {
                self.bytes += text_bytes(line);
            } else {
                self.partial.extend_from_slice(line);
                self.bytes += text_bytes(&std::mem::take(&mut self.partial));
            }
            rest = behind;
        }
        if self.partial.len() + rest.len() <= MAX_PARTIAL {
            self.partial.extend_from_slice(rest);
        }
    }
}

fn text_bytes(line: &[u8]) -> u64 {
    let Some(payload) = line.strip_prefix(b"data:") else {
        return 0;
    };
    let Ok(event) = serde_json::from_slice::<Value>(payload) else {
        return 0;
    };
    let choices = event.get("choices").and_then(Value::as_array);
    choices
        .into_iter()
        .flatten()
        .filter_map(|choice| choice.get("delta").and_then(Value::as_object))
        .flatten()
        .filter(|(name, _)| *name != "role")
        .map(|(_, value)| strings(value))
        .sum()
}

fn strings(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(strings).sum(),
        Value::Object(fields) => fields.values().map(strings).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// More tokens than what came, or the request, can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} input and {} output tokens where at most {input} and {output} can be", usage.input, usage.output)]
pub struct Overcount {
    /// What the executor says.
    pub usage: Usage,
    /// The most there can be.
    pub input: TokenCount,
    /// The most there can be.
    pub output: TokenCount,
}

/// Why a client does not pay a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overbilled {
    /// It is over another response.
    #[error("the bill is over another response than the one received ({received})")]
    OtherResponse {
        /// The hash of what was received.
        received: ContentHash,
    },
    /// More tokens than the stream announced.
    #[error("the bill has {} output tokens where {} were announced", usage.output, announced.output)]
    BeyondAnnounced {
        /// What the stream announced.
        announced: Usage,
        /// The bill's.
        usage: Usage,
    },
    /// More tokens than what came can have.
    #[error(transparent)]
    Overcount(#[from] Overcount),
    /// Beyond the request's limits or prices.
    #[error(transparent)]
    Bill(#[from] BillError),
}

#[cfg(test)]
mod tests;
