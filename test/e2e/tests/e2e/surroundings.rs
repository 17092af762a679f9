//! A watcher on a machine whose disk is full, and whose clock is set.

use eyre::{Result, ensure};
use lloom_e2e::{Behavior, Buyer, Chain, Clock, Finished, Mining, Node, Seller, SmallDisk, StubBackend, wait};
use lloom_receipts::TokenAmount;
use serde_json::json;

use crate::{
    crashes::{HELD_AFTER, held_in_mid_answer, holding_settings},
    monitoring::shown_at_least,
    shop::{DEPOSIT, MODEL, same_receipts},
    stand::{Stand, ready, stop},
};

/// Nothing may be written to any file, from now on.
const NOTHING: u64 = 0;
/// Calls to the chain after which there is no room any more.
const MOMENTS: [u64; 3] = [1, 12, 25];

#[tokio::test]
async fn full_disk_ends_the_watcher_and_loses_nothing() -> Result<()> {
    if !SmallDisk::is_expected()? {
        return Ok(());
    }
    let mut stand = Stand::open(2, |_| ()).await?;
    for moment in MOMENTS {
        stand.till.sell(&[(0, 100), (1, 50)]).await?;
        let disk = SmallDisk::new().await?;
        stand.seller.home.move_to(&disk)?;
        let watch = stand.seller.home.start_on(&disk, &["watch"])?;
        ready(&watch).await?;
        stand.proxy.called_at_all(stand.proxy.all_calls() + moment).await?;
        disk.fill()?;
        ended_without_store(&watch.finish().await?)?;
        stand.seller.home.move_back(&disk)?;
    }
    let watch = stand.watch().await?;
    stand.ends_well().await?;
    stop(watch).await
}

#[tokio::test]
async fn full_disk_ends_a_node_in_mid_answer_and_everything_is_billed_afterwards() -> Result<()> {
    if !SmallDisk::is_expected()? {
        return Ok(());
    }
    let chain = Chain::start(Mining::Living).await?;
    let backend = StubBackend::start(&[MODEL], held_in_mid_answer()).await?;
    let seller = Seller::create(&chain, "executor", &backend.base_url(), &[MODEL], holding_settings).await?;
    let buyer = Buyer::create(&chain, "client", &[], DEPOSIT).await?;
    // Before there is a store: one that was copied would be a restored one.
    let disk = SmallDisk::new().await?;
    seller.home.move_to(&disk)?;
    let node = Node::of(seller.home.start_on(&disk, &["node", "run"])?).await?;
    let asking = |prompt| {
        buyer
            .home
            .start(&["chat", "--executor", &node.address, "--model", MODEL, prompt])
    };
    let interrupted = asking("Tell me of the storm.")?;
    backend.holding(1).await?;
    // The first covers the beginning of the answer, the second says that it came.
    shown_at_least(&node.monitoring, "lloom_accepted_total", "voucher", 2.0).await?;
    disk.fill()?;
    // It can't store that it takes this on, so it doesn't, and nothing after it.
    let refused = asking("And of the calm.")?;
    ended_without_store(&node.process.finish().await?)?;
    for asking in [interrupted, refused] {
        ensure!(asking.finish().await?.code() != Some(0), "the client noticed nothing");
    }

    disk.empty()?;
    backend.set_behavior(Behavior::default());
    let node = Node::of(seller.home.start_on(&disk, &["node", "run"])?).await?;
    buyer.chat(&node.address, MODEL, "And then?").await?;
    let claimed = seller.home.start_on(&disk, &["claim"])?.finish().await?;
    ensure!(claimed.code() == Some(0), "{}", claimed.stderr);
    let ended = node.process.stop().await?;
    ensure!(ended.code() == Some(0), "{}", ended.stderr);
    seller.home.move_back(&disk)?;

    let channels = seller.channels().await?;
    let receipts = same_receipts(&seller.home, &buyer.home, channels[0]).await?;
    let bills: Vec<_> = receipts.iter().map(|receipt| receipt.receipt().bill).collect();
    ensure!((channels.len(), bills.len()) == (1, 2), "{channels:?}, {bills:?}");
    let interrupted = bills.iter().find(|bill| bill.usage.output.get() <= HELD_AFTER);
    ensure!(
        interrupted.is_some_and(|bill| bill.amount > TokenAmount::ZERO),
        "{bills:?}"
    );
    let owed = receipts[1].receipt().cumulative_amount;
    ensure!(chain.money.settled(channels[0]).await? == owed, "{owed} is owed");
    Ok(())
}

/// It couldn't store what it did, so it did nothing more, and said so.
fn ended_without_store(ended: &Finished) -> Result<()> {
    let (status, complaints) = (ended.status, &ended.stderr);
    ensure!(ended.code() == Some(6), "it ended with {status}: {complaints}");
    ensure!(complaints.contains("the store failed to"), "{complaints}");
    Ok(())
}

#[tokio::test]
async fn limited_files_end_the_watcher_and_lose_nothing() -> Result<()> {
    let mut stand = Stand::open(2, |_| ()).await?;
    for moment in MOMENTS {
        stand.till.sell(&[(0, 100), (1, 50)]).await?;
        let watch = stand.seller.home.start_limited(&["watch"])?;
        ready(&watch).await?;
        stand.proxy.called_at_all(stand.proxy.all_calls() + moment).await?;
        watch.limit_files(Some(NOTHING))?;
        ended_without_store(&watch.finish().await?)?;
    }
    let watch = stand.watch().await?;
    stand.ends_well().await?;
    stop(watch).await
}

#[tokio::test]
async fn clock_that_jumps_keeps_no_claim_from_being_paid() -> Result<()> {
    const DAY: i64 = 86_400;
    let clock = Clock::new()?;
    let mut stand = Stand::open(2, |settings| settings.watching.replace_after_secs = 2).await?;
    // The claim is stored while the clock is a day ahead, and the pool loses it.
    clock.set(DAY)?;
    stand.till.sell(&[(0, 300)]).await?;
    stand.chain.anvil.hold_mining().await?;
    let watch = stand.seller.home.start_with(&["watch"], &clock.environment())?;
    ready(&watch).await?;
    wait::until("the claim in the pool", || async {
        Ok((stand.chain.anvil.waiting_transactions().await? == 1).then_some(()))
    })
    .await?;
    stand.chain.anvil.call("anvil_dropAllTransactions", json!([])).await?;
    clock.set(0)?;
    stand.chain.anvil.resume_mining(lloom_e2e::Mining::Living).await?;
    stand.ends_well().await?;
    stop(watch).await?;

    // A day behind, a deadline is still the chain's.
    clock.set(-DAY)?;
    stand
        .seller
        .adjust(|settings| settings.watching.min_claim = "1000000".to_owned())?;
    stand.till.sell(&[(1, 200)]).await?;
    let watch = stand.seller.home.start_with(&["watch"], &clock.environment())?;
    ready(&watch).await?;
    stand.till.request_close(&stand.chain, 1).await?;
    stand.chain.anvil.pass_time(30 * 60 + 5).await?;
    stand.paid().await?;
    clock.set(3 * DAY)?;
    stand.ends_well().await?;
    stop(watch).await
}
