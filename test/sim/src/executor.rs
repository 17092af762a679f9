//! A process that sells: the node's executor and the watcher, on one store.

use std::{sync::Arc, time::Duration};

use alloy::primitives::Address;
use futures::future::join_all;
use lloom_ledger::{ChannelFilter, ExposurePolicy, Ledger, StoreDeployment};
use lloom_node::{
    ModelOffer, Offer,
    executor::{Executor, ExecutorConfig},
    peer_id,
};
use lloom_receipts::{
    BlockNumber, ChannelId, Domain, Keypair, ModelHash, PricePerMillion, Prices, TokenAmount, TokenCount,
};
use lloom_watcher::{ClaimFilter, FeePolicy, PlannerPolicy, Publish, Watcher, WatcherConfig, WatcherHandle};
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{CHAIN_ID, Genesis, SimChain},
    choices::Choices,
    flaw::Flaw,
    process::Body,
    script,
};

/// The name of the model that everybody sells.
pub const MODEL: &str = "scripted";
/// Output tokens of an increment.
pub const INCREMENT: u32 = 8;
/// How long the watcher may see nothing of the chain before requests are refused.
const MAX_CHAIN_SILENCE: Duration = Duration::from_secs(300);
/// How often that is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(20);
/// How long a start waits until it tries again to see the chain.
const RETRY: Duration = Duration::from_secs(10);
/// Orders that wait at most.
pub const ORDERS: usize = 64;

/// A price, base units a token.
fn price(units: u128) -> PricePerMillion {
    PricePerMillion::new(TokenAmount::new(units * 1_000_000))
}

/// How one executor is set up.
#[derive(Clone, Debug)]
pub struct ExecutorSetup {
    /// Its hot key.
    pub operator: Keypair,
    /// Who is paid.
    pub payee: Address,
    /// What it sells.
    pub offer: Offer,
    /// How it treats its clients.
    pub config: ExecutorConfig,
    /// How it claims.
    pub watcher: WatcherConfig,
    /// The contracts.
    pub domain: Domain,
}

/// What somebody orders an executor to do.
#[derive(Debug)]
pub enum ExecutorOrder {
    /// Claim everything.
    Claim,
    /// Close a channel.
    Close(ChannelId),
}

impl ExecutorSetup {
    /// Some executor.
    ///
    /// # Panics
    /// Never: the secrets are keys.
    pub fn choose(number: u8, genesis: &Genesis, choices: &mut Choices) -> Self {
        let operator = Keypair::from_secret([0x10 + number; 32]).expect("the secret is a key");
        let payee = Address::repeat_byte(0xe0 + number);
        let domain = genesis.domain();
        let confirmations = choices.between(2, 6);
        let offer = Offer {
            chain_id: CHAIN_ID,
            escrow: domain.escrow(),
            settlement: domain.settlement(),
            token: genesis.token,
            payee,
            operator: operator.address(),
            models: vec![ModelOffer {
                id: MODEL.to_owned(),
                hash: ModelHash::of_id(MODEL),
                prices: Prices {
                    input: price(1),
                    output: price(10),
                },
                max_input: TokenCount::new(2_000),
                max_output: TokenCount::new(64),
            }],
            increment: TokenCount::new(INCREMENT),
            min_deposit: TokenAmount::new(1_000),
            confirmations,
            capacity: 8,
            agent: String::from("sim"),
        };
        let trusting = choices.chance(250);
        let exposure = if trusting {
            ExposurePolicy {
                // What begins without a voucher takes some 700.
                start: TokenAmount::new(choices.between(1, 1_200).into()),
                per_mille_of_settled: choices.between(0, 500) as u32,
                maximum: TokenAmount::new(2_000),
            }
        } else {
            ExposurePolicy::default()
        };
        let watcher = WatcherConfig {
            domain,
            registry: genesis.contracts.registry,
            start_block: BlockNumber::new(1),
            payees: vec![(payee, genesis.token)],
            confirmations,
            poll_interval: Duration::from_secs(choices.between(25, 90)),
            auto_claim: true,
            yields_after: Duration::from_secs(120),
            max_head_age: None,
            planner: PlannerPolicy {
                min_claim: TokenAmount::new(*choices.pick(&[1, 2_000, 1_000_000])),
                publish: *choices.pick(&[Publish::Vouchers, Publish::Receipts, Publish::ReceiptsOnClose]),
                ..PlannerPolicy::default()
            },
            fees: FeePolicy {
                patience: Duration::from_secs(*choices.pick(&[30, 90])),
                ..FeePolicy::default()
            },
        };
        Self {
            operator,
            payee,
            offer,
            config: ExecutorConfig {
                exposure,
                ..ExecutorConfig::default()
            },
            watcher,
            domain,
        }
    }
}

