//! `/metrics`, `/healthz` and `/readyz` over HTTP.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::{pulse::Pulse, readiness::Check, vigil::Verdict};

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 32;
/// Loops that were silent for longer stand still.
const MAX_SILENCE: Duration = Duration::from_secs(30);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is served.
#[derive(Debug)]
pub struct Served {
    /// All metrics.
    pub registry: Registry,
    /// The newest judgement.
    pub verdict: watch::Receiver<Verdict>,
    /// The process's main loop.
    pub main_loop: Pulse,
    /// The loop that judges.
    pub vigil: Pulse,
}

/// Serves on `listener` until it is dropped.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: TcpListener, served: Served) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/", get(overview))
        .with_state(Arc::new(served));
    let listener = Bounded {
        listener,
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    axum::serve(listener, router).await
}

async fn overview() -> &'static str {
    "lloomctl\n\n/metrics  for Prometheus (METRICS.md)\n/healthz  whether the process is alive\n/readyz   whether everything progresses\n"
}

async fn metrics(State(served): State<Arc<Served>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &served.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[derive(Serialize)]
struct Health {
    healthy: bool,
    /// Loops that stand still.
    silent: Vec<&'static str>,
}

async fn health(State(served): State<Arc<Served>>) -> Response {
    let loops = [("main", &served.main_loop), ("vigil", &served.vigil)];
    let silent: Vec<_> = loops
        .into_iter()
        .filter(|(_, pulse)| pulse.silence().is_some_and(|silence| silence > MAX_SILENCE))
        .map(|(name, _)| name)
        .collect();
    let healthy = silent.is_empty();
    (status(healthy), Json(Health { healthy, silent })).into_response()
}

#[derive(Serialize)]
struct Readiness<'a> {
    ready: bool,
    checks: &'a [Check],
}

async fn readiness(State(served): State<Arc<Served>>) -> Response {
    let verdict = served.verdict.borrow().clone();
    // A judgement that nobody renews says nothing.
    let fresh = served.vigil.silence().is_some_and(|silence| silence <= MAX_SILENCE);
    let ready = fresh && verdict.is_ready();
    let answer = Readiness {
        ready,
        checks: &verdict.checks,
    };
    (status(ready), Json(answer)).into_response()
}

const fn status(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// A listener with a limit.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

struct Connection {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Never closed, so always given in the end.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let connection = Connection { stream, _place: place };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `/healthz` and `/readyz` answer where these loops were silent for so long: `None` has not begun.
    async fn answers(main_loop: Option<u64>, vigil: Option<u64>) -> [(StatusCode, String); 2] {
        let pulse = |seconds: Option<u64>| {
            let silent = seconds.map(|seconds| Pulse::silent_for(Duration::from_secs(seconds)));
            silent.unwrap_or_default()
        };
        let good = Check {
            check: "store",
            ok: true,
            finding: String::new(),
            mend: None,
            since: None,
        };
        let (_publish, verdict) = watch::channel(Verdict { checks: vec![good] });
        let served = Arc::new(Served {
            registry: Registry::default(),
            verdict,
            main_loop: pulse(main_loop),
            vigil: pulse(vigil),
        });
        let mut told = Vec::new();
        for answer in [health(State(Arc::clone(&served))).await, readiness(State(served)).await] {
            let status = answer.status();
            let body = axum::body::to_bytes(answer.into_body(), 4_096).await.unwrap();
            told.push((status, String::from_utf8(body.to_vec()).unwrap()));
        }
        told.try_into().unwrap()
    }

    #[tokio::test]
    async fn a_loop_that_stands_still_fails_health_and_is_named() {
        const GOOD: StatusCode = StatusCode::OK;
        const BAD: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        for (main_loop, vigil, health, readiness, silent) in [
            (Some(0), Some(0), GOOD, GOOD, "[]"),
            (Some(29), Some(29), GOOD, GOOD, "[]"),
            // What has not begun is not dead, and not ready.
            (None, None, GOOD, BAD, "[]"),
            (Some(31), Some(0), BAD, GOOD, r#"["main"]"#),
            // A judgement that nobody renews says nothing.
            (Some(0), Some(31), BAD, BAD, r#"["vigil"]"#),
            (Some(31), Some(31), BAD, BAD, r#"["main","vigil"]"#),
        ] {
            let [(health_is, body), (readiness_is, _)] = answers(main_loop, vigil).await;
            let case = format!("main loop {main_loop:?}, vigil {vigil:?}: {body}");
            assert_eq!((health_is, readiness_is), (health, readiness), "{case}");
            assert!(body.contains(&format!("\"silent\":{silent}")), "{case}");
        }
    }
}
