//! The LLM server behind an executor: any that speaks the OpenAI chat API (Ollama, LM Studio, vLLM, llama.cpp, OpenAI).
//!
//! What the server says is passed on byte for byte. What it costs is decided here: by the server's own `usage` where it
//! sends one, by counting where it doesn't, and never more than one token a byte ([`Counting`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), lloom_node::BackendError> {
//! use futures::StreamExt as _;
//! use lloom_node::{Backend, BackendConfig, BackendEvent};
//!
//! let backend = Backend::new(BackendConfig::new("http://127.0.0.1:11434/v1"))?;
//! let body = serde_json::json!({"model": "llama3.2:3b", "messages": [{"role": "user", "content": "Hello"}]});
//! let mut chat = backend.chat(body);
//! while let Some(event) = chat.next().await {
//!     match event? {
//!         BackendEvent::Delta { data, output } => println!("{output} tokens so far: {}", data.len()),
//!         BackendEvent::Usage(usage) => println!("{} in, {} out", usage.input, usage.output),
//!         BackendEvent::Done => break,
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod body;
mod chat;
mod chunk;
mod config;
mod error;
mod event;
mod meter;
mod response;
mod sse;
mod tokenizer;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use futures::stream::BoxStream;
use lloom_receipts::TokenCount;
use reqwest::{RequestBuilder, Url, header::CONTENT_TYPE, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

pub use body::limit_output;
pub(crate) use config::LONGEST_ANSWER;
pub use config::{BackendConfig, Counting, OutputCounting, Secret, Timeouts, Tokenizer, TokenizerEndpoint};
pub use error::BackendError;
pub use event::BackendEvent;
pub(crate) use meter::MAX_BYTES_PER_TOKEN;
pub use sse::MAX_EVENT_BYTES;

use crate::offer::{MAX_MODEL_ID_BYTES, MAX_MODELS};

/// The most bytes of a list of models, or of a token count, that are read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The events of one chat. Dropping it drops the HTTP request, and with it the server's work.
pub type ChatStream = BoxStream<'static, Result<BackendEvent, BackendError>>;

/// A client of one LLM server. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Server(Arc<Server>),
    InProcess(Arc<dyn Fn(Value) -> ChatStream + Send + Sync>),
}

struct Server {
    client: reqwest::Client,
    /// Ends in a slash, so that joining keeps its path.
    base: Url,
    api_key: Option<Secret>,
    timeouts: Timeouts,
    counting: Counting,
    /// What probing found, once it found anything out.
    tokenizer: OnceLock<Option<TokenizerEndpoint>>,
}

