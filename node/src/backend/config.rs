use std::{fmt, time::Duration};

/// How long an answer takes at most.
pub(crate) const LONGEST_ANSWER: Duration = Duration::from_secs(3600);

/// Where the LLM server is and how it is treated.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// Where its API starts, such as `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// How tokens are counted where the server doesn't say.
    pub counting: Counting,
}

impl BackendConfig {
    /// The server at `base_url`, without a key, with every default.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            timeouts: Timeouts::default(),
            counting: Counting::default(),
        }
    }
}

/// How long the executor waits for its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// From the request to the first event: a model may have to be loaded first.
    pub first_event: Duration,
    /// Between two events. Comments that only keep the connection alive are no events.
    pub idle: Duration,
    /// For a whole answer.
    pub total: Duration,
    /// For a short question: the models, or how many tokens a text has.
    pub question: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_event: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            total: LONGEST_ANSWER,
            question: Duration::from_secs(10),
        }
    }
}

/// How tokens are counted when a stream carries no `usage`.
///
/// | | output | input |
/// |---|---|---|
/// | the stream says | what it says, at most one a byte | what it says, at most one a byte |
/// | it doesn't | one a delta that carries text, or the tokenizer's count | the tokenizer's count, else a quarter of the bytes |
///
/// No count is ever above one token a byte: more could not be justified to whoever sees only the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// How the answer is counted.
    pub output: OutputCounting,
    /// Which tokenizer is asked.
    pub tokenizer: Tokenizer,
}

/// How an answer's tokens are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputCounting {
    /// One for each delta that carries text: servers send a token a delta, or several.
    #[default]
    Deltas,
    /// By the tokenizer, once the answer is there; by deltas until then and where there is no tokenizer.
    Tokenizer,
}

/// Where text is turned into token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tokenizer {
    /// Tries the known endpoints, once.
    #[default]
    Probe,
    /// None.
    Off,
    /// This one.
    At(TokenizerEndpoint),
}

/// An endpoint that counts the tokens of a text. Both lie beside the API, not below its `/v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerEndpoint {
    /// `/extras/tokenize/count` of llama-cpp-python.
    ExtrasTokenizeCount,
    /// `/tokenize` of vLLM and llama.cpp.
    Tokenize,
}

/// Text that never shows in logs, errors or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}
