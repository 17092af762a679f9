//! The watcher between broadcast and receipt, on a chain that changes its mind, and before a deadline.

use eyre::Result;
use lloom_e2e::{Behavior, Ending, Fault, Mining, RpcProxy, wait};
use lloom_receipts::TokenAmount;
use serde_json::json;

use crate::shop::Shop;

/// A shop with something to claim, whose claim is sent and in no block, and whose executor is killed then.
async fn killed_after_the_broadcast() -> Result<(Shop, TokenAmount)> {
    let mut shop = Shop::open().await?;
    shop.ask("What is a claim?").await?;
    let owed = shop.receipts().await?[0].receipt().cumulative_amount;
    shop.chain.anvil.hold_mining().await?;
    let claiming = shop.seller.home.start(&["claim"])?;
    wait::until("the claim in the pool", || async {
        Ok((shop.chain.anvil.waiting_transactions().await? == 1).then_some(()))
    })
    .await?;
    shop.kill_executor().await?;
    claiming.finish().await?;
    Ok((shop, owed))
}

/// Everything is paid once, the channel goes on, and no transaction is left unknown.
async fn all_is_well(shop: &Shop, owed: TokenAmount) -> Result<()> {
    shop.settled(owed).await?;
    shop.ask("Do you still sell?").await?;
    let paid = shop.settle().await?;
    assert!(paid > owed);
    let store = shop.seller.home.store().await?;
    wait::until("every transaction's fate", || async {
        Ok(store.pending_transactions().await?.is_empty().then_some(()))
    })
    .await?;
    store.close().await;
    Ok(())
}

#[tokio::test]
async fn claim_mined_while_the_watcher_was_dead_is_not_sent_again() -> Result<()> {
    let (mut shop, owed) = killed_after_the_broadcast().await?;
    shop.chain.anvil.resume_mining(Mining::Living).await?;
    shop.settled(owed).await?;
    shop.start_executor().await?;
    all_is_well(&shop, owed).await
}

#[tokio::test]
async fn claim_still_in_the_pool_is_waited_for() -> Result<()> {
    let (mut shop, owed) = killed_after_the_broadcast().await?;
    shop.start_executor().await?;
    shop.chain.anvil.resume_mining(Mining::Living).await?;
    all_is_well(&shop, owed).await
}

#[tokio::test]
async fn claim_lost_from_the_pool_is_sent_again() -> Result<()> {
    let (mut shop, owed) = killed_after_the_broadcast().await?;
    shop.chain.anvil.call("anvil_dropAllTransactions", json!([])).await?;
    shop.chain.anvil.resume_mining(Mining::Living).await?;
    shop.start_executor().await?;
    all_is_well(&shop, owed).await
}

#[tokio::test]
async fn claim_that_was_sent_but_reported_failed_is_paid_once() -> Result<()> {
    let mut shop = Shop::open().await?;
    let proxy = RpcProxy::start(shop.chain.anvil.url()).await?;
    shop.seller.adjust(|settings| settings.rpc_url = proxy.url())?;
    shop.kill_executor().await?;
    shop.start_executor().await?;
    shop.ask("What is a claim?").await?;
    let owed = shop.receipts().await?[0].receipt().cumulative_amount;
    proxy.set_fault("eth_sendRawTransaction", Fault::DoneButFailed);
    let claiming = shop.seller.home.start(&["claim"])?;
    proxy.called("eth_sendRawTransaction", 1).await?;
    proxy.heal();
    claiming.finish().await?;
    all_is_well(&shop, owed).await
}

/// Asks until it is refused, and gives what the client is told.
async fn refusal(shop: &Shop) -> Result<String> {
    wait::until("a refusal", || async {
        let finished = shop.buyer.home.run(&shop.asking("And now?")).await?;
        Ok((finished.code() != Some(0)).then_some(finished.stderr))
    })
    .await
}

/// Asks until there is an answer, and has it paid.
async fn sells_again(shop: &Shop) -> Result<()> {
    wait::until("an answer", || async {
        let finished = shop.buyer.home.run(&shop.asking("And now?")).await?;
        Ok((finished.code() == Some(0)).then_some(()))
    })
    .await?;
    let paid = shop.settle().await?;
    assert!(paid > TokenAmount::ZERO);
    Ok(())
}

#[tokio::test]
async fn nothing_is_sold_while_the_chain_is_out_of_sight() -> Result<()> {
    let mut shop = Shop::open().await?;
    let proxy = RpcProxy::start(shop.chain.anvil.url()).await?;
    shop.seller.adjust(|settings| {
        settings.rpc_url = proxy.url();
        if let Some(selling) = &mut settings.executor {
            selling.max_chain_silence_secs = 1;
        }
    })?;
    shop.kill_executor().await?;
    shop.start_executor().await?;
    shop.ask("Do you see the chain?").await?;

    for method in ["eth_getBlockByNumber", "eth_blockNumber", "eth_getLogs"] {
        proxy.set_fault(method, Fault::Unavailable);
    }
    let refused = refusal(&shop).await?;
    assert!(refused.contains("the chain"), "{refused}");

    proxy.heal();
    sells_again(&shop).await
}

