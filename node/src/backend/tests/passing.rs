use super::*;

#[tokio::test]
async fn what_the_client_asks_goes_through_and_usage_is_asked_for() {
    let server = TestServer::chatting(&[&delta("Hello"), &finish(), &usage_chunk(12, 1), "[DONE]"]).await;
    let mut body = request();
    body["temperature"] = json!(0.5);
    body["stream"] = json!(false);
    body["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let course = run(&server.backend(), body.clone()).await;
    assert_eq!(course.usage, Some(usage(12, 1)));

    let seen = server.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].path, "/v1/chat/completions");
    assert_eq!(seen[0].authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()));
    let mut expected = body;
    expected["stream"] = json!(true);
    expected["stream_options"] = json!({"include_usage": true});
    assert_eq!(seen[0].body, expected);
}

#[tokio::test]
async fn chunks_are_passed_on_byte_for_byte() {
    // Odd spacing, unknown fields, escapes, tool calls and reasoning: nothing is re-encoded.
    let chunks = [
        r#"{"id":"c1",  "choices":[{"index":0,"delta":{"role":"assistant","content":""}}], "x": 1.0e2}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm\u006d"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Grüße 👋"}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
    ];
    let server = TestServer::chatting(&[&chunks[..], &["[DONE]"]].concat()).await;
    let course = run(&server.backend(), request()).await;
    assert_eq!(course.deltas, chunks);
    // The first and the last carry no text.
    assert_eq!(course.outputs, [0, 1, 2, 3, 4, 4]);
    assert!(course.done);
}

#[tokio::test]
async fn events_may_arrive_in_any_pieces() {
    let text = format!(": comment\r\n\r\ndata: {}\r\n\r\ndata: [DONE]\r\n\r\n", delta("ü"));
    let server = TestServer::start(move |_| {
        let bytes: Vec<_> = text.bytes().map(|byte| Ok(Bytes::from(vec![byte]))).collect();
        event_stream(body_with(String::new(), stream::iter(bytes)))
    })
    .await;
    let course = run(&server.backend(), request()).await;
    assert_eq!(course.deltas, [delta("ü")]);
    assert!(course.done);
}

#[tokio::test]
async fn the_usage_chunk_goes_to_whoever_asked_for_it() {
    let chunk = usage_chunk(12, 1);
    let server = TestServer::chatting(&[&delta("Hello"), &finish(), &chunk, "[DONE]"]).await;
    let without = run(&server.backend(), request()).await;
    assert_eq!(without.deltas, [delta("Hello"), finish()]);

    let mut body = request();
    body["stream_options"] = json!({"include_usage": true, "more": 1});
    let with = run(&server.backend(), body).await;
    assert_eq!(with.deltas, [delta("Hello"), finish(), chunk]);
    assert_eq!(with.usage, without.usage);
    assert_eq!(
        server.seen()[1].body["stream_options"],
        json!({"include_usage": true, "more": 1})
    );
}

#[tokio::test]
async fn dropping_the_stream_drops_the_request() {
    let (dropped, is_dropped) = tokio::sync::oneshot::channel();
    let dropped = Arc::new(Mutex::new(Some(dropped)));
    let server = TestServer::start(move |_| {
        let signal = DropSignal(dropped.lock().unwrap().take());
        event_stream(body_with(sse(&[&delta("Hello")]), never(signal)))
    })
    .await;
    let mut chat = server.backend().chat(request());
    assert!(matches!(chat.next().await, Some(Ok(BackendEvent::Delta { .. }))));
    drop(chat);
    is_dropped.await.expect("the server lets go of the answer");
}

#[tokio::test]
async fn what_is_no_chat_request_is_not_sent() {
    let server = TestServer::chatting(&["[DONE]"]).await;
    for body in [
        json!("text"),
        json!({"messages": []}),
        json!({"model": 3, "messages": []}),
        json!({"model": "tiny"}),
        json!({"model": "tiny", "messages": [], "n": 2}),
        json!({"model": "tiny", "messages": [], "stream_options": 1}),
    ] {
        let course = run(&server.backend(), body.clone()).await;
        assert!(
            matches!(course.error, Some(BackendError::Request(_))),
            "{body}: {course:?}"
        );
        assert!(course.usage.is_none());
    }
    assert!(server.seen().is_empty());
}

#[test]
fn the_answer_is_limited_in_the_field_the_client_uses() {
    let limit = TokenCount::new(100);
    for (given, limited) in [
        (json!({}), json!({"max_tokens": 100})),
        (json!({"max_tokens": 50}), json!({"max_tokens": 50})),
        (json!({"max_tokens": 500}), json!({"max_tokens": 100})),
        (json!({"max_tokens": null}), json!({"max_tokens": 100})),
        (json!({"max_tokens": -1}), json!({"max_tokens": 100})),
        (
            json!({"max_completion_tokens": 500}),
            json!({"max_completion_tokens": 100}),
        ),
        (
            json!({"max_completion_tokens": 7, "max_tokens": 500}),
            json!({"max_completion_tokens": 7, "max_tokens": 100}),
        ),
    ] {
        let mut body = given.clone();
        limit_output(&mut body, limit).unwrap();
        assert_eq!(body, limited, "{given}");
    }
    assert!(limit_output(&mut json!([]), limit).is_err());
    assert!(limit_output(&mut json!({"n": 3}), limit).is_err());
}

#[tokio::test]
async fn lists_the_models() {
    let long = "m".repeat(MAX_MODEL_ID_BYTES + 1);
    let server = TestServer::start(move |seen| {
        assert_eq!(seen.path, "/v1/models");
        axum::Json(json!({"object": "list", "data": [{"id": "b", "owned_by": "me"}, {"id": long}, {"id": "a"}]}))
            .into_response()
    })
    .await;
    assert_eq!(server.backend().models().await.unwrap(), ["b", "a"]);
    assert_eq!(
        server.seen()[0].authorization.as_deref(),
        Some(format!("Bearer {KEY}").as_str())
    );
}
