use std::{
    io::{self, Write},
    time::Duration,
};

use alloy::primitives::Address;
use clap::Args;
use serde::Serialize;

use crate::{
    command::devnet::interrupted,
    control::{ControlSocket, Served},
    failure::Result,
    monitoring::Monitoring,
    output::Report,
    session::Session,
    watching::{Initiative, Watching, check_operator, payee},
};

/// How often it is shown that the process turns.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Follow the chain and claim, without serving
///
/// What `node run` does for the money, alone: for an executor whose LLM server is off while money is still owed.
#[derive(Debug, Args)]
pub struct WatchArgs {}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    operator: Address,
    payee: Address,
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
pub async fn run(session: &Session, _arguments: WatchArgs) -> Result {
    session.config()?;
    let payee = payee(session)?;
    let stop = interrupted();
    tokio::pin!(stop);
    let prepared = tokio::select! {
        prepared = Box::pin(prepare(session, payee)) => prepared?,
        () = &mut stop => return Ok(()),
    };
    let Prepared {
        ledger,
        mut watching,
        socket,
        monitoring,
    } = prepared;
    let served = Served {
        watcher: watching.handle.clone(),
        token: session.network.token.clone(),
        monitoring: monitoring.url(),
    };
    let result = tokio::select! {
        failure = watching.failed() => Err(failure),
        () = socket.serve(served) => Ok(()),
        () = beat(&monitoring) => Ok(()),
        () = &mut stop => Ok(()),
    };
    monitoring.stopping();
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
    ledger: lloom_ledger::Ledger,
    watching: Watching,
    socket: ControlSocket,
    monitoring: Monitoring,
}

async fn prepare(session: &Session, payee: Address) -> Result<Prepared> {
    let on_chain = session.on_chain().await?;
    let key = session.unlock()?;
    let operator = key.address();
    check_operator(&on_chain, payee, operator).await?;
    let ledger = session.open_store().await?;
    let socket = ControlSocket::bind(&session.home.control_socket())?;
    let watching = Watching::start(session, &on_chain, ledger.clone(), key, Initiative::Own).await?;
    let monitoring = Monitoring::start(session, &ledger, &watching, operator, None).await?;
    session.output.print(&Ready {
        ready: true,
        operator,
        payee,
        network: session.network.name.clone(),
        monitoring: monitoring.url(),
    })?;
    Ok(Prepared {
        ledger,
        watching,
        socket,
        monitoring,
    })
}
