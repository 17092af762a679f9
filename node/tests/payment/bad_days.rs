//! Model servers that fail: the client pays only for what it received, and both sides hold a receipt that says so.

use std::time::Duration;

use futures::StreamExt as _;
use lloom_node::{Backend, BackendConfig, backend::Timeouts, client::ChatEvent, executor::Executor, wire::Ending};
use lloom_receipts::{TokenAmount, Usage};
use serde_json::{Value, json};

use crate::world::{Done, World, count, eventually};

/// An answer that the server failed, paid as far as it came.
async fn failed(world: &World, script: Value) -> Done {
    let done = world.chat(script).await.unwrap();
    assert!(
        matches!(done.completion.ending, Ending::BackendFailed { .. }),
        "{:?}",
        done.completion.ending
    );
    done
}

#[tokio::test]
async fn a_server_that_refuses_costs_nothing() {
    let world = World::new().await;
    let done = failed(&world, json!({"status": 503})).await;
    assert_eq!(done.completion.usage(), Usage::default());
    assert!(done.text.is_empty());
    assert_eq!(world.assert_settled(1).await, TokenAmount::ZERO);
    // The receipt is no obstacle for what follows.
    world.chat(json!({"tokens": 3})).await.unwrap();
    world.assert_settled(2).await;
}

#[tokio::test]
async fn a_server_that_is_down_costs_nothing() {
    let mut world = World::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", nobody.local_addr().unwrap());
    drop(nobody);
    world.use_backend(BackendConfig::new(url));
    let done = failed(&world, json!({})).await;
    assert_eq!(done.completion.amount(), TokenAmount::ZERO);
    assert_eq!(world.assert_settled(1).await, TokenAmount::ZERO);
}

#[tokio::test]
async fn a_server_that_dies_in_mid_answer_is_paid_up_to_there() {
    let world = World::new().await;
    let done = failed(&world, json!({"tokens": 12, "end": "die"})).await;
    assert_eq!(done.completion.usage().output, count(12));
    assert_eq!(String::from_utf8(done.text).unwrap().matches("word ").count(), 12);
    assert_eq!(world.assert_settled(1).await, done.completion.amount());
}

#[tokio::test]
async fn garbage_is_not_passed_on_and_not_paid() {
    let world = World::new().await;
    let done = failed(&world, json!({"tokens": 4, "end": "garbage"})).await;
    assert_eq!(done.completion.usage().output, count(4));
    assert!(!String::from_utf8(done.text).unwrap().contains("html"));
    world.assert_settled(1).await;
}

#[tokio::test]
async fn several_tokens_in_an_event_are_counted_also_when_the_answer_is_cut() {
    let world = World::new().await;
    let done = failed(&world, json!({"tokens": 12, "packed": 3, "end": "die"})).await;
    assert_eq!(done.completion.usage().output, count(12));
    let done = world.chat(json!({"tokens": 30, "packed": 6})).await.unwrap();
    assert_eq!(done.completion.usage().output, count(30));
    // A client that leaves before the server has said anything final.
    let mut chat = world
        .client
        .chat(world.request(json!({"tokens": 60, "packed": 4, "end": "hang"})));
    let mut seen = count(0);
    while seen < count(8) {
        if let ChatEvent::Chunk { usage, .. } = chat.next().await.unwrap().unwrap() {
            seen = usage.output;
        }
    }
    drop(chat);
    eventually("the answer is billed and linked", || async {
        world.executor_ledger.head(world.channel).await.unwrap().sequence == 3
    })
    .await;
    let bill = world
        .executor_ledger
        .head_receipt(world.channel)
        .await
        .unwrap()
        .unwrap();
    assert!(bill.receipt().bill.usage.output >= seen, "{:?}", bill.receipt().bill);
    world.assert_settled(3).await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let mut world = World::new().await;
    let mut config = BackendConfig::new(world.server.url());
    config.timeouts = Timeouts {
        idle: Duration::from_millis(100),
        ..Timeouts::default()
    };
    world.use_backend(config);
    let done = failed(&world, json!({"tokens": 4, "end": "hang"})).await;
    assert_eq!(done.completion.usage().output, count(4));
    world.assert_settled(1).await;
}

impl World {
    fn use_backend(&mut self, config: BackendConfig) {
        self.executor = Executor::new(
            self.executor_config,
            self.executor_ledger.clone(),
            self.domain,
            self.operator.clone(),
            Backend::new(config).unwrap(),
            self.offer.clone(),
        );
        self.cable.connect_to(&self.executor);
    }
}
