//! One JSON-RPC endpoint over HTTP.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use alloy::{
    rpc::{
        client::RpcClient,
        json_rpc::{ErrorPayload, RpcError, RpcRecv, RpcSend},
    },
    transports::{TransportErrorKind, http::reqwest::Url},
};

use super::{
    RpcConfigError,
    health::Health,
    metrics::{Asked, RpcMetrics},
};
use crate::chain::ChainError;

#[derive(Debug)]
pub(super) struct Endpoint {
    client: RpcClient,
    pub(super) name: String,
    health: Mutex<Health>,
    metrics: RpcMetrics,
}

/// What an endpoint answered.
pub(super) enum Answer<R> {
    Result(R),
    Error { endpoint: String, payload: ErrorPayload },
}

impl Endpoint {
    pub(super) fn new(given: &str, metrics: RpcMetrics) -> Result<Self, RpcConfigError> {
        let not_http = || RpcConfigError::NotHttp {
            given: given.to_owned(),
        };
        let url: Url = given.parse().map_err(|_| not_http())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(not_http());
        }
        // Paths and queries of RPC URLs hold API keys: they stay out of messages.
        let name = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(not_http()),
        };
        metrics.expect(&name);
        Ok(Self {
            client: RpcClient::new_http(url),
            name,
            health: Mutex::default(),
            metrics,
        })
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        // What is known of an endpoint has no invariant that a panic elsewhere could break.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, operation: &'static str, error: &ChainError) {
        tracing::debug!(endpoint = self.name, operation, %error, "an endpoint failed");
        self.health().failed(Instant::now());
    }

    /// Asks, and remembers how long the answer took. Failures are counted by whoever asked.
    pub(super) async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        operation: &'static str,
        params: P,
        timeout: Duration,
    ) -> Result<Answer<R>, ChainError> {
        let unavailable = |reason: String| ChainError::Unavailable {
            operation,
            endpoint: self.name.clone(),
            reason,
        };
        let request = self.client.request::<P, R>(operation, params);
        let begun = Instant::now();
        let answer = match tokio::time::timeout(timeout, request).await {
            Err(_) => Err(unavailable(format!("no answer within {} s", timeout.as_secs_f32()))),
            Ok(Ok(result)) => Ok(Answer::Result(result)),
            Ok(Err(RpcError::ErrorResp(payload))) if is_rate_limit(&payload) => Err(unavailable(payload.to_string())),
            Ok(Err(RpcError::ErrorResp(payload))) => Ok(Answer::Error {
                endpoint: self.name.clone(),
                payload,
            }),
            // Anything else is no answer of a healthy endpoint, and its text may quote the URL.
            Ok(Err(RpcError::DeserError { err, .. })) => Err(unavailable(format!("the answer is malformed: {err}"))),
            Ok(Err(RpcError::Transport(error))) => Err(unavailable(describe_transport(&error, &self.name))),
            Ok(Err(error)) => Err(unavailable(error.to_string())),
        };
        let took = begun.elapsed();
        let asked = match &answer {
            Ok(Answer::Result(_)) => Asked::Answered,
            Ok(Answer::Error { .. }) => Asked::Refused,
            Err(_) => Asked::Unavailable,
        };
        self.metrics.asked(&self.name, operation, asked, took);
        if answer.is_ok() {
            self.health().succeeded(took);
        }
        answer
    }

    pub(super) async fn must_answer<P: RpcSend, R: RpcRecv>(
        &self,
        operation: &'static str,
        params: P,
        timeout: Duration,
    ) -> Result<R, ChainError> {
        match self.ask(operation, params, timeout).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error { endpoint, payload } => Err(ChainError::Unavailable {
                operation,
                endpoint,
                reason: payload.to_string(),
            }),
        }
    }
}

/// Too many requests: the endpoint is busy, not of another opinion. (-32005 also means "too many logs", which waiting
/// doesn't cure.)
fn is_rate_limit(payload: &ErrorPayload) -> bool {
    payload.code == 429 || payload.message.contains("rate limit") || payload.message.contains("request limit")
}

fn describe_transport(error: &TransportErrorKind, endpoint: &str) -> String {
    match error {
        TransportErrorKind::HttpError(http) => format!("HTTP status {}", http.status),
        // A reqwest error prints the whole URL, API key included; what caused it doesn't.
        TransportErrorKind::Custom(source) => {
            let mut cause: &dyn std::error::Error = source.as_ref();
            while let Some(next) = cause.source() {
                cause = next;
            }
            let text = cause.to_string();
            if text.contains("://") {
                format!("no connection to {endpoint}")
            } else {
                text
            }
        }
        other => other.to_string(),
    }
}
