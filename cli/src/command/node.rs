//! The commands of `node`.

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    time::Duration,
};

use alloy::primitives::Address;
use clap::{Args, Subcommand};
use lloom_ledger::{ExposurePolicy, Ledger};
use lloom_node::{
    Backend, BackendConfig, IncomingStreams, ModelOffer, NetworkHandle, Offer, Secret,
    executor::{Executor, ExecutorConfig},
};
use lloom_receipts::{MAX_DEADLINE_AHEAD, ModelHash, PricePerMillion, Prices, TokenCount};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    command::{devnet::interrupted, watch},
    config::{Config, ExecutorSettings},
    control::{ControlSocket, Served},
    date::utc,
    delegating::{self, Delegating},
    failure::{Failure, Kind, OrFail as _, Result},
    monitoring::{Monitoring, Role},
    onchain::OperatorStatus,
    output::{Align, Report, Table, write_pairs},
    peers::{join_listening, network_failure},
    session::Session,
    sight::Sight,
    watching::{Initiative, Watching, confirmations, handle_failure, no_operator, obstacle, payee, sight, standing},
};

/// How long running answers may take to end once the node was told to stop.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// How often it is looked at whether the chain is in sight, and whether the payee names the key.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Commands of `node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    Run(RunArgs),
}

/// Sell inference: serve requests, collect receipts, claim the money
///
/// Serves what config.toml's [executor] section offers, answered by the LLM server behind it, until Ctrl-C or SIGTERM:
/// running answers are then ended and billed. Killing it at any moment loses nothing that was authorized.
///
/// Where the payee has removed this home's key from its operators, nothing is served, but what vouchers cover is claimed,
/// as by `watch`. Once the key is named again, start it again to serve. Where it is removed while the node runs, requests are
/// refused from then on, until it is named again.
#[derive(Debug, Args)]
pub struct RunArgs {}

/// Tells `executor` whether its payee names it, for ever: as the store has it, which is the newest block, whichever home's
/// watcher follows the chain.
async fn heed_payee(executor: Executor, ledger: Ledger, payee: Address, operator: Address) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        match ledger.operators(payee).await {
            Ok(operators) => executor.set_named(payee == operator || operators.contains(&(operator, true))),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot look whether the payee names this node"
                );
            }
        }
    }
}

/// Runs one.
///
/// # Errors
/// When it can't start, or can't go on.
pub async fn run(session: &Session, command: NodeCommand) -> Result {
    let NodeCommand::Run(RunArgs {}) = command;
    let stop = interrupted();
    tokio::pin!(stop);
    let node = tokio::select! {
        node = Box::pin(Node::start(session)) => node?,
        () = &mut stop => return Ok(()),
    };
    let Some(node) = node else {
        // Nobody may be there to read a refusal, while payers ask for what is unclaimed.
        session
            .output
            .note("Nothing is served. Once the payee names this key again, start it again to serve.");
        return Box::pin(watch::until(session, stop)).await;
    };
    session.output.print(&node.ready)?;
    node.serve(session, stop).await
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    peer_id: String,
    addresses: Vec<String>,
    operator: Address,
    payee: Address,
    network: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered.
    monitoring: Option<String>,
    models: Vec<Model>,
    #[serde(skip)]
    symbol: String,
}

#[derive(Serialize)]
struct Model {
    id: String,
    input_price: String,
    output_price: String,
}

impl Report for Ready {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        write_pairs(
            out,
            &[
                ("Network", self.network.clone()),
                ("Operator", self.operator.to_string()),
                ("Paid to", self.payee.to_string()),
            ],
        )?;
        writeln!(out)?;
        let mut table = Table::new(&[
            ("MODEL", Align::Left),
            ("INPUT", Align::Right),
            ("OUTPUT", Align::Right),
        ]);
        for model in &self.models {
            table.row([model.id.clone(), model.input_price.clone(), model.output_price.clone()]);
        }
        table.write(out)?;
        writeln!(out, "{} per million tokens\n", self.symbol)?;
        writeln!(out, "Clients reach this node at")?;
        for address in &self.addresses {
            writeln!(out, "  {address}")?;
        }
        if let Some(monitoring) = &self.monitoring {
            writeln!(out, "Metrics and readiness are at {monitoring}")?;
        }
        writeln!(out, "Ctrl-C stops it.")
    }
}

struct Node {
    ready: Ready,
    ledger: Ledger,
    watching: Watching,
    socket: ControlSocket,
    network: NetworkHandle,
    incoming: IncomingStreams,
    delegating: Delegating,
    executor: Executor,
    monitoring: Monitoring,
    /// How long the watcher may see nothing of the chain before requests are refused.
    sight: Sight,
}

