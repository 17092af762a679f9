//! Either side goes away and comes back: nothing that was durably authorized is lost, nothing is paid twice.

use std::time::Duration;

use futures::StreamExt;
use lloom_ledger::{AcceptRequest, Budget, ExposurePolicy, Ledger, OwnRequest, StoreUrl};
use lloom_node::{
    client::{ChatError, ChatEvent},
    wire::{ClientFrame, Ending, ExecutorFrame, Refusal, State},
};
use lloom_receipts::{Receipt, ReceiptHead, TokenAmount, Usage, Verifier};
use serde_json::json;

use crate::world::{DEPOSIT, INCREMENT, World, count, eventually, finish, now, read_until, state};

#[tokio::test]
async fn a_client_that_vanishes_is_billed_and_pays_when_it_returns() {
    let world = World::new().await;
    let mut wire = world.dial();
    world.server.gate.add_permits(6);
    // A client that leaves in mid-answer: by hand, with a request that its ledger knows.
    let mut chat = world.client.chat(world.request(json!({"tokens": 90, "gated": true})));
    read_until(&mut chat, count(6)).await;
    world.cable.hang_up();
    assert!(matches!(
        chat.next().await.unwrap(),
        Err(ChatError::Ended { .. } | ChatError::Wire(_))
    ));
    eventually("the executor bills what it delivered", || async {
        world.executor_ledger.unlinked_bills(world.channel).await.unwrap().len() == 1
    })
    .await;
    let bill = *world.executor_ledger.unlinked_bills(world.channel).await.unwrap()[0].bill();
    assert_eq!(bill.usage.output, count(6));

    // A stranger learns nothing of it, the payer everything.
    let state = state(&mut wire, world.channel).await;
    assert_eq!(*state.unlinked[0].document(), bill);
    let report = world.client.sync(world.channel, world.peer()).await.unwrap();
    assert_eq!((report.linked, report.unjustified), (1, 0));
    assert_eq!(world.assert_settled(1).await, bill.amount);
    world.chat(json!({"tokens": 3})).await.unwrap();
    world.assert_settled(2).await;
}

#[tokio::test]
async fn the_next_chat_of_a_client_that_vanished_links_what_is_left() {
    let world = World::new().await;
    world.server.gate.add_permits(6);
    let mut chat = world.client.chat(world.request(json!({"tokens": 90, "gated": true})));
    read_until(&mut chat, count(6)).await;
    world.cable.hang_up();
    assert!(chat.next().await.unwrap().is_err());
    eventually("the executor bills what it delivered", || async {
        world.executor_ledger.unlinked_bills(world.channel).await.unwrap().len() == 1
    })
    .await;
    world.chat(json!({"tokens": 3})).await.unwrap();
    world.assert_settled(2).await;
}

#[tokio::test]
async fn an_executor_that_crashed_bills_only_what_was_acknowledged() {
    let mut world = World::new().await;
    world.server.gate.add_permits(7);
    let mut chat = world.client.chat(world.request(json!({"tokens": 90, "gated": true})));
    read_until(&mut chat, count(7)).await;
    // At half an increment the client acknowledges; what came after that is the executor's loss.
    let acknowledged = count(INCREMENT / 2);
    eventually("the acknowledgement is recorded", || async {
        let interrupted = world.executor_ledger.interrupted_requests().await.unwrap();
        interrupted[0]
            .acknowledged
            .is_some_and(|progress| progress.usage.output >= acknowledged)
    })
    .await;
    world.restart_executor().await;
    assert!(chat.next().await.unwrap().is_err());
    let progress = world.executor_ledger.interrupted_requests().await.unwrap()[0]
        .acknowledged
        .unwrap();
    assert_eq!(world.executor.recover().await.unwrap(), 1);
    assert_eq!(world.executor.recover().await.unwrap(), 0, "once");
    let bill = *world.executor_ledger.unlinked_bills(world.channel).await.unwrap()[0].bill();
    assert_eq!(bill.usage, progress.usage);
    assert_eq!(bill.response_hash, progress.response_hash);

    world.chat(json!({"tokens": 3})).await.unwrap();
    world.assert_settled(2).await;
}

