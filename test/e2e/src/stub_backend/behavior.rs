use std::time::Duration;

/// How a stub backend answers the requests that come from now on.
#[derive(Clone, Copy, Debug)]
pub struct Behavior {
    /// Whether a stream that asks for its usage is told (OpenAI, vLLM and Ollama do, llama-cpp-python doesn't).
    pub usage: bool,
    /// The length of every answer in tokens, unless the request's limit is below; `None`: it varies with the prompt.
    pub answer_tokens: Option<u32>,
    /// The time before the first token.
    pub first_token_delay: Duration,
    /// The time before every further token.
    pub token_delay: Duration,
    /// How a stream ends.
    pub ending: Ending,
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            usage: true,
            answer_tokens: None,
            first_token_delay: Duration::ZERO,
            token_delay: Duration::ZERO,
            ending: Ending::Complete,
        }
    }
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should: a finish reason, the usage, `[DONE]`.
    Complete,
    /// After so many tokens the connection breaks.
    BreakAfter(u32),
    /// After so many tokens comes a line that is no JSON, and the stream ends.
    GarbageAfter(u32),
    /// After so many tokens nothing comes until [`StubBackend::release`](super::StubBackend::release).
    HoldAfter(u32),
    /// No stream at all: this HTTP status.
    Refuse(u16),
    /// No stream at all: 200, and a body that isn't of this API.
    NotAnApi,
}
