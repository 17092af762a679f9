//! An executor's watcher alone, between a chain with a fault proxy before it and a store that sells: the stage of the
//! stories in which things break.

use std::time::Duration;

use eyre::{Report, Result, ensure};
use lloom_e2e::{Chain, Mining, Process, RpcProxy, Seller, Settings, Till, Truth, wait};

/// Blocks above one that is final.
pub const CONFIRMATIONS: u64 = 3;
/// Milliseconds in which an answer is heard, and what it says is recorded.
pub const A_MOMENT: u64 = 30;

pub struct Stand {
    pub chain: Chain,
    pub proxy: RpcProxy,
    pub seller: Seller,
    pub till: Till,
}

impl Stand {
    /// Opens one with so many patrons, whose watcher claims whatever there is to claim.
    pub async fn open(patrons: u8, adjust: impl FnOnce(&mut Settings)) -> Result<Self> {
        let chain = Chain::start(Mining::Living).await?;
        let proxy = RpcProxy::start(chain.anvil.url()).await?;
        let seller = Seller::create(&chain, "executor", "http://127.0.0.1:9/v1", &["none"], |settings| {
            settings.rpc_url = proxy.url();
            settings.rpc_timeout_secs = 1;
            settings.watching.min_claim = "0.000001".to_owned();
            settings.watching.confirmations = CONFIRMATIONS;
            settings.watching.replace_after_secs = 3;
            adjust(settings);
        })
        .await?;
        let till = Till::open(&chain, &seller, patrons).await?;
        let stand = Self {
            chain,
            proxy,
            seller,
            till,
        };
        let watch = stand.watch().await?;
        let store = stand.seller.home.store().await?;
        wait::until("the deposits to count", || async {
            for patron in &stand.till.patrons {
                let channel = store.channel(patron.channel).await?;
                if channel.and_then(|channel| channel.confirmed).is_none() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await?;
        store.close().await;
        stop(watch).await?;
        Ok(stand)
    }

    /// Starts a watcher, and waits until it works.
    pub async fn watch(&self) -> Result<Process> {
        let watch = self.seller.home.start(&["watch"])?;
        ready(&watch).await?;
        Ok(watch)
    }

    /// Waits until everything is paid.
    pub async fn paid(&self) -> Result<()> {
        wait::until_within(wait::LIMIT * 2, "everything to be paid", || async {
            Ok(self.till.is_paid(&self.chain).await?.then_some(()))
        })
        .await
    }

    /// Waits until everything is paid and final, with a watcher at work, and checks that all of it is true.
    pub async fn ends_well(&self) -> Result<Truth> {
        self.paid().await?;
        Truth::settles(&self.seller).await?;
        Truth::check(&self.chain, &self.seller, &self.till.dues()).await
    }
}

/// Waits until a watcher works.
pub async fn ready(watch: &Process) -> Result<()> {
    watch
        .line("ready line", |line| line.contains("\"ready\":true").then_some(()))
        .await
}

/// Has a watcher end in an orderly way.
pub async fn stop(watch: Process) -> Result<()> {
    let ended = watch.stop().await?;
    ensure!(
        ended.code() == Some(0),
        "the watcher ended with {}: {}",
        ended.status,
        ended.stderr
    );
    Ok(())
}

/// `kill -9` of a process `later` than the chain is called for the `moment`th time. A call is seen before it is answered:
/// without a delay, hardly any process would die while it records what it has learnt. `false` when it ended by itself
/// before: what it finds at its start it does not forgive, and whoever runs it starts it again.
pub async fn kill_at(moment: u64, later: Duration, proxy: &RpcProxy, mut process: Process) -> Result<bool> {
    let is_called = async {
        proxy.called_at_all(moment).await?;
        tokio::time::sleep(later).await;
        Ok::<_, Report>(())
    };
    tokio::pin!(is_called);
    while process.is_running() {
        if let Ok(called) = tokio::time::timeout(wait::LOOK_EVERY, &mut is_called).await {
            called?;
            process.kill().await?;
            return Ok(true);
        }
    }
    let ended = process.finish().await?;
    ensure!(
        ended.code() == Some(5),
        "it ended with {}: {}",
        ended.status,
        ended.stderr
    );
    Ok(false)
}
