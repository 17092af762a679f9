use std::{
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use alloy::primitives::Bytes;
use lloom_ledger::{Finish, Purpose};
use lloom_receipts::{BlockNumber, TokenAmount};
use lloom_watcher::{Chain as _, ClaimFilter, WatcherError};
use serde_json::json;

use crate::{devnet::until, executor::Executor, faulty_chain::FaultyChain};

#[tokio::test]
async fn a_crash_between_storing_and_broadcasting_loses_no_claim() {
    let mut executor = Executor::new().await;
    let chain = FaultyChain::new(executor.devnet.chain.clone());
    chain.broadcasts_hang.store(true, Ordering::Relaxed);
    let running = executor.start_on(executor.config(), chain.clone());
    let channels = executor.open_channels(&running, 1..=2).await;
    for channel in &channels {
        executor.serve(channel, 100, 0).await;
    }
    let handle = running.handle.clone();
    let ordered = tokio::spawn(async move { handle.claim_now(ClaimFilter::default()).await });
    until("the claim is stored", || async {
        executor.ledger.pending_transactions().await.unwrap().len() == 1
    })
    .await;
    executor.crash(running).await;
    assert!(
        ordered.await.unwrap().is_err(),
        "whoever waited learns that the watcher is gone"
    );
    let stored = executor.ledger.pending_transactions().await.unwrap();
    assert_eq!(stored[0].broadcast_at, None);
    assert_eq!(executor.operator_nonce().await, 0);

    chain.broadcasts_hang.store(false, Ordering::Relaxed);
    let running = executor.start_on(executor.config(), chain);
    finish(&executor).await;
    assert_eq!(executor.payee_balance().await, 200);
    assert_eq!(executor.operator_nonce().await, 1);
    let all = executor.ledger.transactions(10).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].raw, stored[0].raw);
    assert!(!running.task.is_finished());
}

#[tokio::test]
async fn a_crash_between_broadcast_and_receipt_settles_nothing_twice() {
    let mut executor = Executor::new().await;
    let mut config = executor.config();
    config.auto_claim = true;
    config.planner.min_claim = TokenAmount::new(1);
    let running = executor.start(config.clone());
    let channels = executor.open_channels(&running, 1..=2).await;
    executor.devnet.set_automine(false).await;
    for channel in &channels {
        executor.serve(channel, 100, 0).await;
    }
    until("everything is claimed", || async {
        let pending = executor.ledger.pending_transactions().await.unwrap();
        let rows: usize = pending
            .iter()
            .map(|record| match &record.purpose {
                lloom_ledger::Purpose::Claim { rows, .. } => rows.len(),
                _ => 0,
            })
            .sum();
        rows == 2 && pending.iter().all(|record| record.broadcast_at.is_some())
    })
    .await;
    let sent = executor.ledger.transactions(10).await.unwrap().len();
    executor.crash(running).await;

    let running = executor.start(config);
    running.handle.synced().await.unwrap();
    finish(&executor).await;
    running.handle.synced().await.unwrap();
    assert_eq!(executor.payee_balance().await, 200);
    assert_eq!(executor.operator_nonce().await, sent as u64);
    assert_eq!(executor.ledger.transactions(10).await.unwrap().len(), sent);
}

