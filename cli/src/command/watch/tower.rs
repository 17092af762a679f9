//! `watch --tower`.

use std::{
    collections::HashSet,
    io::{self, Write},
    time::{Duration, Instant},
};

use alloy::primitives::{Address, U256};
use lloom_ledger::{CLAIM_TAKES, Ledger, TowerQuotas, TowerTerms};
use lloom_node::{
    NetworkHandle,
    network::TowerInquiries,
    tower::{Impediment, Tower, TowerConfig},
};
use lloom_receipts::Keypair;
use lloom_watcher::{Chain as _, ChainError, DefencePolicy, RpcChain, WatcherHandle};
use serde::Serialize;

use crate::{
    command::devnet::interrupted,
    config::TowerSettings,
    control::{ControlSocket, Served},
    failure::{Failure, Kind, OrFail as _, Result},
    monitoring::{Monitoring, Role},
    onchain::{OnChain, chain_failure},
    output::{Report, counted, write_pairs},
    peers::{join_listening, network_failure},
    session::Session,
    sight::Sight,
    watching::{Initiative, Watching, handle_failure, obstacle, sight},
};

/// How often it is looked at whether the chain is in sight.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the purse is looked into.
const PURSE_INTERVAL: Duration = Duration::from_secs(30);
/// What a small claim may use, with room for prices to rise.
const CLAIM_GAS: u64 = 500_000;
const WEI_PER_GWEI: u128 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

#[derive(Serialize)]
struct Ready {
    ready: bool,
    tower: Address,
    peer_id: String,
    addresses: Vec<String>,
    network: String,
    channels: u64,
    operators: u64,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered.
    monitoring: Option<String>,
}

impl Report for Ready {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        write_pairs(
            out,
            &[
                ("Network", self.network.clone()),
                ("Tower", self.tower.to_string()),
                (
                    "Defends",
                    format!(
                        "{} of {}",
                        counted(self.channels, "channel"),
                        counted(self.operators, "operator")
                    ),
                ),
            ],
        )?;
        writeln!(out, "\nExecutors name it in config.toml's [towers] as")?;
        for address in &self.addresses {
            writeln!(out, "  {address}")?;
        }
        if let Some(monitoring) = &self.monitoring {
            writeln!(out, "Metrics and readiness are at {monitoring}")?;
        }
        writeln!(out, "Ctrl-C stops it.")
    }
}

struct Running {
    ledger: Ledger,
    watching: Watching,
    socket: ControlSocket,
    network: NetworkHandle,
    inquiries: TowerInquiries,
    tower: Tower,
    outlook: Outlook,
    monitoring: Monitoring,
}

/// Starts a watcher that claims what this tower's store holds for others: by itself, or what it is ordered to.
///
/// # Errors
/// When the configuration is wrong, or the chain or the store can't be read.
pub async fn defending(
    session: &Session,
    on_chain: &OnChain,
    ledger: &Ledger,
    key: &Keypair,
    initiative: Initiative,
) -> Result<Watching> {
    let fee = max_fee(session, ledger).await?;
    let policy = DefencePolicy {
        margin: settings(session)?.claim_margin_secs.map(Duration::from_secs),
    };
    Watching::start_defending(session, on_chain, ledger.clone(), key.clone(), policy, fee, initiative).await
}

/// The most that this tower offers for gas, wei: what its configuration says, and what it promised before that was changed.
///
/// # Errors
/// When the configuration is wrong, or the store can't be read.
pub async fn max_fee(session: &Session, ledger: &Ledger) -> Result<u128> {
    let promised = ledger
        .highest_fee_promised()
        .await
        .or_fail(Kind::Store, || "cannot read what was promised".to_owned())?;
    let configured = tower_config(session)?.terms.max_fee_per_gas;
    Ok(configured.max(promised.unwrap_or_default()))
}

/// Watches for others until Ctrl-C.
///
/// # Errors
/// When it can't go on.
pub async fn run(session: &Session) -> Result {
    let stop = interrupted();
    tokio::pin!(stop);
    let running = tokio::select! {
        running = Box::pin(Running::start(session)) => running?,
        () = &mut stop => return Ok(()),
    };
    running.serve(session, stop).await
}

