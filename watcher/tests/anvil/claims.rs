use std::{sync::atomic::Ordering, time::Duration};

use alloy::{
    primitives::{Address, U256},
    sol_types::{SolCall as _, SolEvent as _},
};
use lloom_bindings::{ChannelEscrow, channel_escrow::IChannelEscrow};
use lloom_ledger::{ClaimBy, Resolution};
use lloom_receipts::{Keypair, TokenAmount, TokenTotal};
use lloom_watcher::{
    Call, Chain as _, ClaimFilter, CloseError, HandleError, Publish, StateAt, Watcher, WatcherConfig, WatcherError,
    WhyNot, WhyNow,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    devnet::{chain_at, until},
    executor::{CONFIRMATIONS, DEPOSIT, Executor},
    faulty_chain::FaultyChain,
};

#[tokio::test]
async fn many_channels_are_paid_by_one_transaction_what_was_billed_and_no_more() {
    let executor = Executor::new().await;
    let running = executor.start(executor.config());
    let channels = executor.open_channels(&running, 1..=5).await;
    for (index, channel) in channels.iter().enumerate() {
        executor.serve(channel, 100 + index as u32, 50).await;
    }

    let ordered = running.handle.claim_now(ClaimFilter::default());
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert_eq!(report.transactions.len(), 1);
    assert_eq!(report.transactions[0].rows, 5);
    assert_eq!(report.transactions[0].by, ClaimBy::Vouchers);
    assert!(report.transactions[0].mined.unwrap().succeeded);
    assert!(report.rows.iter().all(|row| row.is_reached()));
    assert_eq!(executor.operator_nonce().await, 1);
    for (index, channel) in channels.iter().enumerate() {
        assert_eq!(executor.settled(channel).await, 100 + index as u128);
    }
    assert_eq!(executor.payee_balance().await, 510);

    // Nothing is left: the next order sends nothing.
    let again = running.handle.claim_now(ClaimFilter::default()).await.unwrap();
    assert!(again.transactions.is_empty());
    assert_eq!(executor.operator_nonce().await, 1);
}

#[tokio::test]
async fn a_claim_by_receipts_publishes_what_was_used() {
    let executor = Executor::new().await;
    let running = executor.start(executor.publishing(Publish::Receipts));
    let channels = executor.open_channels(&running, 1..=2).await;
    for channel in &channels {
        for tokens in [30, 12] {
            let bill = executor.serve(channel, tokens, 0).await;
            executor.link(channel, bill).await;
        }
    }
    let ordered = running.handle.claim_now(ClaimFilter::default());
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert_eq!(report.transactions.len(), 1);
    assert_eq!(report.transactions[0].by, ClaimBy::Receipts);
    assert_eq!(executor.payee_balance().await, 84);
    for channel in &channels {
        let published = executor.ledger.published_usage(channel.id).await.unwrap().unwrap();
        assert_eq!(published.sequence, 2);
        assert_eq!(
            (published.input, published.output),
            (TokenTotal::new(14), TokenTotal::new(42))
        );
        assert_eq!(published.amount, TokenAmount::new(42));
    }
}

#[tokio::test]
async fn a_voucher_that_its_payer_did_not_sign_costs_no_gas_and_sinks_no_other() {
    let executor = Executor::new().await;
    let running = executor.start(executor.config());
    let channels = executor.open_channels(&running, 1..=5).await;
    for (index, channel) in channels.iter().enumerate() {
        if index == 3 {
            executor.serve_on_a_bad_voucher(channel, 100).await;
        } else {
            executor.serve(channel, 100, 0).await;
        }
    }
    let ordered = running.handle.claim_now(ClaimFilter::default());
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert_eq!(report.refused.len(), 1);
    assert_eq!(report.refused[0].channel, channels[3].id);
    assert!(report.refused[0].reason.contains("did not sign"), "{report:?}");
    assert_eq!(report.transactions.len(), 1);
    assert_eq!(report.transactions[0].rows, 4);
    assert_eq!(executor.payee_balance().await, 400);
    assert_eq!(executor.settled(&channels[3]).await, 0);
}