#[tokio::test]
async fn a_chain_that_began_anew_is_sent_nothing() {
    let mut executor = Executor::new().await;
    let running = executor.start(executor.config());
    let channels = executor.open_channels(&running, 1..=1).await;
    executor.serve(&channels[0], 100, 0).await;
    executor.devnet.set_automine(false).await;
    let handle = running.handle.clone();
    let ordered = tokio::spawn(async move { handle.claim_now(ClaimFilter::default()).await });
    until("the claim is sent", || async {
        let pending = executor.ledger.pending_transactions().await.unwrap();
        pending.len() == 1 && pending[0].broadcast_at.is_some()
    })
    .await;
    executor.crash(running).await;
    assert!(ordered.await.unwrap().is_err());

    // The same id and the same contracts, and an operator that could pay for the gas. A chain begun within the same second
    // has the same first blocks: that would be a fork.
    let first = BlockNumber::new(0);
    let genesis = executor.devnet.chain.block(first).await.unwrap();
    let anew = loop {
        let anew = Executor::new().await;
        if anew.devnet.chain.block(first).await.unwrap() != genesis {
            break anew;
        }
    };
    anew.devnet.mine(100).await;
    let running = executor.start_on(executor.config(), anew.devnet.chain.clone());
    let stopped = running.task.await.unwrap();
    assert!(matches!(stopped, Err(WatcherError::ForeignChain { .. })), "{stopped:?}");
    assert_eq!(anew.operator_nonce().await, 0);
    assert_eq!(executor.ledger.pending_transactions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_stuck_transaction_is_made_dearer_until_it_is_mined() {
    let executor = Executor::new().await;
    let mut config = executor.config();
    config.fees.patience = Duration::ZERO;
    let running = executor.start(config);
    let channels = executor.open_channels(&running, 1..=1).await;
    executor.serve(&channels[0], 100, 0).await;
    executor.devnet.set_automine(false).await;
    let handle = running.handle.clone();
    let ordered = tokio::spawn(async move { handle.claim_now(ClaimFilter::default()).await });
    // Blocks ask for more than each bid offers, and so pass it over.
    let passed_over = Mutex::new(None);
    until("it is replaced twice", || async {
        let pending = executor.ledger.pending_transactions().await.unwrap();
        let newest = pending.last().map(|record| (record.id, record.max_fee));
        let is_new = newest.is_some() && newest != *passed_over.lock().unwrap();
        if let Some((_, max_fee)) = newest.filter(|_| is_new && pending.len() < 3) {
            executor.devnet.set_base_fee(max_fee + 1).await;
            executor.devnet.mine(1).await;
            *passed_over.lock().unwrap() = newest;
        }
        pending.len() >= 3
    })
    .await;
    let pending = executor.ledger.pending_transactions().await.unwrap();
    assert!(pending.windows(2).all(|pair| pair[1].replaces == Some(pair[0].id)));
    assert!(pending.windows(2).all(|pair| pair[1].max_fee > pair[0].max_fee));
    // And the pool forgets the newest.
    for record in &pending {
        executor.devnet.rpc("anvil_dropTransaction", json!([record.hash])).await;
    }

    let report = executor.devnet.while_mining(ordered).await.unwrap().unwrap();
    assert!(report.rows[0].is_reached());
    assert_eq!(executor.payee_balance().await, 100);
    assert_eq!(executor.operator_nonce().await, 1);
    let all = executor.ledger.transactions(100).await.unwrap();
    let mined = all
        .iter()
        .filter(|record| matches!(record.finish, Some(Finish::Mined { .. })));
    assert_eq!(mined.count(), 1);
    let winner = all
        .iter()
        .find(|record| matches!(record.finish, Some(Finish::Mined { .. })))
        .unwrap();
    assert_eq!(winner.hash, report.transactions[0].hash);
    for record in all.iter().filter(|record| record.id != winner.id) {
        assert_eq!(record.finish, Some(Finish::Replaced { by: winner.id }));
    }
    let mined = executor.devnet.chain.transaction_receipt(winner.hash).await.unwrap();
    assert!(mined.unwrap().succeeded);
}

#[tokio::test]
async fn what_another_program_left_in_the_pool_is_outbid_before_a_deadline() {
    let executor = Executor::new().await;
    let mut config = executor.config();
    config.fees.patience = Duration::from_millis(1);
    config.fees.urgent_within = Duration::from_secs(7 * 86_400);
    let running = executor.start(config);
    let channels = executor.open_channels(&running, 1..=1).await;
    executor.serve(&channels[0], 100, 0).await;
    executor.request_close(&channels[0]).await;
    executor.devnet.set_automine(false).await;
    // Sent with the same key from elsewhere. What this chain keeps in its pool and never mines is too large for its blocks.
    let account = executor.operator.address();
    let large = json!({ "nonce": "0x0", "gas": "0x1312d00" });
    let left = executor.devnet.post(account, account, Bytes::new(), large).await;
    executor.devnet.rpc("evm_setBlockGasLimit", json!(["0x989680"])).await;

    let handle = running.handle.clone();
    let ordered = tokio::spawn(async move { handle.claim_now(ClaimFilter::default()).await });
    let claimed = until("it is claimed", || async { ordered.is_finished() });
    executor.devnet.while_mining(claimed).await;
    assert!(ordered.await.unwrap().unwrap().rows[0].is_reached());
    assert_eq!(executor.payee_balance().await, 100);
    let all = executor.ledger.transactions(100).await.unwrap();
    let claim = all
        .iter()
        .find(|record| record.nonce == 1)
        .unwrap_or_else(|| panic!("{all:#?}"));
    assert!(matches!(claim.purpose, Purpose::Claim { .. }), "{all:#?}");
    let outbid = all.iter().filter(|record| record.nonce == 0);
    assert!(
        outbid.clone().all(|record| record.purpose == Purpose::Cancellation) && outbid.count() > 0,
        "{all:#?}"
    );
    let lost = executor.devnet.chain.transaction_receipt(left).await.unwrap();
    assert!(lost.is_none(), "{lost:?}");
}

/// Lets the chain go on until every stored transaction's fate is known.
async fn finish(executor: &Executor) {
    let finished = until("every transaction is final", || async {
        executor.ledger.pending_transactions().await.unwrap().is_empty()
    });
    executor.devnet.while_mining(finished).await;
}