impl Node {
    /// `None` when the payee has removed the key: nobody would take its offers, nor could its bills be published.
    async fn start(session: &Session) -> Result<Option<Self>> {
        let config = session.config()?;
        let settings = config.executor()?;
        let payee = payee(session)?;
        let operator = session.address()?;
        let offer = offer(session, config, settings, payee, operator)?;
        let backend = backend(settings)?;
        let executor_config = executor_config(session, settings)?;
        delegating::check(session)?;

        let on_chain = session.on_chain().await?;
        let status = standing(&on_chain, payee, operator).await?;
        if status == OperatorStatus::Retired {
            return Ok(None);
        }
        no_operator(status, payee, operator).map_or(Ok(()), Err)?;
        check_models(session, &backend, settings).await;
        let key = session.unlock()?;
        let ledger = session.open_store().await?;
        let executor = Executor::new(
            executor_config,
            ledger.clone(),
            session.network.domain(),
            key.clone(),
            backend,
            offer.clone(),
        );
        let mut watching = Watching::start(session, &on_chain, ledger.clone(), key.clone(), Initiative::Own).await?;
        let role = Role::Executor(executor.metrics());
        let monitoring = Monitoring::start(session, &ledger, &watching, operator, role).await?;
        // How it stands while it catches up is what people ask then.
        let socket = ControlSocket::open(
            &session.home.control_socket(),
            Served {
                watcher: watching.handle.clone(),
                token: session.network.token.clone(),
                monitoring: monitoring.url(),
                network: monitoring.network(),
            },
        )?;
        // Serving on what the chain was before this node was off would serve channels that are closing.
        let handle = watching.handle.clone();
        watching
            .obey(async { handle.synced().await.map_err(handle_failure) })
            .await?;
        // Nor is anything billed before the chain had its chance to show that the store is an old copy.
        let recovered = executor
            .recover()
            .await
            .or_fail(Kind::Store, || "cannot bill what an earlier run left".to_owned())?;
        warn_of_restore(&ledger).await?;
        if recovered > 0 {
            session.output.note(format!(
                "Billed {recovered} answers that the last run was interrupted in."
            ));
        }

        let (network, incoming) = join_listening(session, &key).await?;
        monitoring.joined(&network);
        network
            .serve_offer(offer)
            .await
            .map_err(|error| network_failure(error, "cannot announce the offer"))?;
        let delegating = Delegating::start(session, network.clone(), ledger.clone())?;
        let ready = Ready {
            ready: true,
            peer_id: network.peer_id().to_string(),
            addresses: network
                .all_listen_addresses()
                .await
                .iter()
                .map(ToString::to_string)
                .collect(),
            operator,
            payee,
            network: session.network.name.clone(),
            monitoring: monitoring.url(),
            models: settings
                .models
                .iter()
                .map(|model| Model {
                    id: model.id.clone(),
                    input_price: model.input_price.as_str().to_owned(),
                    output_price: model.output_price.as_str().to_owned(),
                })
                .collect(),
            symbol: session.network.token.symbol.clone(),
        };
        Ok(Some(Self {
            ready,
            ledger,
            watching,
            socket,
            network,
            incoming,
            delegating,
            executor,
            monitoring,
            sight: sight(session, Duration::from_secs(settings.max_chain_silence_secs))?,
        }))
    }

    async fn serve(mut self, session: &Session, stop: impl Future<Output = ()>) -> Result {
        let mut streams = JoinSet::new();
        let executor = self.executor.clone();
        let left_open = executor.look_after_left_open();
        let (payee, operator) = (self.ready.payee, self.ready.operator);
        let heeding = heed_payee(self.executor.clone(), self.ledger.clone(), payee, operator);
        tokio::pin!(left_open, heeding, stop);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let result = loop {
            tokio::select! {
                biased;
                () = &mut stop => break Ok(()),
                // Whoever serves without a watcher serves channels that may be closing.
                failure = self.watching.failed() => break Err(failure),
                () = self.network.stopped() => {
                    break Err(Failure::new(Kind::Network, "the network stopped by itself"));
                }
                () = &mut left_open => {}
                () = &mut heeding => {}
                _ = look.tick() => {
                    self.monitoring.beat();
                    let obstacle = obstacle(&self.watching.handle, self.sight);
                    self.executor.set_chain_out_of_sight(obstacle.as_ref().map(|why| why as &dyn Display));
                }
                Some(_) = streams.join_next() => {}
                Some(incoming) = self.incoming.next() => {
                    let executor = self.executor.clone();
                    streams.spawn(async move { executor.serve(incoming.stream, incoming.address).await });
                }
            }
        };
        session.output.note(match self.executor.running() {
            0 => "Stopping.".to_owned(),
            count => format!("Stopping; ending and billing {count} running answers."),
        });
        self.monitoring.stopping();
        self.executor.drain();
        let drained = async { while streams.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, drained).await.is_err() {
            tracing::warn!("some streams did not end in time; the next run bills what their clients acknowledged");
            streams.shutdown().await;
        }
        self.delegating.stop().await;
        self.network.shutdown().await;
        if result.is_ok() {
            self.watching.stop().await;
        }
        // Before another process may have the store, and a socket at the same place.
        drop(self.socket);
        self.ledger.close().await;
        result
    }
}

