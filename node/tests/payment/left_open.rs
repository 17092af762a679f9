//! Requests of other operators on the executor's store: a key that the home had before, or another node.

use std::time::Duration;

use alloy::primitives::Address;
use futures::StreamExt;
use lloom_ledger::{AcceptRequest, ChainEventKind, ExposurePolicy, Progress};
use lloom_node::client::{ChatError, ChatEvent};
use lloom_receipts::{ContentHash, Keypair, TokenAmount, Usage, UsageBill};
use serde_json::json;

use crate::world::{INCREMENT, World, apply, count, eventually, now, read_until, state};

/// A request of the key that this home had before, or of another node, that was begun and acknowledged `ago`.
async fn leave_open(world: &World, nonce: u64, former: Address, ago: Duration) -> Progress {
    let request = world.sign_request(nonce, &world.body(&json!({"tokens": 3})), |request| {
        request.operator = former;
        request.deadline = now().minus(ago);
    });
    let progress = Progress {
        request: request.document().hash(),
        usage: Usage {
            input: count(7),
            output: count(u32::try_from(nonce).unwrap()),
        },
        response_hash: ContentHash::of(world.salt(), b"acknowledged"),
    };
    let accepted = AcceptRequest {
        request,
        content_salt: world.salt(),
        voucher: Some(world.voucher(1_000 * u128::from(nonce))),
        reserve: TokenAmount::new(500),
        exposure: ExposurePolicy::default(),
        now: now().minus(ago),
    };
    world.executor_ledger.accept_request(accepted).await.unwrap();
    world.executor_ledger.acknowledge(progress, None).await.unwrap();
    progress
}

fn former() -> Keypair {
    Keypair::from_secret([0x77; 32]).unwrap()
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn what_another_node_of_the_store_serves_is_not_billed_for_it() {
    let world = World::new().await;
    leave_open(&world, 1, former().address(), HOUR).await;
    assert_eq!(world.executor.recover().await.unwrap(), 0);
    assert_eq!(world.executor.bill_left_open().await.unwrap(), 0);
    assert_eq!(world.executor_ledger.interrupted_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_former_key_left_open_is_billed_when_nobody_can_be_answering_it() {
    let world = World::new().await;
    let left = leave_open(&world, 1, former().address(), 2 * HOUR).await;
    let newer = leave_open(&world, 2, former().address(), HOUR).await;
    assert_eq!(world.executor.recover().await.unwrap(), 0);
    assert_eq!(world.executor.bill_left_open().await.unwrap(), 1);
    assert_eq!(world.executor.bill_left_open().await.unwrap(), 0, "once");
    let bills = world.executor_ledger.unlinked_bills(world.channel).await.unwrap();
    let bill = *bills[0].bill();
    assert_eq!((bill.request, bill.usage), (left.request, left.usage));
    assert_eq!(bill.response_hash, left.response_hash);
    assert_eq!((bills.len(), bills[0].operator()), (1, Some(former().address())));
    let claimable = world.executor_ledger.claimable_channel(world.channel).await.unwrap();
    assert_eq!(claimable.unwrap().amount(), bill.amount, "the voucher pays for it");

    // Once its payer leaves, the other can't be answered any longer either, and there is no time to lose.
    let requested_at = now().minus(HOUR / 2);
    let asked = ChainEventKind::CloseRequested {
        channel: world.channel,
        requested_at,
    };
    apply(&world.executor_ledger, 2, vec![asked], 2).await;
    assert_eq!(world.executor.bill_left_open().await.unwrap(), 1);
    let account = world.executor_ledger.account(world.channel).await.unwrap();
    assert_eq!(
        account.spent, account.billed,
        "nothing keeps the channel from being closed"
    );
    let bills = world.executor_ledger.unlinked_bills(world.channel).await.unwrap();
    assert!(bills.iter().any(|bill| bill.bill().request == newer.request));
}

#[tokio::test]
async fn a_bill_is_signed_by_the_operator_of_its_request_alone() {
    let world = World::new().await;
    leave_open(&world, 1, former().address(), 2 * HOUR).await;
    let own = leave_open(&world, 2, world.operator.address(), 2 * HOUR).await;
    assert_eq!(world.executor.recover().await.unwrap(), 1);
    assert_eq!(world.executor.bill_left_open().await.unwrap(), 1);
    let mut wire = world.dial();
    let state = state(&mut wire, world.channel).await;
    let handed_out: Vec<_> = state.unlinked.iter().map(|bill| bill.document().request).collect();
    assert_eq!(handed_out, [own.request]);
}

#[tokio::test]
async fn a_live_node_signs_no_other_bill_than_another_of_its_store_has_committed() {
    let world = World::new().await;
    world.server.gate.add_permits(7);
    let mut chat = world.client.chat(world.request(json!({"tokens": 90, "gated": true})));
    read_until(&mut chat, count(7)).await;
    let acknowledged = count(INCREMENT / 2);
    let progress = || async {
        let interrupted = world.executor_ledger.interrupted_requests().await.unwrap();
        interrupted[0].acknowledged
    };
    eventually("the acknowledgement is recorded", || async {
        progress()
            .await
            .is_some_and(|progress| progress.usage.output >= acknowledged)
    })
    .await;
    let interrupted = world.executor_ledger.interrupted_requests().await.unwrap();
    let request = interrupted[0].request.document();
    let progress = interrupted[0].acknowledged.unwrap();
    let bill = UsageBill::for_request(request, progress.usage, progress.response_hash, now().minus(HOUR)).unwrap();
    world.executor_ledger.commit_bill(bill).await.unwrap();

    // It goes on until it needs the next increment, which a billed request doesn't get. To its client, who heard more than
    // it is billed, it is like an answer that broke off.
    world.server.gate.add_permits(90);
    let ended = loop {
        match chat.next().await.unwrap() {
            Ok(ChatEvent::Completed(completion)) => panic!("it ended with {completion:?}"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, ChatError::Refused(_)), "{ended:?}");
    let report = world.client.sync(world.channel, world.peer()).await.unwrap();
    assert_eq!((report.linked, report.unjustified), (1, 0));
    assert_eq!(world.assert_settled(1).await, bill.amount);
    let head = world
        .executor_ledger
        .head_receipt(world.channel)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.receipt().bill, bill);
}
