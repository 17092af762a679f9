//! A client pays for what it received, whatever the backend does, and both sides hold a receipt that says so.

use eyre::Result;
use lloom_e2e::{Behavior, Ending, StubBackend, prompt_tokens};
use lloom_receipts::TokenAmount;

use crate::shop::{MODEL, Shop};

/// Tokens before the backend misbehaves.
const CAME: u32 = 7;

fn misbehaving(ending: Ending) -> Behavior {
    Behavior {
        ending,
        answer_tokens: Some(40),
        ..Behavior::default()
    }
}

/// Asks, is let down after [`CAME`] tokens, and pays for those.
async fn pays_for_what_came(ending: Ending) -> Result<()> {
    let shop = Shop::open_with(misbehaving(ending), |settings| {
        if let Some(selling) = &mut settings.executor {
            selling.patience_secs = 1;
        }
    })
    .await?;
    let prompt = "Is anybody there?";
    shop.buyer.home.failure(&shop.asking(prompt)).await?;
    let receipts = shop.receipts().await?;
    assert_eq!(receipts.len(), 1, "both sides hold the receipt");
    let bill = receipts[0].receipt().bill;
    assert_eq!(
        (bill.usage.input.get(), bill.usage.output.get()),
        (prompt_tokens(prompt), CAME)
    );

    shop.backend.release();
    shop.backend.set_behavior(Behavior::default());
    shop.ask("And now?").await?;
    assert_eq!(shop.receipts().await?.len(), 2);
    shop.settle().await?;
    Ok(())
}

#[tokio::test]
async fn that_dies_mid_stream() -> Result<()> {
    pays_for_what_came(Ending::BreakAfter(CAME)).await
}

#[tokio::test]
async fn that_sends_garbage_mid_stream() -> Result<()> {
    pays_for_what_came(Ending::GarbageAfter(CAME)).await
}

#[tokio::test]
async fn that_falls_silent_mid_stream() -> Result<()> {
    pays_for_what_came(Ending::HoldAfter(CAME)).await
}

/// Asks a backend that gives nothing at all, and pays nothing.
async fn pays_nothing(shop: &Shop) -> Result<()> {
    let failure = shop.buyer.home.failure(&shop.asking("Is anybody there?")).await?;
    assert!(!failure.text().is_empty());
    for receipt in shop.receipts().await? {
        assert_eq!(receipt.receipt().bill.usage.output.get(), 0);
        assert_eq!(receipt.receipt().cumulative_amount, TokenAmount::ZERO);
    }
    Ok(())
}

#[tokio::test]
async fn that_refuses_or_is_no_api_costs_nothing() -> Result<()> {
    let shop = Shop::open_with(misbehaving(Ending::Refuse(500)), |_| ()).await?;
    for ending in [Ending::Refuse(500), Ending::Refuse(429), Ending::NotAnApi] {
        shop.backend.set_behavior(misbehaving(ending));
        pays_nothing(&shop).await?;
    }
    shop.backend.set_behavior(Behavior::default());
    shop.ask("And now?").await?;
    shop.settle().await?;
    Ok(())
}

#[tokio::test]
async fn that_is_down_costs_nothing_until_it_is_back() -> Result<()> {
    let mut shop = Shop::open().await?;
    let port = shop.backend.port();
    // Nobody listens where the executor's backend was.
    shop.backend = StubBackend::start(&[MODEL], Behavior::default()).await?;
    pays_nothing(&shop).await?;
    shop.backend = StubBackend::start_on(port, &[MODEL], Behavior::default()).await?;
    shop.ask("And now?").await?;
    shop.settle().await?;
    Ok(())
}
