//! A process that buys: the node's client, and a watcher that keeps its store in step with the chain.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use libp2p::PeerId;
use lloom_ledger::{Budget, Ledger, NewChannel, StoreDeployment};
use lloom_node::{
    Offer,
    client::{ChatError, ChatEvent, ChatRequest, Client, ClientConfig, Tolerance},
};
use lloom_receipts::{ChannelId, Domain, Keypair, ModelHash, TokenAmount, TokenCount};
use lloom_watcher::{Watcher, WatcherConfig};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::SimChain,
    choices::Choices,
    executor::{MODEL, chain_of},
    flaw::Flaw,
    network::Cable,
    process::Body,
    script::Script,
};

/// How one client is set up.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// Its hot key: it signs for its payer.
    pub signer: Keypair,
    /// Whose money it spends.
    pub payer: alloy::primitives::Address,
    /// That one's own key, for what the hot one may not sign.
    pub payer_key: Keypair,
    /// How it buys.
    pub config: ClientConfig,
    /// How it follows the chain.
    pub watcher: WatcherConfig,
    /// The contracts.
    pub domain: Domain,
}

/// What somebody has a client do.
#[derive(Debug)]
pub enum ClientOrder {
    /// Take note of a channel that is about to be opened.
    Record(NewChannel),
    /// Ask for an answer, and stop listening after so many pieces of it, if at all.
    Chat {
        /// Of whom.
        peer: PeerId,
        /// What it offers.
        offer: Box<Offer>,
        /// Which channel pays.
        channel: ChannelId,
        /// What.
        script: Script,
        /// After how many pieces.
        leaves_after: Option<u64>,
    },
    /// Bring a channel up to date.
    Sync {
        /// With whom.
        peer: PeerId,
        /// Which.
        channel: ChannelId,
    },
}

impl ClientSetup {
    /// Some client, which follows the chain as `watcher` says.
    ///
    /// # Panics
    /// Never: the secrets are keys.
    pub fn choose(number: u8, watcher: WatcherConfig, choices: &mut Choices) -> Self {
        let signer = Keypair::from_secret([0x40 + number; 32]).expect("the secret is a key");
        let payer_key = Keypair::from_secret([0xa0 + number; 32]).expect("the secret is a key");
        let budget = if choices.chance(300) {
            Budget {
                // A request may cost some 1,250; an answer costs a quarter of that.
                per_request: TokenAmount::new(choices.between(1_000, 2_500).into()),
                per_day: TokenAmount::new(choices.between(1_300, 8_000).into()),
                per_executor_per_day: match choices.chance(500) {
                    true => TokenAmount::new(choices.between(1_300, 4_000).into()),
                    false => TokenAmount::MAX,
                },
            }
        } else {
            Budget::UNLIMITED
        };
        Self {
            signer,
            payer: payer_key.address(),
            payer_key,
            config: ClientConfig {
                budget,
                tolerance: Tolerance {
                    output_slack: TokenCount::new(*choices.pick(&[0, 4, 64])),
                    ..Tolerance::default()
                },
                ..ClientConfig::default()
            },
            domain: watcher.domain,
            watcher: WatcherConfig {
                payees: Vec::new(),
                auto_claim: false,
                yields_after: Duration::from_secs(120),
                max_head_age: None,
                poll_interval: Duration::from_secs(choices.between(200, 500)),
                ..watcher
            },
        }
    }
}

/// Runs a client until it fails.
///
/// # Errors
/// Why it stopped.
pub async fn run(setup: ClientSetup, body: Body, mut orders: mpsc::Receiver<ClientOrder>) -> Result<(), String> {
    let deployment = StoreDeployment::from(&setup.domain);
    let opened = Ledger::open_in(&body.disk.store(), &deployment, body.environment()).await;
    let ledger = opened.map_err(|error| format!("cannot open the store: {}", chain_of(&error)))?;
    body.show(&ledger);
    let chain = SimChain::new(body.world.clone(), Arc::clone(&body.life));
    // It orders nothing: the handle may go.
    let (watcher, _handle) = Watcher::new(setup.watcher.clone(), chain, ledger.clone(), setup.signer.clone());
    let mut watching = tokio::spawn(watcher.run(CancellationToken::new()));
    let cable = Cable::new(body.world.clone(), Arc::clone(&body.life), setup.signer.address());
    let life = Arc::clone(&body.life);
    let mut config = setup.config;
    if body.world.lock().flaw == Some(Flaw::SpendBlindly) {
        config.budget.per_executor_per_day = TokenAmount::MAX;
    }
    let client = Client::new(config, ledger.clone(), setup.domain, setup.signer.clone(), cable)
        .with_chance(move || life.choose(Choices::word));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            ended = &mut watching => return Err(match ended {
                Ok(Ok(())) => String::from("the watcher stopped by itself"),
                Ok(Err(error)) => format!("the watcher stopped: {}", chain_of(&error)),
                Err(error) => format!("the watcher crashed: {error}"),
            }),
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    return Err(format!("a task crashed: {error}"));
                }
            }
            Some(order) = orders.recv() => {
                let (client, ledger, body) = (client.clone(), ledger.clone(), body.clone());
                tasks.spawn(async move { obey(&client, &ledger, &body, order).await });
            }
        }
    }
}

async fn obey(client: &Client, ledger: &Ledger, body: &Body, order: ClientOrder) {
    match order {
        ClientOrder::Record(channel) => {
            if let Err(error) = ledger.record_channel(channel).await {
                body.note(format_args!("does not record the channel: {error}"));
            }
        }
        ClientOrder::Chat {
            peer,
            offer,
            channel,
            script,
            leaves_after,
        } => {
            let operator = offer.operator;
            let body_json = json!({
                "messages": [{"role": "user", "content": "say something"}],
                "script": script.to_json(),
            });
            let Value::Object(fields) = body_json else {
                return;
            };
            let mut chat = client.chat(ChatRequest {
                peer,
                offer: *offer,
                model: ModelHash::of_id(MODEL),
                body: fields,
                max_output: None,
                channel: Some(channel),
            });
            let process = body.life.process();
            body.world.lock().dealings.begin(process, channel);
            let mut broke = false;
            let mut pieces = 0;
            while let Some(event) = chat.next().await {
                match event {
                    Ok(ChatEvent::Accepted { request, .. }) => {
                        body.note(format_args!("is answered by {operator}: {request}"));
                    }
                    Ok(ChatEvent::Chunk { .. }) => {
                        pieces += 1;
                        if leaves_after.is_some_and(|after| pieces > after) {
                            body.note(format_args!("stops listening"));
                            break;
                        }
                    }
                    Ok(ChatEvent::Completed(completion)) => body.note(format_args!(
                        "links {} for {}: {}{}",
                        completion.receipt.receipt().sequence,
                        completion.amount(),
                        completion.ending,
                        if completion.recorded { "" } else { ", not recorded" },
                    )),
                    Err(error) => {
                        broke |= matches!(error, ChatError::Wire(_));
                        body.note(format_args!("fails: {}", chain_of(&error)));
                    }
                }
            }
            body.world.lock().dealings.end(process, channel, broke);
        }
        ClientOrder::Sync { peer, channel } => match client.sync(channel, peer).await {
            Ok(report) => body.note(format_args!("syncs {channel}: {report:?}")),
            Err(error) => body.note(format_args!("does not sync {channel}: {}", chain_of(&error))),
        },
    }
}
