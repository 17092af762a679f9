//! What is not claimed yet, and why; and what is claimed first when not all of it can be.

use std::{sync::atomic::Ordering, time::Duration};

use alloy::primitives::U256;
use lloom_ledger::{ClaimBy, Purpose};
use lloom_receipts::{BlockNumber, TokenAmount};
use lloom_watcher::{
    Chain as _, ClaimFilter, NothingDue, PlannerPolicy, Publish, Stall, StateAt, Verdict, WatcherConfig, WatcherStatus,
    WhyNot, WhyNow,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

use crate::{
    devnet::until,
    executor::{Executor, Running},
    faulty_chain::{Calls, FaultyChain},
};

/// One that claims by itself, and only what is due.
fn only_what_is_due(executor: &Executor) -> WatcherConfig {
    WatcherConfig {
        auto_claim: true,
        planner: PlannerPolicy {
            min_claim: TokenAmount::MAX,
            ..PlannerPolicy::default()
        },
        ..executor.config()
    }
}

const MARGIN_BEGINS: Duration = Duration::from_secs(30 * 60 + 5);

#[tokio::test]
async fn a_row_that_failed_is_named_waits_and_is_tried_alone_when_it_is_due() {
    let executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    let running = executor.start_on(only_what_is_due(&executor), chain.clone());
    let channels = executor.open_channels(&running, 1..=2).await;
    executor.serve(&channels[0], 60, 0).await;
    executor.serve(&channels[1], 70, 0).await;
    chain.revert(Some(Calls::Naming(channels[0].parameters.salt)));
    for channel in &channels {
        executor.request_close(channel).await;
    }
    executor.devnet.leap(MARGIN_BEGINS).await;
    let mut status = running.handle.status();
    let named = |quarantined: &[lloom_watcher::QuarantinedRow]| {
        quarantined
            .iter()
            .any(|row| row.channel == channels[0].id && row.reason.contains("can't be settled"))
    };
    // The good row is paid, the bad one costs nothing and is named.
    let paid = async || executor.settled(&channels[1]).await == 70;
    executor.devnet.while_mining(until("the good row is paid", paid)).await;
    status.wait_for(|status| named(&status.quarantined)).await.unwrap();
    assert_eq!(executor.operator_nonce().await, 1);
    let stalled = |status: &WatcherStatus| {
        let stall = status.stalled.as_ref();
        stall.is_some_and(|stall| stall.channels == 1 && stall.reason.contains("can't be settled"))
    };
    until("it is said to stand still", async || {
        stalled(&running.handle.status().borrow())
    })
    .await;
    let explained = running.handle.explain(channels[0].id).await.unwrap();
    assert!(explained.failed.unwrap().contains("can't be settled"));
    assert!(matches!(&explained.verdict, Verdict::NotYet(waiting) if matches!(waiting.why, WhyNot::Quarantined(_))));
    status
        .wait_for(|status| status.deferrals.quarantined > 0)
        .await
        .unwrap();

    // Whatever it was is over. The wait is over when a tenth of what was left has passed.
    chain.revert(None);
    executor.devnet.leap(Duration::from_secs(200)).await;
    let paid = async || executor.settled(&channels[0]).await == 60;
    executor
        .devnet
        .while_mining(until("the row is claimed alone", paid))
        .await;
    let released = async || running.handle.status().borrow().quarantined.is_empty();
    executor.devnet.while_mining(until("that is final", released)).await;
    assert_eq!(running.handle.status().borrow().stalled, None);
    let newest = executor.ledger.transactions(1).await.unwrap().remove(0);
    assert!(matches!(newest.purpose, Purpose::Claim { rows, .. } if rows == [(channels[0].id, TokenAmount::new(60))]));
}

#[tokio::test]
async fn a_damaged_voucher_gives_way_to_the_best_that_is_left() {
    let executor = Executor::new().await;
    let running = executor.start(only_what_is_due(&executor));
    let channels = executor.open_channels(&running, 1..=2).await;
    executor.serve(&channels[0], 60, 0).await;
    executor.serve_on_a_bad_voucher(&channels[0], 100).await;
    executor.serve(&channels[1], 70, 0).await;
    for channel in &channels {
        executor.request_close(channel).await;
    }
    executor.devnet.leap(MARGIN_BEGINS).await;
    let paid = async || executor.settled(&channels[0]).await == 60 && executor.settled(&channels[1]).await == 70;
    executor.devnet.while_mining(until("both are paid", paid)).await;
    assert_set_aside(&running, 1, 0);
    assert!(running.handle.status().borrow().quarantined.is_empty());
}

/// That so many were counted.
fn assert_set_aside(running: &Running, vouchers: u32, receipts: u32) {
    let mut registry = Registry::with_prefix("lloom");
    running.handle.metrics().register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for (document, count) in [("voucher", vouchers), ("receipt", receipts)] {
        let line = format!("lloom_unusable_authorizations_total{{document=\"{document}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_damaged_receipt_is_set_aside_before_the_chain_sees_it() {
    let executor = Executor::new().await;
    let mut config = only_what_is_due(&executor);
    config.planner.publish = Publish::Receipts;
    let running = executor.start(config);
    let channels = executor.open_channels(&running, 1..=2).await;
    let bill = executor.serve(&channels[0], 60, 0).await;
    executor.link_badly(&channels[0], bill).await;
    let bill = executor.serve(&channels[1], 70, 0).await;
    executor.link(&channels[1], bill).await;
    for channel in &channels {
        executor.request_close(channel).await;
    }
    executor.devnet.leap(MARGIN_BEGINS).await;
    // The one by its receipt, and the other by what is left, its voucher.
    let paid = async || executor.settled(&channels[0]).await == 60 && executor.settled(&channels[1]).await == 70;
    executor.devnet.while_mining(until("both are paid", paid)).await;
    assert_set_aside(&running, 0, 1);
    for transaction in executor.ledger.transactions(10).await.unwrap() {
        let Purpose::Claim { by, rows } = transaction.purpose else {
            continue;
        };
        let receipts_of = rows
            .iter()
            .filter(|_| by == ClaimBy::Receipts)
            .map(|(channel, _)| *channel);
        assert!(receipts_of.into_iter().all(|channel| channel == channels[1].id));
    }
}

/// Endpoints limit nothing as much as logs.
#[tokio::test]
async fn what_is_due_is_claimed_though_the_chain_gives_no_logs() {
    let mut executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    let running = executor.start_on(only_what_is_due(&executor), chain.clone());
    let channels = executor.open_channels(&running, 1..=2).await;
    executor.serve(&channels[0], 60, 0).await;
    executor.request_close(&channels[0]).await;
    let mut status = running.handle.status();
    let known = status.wait_for(|status| status.next_deadline.is_some());
    executor.devnet.while_mining(known).await.unwrap();

    chain.logs_fail.store(true, Ordering::Relaxed);
    executor.devnet.leap(MARGIN_BEGINS).await;
    let paid = async || executor.settled(&channels[0]).await == 60;
    executor.devnet.while_mining(until("the due one is paid", paid)).await;
    status.wait_for(|status| status.problem.is_some()).await.unwrap();
    // A process that begins in this state knows of the deadline, and that what was sent is under way.
    executor.crash(running).await;
    executor.serve(&channels[1], 70, 0).await;
    let running = executor.start_on(only_what_is_due(&executor), chain.clone());
    executor.request_close(&channels[1]).await;
    let mut status = running.handle.status();
    status.wait_for(|status| status.problem.is_some()).await.unwrap();
    chain.logs_fail.store(false, Ordering::Relaxed);
    let paid = async || executor.settled(&channels[1]).await == 70;
    let leap = async {
        executor.devnet.leap(MARGIN_BEGINS).await;
        until("the other is paid, too", paid).await;
    };
    executor.devnet.while_mining(leap).await;
    assert_eq!(executor.operator_nonce().await, 2);
}

#[tokio::test]
async fn an_endpoint_that_takes_no_large_claim_is_given_small_ones() {
    let executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    let running = executor.start_on(executor.config(), chain.clone());
    let channels = executor.open_channels(&running, 1..=5).await;
    for channel in &channels {
        executor.serve(channel, 60, 0).await;
    }
    // Not for five rows.
    chain.refuse_estimates(Some(Calls::LongerThan(1_000)));
    let handle = running.handle.clone();
    let claiming = async || handle.claim_now(ClaimFilter::default()).await.unwrap();
    let report = executor.devnet.while_mining(claiming()).await;
    assert_eq!(report.failure, None);
    assert_eq!(executor.payee_balance().await, 300);
    assert!(report.transactions.len() > 1);
}

#[tokio::test]
async fn a_row_that_an_endpoint_refuses_keeps_nothing_else_from_being_paid_and_is_no_progress() {
    let executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    let running = executor.start_on(only_what_is_due(&executor), chain.clone());
    let channels = executor.open_channels(&running, 1..=4).await;
    // The one with the most at risk comes first.
    for (channel, amount) in channels.iter().zip([900, 60, 70, 80]) {
        executor.serve(channel, amount, 0).await;
        executor.request_close(channel).await;
    }
    chain.refuse_estimates(Some(Calls::Naming(channels[0].parameters.salt)));
    executor.devnet.leap(MARGIN_BEGINS).await;
    let paid = async || executor.payee_balance().await == 210;
    executor.devnet.while_mining(until("the others are paid", paid)).await;

    // Blocks come in, and no round ends well.
    let mut status = running.handle.status();
    let stands = status
        .wait_for(|status| status.problem.is_some())
        .await
        .unwrap()
        .clone();
    until("the next second", async || {
        executor.ledger.now() > stands.last_progress.unwrap()
    })
    .await;
    let head = stands.head.unwrap().number.get();
    let later = status.wait_for(|status| status.cursor.unwrap().number.get() > head + 3);
    let later = executor.devnet.while_mining(later).await.unwrap().clone();
    assert_eq!(later.last_progress, stands.last_progress);
    assert!(later.problem.unwrap().contains("too large"));

    chain.refuse_estimates(None);
    let paid = async || executor.payee_balance().await == 1_110;
    executor.devnet.while_mining(until("all is paid", paid)).await;
}

#[tokio::test]
async fn not_to_know_what_became_of_one_claim_keeps_no_due_one_from_being_sent() {
    let executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    let running = executor.start_on(only_what_is_due(&executor), chain.clone());
    let channels = executor.open_channels(&running, 1..=2).await;
    chain.receipts_fail.store(true, Ordering::Relaxed);
    for (channel, paid) in channels.iter().zip([60, 120]) {
        executor.serve(channel, 60, 0).await;
        executor.request_close(channel).await;
        executor.devnet.leap(MARGIN_BEGINS).await;
        let is_paid = async || executor.payee_balance().await == paid;
        executor.devnet.while_mining(until("it is paid", is_paid)).await;
    }
    assert_eq!(executor.ledger.pending_transactions().await.unwrap().len(), 2);
    chain.receipts_fail.store(false, Ordering::Relaxed);
    let known = async || executor.ledger.pending_transactions().await.unwrap().is_empty();
    executor
        .devnet
        .while_mining(until("their fates are known", known))
        .await;
}

#[tokio::test]
async fn with_too_little_gas_money_the_highest_value_at_risk_is_claimed() {
    let executor = Executor::new().await;
    let running = executor.start(only_what_is_due(&executor));
    let channels = executor.open_channels(&running, 1..=3).await;
    for (channel, amount) in channels.iter().zip([20, 900, 300]) {
        executor.serve(channel, amount, 0).await;
        executor.request_close(channel).await;
    }
    running.handle.synced().await.unwrap();
    executor.devnet.set_automine(false).await;
    // Enough for one row at the price of the next block, not for two.
    executor.devnet.set_base_fee(1_000_000_000).await;
    let price = executor.devnet.chain.fees().await.unwrap();
    let price = U256::from(price.base_fee.max(1_000_000_000) + price.priority_fee.max(1_000_000));
    let coins = U256::from(105_000) * price;
    executor
        .devnet
        .rpc("anvil_setBalance", json!([executor.operator.address(), coins]))
        .await;
    executor.devnet.leap(MARGIN_BEGINS).await;
    until("something is claimed", async || {
        !executor.ledger.pending_transactions().await.unwrap().is_empty()
    })
    .await;
    let pending = executor.ledger.pending_transactions().await.unwrap();
    assert!(
        matches!(&pending[0].purpose, Purpose::Claim { rows, .. } if rows[..] == [(channels[1].id, TokenAmount::new(900))]),
        "{:?}",
        pending[0].purpose
    );
    // The rest follows when there is money.
    executor.devnet.give_coins(executor.operator.address()).await;
    let paid = async || executor.payee_balance().await == 1_220;
    executor.devnet.while_mining(until("all of it is paid", paid)).await;
}

/// A watcher with one channel whose safety margin has begun, and that nothing was claimed of.
async fn due(executor: &Executor, chain: FaultyChain) -> Running {
    let running = executor.start_on(only_what_is_due(executor), chain);
    let channels = executor.open_channels(&running, 1..=1).await;
    executor.serve(&channels[0], 900, 0).await;
    executor.request_close(&channels[0]).await;
    running.handle.synced().await.unwrap();
    executor.devnet.leap(MARGIN_BEGINS).await;
    running
}

/// Waits until the watcher says that what is due stands still, and for some rounds more.
async fn stands_still(running: &Running) -> Stall {
    let status = running.handle.status();
    until("it is said to stand still", async || status.borrow().stalled.is_some()).await;
    let first = status.borrow().stalled.clone();
    for _ in 0..3 {
        running.handle.synced().await.unwrap();
    }
    let later = status.borrow().stalled.clone();
    assert_eq!(later, first, "it is as old as it was");
    first.unwrap()
}

#[tokio::test]
async fn what_is_due_and_can_not_be_paid_for_stands_still_until_there_is_money() {
    let executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    let coins = json!([executor.operator.address(), U256::ZERO]);
    executor.devnet.rpc("anvil_setBalance", coins).await;
    let running = due(&executor, chain).await;
    let stall = stands_still(&running).await;
    assert_eq!(stall.channels, 1);
    assert!(stall.reason.contains("0 wei left for gas"), "{stall:?}");
    executor.devnet.give_coins(executor.operator.address()).await;
    let status = running.handle.status();
    until("it goes on", async || status.borrow().stalled.is_none()).await;
    let paid = async || executor.payee_balance().await == 900;
    executor.devnet.while_mining(until("it is paid", paid)).await;
}

#[tokio::test]
async fn what_is_due_and_no_endpoint_takes_stands_still_until_one_does() {
    let executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    chain.broadcasts_refused.store(true, Ordering::Relaxed);
    let running = due(&executor, chain.clone()).await;
    let stall = stands_still(&running).await;
    assert!(stall.reason.contains("a faulty endpoint takes nothing"), "{stall:?}");
    chain.broadcasts_refused.store(false, Ordering::Relaxed);
    let status = running.handle.status();
    until("it goes on", async || status.borrow().stalled.is_none()).await;
    let paid = async || executor.payee_balance().await == 900;
    executor.devnet.while_mining(until("it is paid", paid)).await;
}

#[tokio::test]
async fn a_due_claim_that_became_too_dear_makes_way_for_the_part_that_can_be_paid_for() {
    let executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    let running = executor.start_on(only_what_is_due(&executor), chain.clone());
    let channels = executor.open_channels(&running, 1..=3).await;
    for (channel, amount) in channels.iter().zip([20, 900, 300]) {
        executor.serve(channel, amount, 0).await;
        executor.request_close(channel).await;
    }
    running.handle.synced().await.unwrap();
    executor.devnet.set_automine(false).await;
    executor.devnet.set_base_fee(1_000_000_000).await;
    // All of it at 8 gwei, or one row at 13.
    let coins = U256::from(150_000) * U256::from(8_000_000_000u64);
    executor
        .devnet
        .rpc("anvil_setBalance", json!([executor.operator.address(), coins]))
        .await;
    executor.devnet.leap(MARGIN_BEGINS).await;
    let newest = async || executor.ledger.transactions(1).await.unwrap().pop();
    let carries = async |count: usize| {
        newest()
            .await
            .is_some_and(|record| matches!(record.purpose, Purpose::Claim { rows, .. } if rows.len() == count))
    };
    until("all of it is claimed", async || carries(3).await).await;

    chain.take_asked();
    executor.devnet.set_base_fee(11_000_000_000).await;
    executor.devnet.leap(Duration::from_secs(200)).await;
    until("the best row is claimed alone", async || carries(1).await).await;
    let asked = chain.take_asked();
    let on_a_block = |at: &StateAt| matches!(at, StateAt::Block(_));
    assert!(
        !asked.estimated_at.is_empty() && asked.estimated_at.iter().all(on_a_block),
        "parts are tried where their rows were planned: {asked:?}"
    );
    let part = newest().await.unwrap();
    assert_eq!(part.nonce, 0);
    let plan = running.handle.plan(ClaimFilter::default()).await.unwrap();
    assert!(
        plan.claims.is_empty(),
        "the rest waits until that is in a block: {plan:?}"
    );
    executor.devnet.give_coins(executor.operator.address()).await;
    let paid = async || executor.payee_balance().await == 1_220;
    executor.devnet.while_mining(until("all of it is paid", paid)).await;
    let settled_by = executor
        .ledger
        .settled_by(channels[1].id, BlockNumber::new(u64::MAX >> 1));
    assert_eq!(settled_by.await.unwrap().map(|record| record.id), Some(part.id));
    assert_eq!(executor.operator_nonce().await, 2, "none of it was claimed twice");
}

#[tokio::test]
async fn an_explanation_says_what_is_and_what_would_be() {
    let executor = Executor::new().await;
    let mut config = only_what_is_due(&executor);
    config.planner.min_claim = TokenAmount::new(500);
    let running = executor.start(config);
    let channels = executor.open_channels(&running, 1..=2).await;
    let verdict = async |index: usize| running.handle.explain(channels[index].id).await.unwrap().verdict;
    assert!(
        matches!(verdict(0).await, Verdict::Nothing(NothingDue::NotOurs)),
        "it was never served"
    );

    executor.serve(&channels[0], 200, 0).await;
    running.handle.synced().await.unwrap();
    let Verdict::NotYet(waiting) = verdict(0).await else {
        panic!("it is not worth its while");
    };
    assert_eq!(waiting.value, TokenAmount::new(200));
    assert!(matches!(waiting.why, WhyNot::NotWorthwhile { needed, .. } if needed == TokenAmount::new(500)));
    // Each look of the watcher counts.
    let mut status = running.handle.status();
    status
        .wait_for(|status| status.deferrals.not_worthwhile >= 3)
        .await
        .unwrap();
    assert_eq!(status.borrow().deferred, 1);
    let plan = running.handle.plan(ClaimFilter::default()).await.unwrap();
    assert!(plan.waiting[0].deferred.unwrap().looks >= 3);

    // With the other channel, one transaction is worth it.
    executor.devnet.set_automine(false).await;
    executor.serve(&channels[1], 400, 0).await;
    until("the claim is under way", async || {
        matches!(verdict(0).await, Verdict::UnderWay { .. })
    })
    .await;
    let paid = async || executor.payee_balance().await == 600;
    executor.devnet.while_mining(until("both are paid", paid)).await;
    let settled = async || matches!(verdict(1).await, Verdict::Nothing(NothingDue::AllSettled));
    executor.devnet.while_mining(until("that is final", settled)).await;
    assert_eq!(status.borrow().deferred, 0);
    let plan = running.handle.plan(ClaimFilter::default()).await.unwrap();
    assert!(plan.claims.iter().all(|claim| claim.rows[0].why != WhyNow::Deadline));
}
