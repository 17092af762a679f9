//! A watcher in this process, made from the configuration.

use std::time::Duration;

use alloy::primitives::Address;
use lloom_ledger::Ledger;
use lloom_receipts::{BlockNumber, Keypair};
use lloom_watcher::{
    FeePolicy, HandleError, PlannerPolicy, Publish as PublishPolicy, RpcChain, Watcher, WatcherConfig, WatcherError,
    WatcherHandle,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Publish, WatcherSettings},
    deployment_block,
    failure::{Failure, Kind, Result},
    network::Network,
    onchain::{OnChain, OperatorStatus, chain_failure},
    session::Session,
    transact::{ANOTHER_CHAIN, poll_interval, send_failure},
};

/// A running watcher.
#[derive(Debug)]
pub struct Watching {
    /// Takes orders.
    pub handle: WatcherHandle,
    /// The chain it follows.
    pub chain: RpcChain,
    task: JoinHandle<std::result::Result<(), WatcherError>>,
    stop: CancellationToken,
}

/// Whether a watcher claims by itself, or only when it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiative {
    /// By itself.
    Own,
    /// On orders alone.
    Orders,
}

/// The payee this home earns for: config.toml's, or the key itself.
///
/// # Errors
/// When there is no configuration or key.
pub fn payee(session: &Session) -> Result<Address> {
    match session.config()?.executor.as_ref().and_then(|executor| executor.payee) {
        Some(payee) => Ok(payee),
        None => session.address(),
    }
}

/// Checks that the chain lets `operator` claim and close for `payee`.
///
/// # Errors
/// When it doesn't.
pub async fn check_operator(on_chain: &OnChain, payee: Address, operator: Address) -> Result {
    if payee == operator || on_chain.operator_status(payee, operator).await? == OperatorStatus::Active {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Refused,
        format!("the payee {payee} has not named {operator} as its operator"),
    )
    .hint(format!(
        "with the payee's key, once: `lloomctl operator add {operator}`"
    )))
}

impl Watching {
    /// Starts one on `ledger`, which signs with `key`.
    ///
    /// # Errors
    /// When the configuration is wrong, or the chain doesn't tell where to begin.
    pub async fn start(
        session: &Session,
        on_chain: &OnChain,
        ledger: Ledger,
        key: Keypair,
        initiative: Initiative,
    ) -> Result<Self> {
        let start_block = deployment_block::of(session, on_chain).await?;
        let config = watcher_config(session, payee(session)?, start_block, initiative)?;
        let chain = session.chain()?;
        let (watcher, handle) = Watcher::new(config, chain.clone(), ledger, key);
        let stop = CancellationToken::new();
        let task = tokio::spawn(watcher.run(stop.clone()));
        Ok(Self {
            handle,
            chain,
            task,
            stop,
        })
    }

    /// Waits until it fails, which it doesn't while all is well.
    pub async fn failed(&mut self) -> Failure {
        match (&mut self.task).await {
            Ok(Ok(())) => Failure::new(Kind::Failed, "the watcher stopped by itself"),
            Ok(Err(error)) => watcher_failure(error),
            Err(error) => Failure::of(Kind::Failed, error).while_("the watcher crashed"),
        }
    }

    /// Stops it. What it decided is in the ledger.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the watcher stopped with an error"
            );
        }
    }

    /// Runs an order, unless the watcher fails first.
    ///
    /// # Errors
    /// The order's, or the watcher's.
    pub async fn obey<T>(&mut self, order: impl Future<Output = std::result::Result<T, HandleError>>) -> Result<T> {
        tokio::select! {
            // An order fails when its watcher does: the watcher knows why.
            biased;
            failure = self.failed() => Err(failure),
            result = order => result.map_err(handle_failure),
        }
    }
}

fn watcher_config(
    session: &Session,
    payee: Address,
    start_block: u64,
    initiative: Initiative,
) -> Result<WatcherConfig> {
    let settings = &session.config()?.watcher;
    let network = &session.network;
    Ok(WatcherConfig {
        domain: network.domain(),
        registry: network.contracts.registry,
        start_block: BlockNumber::new(start_block),
        payees: vec![(payee, network.token.address)],
        confirmations: confirmations(settings, network),
        // A command that waits for one claim doesn't have to be polite for long.
        poll_interval: match initiative {
            Initiative::Own => settings.poll_interval_millis.map_or_else(
                || own_interval(network),
                |milliseconds| Duration::from_millis(milliseconds.max(10)),
            ),
            Initiative::Orders => poll_interval(network),
        },
        auto_claim: initiative == Initiative::Own,
        planner: planner(settings, network)?,
        fees: FeePolicy::default(),
    })
}

/// How often a watcher that runs for long looks at the chain when nobody chose.
const fn own_interval(network: &Network) -> Duration {
    if network.development {
        Duration::from_millis(250)
    } else {
        Duration::from_secs(2)
    }
}

/// How deep a block has to lie.
pub fn confirmations(settings: &WatcherSettings, network: &Network) -> u64 {
    settings.confirmations.unwrap_or(network.confirmations)
}

fn planner(settings: &WatcherSettings, network: &Network) -> Result<PlannerPolicy> {
    let amount = |key: &str, text: &str| network.token.parse_setting(key, text);
    Ok(PlannerPolicy {
        min_value_over_fee: settings.min_value_over_fee,
        native_price_in_token: settings
            .coin_price
            .as_ref()
            .map(|price| amount("watcher.coin_price", price.as_str()))
            .transpose()?,
        min_claim: amount("watcher.min_claim", settings.min_claim.as_str())?,
        publish: match settings.publish {
            Publish::Vouchers => PublishPolicy::Vouchers,
            Publish::Receipts => PublishPolicy::Receipts,
            Publish::ReceiptsOnClose => PublishPolicy::ReceiptsOnClose,
        },
        safety_margin: Duration::from_secs(settings.safety_margin_secs),
        exposure_near: amount(
            "watcher.claim_when_deposit_left",
            settings.claim_when_deposit_left.as_str(),
        )?,
        max_rows: settings.max_rows,
    })
}

fn watcher_failure(error: WatcherError) -> Failure {
    match error {
        WatcherError::Chain(error) => chain_failure(error, "cannot follow the chain"),
        WatcherError::ForeignChain { .. } => Failure::of(Kind::Chain, error).hint(ANOTHER_CHAIN),
        WatcherError::Send(error) => send_failure(error, "cannot look after the transactions sent"),
        other => Failure::of(Kind::Store, other).while_("the watcher stopped"),
    }
}

/// An order's failure.
pub fn handle_failure(error: HandleError) -> Failure {
    match error {
        HandleError::Unavailable { .. } => {
            Failure::of(Kind::Chain, error).hint("is the endpoint up? Another one can be given with --rpc-url")
        }
        HandleError::Send(error) => send_failure(error, "cannot settle"),
        HandleError::Close(_) => Failure::of(Kind::Refused, error),
        HandleError::Ledger(_) => Failure::of(Kind::Store, error),
        other => Failure::of(Kind::Failed, other),
    }
}
