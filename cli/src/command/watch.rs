use std::{
    io::{self, Write},
    time::Duration,
};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::Ledger;
use lloom_node::NetworkHandle;
use serde::Serialize;

use crate::{
    command::devnet::interrupted,
    control::{ControlSocket, Served},
    delegating::{Delegating, configured_towers},
    failure::{Failure, Kind, Result},
    monitoring::{Monitoring, Role},
    onchain::OperatorStatus,
    output::Report,
    peers::join,
    session::Session,
    watching::{Initiative, Watching, payee, standing, warn_of_standing},
};

pub mod tower;

/// How often it is shown that the process turns.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Follow the chain and claim, without serving
///
/// What `node run` does for the money, alone: for an executor whose LLM server is off while money is still owed. With a
/// key that the payee doesn't name as an operator, or not any more, it claims by vouchers alone and closes nothing.
///
/// With --tower it does so for others. Executors hand it vouchers over the network (their config.toml's [towers] names
/// its address); when a payer leaves and the executor doesn't claim, the tower does, and pays for the gas. It can't
/// redirect money, and needs nobody's permission. config.toml's [tower] section says what it promises and how much it
/// takes on.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Defend others' channels instead of one's own
    #[arg(long)]
    pub tower: bool,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    operator: Address,
    payee: Address,
    /// Whether the payee names the operator. If not, it claims by vouchers alone.
    named: bool,
    network: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered.
    monitoring: Option<String>,
}

impl Report for Ready {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "Watching {} for the payee {}, as {}. Ctrl-C stops it.",
            self.network, self.payee, self.operator
        )?;
        match &self.monitoring {
            Some(monitoring) => writeln!(out, "Metrics and readiness are at {monitoring}"),
            None => Ok(()),
        }
    }
}

/// Watches until Ctrl-C.
///
/// # Errors
/// When it can't go on.
pub async fn run(session: &Session, arguments: WatchArgs) -> Result {
    session.config()?;
    if arguments.tower {
        return tower::run(session).await;
    }
    if session.config()?.is_tower() {
        let why = "this home is a tower's: it earns nothing, and defends what executors handed to it";
        return Err(Failure::new(Kind::Configuration, why).hint("`lloomctl watch --tower` does that"));
    }
    until(session, interrupted()).await
}

/// Watches for this home's payee until `stop`.
///
/// # Errors
/// When it can't go on.
pub async fn until(session: &Session, stop: impl Future<Output = ()>) -> Result {
    let payee = payee(session)?;
    tokio::pin!(stop);
    let prepared = tokio::select! {
        prepared = Box::pin(prepare(session, payee)) => prepared?,
        () = &mut stop => return Ok(()),
    };
    let Prepared {
        ledger,
        mut watching,
        socket,
        delegating,
        network,
        monitoring,
    } = prepared;
    let result = tokio::select! {
        failure = watching.failed() => Err(failure),
        () = beat(&monitoring) => Ok(()),
        () = &mut stop => Ok(()),
    };
    monitoring.stopping();
    delegating.stop().await;
    if let Some(network) = network {
        network.shutdown().await;
    }
    if result.is_ok() {
        watching.stop().await;
    }
    drop(socket);
    ledger.close().await;
    result
}

/// Shows that this loop turns.
async fn beat(monitoring: &Monitoring) {
    let mut beat = tokio::time::interval(BEAT_INTERVAL);
    loop {
        beat.tick().await;
        monitoring.beat();
    }
}

struct Prepared {
    ledger: Ledger,
    watching: Watching,
    socket: ControlSocket,
    delegating: Delegating,
    network: Option<NetworkHandle>,
    monitoring: Monitoring,
}

async fn prepare(session: &Session, payee: Address) -> Result<Prepared> {
    let has_towers = !configured_towers(session)?.is_empty();
    let on_chain = session.on_chain().await?;
    let key = session.unlock()?;
    let operator = key.address();
    let status = standing(&on_chain, payee, operator).await?;
    warn_of_standing(session.output, status, payee, operator);
    let ledger = session.open_store().await?;
    let watching = Watching::start(session, &on_chain, ledger.clone(), key.clone(), Initiative::Own).await?;
    let monitoring = Monitoring::start(session, &ledger, &watching, operator, Role::Watcher).await?;
    let socket = ControlSocket::open(
        &session.home.control_socket(),
        Served {
            watcher: watching.handle.clone(),
            token: session.network.token.clone(),
            monitoring: monitoring.url(),
            network: monitoring.network(),
        },
    )?;
    // What was earned last may not have reached the towers yet.
    let (delegating, network) = if has_towers {
        let network = join(session, &key, &[]).await?;
        monitoring.joined(&network);
        let delegating = Delegating::start(session, network.clone(), ledger.clone())?;
        (delegating, Some(network))
    } else {
        (Delegating::none(), None)
    };
    session.output.print(&Ready {
        ready: true,
        operator,
        payee,
        named: status == OperatorStatus::Active,
        network: session.network.name.clone(),
        monitoring: monitoring.url(),
    })?;
    Ok(Prepared {
        ledger,
        watching,
        socket,
        delegating,
        network,
        monitoring,
    })
}
