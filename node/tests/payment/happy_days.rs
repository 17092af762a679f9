use futures::{StreamExt, future::join_all};
use lloom_node::{client::ChatEvent, wire::Ending};
use lloom_receipts::{TokenAmount, Usage};
use serde_json::json;

use crate::world::{INCREMENT, World, count, eventually, finish};

#[tokio::test]
async fn a_chat_leaves_a_receipt_that_both_have_signed() {
    let world = World::new().await;
    let done = world.chat(json!({"tokens": 5})).await.unwrap();
    assert_eq!(done.completion.ending, Ending::Complete);
    assert!(done.completion.recorded);
    assert_eq!(
        done.completion.usage(),
        Usage {
            input: count(7),
            output: count(5)
        }
    );
    assert_eq!(done.completion.amount(), TokenAmount::new(7 + 2 * 5));
    assert_eq!(String::from_utf8(done.text).unwrap().matches("word ").count(), 5);
    assert_eq!(world.assert_settled(1).await, done.completion.amount());
    let quality = world.client_ledger.quality(world.operator.address()).await.unwrap();
    assert_eq!((quality.observations, quality.success_rate), (1, 1.0));
}

#[tokio::test]
async fn long_answers_are_paid_increment_by_increment() {
    let world = World::new().await;
    let done = world.chat(json!({"tokens": 200})).await.unwrap();
    assert_eq!(done.completion.usage().output, count(200));
    let amount = world.assert_settled(1).await;
    assert_eq!(amount, TokenAmount::new(7 + 2 * 200));
    // The last voucher ran ahead by what the input could have cost and one increment, not more.
    let authorized = world.client_ledger.purchases(world.channel).await.unwrap().authorized;
    let input_maximum = 1_000;
    assert!(authorized.base_units() <= input_maximum + 2 * (200 + u128::from(INCREMENT)));
}

#[tokio::test]
async fn answers_one_after_the_other_share_one_counter() {
    let world = World::new().await;
    let mut sum = 0;
    for tokens in [3, 40, 1] {
        sum += world
            .chat(json!({"tokens": tokens}))
            .await
            .unwrap()
            .completion
            .amount()
            .base_units();
    }
    assert_eq!(world.assert_settled(3).await, TokenAmount::new(sum));
}

#[tokio::test]
async fn what_the_budget_has_no_room_for_is_in_no_voucher() {
    // Room for one at a time.
    let world = World::with(|_, client, _| client.budget.per_day = TokenAmount::new(2_000)).await;
    let chats = (0..32).map(|_| world.chat(json!({"tokens": 3})));
    let done = join_all(chats).await;
    let served = done.iter().filter(|done| done.is_ok()).count();
    assert!((1..32).contains(&served), "{served}");
    let authorized = world.client_ledger.purchases(world.channel).await.unwrap().authorized;
    let input_maximum = 1_000;
    let linked = world.assert_settled(served as u64).await;
    let one = TokenAmount::new(input_maximum + 2 * u128::from(INCREMENT));
    assert!(authorized <= linked.saturating_add(one), "{authorized} for {linked}");
}

#[tokio::test]
async fn fifty_streams_share_one_channel() {
    let world = World::new().await;
    let chats = (0..50).map(|index| world.chat(json!({"tokens": 10 + index})));
    let mut sum = 0;
    for done in join_all(chats).await {
        let completion = done.unwrap().completion;
        assert_eq!(completion.ending, Ending::Complete);
        sum += completion.amount().base_units();
    }
    assert_eq!(world.assert_settled(50).await, TokenAmount::new(sum));
    assert_eq!(world.executor.running(), 0);
}

#[tokio::test]
async fn a_cancelled_answer_costs_what_was_delivered() {
    let world = World::new().await;
    world.server.gate.add_permits(6);
    let mut chat = world.client.chat(world.request(json!({"tokens": 100, "gated": true})));
    let mut words = 0;
    while words < 6 {
        if let ChatEvent::Chunk { usage, .. } = chat.next().await.unwrap().unwrap() {
            words = usage.output.get();
        }
    }
    drop(chat);
    eventually("the cancelled answer is linked", || async {
        let head = world.executor_ledger.head(world.channel).await.unwrap();
        head.sequence == 1 && head == world.client_ledger.head(world.channel).await.unwrap()
    })
    .await;
    // Six words, and the prompt as estimated: five bytes are two tokens.
    assert_eq!(world.assert_settled(1).await, TokenAmount::new(2 + 2 * 6));
}

#[tokio::test]
async fn an_event_larger_than_the_increment_passes() {
    let world = World::new().await;
    let done = world.chat(json!({"tokens": 30, "jumbo": true})).await.unwrap();
    assert_eq!(done.completion.usage().output, count(30));
    world.assert_settled(1).await;
}

#[tokio::test]
async fn what_the_backend_does_not_count_is_counted() {
    let world = World::new().await;
    let done = world.chat(json!({"tokens": 20, "silent_usage": true})).await.unwrap();
    assert_eq!(done.completion.usage().output, count(20));
    world.assert_settled(1).await;
}

#[tokio::test]
async fn an_executor_that_drains_bills_what_it_delivered() {
    let world = World::new().await;
    world.server.gate.add_permits(3);
    let mut chat = world.client.chat(world.request(json!({"tokens": 100, "gated": true})));
    loop {
        if let ChatEvent::Chunk { usage, .. } = chat.next().await.unwrap().unwrap()
            && usage.output == count(3)
        {
            break;
        }
    }
    world.executor.drain();
    let done = finish(chat).await.unwrap();
    assert_eq!(done.completion.ending, Ending::ShuttingDown);
    assert_eq!(done.completion.usage().output, count(3));
    world.assert_settled(1).await;
    assert!(world.chat(json!({})).await.is_err());
}
