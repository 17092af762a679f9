use std::{convert::Infallible, io};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Interval, interval};

use super::{
    behavior::Ending,
    server::{Call, Shared},
    text::{answer, tokens_of},
};

/// The most tokens of an answer when the request doesn't say.
const DEFAULT_LIMIT: u32 = 256;

#[derive(Deserialize)]
pub(super) struct ChatRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

impl ChatRequest {
    fn prompt_tokens(&self) -> u32 {
        let roles: u32 = self.messages.iter().map(|message| tokens_of(&message.role)).sum();
        roles + tokens_of(&self.prompt())
    }

    fn prompt(&self) -> String {
        let texts = self.messages.iter().filter_map(|message| message.content.as_ref());
        let texts: Vec<String> = texts
            .map(|content| match content {
                Content::Text(text) => text.clone(),
                Content::Parts(parts) => {
                    let texts: Vec<&str> = parts.iter().filter_map(|part| part.text.as_deref()).collect();
                    texts.join("\n")
                }
            })
            .collect();
        texts.join("\n")
    }
}

pub(super) async fn chat(State(shared): State<Shared>, request: Result<Json<ChatRequest>, JsonRejection>) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refusal(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let behavior = shared.behavior();
    match behavior.ending {
        Ending::Refuse(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return refusal(status, "this stub was told to refuse");
        }
        Ending::NotAnApi => return ([(header::CONTENT_TYPE, "text/html")], "<h1>It works!</h1>\n").into_response(),
        _ => {}
    }
    if !shared.serves(&request.model) {
        return refusal(StatusCode::NOT_FOUND, &format!("no model {}", request.model));
    }
    let prompt = request.prompt();
    let limit = request
        .max_completion_tokens
        .or(request.max_tokens)
        .unwrap_or(DEFAULT_LIMIT);
    let tokens = answer(&prompt, limit, behavior.answer_tokens);
    let finish_reason = if tokens.len() as u64 == u64::from(limit) {
        "length"
    } else {
        "stop"
    };
    let call = shared.call(request.prompt_tokens());
    if request.stream {
        let usage = behavior.usage && request.stream_options.is_some_and(|options| options.include_usage);
        let answer = Answer {
            model: request.model,
            tokens,
            finish_reason,
            usage,
        };
        let body = Body::from_stream(answer.events(shared, call));
        return ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
    }
    call.sent_all(&tokens);
    let usage = call.usage();
    let text = tokens.concat();
    Json(json!({
        "id": call.id(),
        "object": "chat.completion",
        "model": request.model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": text },
            "finish_reason": finish_reason,
        }],
        "usage": usage,
    }))
    .into_response()
}

fn refusal(status: StatusCode, message: &str) -> Response {
    let body = json!({ "error": { "message": message, "type": "invalid_request_error", "code": status.as_u16() } });
    (status, Json(body)).into_response()
}

struct Answer {
    model: String,
    tokens: Vec<String>,
    finish_reason: &'static str,
    usage: bool,
}

impl Answer {
    /// The server-sent events of the answer.
    fn events(self, shared: Shared, call: Call) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let behavior = shared.behavior();
        let first = self.chunk(&call, json!({ "role": "assistant", "content": "" }), None);
        let (stop, tail) = match behavior.ending {
            Ending::Complete | Ending::HoldAfter(_) | Ending::Refuse(_) | Ending::NotAnApi => {
                (u32::MAX, self.tail(&call))
            }
            Ending::BreakAfter(count) => (count, vec![Err(io::Error::from(io::ErrorKind::ConnectionReset))]),
            Ending::GarbageAfter(count) => (count, vec![Ok(Bytes::from_static(b"data: {\"choices\": [}\n\n"))]),
        };
        let stop = usize::try_from(stop).unwrap_or(usize::MAX);
        let count = self.tokens.len().min(stop);
        let delay = (!behavior.token_delay.is_zero()).then(|| interval(behavior.token_delay));
        let tokens = stream::unfold((self, call, 0, delay), move |(answer, call, index, mut delay)| {
            let mut shared = shared.clone();
            async move {
                if index == count {
                    return None;
                }
                if index == 0 && !behavior.first_token_delay.is_zero() {
                    let mut ticks = interval(behavior.first_token_delay);
                    ticks.tick().await;
                    ticks.tick().await;
                }
                if let Some(ticks) = delay.as_mut() {
                    wait_for_turn(ticks, index).await;
                }
                if behavior.ending == Ending::HoldAfter(index as u32) {
                    shared.held().await;
                }
                let token = &answer.tokens[index];
                let chunk = answer.chunk(&call, json!({ "content": token }), None);
                call.sent(token);
                Some((Ok(chunk), (answer, call, index + 1, delay)))
            }
        });
        // The server writes what it has when nothing more is ready, so what came before a break does arrive.
        let flushed = stream::once(tokio::task::yield_now()).filter_map(|()| std::future::ready(None));
        stream::iter([Ok(first)])
            .chain(tokens)
            .chain(flushed)
            .chain(stream::iter(tail))
    }

    fn chunk(&self, call: &Call, delta: Value, finish_reason: Option<&str>) -> Bytes {
        event(&json!({
            "id": call.id(),
            "object": "chat.completion.chunk",
            "model": self.model,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
        }))
    }

    fn tail(&self, call: &Call) -> Vec<io::Result<Bytes>> {
        let mut tail = vec![Ok(self.chunk(call, json!({}), Some(self.finish_reason)))];
        if self.usage {
            tail.push(Ok(event(&json!({
                "id": call.id(),
                "object": "chat.completion.chunk",
                "model": self.model,
                "choices": [],
                "usage": usage(call.prompt_tokens(), self.tokens.len() as u64),
            }))));
        }
        tail.push(Ok(Bytes::from_static(b"data: [DONE]\n\n")));
        tail
    }
}

async fn wait_for_turn(ticks: &mut Interval, index: usize) {
    if index == 0 {
        ticks.reset();
    } else {
        ticks.tick().await;
    }
}

fn event(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// The API's usage object.
pub(super) fn usage(prompt_tokens: u32, completion_tokens: u64) -> Value {
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": u64::from(prompt_tokens) + completion_tokens,
    })
}

#[derive(Deserialize)]
pub(super) struct CountRequest {
    input: String,
}

/// llama-cpp-python's `/extras/tokenize/count`.
pub(super) async fn count(Json(request): Json<CountRequest>) -> Result<Json<Value>, Infallible> {
    Ok(Json(json!({ "count": tokens_of(&request.input) })))
}

/// `/v1/models`.
pub(super) async fn models(State(shared): State<Shared>) -> Json<Value> {
    let models = shared
        .models()
        .iter()
        .map(|id| json!({ "id": id, "object": "model", "owned_by": "lloom-e2e" }));
    Json(json!({ "object": "list", "data": models.collect::<Vec<_>>() }))
}
