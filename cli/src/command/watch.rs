use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::Ledger;
use lloom_node::NetworkHandle;
use serde::Serialize;

use crate::{
    command::devnet::interrupted,
    control::ControlSocket,
    delegating::{Delegating, configured_towers},
    failure::Result,
    output::Report,
    peers::join,
    session::Session,
    watching::{Initiative, Watching, check_operator, payee},
};

mod tower;

/// Follow the chain and claim, without serving
///
/// What `node run` does for the money, alone: for an executor whose LLM server is off while money is still owed.
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
    network: String,
}

impl Report for Ready {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "Watching {} for the payee {}, as {}. Ctrl-C stops it.",
            self.network, self.payee, self.operator
        )
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
        delegating,
        network,
    } = prepared;
    let handle = watching.handle.clone();
    let result = tokio::select! {
        failure = watching.failed() => Err(failure),
        () = socket.serve(handle, session.network.token.clone()) => Ok(()),
        () = &mut stop => Ok(()),
    };
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

struct Prepared {
    ledger: Ledger,
    watching: Watching,
    socket: ControlSocket,
    delegating: Delegating,
    network: Option<NetworkHandle>,
}

async fn prepare(session: &Session, payee: Address) -> Result<Prepared> {
    let has_towers = !configured_towers(session)?.is_empty();
    let on_chain = session.on_chain().await?;
    let key = session.unlock()?;
    let operator = key.address();
    check_operator(&on_chain, payee, operator).await?;
    let ledger = session.open_store().await?;
    let socket = ControlSocket::bind(&session.home.control_socket())?;
    let watching = Watching::start(session, &on_chain, ledger.clone(), key.clone(), Initiative::Own).await?;
    // What was earned last may not have reached the towers yet.
    let (delegating, network) = if has_towers {
        let network = join(session, &key, &[]).await?;
        let delegating = Delegating::start(session, network.clone(), ledger.clone())?;
        (delegating, Some(network))
    } else {
        (Delegating::none(), None)
    };
    session.output.print(&Ready {
        ready: true,
        operator,
        payee,
        network: session.network.name.clone(),
    })?;
    Ok(Prepared {
        ledger,
        watching,
        socket,
        delegating,
        network,
    })
}
