//! `kill -9`, and what is left of the money afterwards.

use eyre::Result;
use lloom_e2e::{Behavior, Ending, Settings, wait};
use lloom_ledger::Progress;
use lloom_receipts::TokenAmount;

use crate::shop::{Shop, receipts_of};

/// Tokens after which the backend waits.
pub const HELD_AFTER: u32 = 20;
/// How far the client pays ahead: it has acknowledged some of the held tokens.
const INCREMENT: u32 = 8;

/// A shop whose backend stops in the middle of every answer.
async fn shop_that_holds() -> Result<Shop> {
    Shop::open_with(held_in_mid_answer(), holding_settings).await
}

/// A backend's that stops in the middle of every answer.
pub fn held_in_mid_answer() -> Behavior {
    Behavior {
        ending: Ending::HoldAfter(HELD_AFTER),
        answer_tokens: Some(60),
        ..Behavior::default()
    }
}

/// An executor's that is paid a few times before.
pub fn holding_settings(settings: &mut Settings) {
    if let Some(selling) = &mut settings.executor {
        selling.increment = INCREMENT;
    }
}

/// Waits until the running answer's client has said that it received some of it.
async fn acknowledged(shop: &Shop) -> Result<Progress> {
    let store = shop.seller.home.store().await?;
    let acknowledged = wait::until("an acknowledgement", || async {
        let interrupted = store.interrupted_requests().await?;
        Ok(interrupted
            .into_iter()
            .find_map(|request| request.acknowledged)
            .filter(|progress| progress.usage.output.get() > 0))
    })
    .await?;
    store.close().await;
    Ok(acknowledged)
}

#[tokio::test]
async fn executor_killed_mid_stream_bills_what_was_acknowledged_and_goes_on() -> Result<()> {
    let mut shop = shop_that_holds().await?;
    let asking = shop.buyer.home.start(&shop.asking("Tell me of the storm."))?;
    shop.backend.holding(1).await?;
    // The client has everything that was sent before the executor dies, and has said so.
    let acknowledged = acknowledged(&shop).await?;
    shop.kill_executor().await?;
    shop.start_executor().await?;
    let failed = asking.finish().await?;
    assert_ne!(failed.code(), Some(0), "the client noticed nothing");
    shop.backend.set_behavior(Behavior::default());

    // The channel goes on, and the interrupted answer's bill is linked on the way.
    shop.ask("And then?").await?;
    let receipts = shop.receipts().await?;
    assert_eq!(receipts.len(), 2);
    let interrupted = receipts
        .iter()
        .map(|receipt| receipt.receipt().bill)
        .find(|bill| bill.usage.output.get() <= HELD_AFTER);
    let interrupted = interrupted.expect("the interrupted answer has its receipt");
    assert!(interrupted.usage.output >= acknowledged.usage.output);
    assert!(interrupted.amount > TokenAmount::ZERO);
    shop.settle().await?;
    Ok(())
}

#[tokio::test]
async fn client_killed_mid_stream_pays_for_what_came_and_goes_on() -> Result<()> {
    let shop = shop_that_holds().await?;
    let asking = shop.buyer.home.start(&shop.asking("Tell me of the storm."))?;
    shop.backend.holding(1).await?;
    // The backend is done before the client has anything.
    acknowledged(&shop).await?;
    asking.kill().await?;
    let channel = shop.channel().await?;
    // The executor sees the connection end, and bills what it delivered, without anybody who could link it.
    let store = shop.seller.home.store().await?;
    let bill = wait::until("the abandoned answer's bill", || async {
        Ok(store
            .unlinked_bills(channel)
            .await?
            .first()
            .map(|committed| *committed.bill()))
    })
    .await?;
    store.close().await;
    assert!(bill.usage.output.get() <= HELD_AFTER);
    assert!(bill.amount > TokenAmount::ZERO);
    assert!(receipts_of(&shop.seller.home, channel).await?.is_empty());

    // It comes back, links the old bill, and buys on, in the same channel.
    shop.backend.set_behavior(Behavior::default());
    shop.ask("Where were we?").await?;
    let receipts = shop.receipts().await?;
    assert_eq!(receipts.len(), 2);
    assert!(receipts.iter().any(|receipt| receipt.receipt().bill == bill));
    shop.settle().await?;
    Ok(())
}

#[tokio::test]
async fn client_that_never_comes_back_is_charged_what_was_delivered() -> Result<()> {
    let shop = shop_that_holds().await?;
    let asking = shop.buyer.home.start(&shop.asking("Tell me of the storm."))?;
    shop.backend.holding(1).await?;
    // The backend is done before the client has anything.
    acknowledged(&shop).await?;
    asking.kill().await?;
    let channel = shop.channel().await?;
    let store = shop.seller.home.store().await?;
    let owed = wait::until("the abandoned answer's bill", || async {
        let claimable = store.claimable_channel(channel).await?;
        Ok(claimable
            .map(|claimable| claimable.amount())
            .filter(|&amount| amount > TokenAmount::ZERO))
    })
    .await?;
    let account = store.account(channel).await?;
    assert!(owed <= account.authorized && owed <= account.billed, "{account:?}");
    store.close().await;
    shop.seller.home.json(&["claim"]).await?;
    shop.settled(owed).await?;
    assert_eq!(shop.chain.money.held_by(shop.seller.payee.address()).await?, owed);
    Ok(())
}
