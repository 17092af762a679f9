//! What a running node or watcher shows: metrics, health, readiness.
//!
//! Each crate counts where things happen; this puts all of it into one registry, adds what the ledger and the chain
//! say, and judges whether anything progresses. Health here is progress: a process that runs and gets nowhere is not
//! ready, and says which part of it stands still.

mod facts;
mod payers;
mod pulse;
mod readiness;
mod server;
mod survey;
mod vigil;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use alloy::primitives::Address;
use lloom_ledger::Ledger;
use lloom_node::{NetworkHandle, executor::ExecutorMetrics, tower::TowerMetrics};
use lloom_receipts::UnixSeconds;
use prometheus_client::{metrics::info::Info, registry::Registry};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use self::{
    facts::Facts,
    pulse::Pulse,
    readiness::Limits,
    server::Served,
    survey::{Defended, Newest},
    vigil::{Verdict, Vigil},
};
use crate::{
    config::{DEFAULT_MONITORING, MonitoringSettings},
    delegating::configured_towers,
    failure::{Failure, Kind, OrFail as _, Result},
    session::Session,
    sight::max_head_age,
    watching::{Watching, payee},
};

/// The peer-to-peer network, once it is joined.
pub type Joined = Arc<OnceLock<NetworkHandle>>;

/// What a process is there for.
#[derive(Clone, Copy, Debug)]
pub enum Role<'a> {
    /// It serves, and this counts what.
    Executor(&'a ExecutorMetrics),
    /// It defends others, and this counts what it answers them.
    Tower(&'a TowerMetrics),
    /// It claims.
    Watcher,
}

impl Role<'_> {
    /// Whether it is no use without the peer-to-peer network.
    const fn needs_network(self) -> bool {
        matches!(self, Self::Executor(_) | Self::Tower(_))
    }
}

/// Monitoring of this process. It ends when this is dropped.
#[derive(Debug)]
pub struct Monitoring {
    address: Option<SocketAddr>,
    main_loop: Pulse,
    network: Joined,
    _tasks: JoinSet<()>,
}

impl Monitoring {
    /// Begins to look after `watching` and `ledger`, and to answer over HTTP where the configuration says so. An executor
    /// and a tower have to [join](Self::joined) the peer-to-peer network too.
    ///
    /// # Errors
    /// When the configured address can't be listened on.
    pub async fn start(
        session: &Session,
        ledger: &Ledger,
        watching: &Watching,
        operator: Address,
        role: Role<'_>,
    ) -> Result<Self> {
        let settings = &session.config()?.monitoring;
        let main_loop = Pulse::default();
        let network = Joined::default();
        let mut tasks = JoinSet::new();
        if !settings.enabled {
            return Ok(Self {
                address: None,
                main_loop,
                network,
                _tasks: tasks,
            });
        }
        let listener = listen(settings).await?;
        let address = listener
            .local_addr()
            .or_fail(Kind::Configuration, || "cannot answer for monitoring".to_owned())?;

        let started_at = UnixSeconds::from(SystemTime::now());
        let survey = Newest::default();
        let own = Pulse::default();
        let (publish, verdict) = watch::channel(Verdict::default());
        let mut registry = Registry::with_prefix("lloom");
        registry.register(
            "build",
            "The program, and the network it is on",
            Info::new(vec![
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("network", session.network.name.clone()),
                ("chain_id", session.network.chain_id.to_string()),
            ]),
        );
        ledger.metrics().register(&mut registry);
        watching.handle.metrics().register(&mut registry);
        watching.chain.metrics().register(&mut registry);
        match role {
            Role::Executor(executor) => executor.register(&mut registry),
            Role::Tower(tower) => tower.register(&mut registry),
            Role::Watcher => {}
        }
        registry.register_collector(Box::new(Facts {
            watcher: watching.handle.status(),
            survey: survey.clone(),
            verdict: verdict.clone(),
            network: Arc::clone(&network),
            home: session.home.store(),
            store: ledger.url().path().map(Path::to_owned),
            token: session.network.token.clone(),
            operator,
            started_at,
        }));

        let vigil = Vigil {
            watcher: watching.handle.status(),
            ledger: ledger.clone(),
            expects_network: role.needs_network(),
            network: Arc::clone(&network),
            main_loop: main_loop.clone(),
            own: own.clone(),
            limits: limits(session, settings),
            started_at,
            verdict: publish,
        };
        let served = Served {
            registry,
            verdict,
            main_loop: main_loop.clone(),
            vigil: own,
        };
        tasks.spawn(vigil.run());
        let defended = match configured_towers(session)?.is_empty() {
            true => None,
            false => Some(Defended {
                payee: payee(session)?,
                token: session.network.token.address,
            }),
        };
        let chain = watching.chain.clone();
        tasks.spawn(survey::run(ledger.clone(), chain, operator, defended, survey));
        tasks.spawn(async move {
            if let Err(error) = server::serve(listener, served).await {
                tracing::error!(%error, "monitoring is not answered any more");
            }
        });
        Ok(Self {
            address: Some(address),
            main_loop,
            network,
            _tasks: tasks,
        })
    }

    /// Where it answers.
    pub fn url(&self) -> Option<String> {
        self.address.map(|address| format!("http://{address}"))
    }

    /// The network, once it is joined.
    pub fn network(&self) -> Joined {
        Arc::clone(&self.network)
    }

    /// Says that the network was joined.
    pub fn joined(&self, network: &NetworkHandle) {
        // Joined once.
        let _ = self.network.set(network.clone());
    }

    /// Says that the process's main loop turns.
    pub fn beat(&self) {
        self.main_loop.beat();
    }

    /// Says that the process is about to end.
    pub fn stopping(&self) {
        self.main_loop.set_stopping();
    }
}

fn limits(session: &Session, settings: &MonitoringSettings) -> Limits {
    Limits {
        round_silence: Duration::from_secs(settings.max_round_silence_secs),
        lag: Duration::from_secs(settings.max_lag_secs),
        head_age: max_head_age(settings, &session.network),
    }
}

/// An address that somebody chose is listened on or refused; where nobody did, another node of the same machine may
/// have it already.
async fn listen(settings: &MonitoringSettings) -> Result<TcpListener> {
    let given = settings.listen.as_deref().unwrap_or(DEFAULT_MONITORING);
    let mut address: SocketAddr = given
        .parse()
        .or_fail(Kind::Configuration, || {
            format!("config.toml's monitoring.listen '{given}' is no address with a port")
        })
        .map_err(|failure| failure.hint(format!("listen = \"{DEFAULT_MONITORING}\"")))?;
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && settings.listen.is_none() => {
            address.set_port(0);
            let listener = TcpListener::bind(address)
                .await
                .or_fail(Kind::Configuration, || "cannot answer for monitoring".to_owned())?;
            // In the log, which a service has too: what Prometheus scrapes at the usual address is another process.
            if let Ok(taken) = listener.local_addr() {
                tracing::warn!(wanted = given, %taken, "the usual port is taken, so monitoring is on another one until config.toml's monitoring.listen names one");
            }
            Ok(listener)
        }
        bound => bound.map_err(|error| {
            Failure::of(Kind::Configuration, error)
                .while_(format!("cannot answer for monitoring at {given}"))
                .hint("config.toml's monitoring.listen takes another address; monitoring.enabled = false needs none")
        }),
    }
}
