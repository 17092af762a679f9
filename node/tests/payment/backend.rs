//! A model server whose answers are scripted by the request: the body's `script` says what happens.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

/// A running model server. Stops when dropped.
pub struct ModelServer {
    pub address: SocketAddr,
    /// Answers with `gated` wait for a permit before each token.
    pub gate: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl ModelServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let router = Router::new()
            .route("/v1/chat/completions", post(chat))
            .with_state(Arc::clone(&gate));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, gate, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `script`: `tokens` (each one word of five bytes), `jumbo` (all in one event), `packed` (so many in an event, with the
/// usage so far), `gated`, `silent_usage` (no usage is
/// sent), `status` (an HTTP error), and `end`: `done` (default), `die`, `garbage`, `hang`.
async fn chat(State(gate): State<Arc<Semaphore>>, Json(body): Json<Value>) -> Response {
    let script = body["script"].clone();
    if let Some(status) = script["status"].as_u64() {
        return StatusCode::from_u16(status as u16).unwrap().into_response();
    }
    let asked = script["tokens"].as_u64().unwrap_or(5);
    let limit = body["max_tokens"].as_u64().unwrap_or(u64::MAX);
    let tokens = asked.min(limit);
    let gated = script["gated"].as_bool().unwrap_or(false);
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}});
    let mut events: Vec<Result<String, io::Error>> = Vec::new();
    if script["jumbo"].as_bool() == Some(true) {
        events.push(Ok(delta(&"word ".repeat(tokens as usize))));
    } else if let Some(packed) = script["packed"].as_u64() {
        let ends = (1..=tokens.div_ceil(packed)).map(|number| (number * packed).min(tokens));
        events.extend(ends.map(|end| {
            let text = "word ".repeat(packed as usize);
            let choice = json!({"index": 0, "delta": {"content": text}});
            let usage = json!({"prompt_tokens": 7, "completion_tokens": end});
            Ok(event(&json!({"choices": [choice], "usage": usage})))
        }));
    } else {
        events.extend((0..tokens).map(|_| Ok(delta("word "))));
    }
    let mut hangs = false;
    match script["end"].as_str().unwrap_or("done") {
        "done" => {
            if script["silent_usage"].as_bool() != Some(true) {
                events.push(Ok(event(&usage)));
            }
            events.push(Ok("data: [DONE]\n\n".to_owned()));
        }
        "die" => events.push(Err(io::Error::other("the server dies"))),
        "garbage" => events.push(Ok("data: <html>not what you asked for</html>\n\n".to_owned())),
        "hang" => hangs = true,
        other => panic!("no such end: {other}"),
    }
    let count = tokens as usize;
    let paced = stream::iter(events.into_iter().enumerate()).then(move |(index, event)| {
        let gate = Arc::clone(&gate);
        async move {
            if gated && index < count {
                gate.acquire().await.unwrap().forget();
            }
            // A body that isn't ready has the server send what came before a failure.
            if event.is_err() {
                tokio::task::yield_now().await;
            }
            event.map(Bytes::from)
        }
    });
    let tail = stream::once(async move {
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok::<_, Infallible>(Bytes::new())
    })
    .map(|item| item.map_err(|never| match never {}));
    Response::builder()
        .header(CONTENT_TYPE, "text/event-stream")
        .body(Body::from_stream(paced.chain(tail)))
        .unwrap()
}

fn delta(text: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