/// Runs an executor as `lloomctl node run` does, until it fails.
///
/// # Errors
/// Why it stopped.
pub async fn run(setup: ExecutorSetup, body: Body, mut orders: mpsc::Receiver<ExecutorOrder>) -> Result<(), String> {
    let deployment = StoreDeployment::from(&setup.domain);
    let opened = Ledger::open_in(&body.disk.store(), &deployment, body.environment()).await;
    let ledger = opened.map_err(|error| format!("cannot open the store: {}", chain_of(&error)))?;
    body.show(&ledger);
    let mut config = setup.config;
    if body.world.lock().flaw == Some(Flaw::TrustBlindly) {
        config.exposure.start = config.exposure.maximum;
    }
    let executor = Executor::new(
        config,
        ledger.clone(),
        setup.domain,
        setup.operator.clone(),
        script::backend(&body.life),
        setup.offer.clone(),
    );
    let recovered = executor.recover().await.map_err(|error| chain_of(&error))?;
    if recovered > 0 {
        body.note(format_args!("bills {recovered} interrupted answers"));
    }
    show_bills(&ledger, &body).await.map_err(|error| chain_of(&error))?;

    let chain = SimChain::new(body.world.clone(), Arc::clone(&body.life));
    let (watcher, handle) = Watcher::new(setup.watcher.clone(), chain, ledger.clone(), setup.operator.clone());
    let mut watching = tokio::spawn(watcher.run(CancellationToken::new()));
    // Serving on what the chain was before would serve channels that are closing.
    loop {
        let synced = handle.synced().await;
        match synced {
            Ok(_) => break,
            Err(error) if watching.is_finished() => return Err(stopped(&mut watching, &error).await),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
    let peer = peer_id(&setup.operator);
    let mut incoming = body.world.lock().hub.listen(peer);
    body.note(format_args!("serves"));
    let mut streams = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            ended = &mut watching => return Err(match ended {
                Ok(Ok(())) => String::from("the watcher stopped by itself"),
                Ok(Err(error)) => format!("the watcher stopped: {}", chain_of(&error)),
                Err(error) => format!("the watcher crashed: {error}"),
            }),
            _ = look.tick() => executor.set_chain_out_of_sight(
                (!sees_chain(&ledger, &handle)).then_some(&"the watcher is silent"),
            ),
            Some(ended) = streams.join_next() => {
                if let Err(error) = ended {
                    return Err(format!("a task crashed: {error}"));
                }
            }
            Some(order) = orders.recv() => {
                let handle = handle.clone();
                let body = body.clone();
                streams.spawn(async move { obey(order, handle, body).await });
            }
            Some(incoming) = incoming.recv() => {
                let executor = executor.clone();
                let stream = incoming.stream.of(&body.life);
                streams.spawn(async move { executor.serve(stream, incoming.from).await });
            }
        }
    }
}

async fn obey(order: ExecutorOrder, handle: WatcherHandle, body: Body) {
    match order {
        ExecutorOrder::Claim => match handle.claim_now(ClaimFilter::default()).await {
            Ok(report) => body.note(format_args!("claimed {:?}", report.rows)),
            Err(error) => body.note(format_args!("could not claim: {error}")),
        },
        ExecutorOrder::Close(channel) => match handle.close_channel(channel).await {
            Ok(report) => body.note(format_args!("closed {channel} at {}", report.settled)),
            Err(error) => body.note(format_args!("could not close {channel}: {error}")),
        },
    }
}

fn sees_chain(ledger: &Ledger, handle: &WatcherHandle) -> bool {
    let last_progress = handle.status().borrow().last_progress;
    last_progress.is_none_or(|at| ledger.now().since(at) <= MAX_CHAIN_SILENCE)
}

async fn stopped<E: std::error::Error>(
    watching: &mut tokio::task::JoinHandle<Result<(), lloom_watcher::WatcherError>>,
    order: &E,
) -> String {
    match join_all([watching]).await.pop() {
        Some(Ok(Err(error))) => format!("the watcher stopped: {}", chain_of(&error)),
        _ => order.to_string(),
    }
}

/// What a crash made the store bill is seen by everybody who asks.
async fn show_bills(ledger: &Ledger, body: &Body) -> Result<(), lloom_ledger::LedgerError> {
    for channel in ledger.channels(ChannelFilter::default()).await? {
        for bill in ledger.unlinked_bills(channel.id).await? {
            body.world.lock().witness.see_bill(*bill.bill());
        }
    }
    Ok(())
}

/// An error with all that caused it.
pub fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