/// Two states can't be compared: what looks bad on one, the other may have settled. And a limit is what was estimated and a
/// margin, but never less than a claim needs.
#[tokio::test]
async fn a_claim_is_tried_and_estimated_on_the_block_that_it_was_planned_on() {
    let executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    let running = executor.start_on(executor.config(), chain.clone());
    let channels = executor.open_channels(&running, 1..=3).await;
    executor.devnet.set_automine(false).await;
    for (overestimates, is_floor) in [(1, true), (3, false)] {
        for channel in &channels {
            executor.serve(channel, 100, 0).await;
        }
        chain.overestimates.store(overestimates, Ordering::Relaxed);
        chain.take_asked();
        let handle = running.handle.clone();
        let ordered = tokio::spawn(async move { handle.claim_now(ClaimFilter::default()).await });
        let mut status = running.handle.status();
        let sent = status.wait_for(|status| status.pending_transactions == 1).await;
        let cursor = sent.unwrap().cursor.unwrap();
        let asked = chain.take_asked();
        let at = StateAt::Block(cursor.hash);
        assert!(
            asked.called_at.len() >= 2 && asked.called_at.iter().all(|found| *found == at),
            "the channels' states and the claim were to be read at {at:?}: {asked:?}"
        );
        assert_eq!((&asked.estimated_at[..], asked.estimates.len()), (&[at][..], 1));
        let estimate = asked.estimates[0];
        let (with_margin, floor) = (estimate + estimate / 4 + 5_000, 60_000 + 3 * 30_000);
        assert_eq!(floor > with_margin, is_floor, "{estimate}");
        let sent = executor.ledger.pending_transactions().await.unwrap().remove(0);
        assert_eq!(sent.gas_limit, with_margin.max(floor));
        let report = executor.devnet.while_mining(ordered).await.unwrap().unwrap();
        assert!(report.rows.iter().all(|row| row.is_reached()), "{report:?}");
    }
}

#[tokio::test]
async fn it_is_fine_when_somebody_else_settles_first() {
    let executor = Executor::new().await;
    let running = executor.start(executor.config());
    let channels = executor.open_channels(&running, 1..=2).await;
    for channel in &channels {
        executor.serve(channel, 100, 0).await;
    }
    executor.devnet.set_automine(false).await;
    let handle = running.handle.clone();
    let ordered = tokio::spawn(async move { handle.claim_now(ClaimFilter::default()).await });
    let mut status = running.handle.status();
    status
        .wait_for(|status| status.pending_transactions == 1)
        .await
        .unwrap();

    // A tower claims the first channel in front of us.
    let (r, vs) = executor.voucher(&channels[0], 100).signature().to_compact();
    let parameters = channels[0].parameters;
    let claim = ChannelEscrow::claimVouchersCall {
        payee: parameters.payee,
        token: parameters.token,
        rows: vec![IChannelEscrow::VoucherRow {
            payer: parameters.payer,
            salt: parameters.salt,
            authorizedSigner: parameters.authorized_signer,
            r,
            vs,
            amounts: (U256::from(100) << 128) | U256::from(100),
        }],
    };
    let fees = json!({ "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0x174876e800", "gas": "0x30d40" });
    let tower = alloy::primitives::Address::repeat_byte(0x77);
    let escrow = executor.devnet.contracts.escrow;
    executor
        .devnet
        .post(tower, escrow, claim.abi_encode().into(), fees)
        .await;

    let report = executor.devnet.while_mining(ordered).await.unwrap().unwrap();
    assert!(report.rows.iter().all(|row| row.is_reached()), "{report:?}");
    assert_eq!(executor.payee_balance().await, 200);
    let hash = report.transactions[0].hash;
    let mined = executor.devnet.chain.transaction_receipt(hash).await.unwrap().unwrap();
    let skipped = |log: &alloy::rpc::types::Log| log.topic0() == Some(&ChannelEscrow::RowSkipped::SIGNATURE_HASH);
    assert_eq!(
        mined.logs.iter().filter(|log| skipped(log)).count(),
        1,
        "the tower was first"
    );
    // That our row was skipped says nothing against the voucher.
    let claimable = executor
        .ledger
        .claimable_channel(channels[0].id)
        .await
        .unwrap()
        .unwrap();
    assert!(claimable.voucher.is_some());
}