/// What this home sells.
///
/// # Errors
/// When a price or limit of the configuration is wrong.
pub fn offer(
    session: &Session,
    config: &Config,
    settings: &ExecutorSettings,
    payee: Address,
    operator: Address,
) -> Result<Offer> {
    let network = &session.network;
    let price = |key: &str, text: &str| network.token.parse_setting(key, text).map(PricePerMillion::new);
    if settings.models.is_empty() {
        return Err(
            Failure::new(Kind::Configuration, "config.toml's [executor] section has no models")
                .hint("add [[executor.models]] with id, input_price and output_price"),
        );
    }
    let models = settings
        .models
        .iter()
        .map(|model| {
            Ok(ModelOffer {
                id: model.id.clone(),
                hash: ModelHash::of_id(&model.id),
                prices: Prices {
                    input: price("executor.models.input_price", model.input_price.as_str())?,
                    output: price("executor.models.output_price", model.output_price.as_str())?,
                },
                max_input: TokenCount::new(model.max_input_tokens),
                max_output: TokenCount::new(model.max_output_tokens),
            })
        })
        .collect::<Result<_>>()?;
    let offer = Offer {
        chain_id: network.chain_id,
        escrow: network.contracts.escrow,
        settlement: network.contracts.settlement,
        token: network.token.address,
        payee,
        operator,
        models,
        increment: TokenCount::new(settings.increment_tokens),
        min_deposit: network
            .token
            .parse_setting("executor.min_deposit", settings.min_deposit.as_str())?,
        confirmations: confirmations(&config.watcher, network),
        capacity: settings.max_concurrent_requests,
        agent: concat!("lloomctl/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    offer.check(operator).or_fail(Kind::Configuration, || {
        "config.toml's [executor] section makes no offer".to_owned()
    })?;
    Ok(offer)
}

/// The LLM server.
///
/// # Errors
/// When its URL, or its key's file, is no use.
pub fn backend(settings: &ExecutorSettings) -> Result<Backend> {
    let mut config = BackendConfig::new(settings.backend_url.clone());
    config.timeouts.first_event = Duration::from_secs(settings.first_token_timeout_secs);
    config.timeouts.idle = Duration::from_secs(settings.idle_timeout_secs);
    if let Some(path) = &settings.backend_api_key_file {
        let key = fs::read_to_string(path).or_fail(Kind::Configuration, || {
            format!("cannot read the LLM server's API key from {}", path.display())
        })?;
        config.api_key = Some(Secret::new(key.trim()));
    }
    Backend::new(config).or_fail(Kind::Configuration, || {
        format!(
            "config.toml's executor.backend_url '{}' is no use",
            settings.backend_url
        )
    })
}

fn executor_config(session: &Session, settings: &ExecutorSettings) -> Result<ExecutorConfig> {
    let token = &session.network.token;
    let exposure = &settings.exposure;
    Ok(ExecutorConfig {
        exposure: ExposurePolicy {
            start: token.parse_setting("executor.exposure.start", exposure.start.as_str())?,
            per_mille_of_settled: exposure.per_mille_of_settled,
            maximum: token.parse_setting("executor.exposure.maximum", exposure.maximum.as_str())?,
        },
        ..ExecutorConfig::default()
    })
}

/// Says what the LLM server lacks. It may be started later, so this stops nothing.
async fn check_models(session: &Session, backend: &Backend, settings: &ExecutorSettings) {
    match backend.models().await {
        Ok(available) => {
            for model in &settings.models {
                if !available.contains(&model.id) {
                    session.output.note(format!(
                        "Warning: the LLM server at {} has no model '{}'; it has {}.",
                        settings.backend_url,
                        model.id,
                        available.join(", ")
                    ));
                }
            }
        }
        Err(error) => session.output.note(format!(
            "Warning: the LLM server at {} doesn't answer: {}.",
            settings.backend_url,
            Failure::of(Kind::Failed, error).one_line()
        )),
    }
}

/// Says so where requests are refused because the store was put back.
async fn warn_of_restore(ledger: &Ledger) -> Result {
    let restored_at = ledger
        .restored_at()
        .await
        .or_fail(Kind::Store, || "cannot read when the store was restored".to_owned())?;
    let until = restored_at.map(|at| at.plus(MAX_DEADLINE_AHEAD));
    if let Some(until) = until.filter(|until| *until > ledger.now()) {
        tracing::warn!(
            until = utc(until),
            "this store was restored: requests that may have been served before are refused until then"
        );
    }
    Ok(())
}