/// A database comes back from a dump, and the home without its witness: what was open then may be billed.
#[tokio::test]
async fn an_executor_whose_home_lost_its_witness_bills_nothing_again() {
    let server = lloom_postgres::Server::start().unwrap();
    let mut world = World::new().await;
    let accepted = AcceptRequest {
        request: world.sign_request(7, &world.body(&json!({"tokens": 3})), |_| {}),
        content_salt: world.salt(),
        voucher: None,
        reserve: TokenAmount::ZERO,
        exposure: ExposurePolicy::default(),
        now: now(),
    };
    world.executor_ledger.accept_request(accepted).await.unwrap();
    let deployment = *world.executor_ledger.deployment();
    world.stop_executor().await;
    let home = |name: &str| StoreUrl::parse(&server.url("postgres"), &world.directory.path().join(name)).unwrap();
    let (lost, fresh) = (home("lost"), home("fresh"));
    for name in ["lost", "fresh"] {
        std::fs::create_dir(world.directory.path().join(name)).unwrap();
    }
    let file = StoreUrl::file(&world.directory.path().join("executor.db"));
    Ledger::move_store(&file, &lost).await.unwrap();

    let ledger = Ledger::open(fresh, &deployment).await.unwrap();
    assert_eq!(ledger.interrupted_requests().await.unwrap().len(), 1);
    world.start_executor_on(ledger);
    assert_eq!(world.executor.recover().await.unwrap(), 0);
    assert!(world.executor_ledger.restored_at().await.unwrap().is_some());
    assert!(world.executor_ledger.interrupted_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_executor_that_crashed_before_any_acknowledgement_bills_nothing() {
    let mut world = World::new().await;
    let mut chat = world.client.chat(world.request(json!({"tokens": 90, "gated": true})));
    assert!(matches!(
        chat.next().await.unwrap().unwrap(),
        ChatEvent::Accepted { .. }
    ));
    world.restart_executor().await;
    assert!(chat.next().await.unwrap().is_err());
    assert_eq!(world.executor.recover().await.unwrap(), 1);
    world.chat(json!({"tokens": 3})).await.unwrap();
    let amount = world.assert_settled(2).await;
    assert_eq!(amount, TokenAmount::new(7 + 2 * 3));
}

#[tokio::test]
async fn a_client_that_restarts_in_mid_answer_goes_on() {
    let mut world = World::new().await;
    world.server.gate.add_permits(6);
    let mut chat = world.client.chat(world.request(json!({"tokens": 90, "gated": true})));
    read_until(&mut chat, count(6)).await;
    world.cable.hang_up();
    world.restart_client().await;
    eventually("the executor bills what it delivered", || async {
        world.executor_ledger.unlinked_bills(world.channel).await.unwrap().len() == 1
    })
    .await;
    world.chat(json!({"tokens": 3})).await.unwrap();
    world.assert_settled(2).await;
}

#[tokio::test]
async fn a_receipt_that_was_never_confirmed_is_sent_again() {
    let mut world = World::new().await;
    // The executor dies when it has sent its bill: the receipt is durable here, and went nowhere.
    let done = {
        let proxy = world.cable.clone();
        proxy.cut_after(|frame| matches!(frame, ClientFrame::Receipt { .. }));
        let done = world.chat(json!({"tokens": 3})).await.unwrap();
        proxy.cut_after(|_| false);
        done
    };
    assert!(!done.completion.recorded);
    assert_eq!(
        world
            .client_ledger
            .unconfirmed_receipts(world.channel)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(world.executor_ledger.head(world.channel).await.unwrap().sequence, 0);
    world.restart_client().await;
    world.restart_executor().await;
    world.executor.recover().await.unwrap();
    world.chat(json!({"tokens": 4})).await.unwrap();
    world.assert_settled(2).await;
    eventually("the receipts are confirmed", || async {
        world
            .client_ledger
            .unconfirmed_receipts(world.channel)
            .await
            .unwrap()
            .is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_client_restored_from_a_backup_adopts_the_newer_head() {
    let mut world = World::new().await;
    world.chat(json!({"tokens": 3})).await.unwrap();
    // The copy knows one receipt.
    world.stop_client().await;
    let backup = world.back_up("client");
    world.start_client().await;
    for tokens in [4, 5] {
        world.chat(json!({"tokens": tokens})).await.unwrap();
    }
    let spent = world.assert_settled(3).await;
    world.restore_client(backup).await;
    assert_eq!(world.client_ledger.head(world.channel).await.unwrap().sequence, 1);

    let done = world.chat(json!({"tokens": 6})).await.unwrap();
    assert_eq!(done.completion.receipt.receipt().sequence, 4);
    let total = world.assert_settled(4).await;
    assert_eq!(
        total.base_units(),
        spent.base_units() + done.completion.amount().base_units()
    );
}

/// A copy made while a request was under way doesn't know that its bill was linked since. An executor that offers that
/// bill again, behind the true head, must not be paid twice: also not by leaving out what lies between the heads.
#[tokio::test]
async fn a_restored_client_links_no_bill_twice() {
    let mut world = World::new().await;
    world.chat(json!({"tokens": 3})).await.unwrap();
    let (paid, backup) = futures::join!(world.chat(json!({"tokens": 6, "gated": true})), async {
        eventually("the request is taken on", || async { world.executor.running() == 1 }).await;
        let backup = world.back_up("client");
        world.server.gate.add_permits(6);
        backup
    });
    let paid = paid.unwrap().completion.receipt;
    world.chat(json!({"tokens": 4})).await.unwrap();
    let spent = world.assert_settled(3).await;
    world.restore_client(backup).await;
    let unbilled = world.client_ledger.unbilled_requests(world.channel).await.unwrap();
    assert_eq!(unbilled[0].request.document().hash(), paid.receipt().bill.request);

    let chain = world.executor_ledger.receipts(world.channel, 2, 10).await.unwrap();
    let chain: Vec<Receipt> = chain.into_iter().map(Receipt::into_unverified).collect();
    let again = world
        .operator
        .sign(&world.domain, paid.receipt().bill)
        .into_unverified();
    for shown in [&chain[2..], &chain[1..], &chain[..]] {
        let (channel, head, receipts) = (world.channel, chain.last().cloned(), shown.to_vec());
        let again = again.clone();
        world.cable.impersonate(move |mut wire| {
            let state = State {
                channel,
                head: head.clone(),
                receipts: receipts.clone(),
                unlinked: vec![again.clone()],
                authorized: spent,
                spent,
                deposit: DEPOSIT,
            };
            async move {
                while let Some(frame) = wire.next().await {
                    if let ClientFrame::Sync { .. } = frame {
                        wire.send(ExecutorFrame::State(Box::new(state.clone()))).await;
                    }
                }
            }
        });
        let synced = world.client.sync(world.channel, world.peer()).await;
        let head = world.client_ledger.head(world.channel).await.unwrap();
        if shown.len() == chain.len() {
            let report = synced.unwrap();
            assert_eq!((report.adopted, report.linked, report.unjustified), (true, 0, 1));
            assert_eq!((head.sequence, head.amount), (3, spent));
        } else {
            assert!(synced.is_err(), "{synced:?}");
            assert_eq!(head.sequence, 1);
        }
    }
}

/// The files of a store, as they are found.
type Backup = [(String, Option<Vec<u8>>); 2];

impl World {
    fn back_up(&self, name: &str) -> Backup {
        [format!("{name}.db"), format!("{name}.db-wal")].map(|file| {
            let content = std::fs::read(self.directory.path().join(&file)).ok();
            (file, content)
        })
    }

    fn put_back(&self, name: &str, backup: Backup) {
        let directory = self.directory.path();
        let _ = std::fs::remove_file(directory.join(format!("{name}.db-shm")));
        for (file, content) in backup {
            match content {
                Some(content) => std::fs::write(directory.join(file), content).unwrap(),
                None => drop(std::fs::remove_file(directory.join(file))),
            }
        }
    }

    async fn restore_client(&mut self, backup: Backup) {
        self.stop_client().await;
        self.put_back("client", backup);
        self.start_client().await;
    }
}

/// Has a client ask for an event that overshoots, and vanish with it.
async fn vanish_with_what_overshot(world: &World) {
    let infer = world
        .infer(1, json!({"tokens": 100, "jumbo": true, "end": "hang"}))
        .await;
    let asked = infer.request.clone();
    let request = asked.verify(&world.domain, &Verifier::default(), world.payer.address());
    let authorized = TokenAmount::new(500 + 2 * u128::from(INCREMENT));
    let begun = OwnRequest {
        request: request.unwrap(),
        content_salt: world.salt(),
        voucher: Some(world.voucher(authorized.base_units())),
        authorized,
        budget: Budget::UNLIMITED,
        now: now(),
    };
    world.client_ledger.begin_request(begun).await.unwrap();
    let mut wire = world.dial();
    wire.send(ClientFrame::Infer(Box::new(infer))).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    match wire.next().await {
        ExecutorFrame::Chunk { usage, .. } => assert_eq!(usage.output, count(500 / 16)),
        other => panic!("unexpected: {other:?}"),
    }
    drop(wire);
    eventually("the answer is billed", || async {
        world.executor_ledger.unlinked_bills(world.channel).await.unwrap().len() == 1
    })
    .await;
}

/// An event that overshoots comes before it is paid for. Its client may vanish with it, and pays when it returns: or the
/// bill would stand in the way of all that it asks later.
#[tokio::test]
async fn an_event_that_overshot_is_paid_by_a_client_that_comes_back() {
    let world = World::new().await;
    vanish_with_what_overshot(&world).await;
    let report = world.client.sync(world.channel, world.peer()).await.unwrap();
    assert_eq!((report.linked, report.unjustified), (1, 0));
    world.chat(json!({"tokens": 3})).await.unwrap();
    world.assert_settled(2).await;
}

/// The executor lists its bill as without a receipt, until it is told of that.
#[tokio::test]
async fn a_client_that_died_before_it_sent_a_receipt_blames_nobody() {
    let mut world = World::new().await;
    vanish_with_what_overshot(&world).await;
    let bill = *world.executor_ledger.unlinked_bills(world.channel).await.unwrap()[0].bill();
    let receipt = ReceiptHead::empty(world.channel).link(bill).unwrap();
    let signed = world.payer.sign(&world.domain, receipt);
    let receipt = Receipt::join(signed, &world.operator.sign(&world.domain, bill)).unwrap();
    let linked = world.client_ledger.link(receipt, None, Budget::UNLIMITED, now());
    linked.await.unwrap();

    world.restart_client().await;
    let report = world.client.sync(world.channel, world.peer()).await.unwrap();
    assert_eq!((report.resent, report.linked, report.unjustified), (1, 0, 0));
    let quality = world.client_ledger.quality(world.operator.address()).await.unwrap();
    assert_eq!(quality.observations, 0);
    world.assert_settled(1).await;
}

/// What it signed is still owed: its client has both signatures.
#[tokio::test]
async fn an_executor_restored_from_a_backup_takes_its_bills_back() {
    let mut world = World::new().await;
    world.chat(json!({"tokens": 3})).await.unwrap();
    world.stop_executor().await;
    let backup = world.back_up("executor");
    world.start_executor().await;
    world.chat(json!({"tokens": 4})).await.unwrap();
    world.chat(json!({"tokens": 5})).await.unwrap();
    let owed = world.assert_settled(3).await;
    world.stop_executor().await;
    world.put_back("executor", backup);
    world.start_executor().await;
    assert_eq!(world.executor_ledger.head(world.channel).await.unwrap().sequence, 1);

    world.restart_client().await;
    let report = world.client.sync(world.channel, world.peer()).await.unwrap();
    assert_eq!((report.resent, report.adopted), (2, false));
    assert_eq!(world.assert_settled(3).await, owed);
    let account = world.executor_ledger.account(world.channel).await.unwrap();
    assert_eq!((account.spent, account.billed, account.linked), (owed, owed, owed));
    // With them comes the newest voucher: a tower claims by nothing else.
    let claimable = world.executor_ledger.claimable_channel(world.channel).await.unwrap();
    let newest = world.client_ledger.newest_voucher(world.channel).await.unwrap();
    assert!(newest.is_some());
    assert_eq!(claimable.unwrap().voucher, newest);
    // New requests wait until no old one can be meant.
    let refused = world.chat(json!({"tokens": 6})).await;
    assert!(
        matches!(refused, Err(ChatError::Refused(Refusal::RestoredTooRecently { .. }))),
        "{refused:?}"
    );
}

/// A whole disk that is put back has nothing on it that tells; the first client that comes back does.
#[tokio::test]
async fn a_client_proves_to_an_executor_that_its_store_is_an_old_copy() {
    let mut world = World::new().await;
    world.chat(json!({"tokens": 3})).await.unwrap();
    world.stop_executor().await;
    let backup = world.back_up("executor");
    world.start_executor().await;
    // What is on record proves nothing.
    world.restart_client().await;
    world.client.sync(world.channel, world.peer()).await.unwrap();
    world.chat(json!({"tokens": 4})).await.unwrap();
    assert_eq!(world.executor_ledger.restored_at().await.unwrap(), None);
    world.chat(json!({"tokens": 5})).await.unwrap();
    let owed = world.assert_settled(3).await;
    world.stop_executor().await;
    world.put_back("executor", backup);
    // Missing, the lock file would tell; emptied, it knows nothing, as the one of that time.
    std::fs::write(world.directory.path().join("executor.db.lock"), "").unwrap();
    world.start_executor().await;
    assert_eq!(
        world.executor_ledger.restored_at().await.unwrap(),
        None,
        "nothing tells so far"
    );

    world.restart_client().await;
    world.client.sync(world.channel, world.peer()).await.unwrap();
    assert_eq!(world.assert_settled(3).await, owed);
    assert!(world.executor_ledger.restored_at().await.unwrap().is_some());
    let refused = world.chat(json!({"tokens": 6})).await;
    assert!(
        matches!(refused, Err(ChatError::Refused(Refusal::RestoredTooRecently { .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_client_whose_receipt_does_not_extend_the_head_goes_on_from_the_one_it_is_told() {
    let world = World::new().await;
    world.chat(json!({"tokens": 3})).await.unwrap();
    // Another copy of this client, with the same key and a store of its own, that is up to date so far.
    let copy = world.another_client("copy").await;
    copy.sync(world.channel, world.peer()).await.unwrap();
    for gap in [1, 3] {
        for _ in 0..gap {
            world.chat(json!({"tokens": 4})).await.unwrap();
        }
        let before = world.executor_ledger.head(world.channel).await.unwrap();
        let done = finish(copy.chat(world.request(json!({"tokens": 5})))).await.unwrap();
        assert!(done.completion.recorded);
        let receipt = *done.completion.receipt.receipt();
        assert_eq!(receipt.previous, before.hash);
        assert_eq!(receipt.bill.amount, TokenAmount::new(7 + 2 * 5));
        let account = world.executor_ledger.account(world.channel).await.unwrap();
        assert_eq!(account.spent, account.linked, "every bill is linked");
        // The first one is behind now, and goes on likewise.
        let done = world.chat(json!({"tokens": 6})).await.unwrap();
        assert_eq!(done.completion.receipt.receipt().previous, receipt.hash());
        copy.sync(world.channel, world.peer()).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_without_its_voucher_ends_and_is_billed() {
    let world = World::with(|executor, _, _| executor.voucher_timeout = Duration::from_millis(100)).await;
    let mut wire = world.dial();
    let request = world.infer(1, json!({"tokens": 50})).await;
    wire.send(ClientFrame::Infer(Box::new(request))).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    let mut last = Usage::default();
    let mut asked = false;
    loop {
        match wire.next().await {
            ExecutorFrame::Chunk { usage, .. } => last = usage,
            ExecutorFrame::NeedVoucher { required, .. } => {
                asked = true;
                assert!(last.output <= count(INCREMENT));
                assert_eq!(required, TokenAmount::new(500 + 2 * (u128::from(INCREMENT) + 1)));
            }
            ExecutorFrame::Bill { bill, ending } => {
                assert!(asked);
                assert_eq!(ending, Ending::Unpaid);
                assert_eq!(bill.document().usage, last);
                assert_eq!(last.output, count(INCREMENT));
                break;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    // What is billed and not linked counts: the next request has to cover it, too.
    let mut next = world.infer(2, json!({})).await;
    next.voucher = None;
    wire.send(ClientFrame::Infer(Box::new(next))).await;
    assert!(matches!(
        wire.next().await,
        ExecutorFrame::Refused(Refusal::Uncovered { .. })
    ));
}

#[tokio::test]
async fn a_voucher_on_one_stream_moves_another() {
    let world = World::new().await;
    let mut starving = world.dial();
    let mut paying = world.dial();
    let request = world.infer(1, json!({"tokens": 10})).await;
    starving.send(ClientFrame::Infer(Box::new(request))).await;
    assert_eq!(starving.next().await, ExecutorFrame::Accepted);
    let (mut received_bytes, mut received) = (0, Usage::default());
    loop {
        match starving.next().await {
            ExecutorFrame::Chunk { data, usage } => {
                received_bytes += data.len() as u64;
                received = usage;
            }
            // What came is acknowledged here, and the voucher that pays for more goes out elsewhere.
            ExecutorFrame::NeedVoucher { required, .. } if received_bytes > 0 => {
                let acknowledged = |voucher| ClientFrame::Voucher {
                    voucher,
                    received_bytes,
                    received,
                };
                starving.send(acknowledged(None)).await;
                paying
                    .send(ClientFrame::Voucher {
                        voucher: Some(
                            world
                                .voucher(required.base_units() + 2 * u128::from(INCREMENT))
                                .into_unverified(),
                        ),
                        received_bytes: 0,
                        received: Usage::default(),
                    })
                    .await;
                break;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    loop {
        if let ExecutorFrame::Bill { bill, ending } = starving.next().await {
            assert_eq!(ending, Ending::Complete);
            assert_eq!(bill.document().usage.output, count(10));
            let head = ReceiptHead::empty(world.channel).link(*bill.document()).unwrap();
            let linked = world.payer.sign(&world.domain, head);
            let receipt = Box::new(Receipt::new(head, *linked.signature(), *bill.signature()));
            starving.send(ClientFrame::Receipt { receipt, voucher: None }).await;
            break;
        }
    }
    assert_eq!(starving.next().await, ExecutorFrame::Recorded { sequence: 1 });
}

#[tokio::test]
async fn a_stalled_stream_takes_nothing_of_what_covers_the_next_request() {
    let world = World::new().await;
    let (mut stalled, mut next) = (world.dial(), world.dial());
    let request = world.infer(1, json!({"tokens": 50})).await;
    stalled.send(ClientFrame::Infer(Box::new(request))).await;
    loop {
        if let ExecutorFrame::NeedVoucher { .. } = stalled.next().await {
            break;
        }
    }
    // One more request fits this voucher, while nothing of the first is acknowledged.
    let first = 500 + 2 * u128::from(INCREMENT);
    next.send(ClientFrame::Voucher {
        voucher: Some(world.voucher(2 * first).into_unverified()),
        received_bytes: 0,
        received: Usage::default(),
    })
    .await;
    let mut request = world.infer(2, json!({"tokens": 5})).await;
    request.voucher = None;
    next.send(ClientFrame::Infer(Box::new(request))).await;
    assert_eq!(next.next().await, ExecutorFrame::Accepted);
}

#[tokio::test]
async fn acknowledging_without_a_voucher_buys_nothing() {
    let world = World::with(|executor, _, _| executor.voucher_timeout = Duration::from_millis(300)).await;
    let mut wire = world.dial();
    let request = world.infer(1, json!({"tokens": 390})).await;
    wire.send(ClientFrame::Infer(Box::new(request))).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    let mut received_bytes = 0;
    let billed = loop {
        match wire.next().await {
            ExecutorFrame::Chunk { usage, data } => {
                received_bytes += data.len() as u64;
                wire.send(ClientFrame::Voucher {
                    voucher: None,
                    received_bytes,
                    received: usage,
                })
                .await;
            }
            ExecutorFrame::NeedVoucher { .. } => {}
            ExecutorFrame::Bill { bill, .. } => break bill.document().usage,
            other => panic!("unexpected: {other:?}"),
        }
    };
    assert!(billed.output.get() <= INCREMENT, "served {billed:?} on one increment");
}
