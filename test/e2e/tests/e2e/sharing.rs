//! Several nodes of one payee on one database.

use eyre::{Result, ensure, eyre};
use lloom_e2e::{Behavior, Buyer, Chain, Ending, Fault, Mining, Node, RpcProxy, Seller, StubBackend, wait};
use lloom_ledger::{Ledger, StoreUrl};
use lloom_postgres::Server;
use lloom_receipts::TokenAmount;

use crate::shop::{DEPOSIT, MODEL, Shop};

#[tokio::test]
async fn the_second_node_serves_on_and_claims_for_the_first_that_died() -> Result<()> {
    let server = Server::start()?;
    let url = server.url("postgres");
    let chain = Chain::start(Mining::Living).await?;
    let backend = StubBackend::start(&[MODEL], Behavior::default()).await?;
    let seller = Seller::create(&chain, "first", &backend.base_url(), &[MODEL], |settings| {
        settings.store = Some(url.clone());
    })
    .await?;
    let colleague = seller.colleague(&chain, "second").await?;
    let first = seller.start().await?;
    let second = Node::start(&colleague).await?;
    let buyer = Buyer::create(&chain, "client", &[], DEPOSIT).await?;

    // Both serve; one leads, and the other says that it doesn't.
    buyer.chat(&first.address, MODEL, "Who are you?").await?;
    buyer.chat(&second.address, MODEL, "And you?").await?;
    let diagnosis = colleague.run(&["doctor"]).await?;
    ensure!(diagnosis.stdout.contains("stands by"), "{}", diagnosis.stdout);
    let refused = colleague.run(&["claim"]).await?;
    ensure!(refused.code() == Some(8), "{}", refused.stderr);

    first.process.kill().await?;
    buyer.chat(&second.address, MODEL, "Are you alone now?").await?;
    wait::until("the second node to claim", || async {
        let claimed = colleague.run(&["claim"]).await?;
        Ok((claimed.code() == Some(0)).then_some(()))
    })
    .await?;

    // What the payee got is what both sides' receipts say of both channels, to the unit.
    let nowhere = tempfile::tempdir()?;
    let store = Ledger::open_read_only(StoreUrl::parse(&url, nowhere.path())?).await?;
    let mut owed = TokenAmount::ZERO;
    for channel in buyer.channels().await? {
        let bought = buyer.home.store().await?.head(channel).await?;
        let sold = store.head(channel).await?;
        ensure!(bought == sold, "{bought:?} is not {sold:?}");
        owed = owed.checked_add(sold.amount).ok_or_else(|| eyre!("too much"))?;
    }
    wait::until("all to be paid", || async {
        Ok((chain.money.held_by(seller.paid_to).await? == owed).then_some(()))
    })
    .await?;

    // The first comes back, stands by, and sells again.
    let first = seller.start().await?;
    let diagnosis = seller.home.run(&["doctor"]).await?;
    ensure!(diagnosis.stdout.contains("stands by"), "{}", diagnosis.stdout);
    buyer.chat(&first.address, MODEL, "Are you back?").await?;
    ensure!(store.interrupted_requests().await?.is_empty(), "a request has no bill");
    Ok(())
}

#[tokio::test]
async fn a_leader_whose_endpoint_lets_it_claim_nothing_makes_room_for_one_that_can() -> Result<()> {
    let server = Server::start()?;
    let url = server.url("postgres");
    let chain = Chain::start(Mining::Living).await?;
    let proxy = RpcProxy::start(chain.anvil.url()).await?;
    let backend = StubBackend::start(&[MODEL], Behavior::default()).await?;
    let mut seller = Seller::create(&chain, "first", &backend.base_url(), &[MODEL], |settings| {
        settings.store = Some(url.clone());
        settings.watching.min_claim = "0.000001".to_owned();
        settings.watching.yield_after_secs = 4;
    })
    .await?;
    let colleague = seller.colleague(&chain, "second").await?;
    seller.adjust(|settings| settings.rpc_url = proxy.url())?;
    proxy.set_fault("eth_estimateGas", Fault::Error(-32_000, "no state for that block"));
    let first = seller.start().await?;
    let second = Node::start(&colleague).await?;
    let buyer = Buyer::create(&chain, "client", &[], DEPOSIT).await?;
    buyer.chat(&first.address, MODEL, "Who pays whom?").await?;

    // Blocks come in all the while: only the claim fails.
    let channel = buyer.channels().await?[0];
    let owed = buyer.home.store().await?.head(channel).await?.amount;
    wait::until("the second to claim what the first could not", || async {
        Ok((chain.money.settled(channel).await? == owed).then_some(()))
    })
    .await?;
    ensure!(proxy.calls("eth_estimateGas") > 0, "the first never tried");
    buyer.chat(&second.address, MODEL, "And now?").await?;
    Ok(())
}

#[tokio::test]
async fn what_was_delivered_while_the_database_was_away_is_billed_when_it_is_back() -> Result<()> {
    let mut server = Server::start()?;
    let url = server.url("postgres");
    let held = Behavior {
        ending: Ending::HoldAfter(20),
        answer_tokens: Some(60),
        ..Behavior::default()
    };
    let shop = Shop::open_with(held, |settings| settings.store = Some(url.clone())).await?;
    let asking = shop.buyer.home.start(&shop.asking("Are you still there?"))?;
    shop.backend.holding(1).await?;
    let nowhere = tempfile::tempdir()?;
    let place = StoreUrl::parse(&url, nowhere.path())?;
    let store = Ledger::open_read_only(place.clone()).await?;
    let channel = shop.buyer.channels().await?[0];
    wait::until("an acknowledgement", || async {
        let interrupted = store.interrupted_requests().await?;
        Ok(interrupted
            .iter()
            .any(|request| request.acknowledged.is_some())
            .then_some(()))
    })
    .await?;
    store.close().await;

    server.stop_immediately()?;
    asking.kill().await?;
    shop.complaint("a bill that waits", |line| {
        line.contains("it is billed as soon as the store does").then_some(())
    })
    .await?;
    server.resume()?;
    let store = Ledger::open_read_only(place).await?;
    let bill = wait::until("the bill", || async {
        let bills = store.unlinked_bills(channel).await?;
        Ok(bills.first().map(|committed| *committed.bill()))
    })
    .await?;
    ensure!(bill.amount > TokenAmount::ZERO, "{bill:?}");
    ensure!(store.interrupted_requests().await?.is_empty(), "a request has no bill");

    // The same process serves on, and the client links what it owes.
    shop.backend.set_behavior(Behavior::default());
    shop.ask("Where were we?").await?;
    wait::until("both to be linked", || async {
        Ok((store.head(channel).await?.sequence == 2).then_some(()))
    })
    .await?;
    Ok(())
}