#[tokio::test]
async fn a_payer_that_leaves_is_claimed_from_within_the_grace_period() {
    let executor = Executor::new().await;
    let mut config = executor.config();
    config.auto_claim = true;
    config.planner.min_claim = TokenAmount::MAX;
    let running = executor.start(config);
    let channels = executor.open_channels(&running, 1..=2).await;
    executor.serve(&channels[0], 300, 50).await;
    running.handle.synced().await.unwrap();
    let plan = running.handle.plan(ClaimFilter::default()).await.unwrap();
    assert!(plan.claims.is_empty());
    assert!(matches!(plan.waiting[0].why, WhyNot::NotWorthwhile { .. }));

    let payer = channels[0].parameters.payer;
    let escrow = executor.devnet.contracts.escrow;
    let request = ChannelEscrow::requestCloseCall {
        channelId: channels[0].id.hash(),
    };
    executor
        .devnet
        .send_call(payer, &Call::contract(escrow, &request))
        .await;
    running.handle.synced().await.unwrap();
    // Seen at the head, long before it is final.
    let obligations = executor.ledger.obligations().await.unwrap();
    assert_eq!(obligations.len(), 1);
    assert_eq!(executor.operator_nonce().await, 0, "the margin has not begun");

    executor.devnet.leap(Duration::from_secs(31 * 60)).await;
    let met = async {
        until("the obligation is met", || async {
            executor.ledger.obligations().await.unwrap().is_empty()
        })
        .await;
    };
    executor.devnet.while_mining(met).await;
    assert_eq!(executor.settled(&channels[0]).await, 300);
    let all = executor.ledger.obligations_of(channels[0].id).await.unwrap();
    assert!(matches!(all[0].resolution, Some(Resolution::Claimed { .. })));

    executor.devnet.leap(Duration::from_secs(30 * 60)).await;
    let withdraw = ChannelEscrow::withdrawCall {
        channelId: channels[0].id.hash(),
    };
    executor
        .devnet
        .send_call(payer, &Call::contract(escrow, &withdraw))
        .await;
    assert_eq!(executor.balance(payer).await, DEPOSIT - 300);
    assert_eq!(executor.payee_balance().await, 300);
}

#[tokio::test]
async fn what_is_lost_is_counted() {
    let executor = Executor::new().await;
    let running = executor.start(executor.config());
    let channels = executor.open_channels(&running, 1..=2).await;
    executor.serve(&channels[0], 300, 0).await;
    for channel in &channels {
        executor.request_close(channel).await;
    }
    running.handle.synced().await.unwrap();
    // Nobody orders a claim.
    executor.devnet.leap(Duration::from_secs(61 * 60)).await;
    for channel in &channels {
        let withdraw = ChannelEscrow::withdrawCall {
            channelId: channel.id.hash(),
        };
        let call = Call::contract(executor.devnet.contracts.escrow, &withdraw);
        executor.devnet.send_call(channel.parameters.payer, &call).await;
    }
    let over = until("both are over", || async {
        executor.ledger.obligations().await.unwrap().is_empty()
    });
    executor.devnet.while_mining(over).await;
    running.handle.synced().await.unwrap();
    let mut registry = Registry::default();
    running.handle.metrics().register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    assert!(
        text.contains("\nlost_channels_total 1\n"),
        "one had nothing to lose: {text}"
    );
}

#[tokio::test]
async fn claims_by_itself_what_is_worth_it() {
    let executor = Executor::new().await;
    let mut config = executor.config();
    config.auto_claim = true;
    config.planner.min_claim = TokenAmount::new(250);
    let running = executor.start(config);
    let channels = executor.open_channels(&running, 1..=2).await;
    executor.serve(&channels[0], 200, 0).await;
    running.handle.synced().await.unwrap();
    assert_eq!(executor.operator_nonce().await, 0);

    executor.serve(&channels[1], 50, 0).await;
    let paid = async {
        until("both channels are paid", || async {
            executor.payee_balance().await == 250
        })
        .await;
        running
            .handle
            .status()
            .wait_for(|status| status.pending_transactions == 0)
            .await
            .unwrap();
    };
    executor.devnet.while_mining(paid).await;
    assert_eq!(executor.operator_nonce().await, 1);
    let plan = running.handle.plan(ClaimFilter::default()).await.unwrap();
    assert!(plan.claims.is_empty() && plan.waiting.is_empty());
}