impl Running {
    async fn start(session: &Session) -> Result<Self> {
        settings(session)?;
        if session.config()?.executor.is_some() {
            return Err(Failure::new(
                Kind::Configuration,
                "this home is an executor's: its store and key are for what it earns itself",
            )
            .hint("a tower has a home of its own: `lloomctl --home <directory> init --role tower`"));
        }
        let mut config = tower_config(session)?;
        let on_chain = session.on_chain().await?;
        let key = session.unlock()?;
        let ledger = session.open_store().await?;
        let grace = session.chain()?.grace_period(session.network.contracts.escrow).await;
        config.grace = grace.map_err(|error| chain_failure(error, "cannot read the grace period"))?;
        let mut watching = defending(session, &on_chain, &ledger, &key, Initiative::Own).await?;
        let tower = Tower::new(config, ledger.clone(), session.network.domain(), key.clone());
        let role = Role::Tower(tower.metrics());
        let monitoring = Monitoring::start(session, &ledger, &watching, key.address(), role).await?;
        let socket = ControlSocket::open(
            &session.home.control_socket(),
            Served {
                watcher: watching.handle.clone(),
                token: session.network.token.clone(),
                monitoring: monitoring.url(),
                network: monitoring.network(),
            },
        )?;
        // Nothing is taken on before it is known what became of the channels.
        let handle = watching.handle.clone();
        watching
            .obey(async { handle.synced().await.map_err(handle_failure) })
            .await?;
        Self::listen(session, tower, key, ledger, watching, socket, monitoring).await
    }

    async fn listen(
        session: &Session,
        tower: Tower,
        key: Keypair,
        ledger: Ledger,
        watching: Watching,
        socket: ControlSocket,
        monitoring: Monitoring,
    ) -> Result<Self> {
        let (network, _nothing_is_sold) = join_listening(session, &key).await?;
        monitoring.joined(&network);
        let inquiries = network
            .serve_tower()
            .await
            .map_err(|error| network_failure(error, "cannot serve as a tower"))?;
        let totals = ledger
            .held_totals()
            .await
            .or_fail(Kind::Store, || "cannot read what is held".to_owned())?;
        session.output.print(&Ready {
            ready: true,
            tower: key.address(),
            peer_id: network.peer_id().to_string(),
            addresses: network
                .all_listen_addresses()
                .await
                .iter()
                .map(ToString::to_string)
                .collect(),
            network: session.network.name.clone(),
            channels: totals.channels,
            operators: totals.operators,
            monitoring: monitoring.url(),
        })?;
        let outlook = Outlook {
            chain: session.chain()?,
            account: key.address(),
            watcher: watching.handle.clone(),
            sight: sight(session, Duration::from_secs(settings(session)?.max_chain_silence_secs))?,
        };
        Ok(Self {
            tower,
            ledger,
            watching,
            socket,
            network,
            inquiries,
            outlook,
            monitoring,
        })
    }

    async fn serve(mut self, session: &Session, stop: impl Future<Output = ()>) -> Result {
        let tower = self.tower.clone();
        let serving = tower.serve(self.inquiries);
        let beat = super::beat(&self.monitoring);
        let outlook = self.outlook.run(self.tower.clone());
        tokio::pin!(serving, outlook, beat, stop);
        let result = loop {
            tokio::select! {
                biased;
                () = &mut stop => break Ok(()),
                // A tower that takes on what nobody watches is worse than none.
                failure = self.watching.failed() => break Err(failure),
                () = self.network.stopped() => {
                    break Err(Failure::new(Kind::Network, "the network stopped by itself"));
                }
                () = &mut serving => {
                    break Err(Failure::new(Kind::Network, "the network stopped by itself"));
                }
                () = &mut outlook => {}
                () = &mut beat => {}
            }
        };
        session.output.note("Stopping.");
        self.monitoring.stopping();
        self.network.shutdown().await;
        if result.is_ok() {
            self.watching.stop().await;
        }
        drop(self.socket);
        self.ledger.close().await;
        result
    }
}

