//! One executor, one client, a backend and a chain: the stage of most stories.

use eyre::{Result, ensure, eyre};
use lloom_e2e::{Behavior, Buyer, Chain, Finished, Home, Mining, Node, Seller, Settings, StubBackend, wait};
use lloom_receipts::{ChannelId, Receipt, ReceiptHead, TokenAmount, Verified};
use serde_json::Value;

/// What is sold.
pub const MODEL: &str = "stub-1";
/// What the client puts into the escrow, token units.
pub const DEPOSIT: &str = "10";

pub struct Shop {
    pub chain: Chain,
    pub backend: StubBackend,
    pub seller: Seller,
    node: Option<Node>,
    pub buyer: Buyer,
}

impl Shop {
    /// Opens a shop on a chain that lives, with everything as usual.
    pub async fn open() -> Result<Self> {
        Self::open_with(Behavior::default(), |_| ()).await
    }

    /// Opens a shop whose backend behaves so, and whose executor's settings are adjusted.
    pub async fn open_with(behavior: Behavior, adjust: impl FnOnce(&mut Settings)) -> Result<Self> {
        Self::open_on(Chain::start(Mining::Living).await?, behavior, adjust).await
    }

    /// The same on a chain on which others live already.
    pub async fn open_on(chain: Chain, behavior: Behavior, adjust: impl FnOnce(&mut Settings)) -> Result<Self> {
        let backend = StubBackend::start(&[MODEL], behavior).await?;
        let seller = Seller::create(&chain, "executor", &backend.base_url(), &[MODEL], adjust).await?;
        let node = seller.start().await?;
        let buyer = Buyer::create(&chain, "client", &[], DEPOSIT).await?;
        Ok(Self {
            chain,
            backend,
            seller,
            node: Some(node),
            buyer,
        })
    }

    /// Buys one answer, at the executor's own address.
    pub async fn ask(&self, prompt: &str) -> Result<Value> {
        self.buyer.chat(self.address(), MODEL, prompt).await
    }

    /// The arguments of `lloomctl` that buy one answer.
    pub fn asking<'a>(&'a self, prompt: &'a str) -> [&'a str; 6] {
        ["chat", "--executor", self.address(), "--model", MODEL, prompt]
    }

    /// Where the executor can be dialed.
    pub fn address(&self) -> &str {
        self.node.as_ref().map_or("", |node| &node.address)
    }

    /// Where the executor is monitored.
    pub fn monitoring(&self) -> &str {
        self.node.as_ref().map_or("", |node| &node.monitoring)
    }

    /// Waits for a line of the executor's log that `wanted` makes something of.
    pub async fn complaint<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let node = self.node.as_ref().ok_or_else(|| eyre!("the executor doesn't run"))?;
        node.process.complaint(what, wanted).await
    }

    /// `kill -9` of the executor.
    pub async fn kill_executor(&mut self) -> Result<()> {
        match self.node.take() {
            Some(node) => node.process.kill().await,
            None => Ok(()),
        }
    }

    /// Starts the executor again, at another address.
    pub async fn start_executor(&mut self) -> Result<()> {
        self.node = Some(self.seller.start().await?);
        Ok(())
    }

    /// Lets the executor end in an orderly way.
    pub async fn stop_executor(&mut self) -> Result<Finished> {
        let node = self.node.take().ok_or_else(|| eyre!("the executor doesn't run"))?;
        node.process.stop().await
    }

    /// The one channel there is.
    pub async fn channel(&self) -> Result<ChannelId> {
        let channels = self.seller.channels().await?;
        ensure!(channels.len() == 1, "there are {} channels", channels.len());
        Ok(channels[0])
    }

    /// The one channel's receipts: [`same_receipts`].
    pub async fn receipts(&self) -> Result<Vec<Receipt<Verified>>> {
        same_receipts(&self.seller.home, &self.buyer.home, self.channel().await?).await
    }

    /// Claims, and checks that the chain pays the payee exactly what the newest receipt says, and only once.
    pub async fn settle(&self) -> Result<TokenAmount> {
        let channel = self.channel().await?;
        let receipts = self.receipts().await?;
        let newest = receipts.last().ok_or_else(|| eyre!("nothing was bought"))?;
        let owed = newest.receipt().cumulative_amount;
        self.seller.home.json(&["claim"]).await?;
        self.settled(owed).await?;
        ensure!(
            self.chain.money.held_by(self.seller.payee.address()).await? == owed,
            "the payee got something else than {owed}"
        );
        let totals = self.chain.money.settlements(channel).await?;
        let mut grown = totals.clone();
        grown.sort_unstable();
        grown.dedup();
        ensure!(totals == grown, "totals were settled twice, or fell: {totals:?}");
        Ok(owed)
    }

    /// Waits until the chain has settled `amount`.
    pub async fn settled(&self, amount: TokenAmount) -> Result<()> {
        let channel = self.channel().await?;
        wait::until(&format!("{amount} to be settled"), || async {
            Ok((self.chain.money.settled(channel).await? == amount).then_some(()))
        })
        .await
    }
}

/// All receipts of `channel` that `home` holds.
pub async fn receipts_of(home: &Home, channel: ChannelId) -> Result<Vec<Receipt<Verified>>> {
    let store = home.store().await?;
    Ok(store.receipts(channel, 1, u32::MAX).await?)
}

/// Checks that both sides hold the same unbroken chain of dual-signed receipts, and gives it.
pub async fn same_receipts(seller: &Home, buyer: &Home, channel: ChannelId) -> Result<Vec<Receipt<Verified>>> {
    let sold = receipts_of(seller, channel).await?;
    let bought = receipts_of(buyer, channel).await?;
    ensure!(
        sold == bought,
        "the executor holds {} receipts, the client {}",
        sold.len(),
        bought.len()
    );
    let mut head = ReceiptHead::empty(channel);
    for receipt in &sold {
        head.check_extends(receipt.receipt())?;
        head = ReceiptHead::at(receipt.receipt());
    }
    Ok(sold)
}
