use super::*;

/// A chat with a server that answers `response`.
async fn chat_with(response: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Course {
    chat_within(Timeouts::default(), response).await
}

async fn chat_within(timeouts: Timeouts, response: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Course {
    let server = TestServer::start(move |_| response()).await;
    let mut config = server.config();
    config.timeouts = timeouts;
    config.counting.tokenizer = Tokenizer::Off;
    let course = run(&Backend::new(config).unwrap(), request()).await;
    let error = course.error.as_ref().expect("it fails");
    assert!(!whole(error).contains(KEY), "the key stays secret: {error:?}");
    course
}

/// One delta, then `rest`: what came is billed, then comes the error.
async fn after_one_delta(timeouts: Timeouts, rest: fn() -> Body) -> BackendError {
    let course = chat_within(timeouts, move || event_stream(rest())).await;
    assert_eq!(course.deltas, [delta("Hello")]);
    assert_eq!(course.usage, Some(usage(4, 1)), "what was delivered is billed");
    course.error.unwrap()
}

fn first_delta() -> String {
    sse(&[&delta("Hello")])
}

#[tokio::test]
async fn a_server_that_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut config = BackendConfig::new(format!("http://{address}/v1/"));
    config.api_key = Some(Secret::new(KEY));
    let backend = Backend::new(config).unwrap();
    let course = run(&backend, request()).await;
    assert!(matches!(course.error, Some(BackendError::Unreachable(_))), "{course:?}");
    assert!(course.usage.is_none(), "nothing came, nothing is billed");
    assert!(matches!(backend.models().await, Err(BackendError::Unreachable(_))));
    // Without an answer nothing is learned about its tokenizer.
    assert_eq!(backend.count_input(&request()).await, TokenCount::new(4));
    let Source::Server(server) = &backend.source else {
        panic!("it is an LLM server");
    };
    assert_eq!(server.tokenizer.get(), None);
}

#[tokio::test]
async fn http_errors_are_quoted_without_the_key() {
    let course = chat_with(|| {
        let body = format!("Incorrect API key provided: {KEY}.\n{}", "x".repeat(10_000));
        (StatusCode::UNAUTHORIZED, body).into_response()
    })
    .await;
    let Some(BackendError::Status { status: 401, excerpt }) = course.error else {
        panic!("{course:?}");
    };
    assert!(excerpt.starts_with("Incorrect API key provided: …. xxx"), "{excerpt}");
    assert!(excerpt.len() < 400);

    // Prompts go to the host that was configured and to no other.
    let course = chat_with(|| (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response()).await;
    assert!(
        matches!(course.error, Some(BackendError::Status { status: 302, .. })),
        "{course:?}"
    );
}

#[tokio::test]
async fn an_error_body_that_never_ends_is_not_waited_for() {
    let timeouts = Timeouts {
        first_event: SHORT,
        ..Timeouts::default()
    };
    let course = chat_within(timeouts, || {
        (StatusCode::BAD_GATEWAY, stalling("down".to_owned())).into_response()
    })
    .await;
    assert!(
        matches!(course.error, Some(BackendError::Timeout { awaited: "answer", .. })),
        "{course:?}"
    );
}

#[tokio::test]
async fn an_answer_that_is_no_event_stream() {
    let course = chat_with(|| axum::Json(json!({"choices": []})).into_response()).await;
    let Some(BackendError::ContentType {
        content_type, excerpt, ..
    }) = course.error
    else {
        panic!("{course:?}");
    };
    assert_eq!(
        (content_type.as_str(), excerpt.as_str()),
        ("application/json", r#"{"choices":[]}"#)
    );
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let timeouts = Timeouts {
        first_event: SHORT,
        ..Timeouts::default()
    };
    // Comments keep a connection alive, but they are no answer.
    let course = chat_within(timeouts, || {
        let comments = stream::repeat_with(|| Ok(Bytes::from_static(b": wait\n\n"))).then(|comment| async {
            tokio::time::sleep(SHORT / 10).await;
            comment
        });
        event_stream(body_with(String::new(), comments))
    })
    .await;
    let expected = matches!(course.error, Some(BackendError::Timeout { awaited: "event", limit }) if limit == SHORT);
    assert!(expected, "{course:?}");
    assert!(course.usage.is_none());
}

#[tokio::test]
async fn a_server_that_falls_silent() {
    let timeouts = Timeouts {
        idle: SHORT,
        ..Timeouts::default()
    };
    let error = after_one_delta(timeouts, || stalling(first_delta())).await;
    assert!(
        matches!(error, BackendError::Timeout { awaited: "event", .. }),
        "{error:?}"
    );

    let timeouts = Timeouts {
        total: SHORT,
        ..Timeouts::default()
    };
    let error = after_one_delta(timeouts, || stalling(first_delta())).await;
    assert!(
        matches!(
            error,
            BackendError::Timeout {
                awaited: "complete answer",
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle() {
    let error = after_one_delta(Timeouts::default(), || {
        let reset = stream::once(async {
            // A body that isn't ready has the server send what came before it, ahead of the end of the connection.
            tokio::task::yield_now().await;
            Err(std::io::ErrorKind::ConnectionReset.into())
        });
        body_with(first_delta(), reset)
    })
    .await;
    assert!(matches!(error, BackendError::BrokeOff(_)), "{error:?}");

    let error = after_one_delta(Timeouts::default(), || Body::from(first_delta())).await;
    assert!(matches!(error, BackendError::Incomplete), "{error:?}");
    // Cut inside an event: what is no whole event is nothing.
    let error = after_one_delta(Timeouts::default(), || {
        Body::from(format!("{}data: {{\"cho", first_delta()))
    })
    .await;
    assert!(matches!(error, BackendError::Incomplete), "{error:?}");
}

#[tokio::test]
async fn a_server_that_closes_when_it_is_finished() {
    let server = TestServer::chatting(&[&delta("Hello"), &finish()]).await;
    let course = run(&server.backend(), request()).await;
    assert!(course.done);
    assert_eq!(course.usage, Some(usage(4, 1)));
}

#[tokio::test]
async fn a_server_that_sends_garbage() {
    for garbage in [
        &b"data: no json\n\n"[..],
        b"data: [1, 2]\n\n",
        b"data: {\"choices\": [\n\n",
        b"data: \xff\xfe\n\n",
    ] {
        let course = chat_with(move || {
            let rest = stream::iter([Ok(Bytes::from_static(garbage))]);
            event_stream(body_with(first_delta(), rest))
        })
        .await;
        assert!(matches!(course.error, Some(BackendError::Garbage { .. })), "{course:?}");
        assert_eq!(course.usage, Some(usage(4, 1)));
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_not_read_on() {
    let error = after_one_delta(Timeouts::default(), || {
        let flood = stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 4096])));
        body_with(format!("{}data: ", first_delta()), flood)
    })
    .await;
    assert!(
        matches!(
            error,
            BackendError::Oversize {
                unit: "event",
                limit: MAX_EVENT_BYTES
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_error_told_in_the_stream() {
    for told in [
        r#"data: {"error": {"message": "out of memory", "code": 500}}"#,
        r#"data: {"error": "out of memory"}"#,
        "event: error\ndata: out of memory",
    ] {
        let course = chat_with(move || event_stream(Body::from(format!("{}{told}\n\n", first_delta())))).await;
        let Some(BackendError::Reported { excerpt }) = course.error else {
            panic!("{course:?}");
        };
        assert_eq!(excerpt, "out of memory");
        assert_eq!(course.usage, Some(usage(4, 1)));
    }
}

#[tokio::test]
async fn a_list_of_models_that_is_none() {
    for (body, is_expected) in [
        (
            "[]".to_owned(),
            (|error| matches!(error, BackendError::Garbage { .. })) as fn(&BackendError) -> bool,
        ),
        ("x".repeat(MAX_ANSWER_BYTES + 1), |error| {
            matches!(error, BackendError::Oversize { .. })
        }),
    ] {
        let server = TestServer::start(move |_| body.clone().into_response()).await;
        let error = server.backend().models().await.unwrap_err();
        assert!(is_expected(&error), "{error:?}");
    }
}

#[test]
fn a_base_url_that_is_no_use_is_refused() {
    for url in [
        "",
        "localhost:11434/v1",
        "ftp://localhost/v1",
        "http://user:password@localhost/v1",
        "http://localhost/v1?key=1",
    ] {
        let error = Backend::new(BackendConfig::new(url)).unwrap_err();
        assert!(matches!(error, BackendError::Config(_)), "{url}");
        assert!(!error.to_string().contains("password@"));
    }
}

#[test]
fn the_key_never_shows() {
    let mut config = BackendConfig::new("http://localhost/v1");
    config.api_key = Some(Secret::new(KEY));
    assert!(!format!("{config:?}").contains(KEY));
    assert!(!format!("{:?}", Backend::new(config).unwrap()).contains(KEY));
}
