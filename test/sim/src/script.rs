//! The model behind an executor: it says what its prompt tells it to.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use lloom_node::{Backend, BackendError, BackendEvent};
use lloom_receipts::{TokenCount, Usage};
use serde_json::{Value, json};

use crate::{choices::Choices, life::Life};

/// The most tokens of one event.
pub const LARGEST_EVENT: u32 = 12;

/// What an answer is like.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Its tokens.
    pub tokens: u32,
    /// Tokens of one event.
    pub packed: u32,
    /// Milliseconds between two events at most.
    pub pause: u64,
    /// After how many tokens it breaks off.
    pub fails_after: Option<u32>,
}

impl Script {
    /// Some answer.
    pub fn choose(choices: &mut Choices) -> Self {
        let tokens = choices.between(0, 60) as u32;
        Self {
            tokens,
            packed: if choices.chance(100) {
                choices.between(2, LARGEST_EVENT.into()) as u32
            } else {
                1
            },
            pause: *choices.pick(&[0, 10, 80, 700]),
            fails_after: choices.chance(80).then(|| choices.between(0, u64::from(tokens)) as u32),
        }
    }

    /// The script as a part of a prompt.
    pub fn to_json(self) -> Value {
        json!([self.tokens, self.packed, self.pause, self.fails_after])
    }

    /// The script that such a part is.
    pub fn of_json(value: &Value) -> Option<Self> {
        let number = |index: usize| value.get(index).and_then(Value::as_u64);
        Some(Self {
            tokens: number(0)? as u32,
            packed: (number(1)? as u32).max(1),
            pause: number(2)?,
            fails_after: number(3).map(|after| after as u32),
        })
    }
}

/// A backend that plays scripts in the time of `life`.
pub fn backend(life: &Arc<Life>) -> Backend {
    let life = Arc::clone(life);
    Backend::in_process(move |body| {
        let script = body.get("script").and_then(Script::of_json);
        let Some(script) = script else {
            return stream::iter([Err(BackendError::Request("it has no script"))]).boxed();
        };
        let input = TokenCount::new(body.to_string().len() as u32 / 8);
        play(script, input, Arc::clone(&life)).boxed()
    })
}

/// A piece of an answer, up to the token `output`.
pub fn event(output: u32) -> Vec<u8> {
    let text = format!("word {output:>10} ");
    format!("{{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}").into_bytes()
}

fn play(
    script: Script,
    input: TokenCount,
    life: Arc<Life>,
) -> impl stream::Stream<Item = Result<BackendEvent, BackendError>> + Send {
    let end = script.fails_after.unwrap_or(script.tokens).min(script.tokens);
    let deltas = stream::unfold(0, move |said| {
        let life = Arc::clone(&life);
        async move {
            if said >= end {
                return None;
            }
            let pause = life.choose(|choices| choices.below(script.pause + 1));
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let output = (said + script.packed).min(end);
            let event = BackendEvent::Delta {
                data: event(output).into(),
                output: TokenCount::new(output),
            };
            Some((Ok(event), output))
        }
    });
    let usage = Usage {
        input,
        output: TokenCount::new(end),
    };
    let mut last = vec![Ok(BackendEvent::Usage(usage))];
    last.push(match script.fails_after {
        Some(_) => Err(BackendError::Incomplete),
        None => Ok(BackendEvent::Done),
    });
    deltas.chain(stream::iter(last))
}
