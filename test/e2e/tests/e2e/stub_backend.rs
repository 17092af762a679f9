//! The stub is what the stories' true counts rest on, so it is held to its word first.

use eyre::Result;
use lloom_e2e::{Behavior, Ending, StubBackend, prompt_tokens, tokens_of};
use serde_json::{Value, json};

/// A stream as a client of the API sees it.
#[derive(Debug, Default)]
struct Seen {
    text: String,
    chunks: usize,
    finish_reason: Option<String>,
    usage: Option<Value>,
    done: bool,
    error: Option<String>,
}

async fn stream(backend: &StubBackend, body: Value) -> Result<Seen> {
    let url = format!("{}/chat/completions", backend.base_url());
    let mut response = reqwest::Client::new()
        .post(url)
        .json(&body)
        .send()
        .await?
        .error_for_status()?;
    let mut bytes = Vec::new();
    let mut seen = Seen::default();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend(chunk),
            Ok(None) => break,
            Err(error) => {
                seen.error = Some(error.to_string());
                break;
            }
        }
    }
    for event in String::from_utf8(bytes)?.split_terminator("\n\n") {
        let data = event.strip_prefix("data: ").expect("every event is data");
        if data == "[DONE]" {
            seen.done = true;
            continue;
        }
        let Ok(data) = serde_json::from_str::<Value>(data) else {
            seen.error = Some(data.to_owned());
            continue;
        };
        if let Some(usage) = data.get("usage") {
            seen.usage = Some(usage.clone());
        }
        if let Some(choice) = data["choices"].get(0) {
            let content = choice["delta"]["content"].as_str().unwrap_or_default();
            seen.chunks += usize::from(!content.is_empty());
            seen.text.push_str(content);
            seen.finish_reason = choice["finish_reason"].as_str().map(str::to_owned);
        }
    }
    Ok(seen)
}

fn request(prompt: &str, max_tokens: u32) -> Value {
    json!({
        "model": "stub-1",
        "messages": [{ "role": "user", "content": prompt }],
        "max_tokens": max_tokens,
        "stream": true,
        "stream_options": { "include_usage": true },
    })
}

#[tokio::test]
async fn streams_one_token_a_chunk_and_tells_the_true_usage() {
    let backend = StubBackend::start(&["stub-1"], Behavior::default()).await.unwrap();
    let seen = stream(&backend, request("How tall is the lighthouse?", 60))
        .await
        .unwrap();
    assert!(seen.done && seen.error.is_none());
    assert_eq!(seen.chunks, tokens_of(&seen.text) as usize);
    let usage = seen.usage.unwrap();
    assert_eq!(usage["prompt_tokens"], prompt_tokens("How tall is the lighthouse?"));
    assert_eq!(usage["completion_tokens"], tokens_of(&seen.text));
    let served = backend.served();
    assert_eq!((served.len(), served[0].text.as_str()), (1, seen.text.as_str()));
    assert_eq!(served[0].completion_tokens, tokens_of(&seen.text));

    let again = stream(&backend, request("How tall is the lighthouse?", 60))
        .await
        .unwrap();
    assert_eq!(again.text, seen.text);
}

#[tokio::test]
async fn keeps_its_usage_to_itself_when_told_so() {
    let behavior = Behavior {
        usage: false,
        answer_tokens: Some(12),
        ..Behavior::default()
    };
    let backend = StubBackend::start(&["stub-1"], behavior).await.unwrap();
    let seen = stream(&backend, request("Well?", 12)).await.unwrap();
    assert_eq!((seen.usage, seen.chunks), (None, 12));
    assert_eq!(seen.finish_reason.as_deref(), Some("length"));
}

#[tokio::test]
async fn dies_and_talks_nonsense_when_told_so() {
    let backend = StubBackend::start(&["stub-1"], Behavior::default()).await.unwrap();
    for ending in [Ending::BreakAfter(5), Ending::GarbageAfter(5)] {
        backend.set_behavior(Behavior {
            ending,
            answer_tokens: Some(9),
            ..Behavior::default()
        });
        let seen = stream(&backend, request("And then?", 20)).await.unwrap();
        assert_eq!(seen.chunks, 5, "{ending:?}");
        assert!(!seen.done && seen.error.is_some(), "{ending:?}");
    }
    for ending in [Ending::Refuse(503), Ending::Refuse(429)] {
        backend.set_behavior(Behavior {
            ending,
            ..Behavior::default()
        });
        assert!(stream(&backend, request("And now?", 20)).await.is_err(), "{ending:?}");
    }
}

#[tokio::test]
async fn holds_streams_until_they_are_released() {
    let held = Behavior {
        ending: Ending::HoldAfter(3),
        answer_tokens: Some(8),
        ..Behavior::default()
    };
    let backend = StubBackend::start(&["stub-1"], held).await.unwrap();
    let asked = request("Wait.", 20);
    let streams = async { tokio::try_join!(stream(&backend, asked.clone()), stream(&backend, asked.clone())) };
    let release = async {
        backend.holding(2).await?;
        assert!(backend.served().iter().all(|served| served.completion_tokens == 3));
        backend.release();
        Ok(())
    };
    let ((first, second), ()) = tokio::try_join!(streams, release).unwrap();
    assert_eq!((first.chunks, second.chunks), (8, 8));
}

#[tokio::test]
async fn refuses_what_the_api_refuses() {
    let backend = StubBackend::start(&["stub-1"], Behavior::default()).await.unwrap();
    let other = json!({ "model": "gpt-oss:20b", "messages": [], "stream": true });
    assert!(stream(&backend, other).await.unwrap_err().to_string().contains("404"));
    let malformed = json!({ "model": "stub-1", "stream": true });
    assert!(stream(&backend, malformed).await.is_err());
}
