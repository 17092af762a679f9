//! A watcher under everything that can go wrong around it. After each story the same properties are checked: every unit
//! that was accepted durably is paid, once; no nonce is used twice; the ledger says what the chain says; every obligation
//! ended as it should ([`Truth`]).
//!
//! Each prints its seed when it fails. `LLOOM_CHAOS_SEED` gives another, `LLOOM_CHAOS_KILLS` more kills (`make chaos`).

use std::time::Duration;

use eyre::{Result, WrapErr, ensure};
use lloom_e2e::{Truth, Weather, wait};
use lloom_ledger::{Finish, Purpose};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use crate::{
    killings::Killings,
    stand::{A_MOMENT, CONFIRMATIONS, Stand, kill_at, stop},
};

/// Half an hour is the safety margin before a deadline, which is an hour after its request.
const MARGIN_BEGINS: u64 = 30 * 60 + 5;
/// Calls of one life at most: enough to begin, to claim and to look after it. One that has nothing to do takes a second for them.
const LONGEST_LIFE: u64 = 40;

/// What the environment says in place of `default`.
pub fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok().and_then(|given| given.parse().ok());
    given.unwrap_or(default)
}

/// What chooses everything, printed.
pub fn seed() -> u64 {
    let seed = number("LLOOM_CHAOS_SEED", 7);
    eprintln!("LLOOM_CHAOS_SEED={seed}");
    seed
}

#[tokio::test]
async fn claims_meet_their_deadline_behind_a_faulty_endpoint() -> Result<()> {
    let seed = seed();
    // Nothing is worth its while: only deadlines make it claim.
    let mut stand = Stand::open(4, |settings| settings.watching.min_claim = "1000000".to_owned()).await?;
    stand.till.sell(&[(0, 300), (1, 200), (2, 100), (3, 50)]).await?;
    let watch = stand.watch().await?;
    stand.proxy.set_weather(Weather::storm(seed));
    for patron in 0..4 {
        stand.till.request_close(&stand.chain, patron).await?;
    }
    let store = stand.seller.home.store().await?;
    wait::until("the watcher to see that they leave", || async {
        Ok((store.obligations().await?.len() == 4).then_some(()))
    })
    .await
    .wrap_err_with(|| watch.tail())?;
    let deadline = store
        .obligations()
        .await?
        .iter()
        .map(|obligation| obligation.deadline)
        .min();
    stand.chain.anvil.pass_time(MARGIN_BEGINS).await?;
    // Gas is sometimes a hundred times as dear, for a block.
    let mut draws = StdRng::seed_from_u64(seed);
    wait::until_within(wait::LIMIT * 2, "everything to be paid", || {
        let spike = draws
            .random_bool(0.05)
            .then(|| draws.random_range(1..100_000_000_000_u64));
        let stand = &stand;
        async move {
            if let Some(fee) = spike {
                let fee = json!([format!("{fee:#x}")]);
                stand.chain.anvil.call("anvil_setNextBlockBaseFeePerGas", fee).await?;
            }
            Ok(stand.till.is_paid(&stand.chain).await?.then_some(()))
        }
    })
    .await?;
    let block = stand
        .chain
        .anvil
        .call("eth_getBlockByNumber", json!(["latest", false]))
        .await?;
    let now = block["timestamp"].as_str().unwrap_or_default();
    let now = u64::from_str_radix(now.trim_start_matches("0x"), 16)?;
    ensure!(
        deadline.is_some_and(|deadline| now < deadline.get()),
        "paid at {now}, after {deadline:?}"
    );
    store.close().await;
    // The storm goes on until all is final.
    stand.ends_well().await?;
    stop(watch).await
}

#[tokio::test]
async fn claims_are_paid_once_though_the_chain_reorganizes() -> Result<()> {
    let mut draws = StdRng::seed_from_u64(seed());
    let mut stand = Stand::open(3, |_| ()).await?;
    // No fork reaches the openings.
    stand.chain.anvil.mine(2 * CONFIRMATIONS).await?;
    for _ in 0..6 {
        let patron = draws.random_range(0..3);
        stand.till.sell(&[(patron, draws.random_range(1..500))]).await?;
        let watch = stand.watch().await?;
        stand.paid().await?;
        // Now and then deeper than what counted as final.
        let depth = draws.random_range(1..=CONFIRMATIONS + 2);
        let height = stand.chain.anvil.block_number().await?;
        stand
            .chain
            .anvil
            .reorganize(depth)
            .await
            .wrap_err_with(|| format!("taking back {depth} of {height} blocks"))?;
        if draws.random_bool(0.5) {
            watch.kill().await?;
        } else {
            stop(watch).await?;
        }
    }
    let watch = stand.watch().await?;
    stand.ends_well().await?;
    stop(watch).await
}

