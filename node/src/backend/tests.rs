//! The backend against a real HTTP server that behaves as it is told.

mod counting;
mod failures;
mod passing;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use lloom_receipts::{TokenCount, Usage};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const KEY: &str = "sk-secret-0123456789";
/// Short enough to wait for, long enough for a busy machine to answer within.
const SHORT: Duration = Duration::from_millis(150);

/// What the server saw of a request.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    authorization: Option<String>,
    body: Value,
}

/// A server on loopback that answers as `answer` says.
struct TestServer {
    base_url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl TestServer {
    async fn start(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| {
            let (record, answer) = (Arc::clone(&record), answer.clone());
            async move {
                let path = request.uri().path().to_owned();
                let authorization = request.headers().get(header::AUTHORIZATION);
                let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
                let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
                let seen = Seen {
                    path,
                    authorization,
                    body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                };
                record.lock().unwrap().push(seen.clone());
                answer(&seen)
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base_url, seen }
    }

    /// A server whose chats are `events`, and which has nothing else.
    async fn chatting(events: &[&str]) -> Self {
        let events = sse(events);
        Self::start(move |seen| match seen.path.as_str() {
            "/v1/chat/completions" => event_stream(Body::from(events.clone())),
            _ => StatusCode::NOT_FOUND.into_response(),
        })
        .await
    }

    fn config(&self) -> BackendConfig {
        let mut config = BackendConfig::new(&self.base_url);
        config.api_key = Some(Secret::new(KEY));
        config
    }

    fn backend(&self) -> Backend {
        Backend::new(self.config()).unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }
}

fn sse(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn event_stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], body).into_response()
}

/// A body that sends `start` and then whatever `rest` does.
fn body_with(start: String, rest: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static) -> Body {
    Body::from_stream(stream::iter([Ok(Bytes::from(start))]).chain(rest))
}

/// A body that sends `start` and then nothing, for ever.
fn stalling(start: String) -> Body {
    body_with(start, stream::pending())
}

fn request() -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": "Say hello."}]})
}

fn delta(content: &str) -> String {
    json!({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]}).to_string()
}

fn finish() -> String {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).to_string()
}

fn usage_chunk(input: u64, output: u64) -> String {
    json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}}).to_string()
}

fn usage(input: u32, output: u32) -> Usage {
    Usage {
        input: TokenCount::new(input),
        output: TokenCount::new(output),
    }
}

/// How a chat went.
#[derive(Debug, Default)]
struct Course {
    deltas: Vec<String>,
    outputs: Vec<u32>,
    usage: Option<Usage>,
    done: bool,
    error: Option<BackendError>,
}

/// Runs a chat to its end and checks the order of its events.
async fn run(backend: &Backend, body: Value) -> Course {
    let mut course = Course::default();
    let mut chat = backend.chat(body);
    while let Some(event) = chat.next().await {
        assert!(
            !course.done && course.error.is_none(),
            "nothing follows the end: {event:?}"
        );
        match event {
            Ok(BackendEvent::Delta { data, output }) => {
                assert!(course.usage.is_none(), "usage comes after every delta");
                course.deltas.push(String::from_utf8(data.to_vec()).unwrap());
                course.outputs.push(output.get());
            }
            Ok(BackendEvent::Usage(usage)) => assert!(course.usage.replace(usage).is_none(), "one usage"),
            Ok(BackendEvent::Done) => course.done = true,
            Err(error) => course.error = Some(error),
        }
    }
    assert!(
        course.done || course.error.is_some(),
        "a chat ends in one way or the other"
    );
    course
}

/// An error and its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" {error} {error:?}"));
        cause = error.source();
    }
    text
}

/// Never resolves, and says so when it is dropped.
struct DropSignal(Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for DropSignal {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            // Nobody may be listening any more.
            let _ = sender.send(());
        }
    }
}

fn never(signal: DropSignal) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::once(async move {
        let _signal = signal;
        std::future::pending::<Result<Bytes, Infallible>>()
            .await
            .map_err(|never| match never {})
    })
}
