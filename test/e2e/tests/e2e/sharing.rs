//! Several nodes of one payee on one database.

use eyre::{Result, ensure, eyre};
use lloom_e2e::{Behavior, Buyer, Chain, Mining, Node, Seller, StubBackend, wait};
use lloom_ledger::{Ledger, StoreUrl};
use lloom_postgres::Server;
use lloom_receipts::TokenAmount;

use crate::shop::{DEPOSIT, MODEL};

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