#[tokio::test]
async fn claim_stuck_under_a_fee_spike_is_replaced_until_it_is_mined() -> Result<()> {
    let mut stand = Stand::open(1, |settings| settings.watching.replace_after_secs = 1).await?;
    stand.till.sell(&[(0, 300)]).await?;
    stand.chain.anvil.hold_mining().await?;
    let watch = stand.watch().await?;
    wait::until("the claim in the pool", || async {
        Ok((stand.chain.anvil.waiting_transactions().await? == 1).then_some(()))
    })
    .await?;
    // Ten times what it offers: it stays in the pool, whatever is mined.
    let spike = 25_000_000_000_u64;
    stand
        .chain
        .anvil
        .call("anvil_setNextBlockBaseFeePerGas", json!([format!("{spike:#x}")]))
        .await?;
    stand.chain.anvil.call("anvil_mine", json!(["0x1"])).await?;
    ensure!(!stand.till.is_paid(&stand.chain).await?, "the claim had offered enough");
    stand.chain.anvil.resume_mining(lloom_e2e::Mining::Living).await?;
    let truth = stand.ends_well().await?;
    ensure!(truth.replaced > 0, "nothing was replaced");
    let winner = truth
        .stored
        .iter()
        .find(|record| matches!(record.finish, Some(Finish::Mined { .. })));
    let winner = winner.expect("one was mined");
    for loser in truth.stored.iter().filter(|record| record.id != winner.id) {
        ensure!(loser.finish == Some(Finish::Replaced { by: winner.id }), "{loser:?}");
    }
    stop(watch).await
}

#[tokio::test]
async fn claim_that_somebody_else_made_is_cancelled_when_it_is_stuck() -> Result<()> {
    let mut stand = Stand::open(1, |settings| settings.watching.replace_after_secs = 6).await?;
    stand.till.sell(&[(0, 300)]).await?;
    stand.chain.anvil.hold_mining().await?;
    let watch = stand.watch().await?;
    wait::until("the claim in the pool", || async {
        Ok((stand.chain.anvil.waiting_transactions().await? == 1).then_some(()))
    })
    .await?;
    // The pool loses it, and hears of no other; the payee settles with the same voucher, elsewhere.
    stand
        .proxy
        .set_fault("eth_sendRawTransaction", lloom_e2e::Fault::Unavailable);
    stand.chain.anvil.call("anvil_dropAllTransactions", json!([])).await?;
    stand.chain.anvil.resume_mining(lloom_e2e::Mining::Living).await?;
    stand.till.settle_elsewhere(&stand.chain, 0).await?;
    let store = stand.seller.home.store().await?;
    wait::until("a cancellation", || async {
        let pending = store.pending_transactions().await?;
        Ok(pending
            .iter()
            .any(|record| record.purpose == Purpose::Cancellation)
            .then_some(()))
    })
    .await?;
    store.close().await;
    stand.proxy.heal();
    let truth = stand.ends_well().await?;
    let mined = truth
        .stored
        .iter()
        .find(|record| matches!(record.finish, Some(Finish::Mined { .. })));
    ensure!(
        mined.is_some_and(|record| record.purpose == Purpose::Cancellation),
        "{:?}",
        truth.stored
    );
    stop(watch).await
}