#[tokio::test]
async fn a_plan_says_why() {
    let executor = Executor::new().await;
    let running = executor.start(executor.config());
    let channels = executor.open_channels(&running, 1..=1).await;
    executor.serve(&channels[0], DEPOSIT as u32, 0).await;
    let plan = running.handle.plan(ClaimFilter::default()).await.unwrap();
    assert_eq!(plan.claims[0].rows[0].why, WhyNow::DepositUsed);
    assert_eq!(executor.operator_nonce().await, 0, "a plan sends nothing");
}

#[tokio::test]
async fn a_bill_of_somebody_that_nobody_named_is_told_so() {
    let mut executor = Executor::new().await;
    let running = executor.start(executor.publishing(Publish::Receipts));
    let channels = executor.open_channels(&running, 1..=1).await;
    let named = std::mem::replace(&mut executor.operator, Keypair::from_secret([0x0c; 32]).unwrap());
    let bill = executor.serve(&channels[0], 10, 0).await;
    executor.link(&channels[0], bill).await;
    let report = running.handle.claim_now(ClaimFilter::default()).await.unwrap();
    assert!(report.transactions.is_empty());
    assert!(report.refused[0].reason.contains("operator"), "{report:?}");
    assert_eq!(executor.nonce_of(&named).await, 0);
}

#[tokio::test]
async fn a_removed_operator_claims_by_vouchers_until_it_is_named_again() {
    let executor = Executor::new().await;
    let running = executor.start(executor.publishing(Publish::Receipts));
    let channels = executor.open_channels(&running, 1..=1).await;
    let channel = &channels[0];
    let claimed_by = async |amount| {
        let bill = executor.serve(channel, amount, 0).await;
        executor.link(channel, bill).await;
        let ordered = running.handle.claim_now(ClaimFilter::default());
        let report = executor.devnet.while_mining(ordered).await.unwrap();
        assert!(report.rows[0].is_reached(), "{report:?}");
        report.transactions[0].by
    };
    assert_eq!(claimed_by(10).await, ClaimBy::Receipts);

    executor.dismiss(&executor.operator).await;
    assert_eq!(claimed_by(20).await, ClaimBy::Vouchers);
    let refused = running.handle.close_channel(channel.id).await.unwrap_err();
    assert!(
        matches!(refused, HandleError::Close(CloseError::NotOurs { .. })),
        "{refused}"
    );

    executor.employ(&executor.operator).await;
    assert_eq!(claimed_by(30).await, ClaimBy::Receipts);
    assert_eq!(executor.payee_balance().await, 60);
}

#[tokio::test]
async fn an_endpoint_of_another_chain_stops_the_watcher() {
    let executor = Executor::new().await;
    let wrong = chain_at(std::slice::from_ref(&executor.devnet.url), 8_453);
    let running = executor.start_on(executor.config(), wrong);
    let stopped = running.task.await.unwrap();
    assert!(matches!(stopped, Err(WatcherError::Chain(_))), "{stopped:?}");
    assert!(matches!(running.handle.synced().await, Err(HandleError::Stopped)));
}

#[tokio::test]
async fn another_endpoint_steps_in_for_a_dead_one() {
    let executor = Executor::new().await;
    let dead = String::from("http://127.0.0.1:1");
    let chain = chain_at(&[dead.clone(), executor.devnet.url.clone()], 31_337);
    let running = executor.start_on(executor.config(), chain);
    let head = running.handle.synced().await.unwrap();
    assert_eq!(head.number, executor.devnet.chain.head().await.unwrap().number);
    running.cancel.cancel();
    assert!(running.task.await.unwrap().is_ok());

    // With nobody left to ask, an order is answered, and the watcher goes on trying.
    let running = executor.start_on(executor.config(), chain_at(&[dead], 31_337));
    assert!(matches!(
        running.handle.synced().await,
        Err(HandleError::Unavailable { .. })
    ));
    assert!(running.handle.status().borrow().problem.is_some());
    assert!(!running.task.is_finished());
}