/// Whether the tower can keep what it promises.
struct Outlook {
    chain: RpcChain,
    account: Address,
    watcher: WatcherHandle,
    sight: Sight,
}

impl Outlook {
    /// Tells `tower` what it sees, for ever.
    async fn run(self, tower: Tower) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let mut can_pay = true;
        let mut was_in_sight = true;
        let mut asked_at = None::<Instant>;
        loop {
            looks.tick().await;
            if asked_at.is_none_or(|at| at.elapsed() >= PURSE_INTERVAL) {
                // An endpoint that doesn't answer says nothing of the purse; that the chain is out of sight shows by itself.
                can_pay = self.can_pay().await.unwrap_or(can_pay);
                asked_at = Some(Instant::now());
            }
            let obstacle = obstacle(&self.watcher, self.sight);
            match (&obstacle, was_in_sight) {
                (Some(why), true) => {
                    tracing::error!(%why, "the chain is out of sight; taking nothing on until it is back")
                }
                (None, false) => tracing::info!("the chain is back in sight"),
                _ => {}
            }
            was_in_sight = obstacle.is_none();
            let impediment = if obstacle.is_some() {
                Some(Impediment::ChainOutOfSight)
            } else if !can_pay {
                Some(Impediment::NoGasMoney)
            } else {
                None
            };
            tower.set_impediment(impediment);
        }
    }

    async fn can_pay(&self) -> std::result::Result<bool, ChainError> {
        let balance = self.chain.native_balance(self.account).await?;
        let price = self.chain.fees().await?.gas_price();
        Ok(balance >= U256::from(price).saturating_mul(U256::from(CLAIM_GAS)))
    }
}

fn settings(session: &Session) -> Result<TowerSettings> {
    Ok(session.config()?.tower.clone().unwrap_or_default())
}

fn tower_config(session: &Session) -> Result<TowerConfig> {
    let settings = settings(session)?;
    let wrong = |key: &str, what: &str| {
        Failure::new(
            Kind::Configuration,
            format!("config.toml's tower.{key} is wrong: {what}"),
        )
    };
    for (key, number) in [
        ("max_operators", u64::from(settings.max_operators)),
        (
            "max_channels_per_operator",
            u64::from(settings.max_channels_per_operator),
        ),
        ("max_store_mib", settings.max_store_mib),
        ("messages_per_minute", u64::from(settings.messages_per_minute)),
        ("max_fee_gwei", settings.max_fee_gwei),
        ("term_days", settings.term_days),
    ] {
        if number == 0 {
            return Err(wrong(key, "with zero the tower could do nothing"));
        }
    }
    let least = CLAIM_TAKES.as_secs();
    if settings.claim_margin_secs.is_some_and(|seconds| seconds < least) {
        let why = format!("a claim may take {least} seconds, so the tower has to go out no later before a deadline");
        return Err(
            wrong("claim_margin_secs", &why).hint("without it, a third of the grace period is left to the tower")
        );
    }
    let token = &session.network.token;
    let executors: HashSet<Address> = settings.executors.iter().copied().collect();
    Ok(TowerConfig {
        terms: TowerTerms {
            token: token.address,
            minimum_value: token.parse_setting("tower.minimum_value", settings.minimum_value.as_str())?,
            max_fee_per_gas: u128::from(settings.max_fee_gwei) * WEI_PER_GWEI,
            term: Duration::from_secs(settings.term_days.saturating_mul(SECONDS_PER_DAY)),
        },
        quotas: TowerQuotas {
            operators: settings.max_operators,
            channels_per_operator: settings.max_channels_per_operator,
            bytes: settings.max_store_mib.saturating_mul(1 << 20),
        },
        messages_per_minute: settings.messages_per_minute,
        executors: (!executors.is_empty()).then_some(executors),
        // Read from the chain before anything is taken on.
        grace: Duration::ZERO,
    })
}