#[tokio::test]
async fn nothing_is_sold_while_the_endpoint_stands_still() -> Result<()> {
    let shop = Shop::open_with(Behavior::default(), |settings| {
        settings.watching.max_head_age_secs = Some(10);
    })
    .await?;
    shop.ask("Do you see the chain?").await?;

    // Its endpoint answers all the while: each look finds the same head.
    shop.chain.anvil.hold_mining().await?;
    let refused = refusal(&shop).await?;
    assert!(refused.contains("no new block"), "{refused}");
    shop.complaint("why nothing is sold", |line| {
        (line.contains("out of sight") && line.contains("newest block")).then_some(())
    })
    .await?;

    shop.chain.anvil.resume_mining(Mining::Living).await?;
    sells_again(&shop).await
}

#[tokio::test]
async fn executor_is_paid_after_a_reorg() -> Result<()> {
    let shop = Shop::open_with(Behavior::default(), |settings| settings.watching.confirmations = 6).await?;
    shop.ask("Is this final?").await?;
    let owed = shop.receipts().await?[0].receipt().cumulative_amount;
    let claiming = shop.seller.home.start(&["claim"])?;
    shop.settled(owed).await?;
    let channel = shop.channel().await?;
    let blocks = shop.chain.anvil.block_number().await? - claim_block(&shop).await? + 1;
    shop.chain.anvil.reorganize(blocks).await?;
    assert_eq!(
        shop.chain.money.settlements(channel).await?,
        [],
        "the claim is gone from the chain"
    );
    all_is_well(&shop, owed).await?;
    claiming.finish().await?;
    Ok(())
}

async fn claim_block(shop: &Shop) -> Result<u64> {
    let claims = shop.chain.money.settling_transactions().await?;
    let claim = claims.last().expect("there is a claim");
    shop.chain.anvil.block_of(claim.hash).await
}

#[tokio::test]
async fn streams_stop_when_their_payer_asks_to_close() -> Result<()> {
    let held = Behavior {
        ending: Ending::HoldAfter(5),
        answer_tokens: Some(40),
        ..Behavior::default()
    };
    let shop = Shop::open_with(held, |settings| {
        if let Some(selling) = &mut settings.executor {
            selling.increment = 8;
        }
    })
    .await?;
    let asking = shop.buyer.home.start(&shop.asking("Tell me everything."))?;
    shop.backend.holding(1).await?;
    let channel = shop.channel().await?;
    // The payer's key works from another machine too.
    let elsewhere = shop.buyer.home.twin("the client elsewhere")?;
    elsewhere
        .json(&["channel", "request-close", &channel.to_string(), "--yes"])
        .await?;
    let store = shop.seller.home.store().await?;
    wait::until("the executor to see it", || async {
        let channel = store.channel(channel).await?;
        let state = channel.and_then(|channel| channel.latest);
        Ok(state.and_then(|state| state.close_requested_at))
    })
    .await?;
    store.close().await;
    shop.backend.release();
    let ended = asking.finish().await?;
    assert_ne!(ended.code(), Some(0), "the answer went on: {}", ended.stdout);
    let receipts = shop.receipts().await?;
    assert_eq!(receipts.len(), 1, "what came until then is paid");
    // What was reserved when the close was asked for is still delivered, and nothing beyond it.
    assert!((5..=16).contains(&receipts[0].receipt().bill.usage.output.get()));

    // Whoever buys on does so from another channel.
    shop.backend.set_behavior(Behavior::default());
    let said = shop.ask("And more?").await?;
    assert_ne!(said["channel"], channel.to_string());
    Ok(())
}

#[tokio::test]
async fn watcher_alone_claims_when_it_is_worth_its_while() -> Result<()> {
    let mut shop = Shop::open().await?;
    shop.ask("Who watches?").await?;
    let owed = shop.receipts().await?[0].receipt().cumulative_amount;
    shop.stop_executor().await?;
    shop.seller
        .adjust(|settings| settings.watching.min_claim = "0.000001".to_owned())?;
    let watch = shop.seller.home.start(&["watch"])?;
    shop.settled(owed).await?;
    let stopped = watch.stop().await?;
    assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);
    Ok(())
}

#[tokio::test]
async fn payer_that_closes_by_force_pays_first() -> Result<()> {
    let shop = Shop::open().await?;
    let payer = shop.buyer.home.address();
    let before = shop.chain.money.held_by(payer).await?;
    shop.ask("May I leave without paying?").await?;
    let owed = shop.receipts().await?[0].receipt().cumulative_amount;
    let channel = shop.channel().await?;
    shop.buyer
        .home
        .json(&["channel", "request-close", &channel.to_string(), "--yes"])
        .await?;
    // The claim isn't worth its while, but a deadline is near: half of the hour of grace has passed.
    shop.chain.anvil.pass_time(31 * 60).await?;
    shop.settled(owed).await?;
    shop.chain.anvil.pass_time(31 * 60).await?;
    shop.buyer
        .home
        .json(&["channel", "withdraw", &channel.to_string(), "--yes"])
        .await?;
    let after = shop.chain.money.held_by(payer).await?;
    assert_eq!(before.saturating_sub(after), owed);
    assert_eq!(shop.chain.money.held_by(shop.seller.payee.address()).await?, owed);
    Ok(())
}
