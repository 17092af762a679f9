//! A watcher on a machine whose disk is full, and whose clock is set.

use eyre::{Result, ensure};
use lloom_e2e::{Clock, wait};
use serde_json::json;

use crate::stand::{Stand, ready, stop};

/// Nothing may be written to any file, from now on.
const FULL: u64 = 0;

#[tokio::test]
async fn full_disk_ends_the_watcher_and_loses_nothing() -> Result<()> {
    let mut stand = Stand::open(2, |_| ()).await?;
    for moment in [1, 12, 25] {
        stand.till.sell(&[(0, 100), (1, 50)]).await?;
        let watch = stand.seller.home.start_limited(&["watch"])?;
        ready(&watch).await?;
        stand.proxy.called_at_all(stand.proxy.all_calls() + moment).await?;
        watch.limit_files(Some(FULL))?;
        // It can't store what it does, so it does nothing more, and says so.
        let ended = watch.finish().await?;
        ensure!(
            ended.code() == Some(6),
            "it ended with {}: {}",
            ended.status,
            ended.stderr
        );
        ensure!(ended.stderr.contains("the store failed to"), "{}", ended.stderr);
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