impl Backend {
    /// A client for the server that `config` names. Connects to nothing yet.
    ///
    /// # Errors
    /// [`BackendError::Config`].
    pub fn new(config: BackendConfig) -> Result<Self, BackendError> {
        let mut base = Url::parse(&config.base_url).map_err(|_| BackendError::Config("its base URL is no URL"))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(BackendError::Config("its base URL must begin with http:// or https://"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(BackendError::Config(
                "its base URL holds a user or password, which logs would show: use the API key",
            ));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(BackendError::Config("its base URL must end with a path, such as /v1"));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // A redirected POST would become a GET, or carry prompts to a host nobody configured.
        let mut client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(config.timeouts.connect);
        if is_loopback(&base) {
            client = client.no_proxy();
        }
        let server = Server {
            client: client
                .build()
                .map_err(|error| BackendError::Unreachable(error.without_url()))?,
            base,
            api_key: config.api_key,
            timeouts: config.timeouts,
            counting: config.counting,
            tokenizer: OnceLock::new(),
        };
        Ok(Self {
            source: Source::Server(Arc::new(server)),
        })
    }

    /// A model in this process, which answers a body with a stream: for a simulation, or an engine that is linked in. The
    /// stream keeps the order that [`BackendEvent`] describes.
    pub fn in_process(answer: impl Fn(Value) -> ChatStream + Send + Sync + 'static) -> Self {
        Self {
            source: Source::InProcess(Arc::new(answer)),
        }
    }

    /// The ids of the server's models, in its order; those too long for an offer, and what goes beyond its length, are
    /// left out.
    ///
    /// # Errors
    /// Whatever keeps the server from answering with a list.
    pub async fn models(&self) -> Result<Vec<String>, BackendError> {
        #[derive(Deserialize)]
        struct Models {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        let Source::Server(server) = &self.source else {
            return Ok(Vec::new());
        };
        let answer: Models = server
            .ask(server.client.get(server.url("models")?), "list of models")
            .await?;
        let ids = answer.data.into_iter().map(|model| model.id);
        Ok(ids
            .filter(|id| !id.is_empty() && id.len() <= MAX_MODEL_ID_BYTES)
            .take(MAX_MODELS)
            .collect())
    }

    /// Asks for a chat completion and streams it. `body` is the client's chat request; `stream` and
    /// `stream_options.include_usage` are set here whatever it says, everything else goes through as it is. The extra
    /// chunk that only holds usage is passed on when the client asked for it.
    ///
    /// How long the answer may get is for the caller to limit first: [`limit_output`].
    pub fn chat(&self, body: Value) -> ChatStream {
        match &self.source {
            Source::Server(server) => chat::start(Arc::clone(server), body),
            Source::InProcess(answer) => answer(body),
        }
    }

    /// How many prompt tokens `body` is billed when the server doesn't say: what its tokenizer counts, else a quarter of
    /// the prompt's bytes; at most one a byte.
    pub async fn count_input(&self, body: &Value) -> TokenCount {
        match &self.source {
            Source::Server(server) => server.count_input(body).await,
            Source::InProcess(_) => tokenizer::estimate(body),
        }
    }
}

impl Server {
    fn url(&self, path: &str) -> Result<Url, BackendError> {
        self.base
            .join(path)
            .map_err(|_| BackendError::Config("its base URL can't be extended"))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// One short question with a short JSON answer.
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        request: RequestBuilder,
        unit: &'static str,
    ) -> Result<T, BackendError> {
        let limit = self.timeouts.question;
        let ask = async {
            let response = self
                .authorized(request)
                .send()
                .await
                .map_err(|error| BackendError::Unreachable(error.without_url()))?;
            let response = self.accept_status(response).await?;
            let body = response::read(response, MAX_ANSWER_BYTES, unit).await?;
            serde_json::from_slice(&body).map_err(|_| BackendError::Garbage {
                excerpt: self.excerpt(&body),
            })
        };
        timeout(limit, ask)
            .await
            .map_err(|_| BackendError::Timeout { awaited: unit, limit })?
    }

    async fn accept_status(&self, response: reqwest::Response) -> Result<reqwest::Response, BackendError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(BackendError::Status {
            status: status.as_u16(),
            excerpt: self.excerpt(&response::beginning(response).await),
        })
    }

    async fn accept_event_stream(&self, response: reqwest::Response) -> Result<reqwest::Response, BackendError> {
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("text/event-stream") {
            return Ok(response);
        }
        Err(BackendError::ContentType {
            content_type: self.excerpt(content_type.as_bytes()),
            expected: "text/event-stream",
            excerpt: self.excerpt(&response::beginning(response).await),
        })
    }

    /// The beginning of what the server sent, fit for a log, without the API key if it repeats it.
    fn excerpt(&self, bytes: &[u8]) -> String {
        response::excerpt(bytes, self.api_key.as_ref().map(Secret::expose))
    }
}

/// Prompts for this machine stay on it, whatever proxy the environment names.
fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some(host) => {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || address
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Server(server) => write!(formatter, "Backend({})", server.base),
            Source::InProcess(_) => formatter.write_str("Backend(in this process)"),
        }
    }
}

#[cfg(test)]
mod tests;
