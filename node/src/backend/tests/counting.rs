use super::*;

/// Words, as a tokenizer's stand-in.
fn words(text: &Value) -> u64 {
    text.as_str().unwrap().split_whitespace().count() as u64
}

/// A server that counts words at `path` and answers as `count` says.
async fn with_tokenizer(path: &'static str, count: fn(&Value) -> Value, events: &[&str]) -> TestServer {
    let events = sse(events);
    TestServer::start(move |seen| match seen.path.as_str() {
        "/v1/chat/completions" => event_stream(Body::from(events.clone())),
        asked if asked == path => axum::Json(count(&seen.body)).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await
}

#[tokio::test]
async fn the_servers_usage_is_billed() {
    let server = TestServer::chatting(&[&delta("Hello, world"), &finish(), &usage_chunk(9, 3), "[DONE]"]).await;
    let course = run(&server.backend(), request()).await;
    assert_eq!(course.usage, Some(usage(9, 3)));
    assert_eq!(server.paths(), ["/v1/chat/completions"], "no tokenizer is asked for");
}

#[tokio::test]
async fn no_more_than_a_token_a_byte_is_billed() {
    let server = TestServer::chatting(&[
        &delta("Hi!"),
        &finish(),
        &usage_chunk(u64::MAX, 4_000_000_000),
        "[DONE]",
    ])
    .await;
    let course = run(&server.backend(), request()).await;
    let body_bytes = u32::try_from(request().to_string().len()).unwrap();
    assert_eq!(course.usage, Some(usage(body_bytes, 3)));
}

#[tokio::test]
async fn without_usage_deltas_and_bytes_are_counted() {
    // What llama-cpp-python sends, and a server whose usage can't be read.
    for odd in [
        "{\"choices\":[],\"usage\":null}",
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":-4}}",
    ] {
        let events = [
            &delta("One"),
            &delta(" two"),
            &delta(""),
            &delta(" three"),
            &finish(),
            odd,
            "[DONE]",
        ];
        let server = TestServer::chatting(&events).await;
        let backend = server.backend();
        let course = run(&backend, request()).await;
        assert_eq!(course.outputs, [1, 2, 2, 3, 3, 3]);
        // "user\nSay hello." is 15 bytes.
        assert_eq!(course.usage, Some(usage(4, 3)));
        assert_eq!(backend.count_input(&request()).await, TokenCount::new(4));
        let asked = server.paths();
        assert_eq!(
            asked,
            ["/v1/chat/completions", "/extras/tokenize/count", "/tokenize"],
            "the tokenizers are tried once"
        );
    }
}

#[tokio::test]
async fn every_known_tokenizer_is_found_and_remembered() {
    type Count = fn(&Value) -> Value;
    let tokenizers: [(&str, Count); 3] = [
        ("/extras/tokenize/count", |body| json!({"count": words(&body["input"])})),
        (
            "/tokenize",
            |body| json!({"count": words(&body["prompt"]), "max_model_len": 4096, "tokens": [1, 2]}),
        ),
        (
            "/tokenize",
            |body| json!({"tokens": vec![7; words(&body["content"]) as usize]}),
        ),
    ];
    for (path, count) in tokenizers {
        let server = with_tokenizer(path, count, &[&delta("One two"), &delta(" three"), &finish(), "[DONE]"]).await;
        let mut config = server.config();
        config.counting.output = OutputCounting::Tokenizer;
        let backend = Backend::new(config).unwrap();
        for _ in 0..2 {
            let course = run(&backend, request()).await;
            assert_eq!(
                course.outputs,
                [1, 2, 2],
                "deltas, until the tokenizer has the last word"
            );
            // "user", "Say", "hello." and "One two three".
            assert_eq!(course.usage, Some(usage(3, 3)));
        }
        let probes = server.paths().iter().filter(|asked| asked.contains("extras")).count();
        assert_eq!(probes, if path == "/tokenize" { 1 } else { 4 });
        assert!(server.seen().iter().all(|seen| seen.body["model"] == "tiny"));
        assert!(server.seen().iter().all(|seen| seen.authorization.is_some()));
    }
}

#[tokio::test]
async fn a_tokenizer_that_exaggerates_or_fails_is_bounded() {
    let events = [&delta("abc"), &finish(), "[DONE]"];
    let exaggerating = with_tokenizer("/tokenize", |_| json!({"count": 1_000_000}), &events).await;
    let mut config = exaggerating.config();
    config.counting.output = OutputCounting::Tokenizer;
    config.counting.tokenizer = Tokenizer::At(TokenizerEndpoint::Tokenize);
    let course = run(&Backend::new(config).unwrap(), request()).await;
    assert_eq!(course.usage, Some(usage(15, 3)), "at most one a byte");

    let failing = with_tokenizer("/tokenize", |_| json!({"error": "unexpected endpoint"}), &events).await;
    let mut config = failing.config();
    config.counting.output = OutputCounting::Tokenizer;
    let course = run(&Backend::new(config).unwrap(), request()).await;
    assert_eq!(course.usage, Some(usage(4, 1)), "deltas and bytes");
}

#[tokio::test]
async fn pictures_are_no_text_and_tools_are() {
    let server = TestServer::chatting(&["[DONE]"]).await;
    let mut config = server.config();
    config.counting.tokenizer = Tokenizer::Off;
    let backend = Backend::new(config).unwrap();
    let picture = format!("data:image/png;base64,{}", "A".repeat(10_000));
    let body = json!({
        "model": "tiny",
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": picture}},
        ]}],
    });
    // "user", "text", "What is it?", "image_url", a line each: 31 bytes.
    assert_eq!(backend.count_input(&body).await, TokenCount::new(8));
    let mut with_tool = body;
    with_tool["tools"] = json!([{"function": {"name": "look", "description": "Looks."}}]);
    assert!(backend.count_input(&with_tool).await > TokenCount::new(8));
    assert!(server.seen().is_empty());
}