#[tokio::test]
async fn units_are_paid_once_though_the_watcher_is_killed_a_hundred_times() -> Result<()> {
    let seed = seed();
    let mut draws = StdRng::seed_from_u64(seed);
    let mut stand = Stand::open(5, |_| ()).await?;
    stand.proxy.set_weather(Weather::breeze(seed));
    let mut killings = Killings::new();
    while let Some(life) = killings.next_life()? {
        let sales: Vec<(usize, u32)> = (0..draws.random_range(1..=2))
            .map(|_| (draws.random_range(0..5), draws.random_range(1..100)))
            .collect();
        stand.till.sell(&sales).await.wrap_err_with(|| format!("life {life}"))?;
        // A moment in its work is a number of calls: whatever it does, it asks or tells the chain.
        let moment = stand.proxy.all_calls() + draws.random_range(1..=LONGEST_LIFE);
        let later = Duration::from_millis(draws.random_range(0..=A_MOMENT));
        let watch = stand.seller.home.start(&["watch"])?;
        let killed = kill_at(moment, later, &stand.proxy, watch)
            .await
            .wrap_err_with(|| format!("life {life}"))?;
        killings.count(killed);
    }
    stand.proxy.heal();
    let watch = stand.watch().await?;
    let truth = stand.ends_well().await?;
    eprintln!(
        "{killings}: {} transactions mined, {} replaced",
        truth.mined, truth.replaced
    );
    ensure!(
        truth.mined as u64 > killings.killed() / 10,
        "it hardly came to do anything: {}",
        truth.mined
    );
    stop(watch).await
}

#[tokio::test]
async fn another_endpoint_meets_the_deadline_when_the_first_one_stands_still() -> Result<()> {
    let chain_behind = async |stand: &Stand| -> Result<lloom_e2e::RpcProxy> {
        lloom_e2e::RpcProxy::start(stand.chain.anvil.url()).await
    };
    let mut stand = Stand::open(2, |settings| settings.watching.min_claim = "1000000".to_owned()).await?;
    let second = chain_behind(&stand).await?;
    let first = stand.proxy.url();
    stand.seller.adjust(|settings| {
        settings.rpc_url = first;
        settings.other_rpc_urls = vec![second.url()];
    })?;
    stand.till.sell(&[(0, 300), (1, 200)]).await?;
    let watch = stand.watch().await?;
    // The first one answers, and knows nothing of the last blocks: neither of the requests nor of the claim.
    for method in [
        "eth_getBlockByNumber",
        "eth_getBlockByHash",
        "eth_getTransactionReceipt",
        "eth_getTransactionCount",
        "eth_getLogs",
        "eth_call",
        "eth_estimateGas",
    ] {
        stand.proxy.set_fault(method, lloom_e2e::Fault::Behind(20));
    }
    for patron in 0..2 {
        stand.till.request_close(&stand.chain, patron).await?;
    }
    stand.chain.anvil.pass_time(MARGIN_BEGINS).await?;
    let truth: Truth = stand.ends_well().await?;
    ensure!(truth.mined >= 1 && truth.stored.iter().all(|record| record.finish != Some(Finish::Dropped)));
    ensure!(
        stand.proxy.calls("eth_sendRawTransaction") > 0,
        "a transaction goes to all endpoints"
    );
    stop(watch).await
}

#[tokio::test]
async fn second_process_on_the_same_store_is_refused_and_harms_nothing() -> Result<()> {
    let mut stand = Stand::open(1, |_| ()).await?;
    stand.till.sell(&[(0, 300)]).await?;
    stand.chain.anvil.hold_mining().await?;
    let watch = stand.watch().await?;
    wait::until("the claim in the pool", || async {
        Ok((stand.chain.anvil.waiting_transactions().await? == 1).then_some(()))
    })
    .await?;
    for arguments in [&["watch"][..], &["node", "run"]] {
        let refused = stand.seller.home.failure(arguments).await?;
        ensure!(refused.code == 6, "{arguments:?} ended with {}", refused.code);
        let told = format!("in use by process {}", watch.id());
        ensure!(refused.text().contains(&told), "{}", refused.text());
    }
    // A command that has something to say is answered by the process that has the store.
    let channel = stand.till.patrons[0].channel.to_string();
    let explained = stand.seller.home.json(&["claim", "--explain", &channel]).await?;
    ensure!(explained["verdict"] == "under_way", "{explained}");
    stand.chain.anvil.resume_mining(lloom_e2e::Mining::Living).await?;
    stand.ends_well().await?;
    // Killed, it leaves no lock behind.
    watch.kill().await?;
    stand.till.sell(&[(0, 100)]).await?;
    let watch = stand.watch().await?;
    stand.ends_well().await?;
    stop(watch).await
}
