use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    routing::{get, post},
};
use eyre::{Result, WrapErr};
use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{oneshot, watch},
};

use super::{Behavior, chat};
use crate::wait::LIMIT;

/// What one call of a stub backend was, by its own true count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens that were written to the connection, read by somebody or not.
    pub completion_tokens: u32,
    /// Their text.
    pub text: String,
}

/// A stub backend that serves until it is dropped.
#[derive(Debug)]
pub struct StubBackend {
    shared: Shared,
    address: SocketAddr,
    /// The server's own: every connection dies with it.
    runtime: Option<Runtime>,
}

impl StubBackend {
    /// Serves `models` on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(models: &[&str], behavior: Behavior) -> Result<Self> {
        Self::start_on(0, models, behavior).await
    }

    /// Serves on `port`, 0 for a free one: a backend can come back where it was.
    ///
    /// # Errors
    /// When the port can't be had.
    pub async fn start_on(port: u16, models: &[&str], behavior: Behavior) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).wrap_err("binding the stub backend's port")?;
        let address = listener.local_addr().wrap_err("the stub backend's address")?;
        listener.set_nonblocking(true).wrap_err("the stub backend's listener")?;
        let shared = Shared(Arc::new(Inner {
            models: models.iter().map(|&model| model.to_owned()).collect(),
            behavior: Mutex::new(behavior),
            served: Mutex::new(Vec::new()),
            holding: watch::Sender::new(0),
            released: watch::Sender::new(0),
            calls: AtomicU64::new(0),
        }));
        let router = Router::new()
            .route("/v1/models", get(chat::models))
            .route("/v1/chat/completions", post(chat::chat))
            .route("/extras/tokenize/count", post(chat::count))
            .with_state(shared.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .wrap_err("starting the stub backend")?;
        let (ready, started) = oneshot::channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener);
            let failed = listener.as_ref().err().map(|error| error.kind());
            // Whoever starts it may have left.
            let _left = ready.send(failed);
            if let Ok(listener) = listener {
                // It only ends with the runtime.
                let _never = axum::serve(listener, router).await;
            }
        });
        if let Some(kind) = started.await.wrap_err("starting the stub backend")? {
            return Err(std::io::Error::from(kind)).wrap_err("the stub backend's listener");
        }
        Ok(Self {
            shared,
            address,
            runtime: Some(runtime),
        })
    }

    /// The API's base, as in an executor's config.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes how requests are answered from now on.
    pub fn set_behavior(&self, behavior: Behavior) {
        *self.shared.0.behavior.lock().unwrap_or_else(PoisonError::into_inner) = behavior;
    }

    /// All calls so far, in order of their arrival.
    pub fn served(&self) -> Vec<Served> {
        self.shared
            .0
            .served
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until `count` streams at once stand at [`Ending::HoldAfter`](super::Ending::HoldAfter)'s token.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn holding(&self, count: usize) -> Result<()> {
        let mut holding = self.shared.0.holding.subscribe();
        tokio::time::timeout(LIMIT, holding.wait_for(|&now| now >= count))
            .await
            .wrap_err_with(|| format!("waiting for {count} held streams"))??;
        Ok(())
    }

    /// Lets all held streams go on, and none be held any more by what was asked before.
    pub fn release(&self) {
        self.shared.0.released.send_modify(|round| *round += 1);
    }
}

impl Drop for StubBackend {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the server's handlers share.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    models: Vec<String>,
    behavior: Mutex<Behavior>,
    served: Mutex<Vec<Served>>,
    holding: watch::Sender<usize>,
    released: watch::Sender<u64>,
    calls: AtomicU64,
}

impl Shared {
    pub(super) fn behavior(&self) -> Behavior {
        *self.0.behavior.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn models(&self) -> &[String] {
        &self.0.models
    }

    pub(super) fn serves(&self, model: &str) -> bool {
        self.0.models.iter().any(|served| served == model)
    }

    /// Stands still until the next release, or until the reader gives up and the stream is dropped.
    pub(super) async fn held(&mut self) {
        struct Held<'a>(&'a watch::Sender<usize>);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|count| *count -= 1);
            }
        }
        let mut released = self.0.released.subscribe();
        self.0.holding.send_modify(|count| *count += 1);
        let _held = Held(&self.0.holding);
        // An error says that the server is gone.
        let _gone = released.changed().await;
    }

    pub(super) fn call(&self, prompt_tokens: u32) -> Call {
        let mut served = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.push(Served {
            prompt_tokens,
            completion_tokens: 0,
            text: String::new(),
        });
        Call {
            shared: self.clone(),
            index: served.len() - 1,
            number: self.0.calls.fetch_add(1, Ordering::Relaxed),
            prompt_tokens,
        }
    }
}

/// One call's entry in the stub's own account.
pub(super) struct Call {
    shared: Shared,
    index: usize,
    number: u64,
    prompt_tokens: u32,
}

impl Call {
    pub(super) fn id(&self) -> String {
        format!("chatcmpl-{}", self.number)
    }

    pub(super) const fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    pub(super) fn sent(&self, token: &str) {
        let mut served = self.shared.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        served[self.index].completion_tokens += 1;
        served[self.index].text.push_str(token);
    }

    pub(super) fn sent_all(&self, tokens: &[String]) {
        for token in tokens {
            self.sent(token);
        }
    }

    pub(super) fn usage(&self) -> Value {
        let served = self.shared.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        chat::usage(self.prompt_tokens, u64::from(served[self.index].completion_tokens))
    }
}