#[tokio::test]
async fn a_reorg_takes_a_claim_back_and_it_is_sent_again() {
    let executor = Executor::new().await;
    let running = executor.start(executor.config());
    let channels = executor.open_channels(&running, 1..=1).await;
    executor.serve(&channels[0], 100, 0).await;
    executor.devnet.mine(5).await;
    let handle = running.handle.clone();
    let ordered = tokio::spawn(async move { handle.claim_now(ClaimFilter::default()).await });
    until("the claim is in a block", || async {
        executor.settled(&channels[0]).await == 100
    })
    .await;
    let id = channels[0].id;
    let latest = || async { executor.ledger.channel(id).await.unwrap().unwrap().latest.unwrap() };
    until("the ledger has seen it", || async {
        latest().await.settled == TokenAmount::new(100)
    })
    .await;

    executor.devnet.set_automine(false).await;
    executor.devnet.rpc("anvil_reorg", json!([CONFIRMATIONS - 1, []])).await;
    assert_eq!(executor.settled(&channels[0]).await, 0, "the reorg took it back");
    until("the ledger has taken it back", || async {
        latest().await.settled == TokenAmount::ZERO
    })
    .await;
    assert!(!ordered.is_finished());

    let report = executor.devnet.while_mining(ordered).await.unwrap().unwrap();
    assert!(report.rows[0].is_reached());
    assert_eq!(executor.payee_balance().await, 100);
    assert_eq!(executor.operator_nonce().await, 1);
}

/// One whose key is nobody's operator, and which is told of another payee.
fn stranger(executor: &Executor) -> (Keypair, WatcherConfig) {
    let mut config = executor.publishing(Publish::Receipts);
    config.payees = vec![(Address::repeat_byte(0x57), executor.devnet.token)];
    config.auto_claim = true;
    (Keypair::from_secret([0x5b; 32]).unwrap(), config)
}

#[tokio::test]
async fn channels_of_a_payee_that_a_home_had_before_are_claimed() {
    let executor = Executor::new().await;
    let mut config = executor.publishing(Publish::ReceiptsOnClose);
    config.payees = vec![(Address::repeat_byte(0x57), executor.devnet.token)];
    let running = executor.start(config);
    let channels = executor.open_channels(&running, 1..=2).await;
    for channel in &channels {
        let bill = executor.serve(channel, 42, 0).await;
        executor.link(channel, bill).await;
    }
    executor.devnet.leap(Duration::from_secs(61)).await;
    let ordered = running.handle.claim_now(ClaimFilter::default());
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert_eq!(report.transactions.len(), 1);
    assert_eq!(executor.payee_balance().await, 84);
    // Its operator also closes them.
    let ordered = running.handle.close_channel(channels[0].id);
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert_eq!(report.settled, TokenAmount::new(42));
}

#[tokio::test]
async fn a_watcher_that_is_no_operator_claims_by_vouchers_what_its_store_serves() {
    let executor = Executor::new().await;
    let running = executor.start(executor.config());
    let channels = executor.open_channels(&running, 1..=1).await;
    let channel = &channels[0];
    let bill = executor.serve(channel, 42, 0).await;
    executor.link(channel, bill).await;
    running.cancel.cancel();
    running.task.await.unwrap().unwrap();

    let (key, config) = stranger(&executor);
    executor.devnet.give_coins(key.address()).await;
    let (watcher, handle) = Watcher::new(config, executor.devnet.chain.clone(), executor.ledger.clone(), key);
    tokio::spawn(watcher.run(CancellationToken::new()));
    executor.request_close(channel).await;
    executor.devnet.mine(CONFIRMATIONS).await;
    handle.synced().await.unwrap();
    let obligations = executor.ledger.obligations().await.unwrap();
    assert_eq!((obligations.len(), obligations[0].channel), (1, channel.id));
    let refused = handle.close_channel(channel.id).await.unwrap_err();
    assert!(
        matches!(refused, HandleError::Close(CloseError::NotOurs { .. })),
        "{refused}"
    );
    // It publishes usage, and can't: before the deadline it takes what it can.
    executor.devnet.leap(Duration::from_secs(40 * 60)).await;
    until("the claim", || async { executor.settled(channel).await == 42 }).await;
    assert_eq!(executor.payee_balance().await, 42);
}
