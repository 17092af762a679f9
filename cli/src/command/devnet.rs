use std::{
    io::{self, Write},
    net::TcpListener,
};

use alloy::primitives::Address;
use clap::Args;
use lloom_bindings::Contracts;
use lloom_receipts::TokenAmount;
use serde::Serialize;

use crate::{
    anvil::Anvil,
    command::{deploy, faucet},
    failure::{Failure, Kind, Result},
    keystore::LockedKey,
    network::{self, DEVNET_PORT, Network},
    onchain::{OnChain, parse_address},
    output::{Report, write_pairs},
    session::Session,
};

/// Run a local development chain with everything deployed
///
/// Starts anvil, deploys the contracts and a development token at their usual addresses, writes the network's file
/// into the home, gives this home's key tokens and gas money, and stays until Ctrl-C. Money on it is worth nothing,
/// and gone when it ends.
#[derive(Debug, Args)]
pub struct DevnetArgs {
    /// Where to listen [default: 8545 if it is free, or any free port]
    #[arg(long)]
    pub port: Option<u16>,
    /// Seconds between blocks; 0: a block for each transaction and no others
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    pub block_time: u64,
    /// Another address to give tokens and gas money to; may be repeated
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub fund: Vec<Address>,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    rpc_url: String,
    network: String,
    chain_id: u64,
    #[serde(flatten)]
    contracts: Contracts,
    token: Address,
    start_block: u64,
    funded: Vec<Address>,
    #[serde(skip)]
    granted: String,
    #[serde(skip)]
    has_key: bool,
}

impl Report for Ready {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        write_pairs(
            out,
            &[
                ("Endpoint", self.rpc_url.clone()),
                ("Chain id", self.chain_id.to_string()),
                ("Escrow", self.contracts.escrow.to_string()),
                ("Settlement", self.contracts.settlement.to_string()),
                ("Registry", self.contracts.registry.to_string()),
                ("Token", self.token.to_string()),
            ],
        )?;
        for account in &self.funded {
            writeln!(out, "Gave {} and gas money to {account}", self.granted)?;
        }
        writeln!(out, "\nIn other terminals:")?;
        if !self.has_key {
            writeln!(
                out,
                "  lloomctl init --role client      (or: --role executor --model … --price …)"
            )?;
        }
        writeln!(out, "  lloomctl faucet                  more tokens and gas money")?;
        writeln!(out, "  lloomctl deposit 10              money to pay from")?;
        writeln!(out, "Homes elsewhere reach it with `--rpc-url {}`.", self.rpc_url)?;
        writeln!(out, "\nRunning until Ctrl-C.")
    }
}

/// Runs it.
///
/// # Errors
/// When anvil is missing or fails.
pub async fn run(session: &Session, arguments: DevnetArgs) -> Result {
    let port = arguments
        .port
        .or_else(|| port_is_free(DEVNET_PORT).then_some(DEVNET_PORT));
    let block_time = (arguments.block_time > 0).then_some(arguments.block_time);
    let mut anvil = tokio::select! {
        anvil = Anvil::start(port, block_time) => anvil?,
        _ = interrupted() => return Ok(()),
    };
    let url = anvil.url();
    let result = tokio::select! {
        result = serve(session, &arguments, &url) => result,
        failure = anvil.ended() => Err(failure),
        // Ending it is what the user is told to do.
        _ = interrupted() => Ok(()),
    };
    anvil.stop().await;
    result
}

/// Prepares the chain, then stays.
async fn serve(session: &Session, arguments: &DevnetArgs, url: &str) -> Result {
    let name = &session.network.name;
    if !session.network.development {
        return Err(Failure::new(Kind::Usage, format!("'{name}' is no development network"))
            .hint("`lloomctl --network devnet devnet`"));
    }
    let file = network::devnet(url);
    session
        .home
        .write(&session.home.network(name), file.to_toml()?.as_bytes(), true)?;
    let mut network = Network::load(&session.home, name)?;
    network.rpc_urls = vec![url.to_owned()];
    let chain = session.chain_of(&network)?;
    let on_chain = OnChain::new(chain.clone(), &network);

    let giver = faucet::giver(&on_chain)
        .await?
        .ok_or_else(|| Failure::new(Kind::Chain, "the chain has no accounts of its own"))?;
    for step in deploy::steps(&deploy::look(&on_chain, &network).await?) {
        deploy::send_unlocked(&chain, giver, &step).await?;
    }
    on_chain.check_deployed(&network).await?;

    let own = LockedKey::read(&session.home, session.key_name())
        .ok()
        .and_then(|key| key.address().ok());
    let mut funded: Vec<Address> = own.into_iter().chain(arguments.fund.iter().copied()).collect();
    funded.dedup();
    let grant = TokenAmount::new(faucet::GRANT_UNITS * 10u128.pow(u32::from(network.token.decimals.get())));
    for account in &funded {
        faucet::give(session, &on_chain, giver, *account, grant).await?;
    }
    session.output.print(&Ready {
        ready: true,
        rpc_url: url.to_owned(),
        network: name.clone(),
        chain_id: network.chain_id,
        contracts: network.contracts,
        token: network.token.address,
        start_block: network.start_block,
        funded,
        granted: network.token.show(grant),
        has_key: own.is_some(),
    })?;
    std::future::pending().await
}

fn port_is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Ctrl-C, or a request to end.
pub async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler the signal ends the process, which is what it asks for.
    let _ = tokio::signal::ctrl_c().await;
}
