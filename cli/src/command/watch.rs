use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use serde::Serialize;

use crate::{
    command::devnet::interrupted,
    control::ControlSocket,
    failure::Result,
    output::Report,
    session::Session,
    watching::{Initiative, Watching, check_operator, payee},
};

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
pub async fn run(session: &Session, _arguments: WatchArgs) -> Result {
    session.config()?;
    let payee = payee(session)?;
    let stop = interrupted();
    tokio::pin!(stop);
    let prepared = tokio::select! {
        prepared = Box::pin(prepare(session, payee)) => prepared?,
        () = &mut stop => return Ok(()),
    };
    let (ledger, mut watching, socket) = prepared;
    let handle = watching.handle.clone();
    let result = tokio::select! {
        failure = watching.failed() => Err(failure),
        () = socket.serve(handle, session.network.token.clone()) => Ok(()),
        () = &mut stop => Ok(()),
    };
    if result.is_ok() {
        watching.stop().await;
    }
    drop(socket);
    ledger.close().await;
    result
}

async fn prepare(session: &Session, payee: Address) -> Result<(lloom_ledger::Ledger, Watching, ControlSocket)> {
    let on_chain = session.on_chain().await?;
    let key = session.unlock()?;
    let operator = key.address();
    check_operator(&on_chain, payee, operator).await?;
    let ledger = session.open_store().await?;
    let socket = ControlSocket::bind(&session.home.control_socket())?;
    let watching = Watching::start(session, &on_chain, ledger.clone(), key, Initiative::Own).await?;
    session.output.print(&Ready {
        ready: true,
        operator,
        payee,
        network: session.network.name.clone(),
    })?;
    Ok((ledger, watching, socket))
}
