use lloom_node::wire::{ClientFrame, ExecutorFrame, Refusal};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

use crate::world::{World, eventually};

/// The value of one sample.
fn sample(world: &World, name: &str) -> u64 {
    let mut registry = Registry::with_prefix("lloom");
    world.executor.metrics().register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("lloom_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn what_is_taken_on_and_refused_is_counted_once() {
    let world = World::new().await;
    let done = world.chat(json!({"tokens": 200})).await.unwrap();
    assert_eq!(sample(&world, r#"accepted_total{document="request"}"#), 1);
    assert_eq!(sample(&world, r#"accepted_total{document="receipt"}"#), 1);
    assert!(
        sample(&world, r#"accepted_total{document="voucher"}"#) > 1,
        "increment by increment"
    );
    assert_eq!(sample(&world, r#"answers_total{ending="complete"}"#), 1);
    let usage = done.completion.usage();
    for (direction, tokens) in [("input", usage.input), ("output", usage.output)] {
        let counted = sample(&world, &format!(r#"billed_tokens_total{{direction="{direction}"}}"#));
        assert_eq!(counted, u64::from(tokens.get()));
    }
    assert_eq!(sample(&world, "answers_running"), 0);

    let mut wire = world.dial();
    let request = world.infer(50, json!({"tokens": 2})).await;
    for refusals in 0..2 {
        wire.send(ClientFrame::Infer(Box::new(request.clone()))).await;
        if refusals == 0 {
            assert_eq!(wire.next().await, ExecutorFrame::Accepted);
            while !matches!(wire.next().await, ExecutorFrame::Bill { .. }) {}
        } else {
            assert_eq!(wire.next().await, ExecutorFrame::Refused(Refusal::NonceUsed));
        }
    }
    assert_eq!(sample(&world, r#"accepted_total{document="request"}"#), 2);
    assert_eq!(sample(&world, r#"refusals_total{reason="nonce_used"}"#), 1);
    assert_eq!(sample(&world, r#"refusals_total{reason="uncovered"}"#), 0);
    assert!(sample(&world, "streams_open") >= 1);
    drop(wire);
    eventually("every stream closed", async || sample(&world, "streams_open") <= 1).await;
}

#[tokio::test]
async fn an_answer_whose_client_left_is_counted_as_that() {
    let world = World::new().await;
    let mut wire = world.dial();
    let request = world.infer(1, json!({"tokens": 200})).await;
    wire.send(ClientFrame::Infer(Box::new(request))).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    eventually("the answer runs", async || sample(&world, "answers_running") == 1).await;
    drop(wire);
    eventually("its end", async || {
        sample(&world, r#"answers_total{ending="client_left"}"#) == 1
    })
    .await;
    assert_eq!(sample(&world, "answers_running"), 0);
}
