use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use eventsource_stream::Event;
use futures::{Stream, StreamExt as _, stream};
use lloom_receipts::Usage;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{
    ChatStream, Server,
    body::ChatBody,
    chunk::Chunk,
    config::OutputCounting,
    error::BackendError,
    event::BackendEvent,
    meter::{Meter, at_most_one_a_byte},
    sse::events,
};

/// The data of the event that ends a stream.
const END: &str = "[DONE]";

type Events = Pin<Box<dyn Stream<Item = Result<Event, BackendError>> + Send>>;

/// One chat, from the request to its end.
struct Chat {
    server: Arc<Server>,
    body: ChatBody,
    meter: Meter,
    state: State,
    /// Whether anything has been passed on.
    delivered: bool,
    /// When the whole answer has to be there.
    ends_by: Instant,
    /// What is still to be said, once the answer has ended.
    last_words: VecDeque<Result<BackendEvent, BackendError>>,
}

enum State {
    Asking,
    Answering {
        events: Events,
        /// When the next event has to be there.
        due: Instant,
        limit: Duration,
    },
    Ended,
}

/// Starts when it is first polled.
pub(super) fn start(server: Arc<Server>, body: Value) -> ChatStream {
    let body = match ChatBody::new(body) {
        Ok(body) => body,
        Err(error) => return stream::iter([Err(error)]).boxed(),
    };
    let keep_text = server.counting.output == OutputCounting::Tokenizer;
    let chat = Chat {
        ends_by: Instant::now() + server.timeouts.total,
        server,
        body,
        meter: Meter::new(keep_text),
        state: State::Asking,
        delivered: false,
        last_words: VecDeque::new(),
    };
    // No task is started: whoever drops the stream drops the request.
    stream::unfold(chat, |mut chat| async move {
        let item = chat.next().await?;
        Some((item, chat))
    })
    .boxed()
}

impl Chat {
    async fn next(&mut self) -> Option<Result<BackendEvent, BackendError>> {
        loop {
            if let Some(item) = self.last_words.pop_front() {
                return Some(item);
            }
            match &mut self.state {
                State::Ended => return None,
                State::Asking => match self.ask().await {
                    Ok(answering) => self.state = answering,
                    Err(error) => self.fail(error).await,
                },
                State::Answering { events, due, limit } => {
                    let by = (*due).min(self.ends_by);
                    match timeout_at(by, events.next()).await {
                        Err(_) if by < *due => {
                            self.fail(BackendError::Timeout {
                                awaited: "complete answer",
                                limit: self.server.timeouts.total,
                            })
                            .await;
                        }
                        Err(_) => {
                            let limit = *limit;
                            self.fail(BackendError::Timeout {
                                awaited: "event",
                                limit,
                            })
                            .await;
                        }
                        // Some servers just close once they have said that they are finished.
                        Ok(None) if self.meter.finished() => self.complete().await,
                        Ok(None) => self.fail(BackendError::Incomplete).await,
                        Ok(Some(Err(error))) => self.fail(error).await,
                        Ok(Some(Ok(event))) => {
                            *limit = self.server.timeouts.idle;
                            *due = Instant::now() + *limit;
                            if let Some(delta) = self.on_event(event).await {
                                self.delivered = true;
                                return Some(Ok(delta));
                            }
                        }
                    }
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<State, BackendError> {
        let limit = self.server.timeouts.first_event;
        let due = Instant::now() + limit;
        let request = self
            .server
            .client
            .post(self.server.url("chat/completions")?)
            .json(self.body.fields());
        let ask = async {
            let response = self
                .server
                .authorized(request)
                .send()
                .await
                .map_err(|error| BackendError::Unreachable(error.without_url()))?;
            let response = self.server.accept_status(response).await?;
            self.server.accept_event_stream(response).await
        };
        let response = timeout_at(due.min(self.ends_by), ask)
            .await
            .map_err(|_| BackendError::Timeout {
                awaited: "answer",
                limit,
            })??;
        Ok(State::Answering {
            events: Box::pin(events(response.bytes_stream())),
            due,
            limit,
        })
    }

    /// What of an event is passed on.
    async fn on_event(&mut self, event: Event) -> Option<BackendEvent> {
        if event.data.trim() == END {
            self.complete().await;
            return None;
        }
        let Some(chunk) = Chunk::parse(&event.data) else {
            let excerpt = self.server.excerpt(event.data.as_bytes());
            let error = if event.event == "error" {
                BackendError::Reported { excerpt }
            } else {
                BackendError::Garbage { excerpt }
            };
            self.fail(error).await;
            return None;
        };
        if let Some(message) = chunk.error() {
            let excerpt = self.server.excerpt(message.as_bytes());
            self.fail(BackendError::Reported { excerpt }).await;
            return None;
        }
        self.meter.observe(&chunk);
        if chunk.only_usage() && !self.body.wants_usage() {
            return None;
        }
        Some(BackendEvent::Delta {
            data: Bytes::from(event.data),
            output: self.meter.output(),
        })
    }

    async fn complete(&mut self) {
        self.state = State::Ended;
        let usage = self.usage().await;
        self.last_words.push_back(Ok(BackendEvent::Usage(usage)));
        self.last_words.push_back(Ok(BackendEvent::Done));
    }

    async fn fail(&mut self, error: BackendError) {
        // Dropping the events closes the connection.
        self.state = State::Ended;
        if self.delivered {
            let usage = self.usage().await;
            self.last_words.push_back(Ok(BackendEvent::Usage(usage)));
        }
        self.last_words.push_back(Err(error));
    }

    /// What to bill for what has passed.
    async fn usage(&mut self) -> Usage {
        if let Some(reported) = self.meter.reported() {
            return Usage {
                input: at_most_one_a_byte(reported.input, self.body.bytes()),
                output: self.meter.justified(reported.output),
            };
        }
        let body = Value::Object(self.body.fields().clone());
        let input = self.server.count_input(&body).await;
        let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
        let output = match self.meter.kept() {
            Some(text) => match self.server.count_tokens(model, text).await {
                Some(count) => self.meter.justified(count),
                None => self.meter.seen(),
            },
            None => self.meter.seen(),
        };
        Usage { input, output }
    }
}
