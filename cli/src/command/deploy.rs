use std::io::{self, Write};

use alloy::primitives::{Address, B256, Bytes, U256};
use clap::Args;
use lloom_bindings::{CREATE2_PROXY, Contracts, dev_token_address, dev_token_creation_call};
use lloom_watcher::{Call, ChainError, RpcChain};
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, Result},
    network::Network,
    onchain::{OnChain, head_number},
    output::{Report, write_pairs},
    session::Session,
    transact::{Done, Step, Transactor, describe},
};

/// Gas of a deployment that can't be asked for because another comes first: measured, rounded up.
const TOKEN_GAS: u64 = 1_600_000;

/// Deploy the contracts on the network
///
/// Their addresses follow from their code, so they are equal on every chain, and whoever deploys them owns nothing:
/// there is no owner, no pause and no upgrade. Where they are already, nothing is sent. Says first what it costs.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

/// What has to be sent to have everything in place.
pub struct Missing {
    /// The contracts aren't there.
    pub contracts: bool,
    /// The development token isn't, and the network uses it.
    pub token: bool,
}

/// Looks for what is missing.
///
/// # Errors
/// When the chain doesn't answer, or lacks the CREATE2 proxy, or its contracts are elsewhere.
pub async fn look(on_chain: &OnChain, network: &Network) -> Result<Missing> {
    if network.contracts != Contracts::of_this_version() {
        return Err(Failure::new(
            Kind::Configuration,
            format!("the network '{}' names contracts of its own", network.name),
        )
        .hint("`deploy` makes this version's contracts, whose addresses are fixed; drop [contracts] from the network's file"));
    }
    let missing = Missing {
        contracts: !on_chain.has_code(network.contracts.deployer).await?,
        token: network.development
            && network.token.address == dev_token_address()
            && !on_chain.has_code(network.token.address).await?,
    };
    if (missing.contracts || missing.token) && !on_chain.has_code(CREATE2_PROXY).await? {
        return Err(Failure::new(
            Kind::Chain,
            format!("the chain has no CREATE2 proxy at {CREATE2_PROXY}"),
        )
        .hint("almost every chain has it; see https://github.com/Arachnid/deterministic-deployment-proxy"));
    }
    Ok(missing)
}

/// What to send for `missing`.
pub fn steps(missing: &Missing) -> Vec<Step> {
    let mut steps = Vec::new();
    if missing.contracts {
        steps.push(creation("deploy the contracts", Contracts::creation_call(), 0));
    }
    if missing.token {
        steps.push(creation(
            "deploy the development token",
            dev_token_creation_call(),
            TOKEN_GAS,
        ));
    }
    steps
}

/// Has the CREATE2 proxy create something.
pub fn creation(label: impl Into<String>, data: Bytes, usual_gas: u64) -> Step {
    Step {
        label: label.into(),
        call: Call {
            to: CREATE2_PROXY,
            data,
            value: U256::ZERO,
        },
        usual_gas,
    }
}

/// How often a transaction from an account that others use too is tried.
const MAX_TRIES: u32 = 16;

/// Whether the chain gave the nonce that it had chosen to somebody else meanwhile: what has it is in a block, or waits for
/// one, or is the very same transaction. Nodes tell that in words only.
fn tells_of_a_taken_nonce(error: &ChainError) -> bool {
    let words = error.to_string();
    [
        "nonce too low",
        "replacement transaction underpriced",
        "already imported",
    ]
    .iter()
    .any(|taken| words.contains(taken))
}

/// Sends the steps from an unlocked account of a development chain, which needs no key.
///
/// # Errors
/// When the chain refuses.
pub async fn send_unlocked(chain: &RpcChain, from: Address, step: &Step) -> Result {
    let transaction = serde_json::json!({ "from": from, "to": step.call.to, "data": step.call.data });
    let failed = |error| crate::onchain::chain_failure(error, format!("cannot {}", step.label));
    let mut tries = 0;
    let hash: B256 = loop {
        tries += 1;
        match chain.request("eth_sendTransaction", (&transaction,)).await {
            Err(error) if tries < MAX_TRIES && tells_of_a_taken_nonce(&error) => {}
            sent => break sent.map_err(failed)?,
        }
    };
    loop {
        let receipt: Option<serde_json::Value> = chain
            .request("eth_getTransactionReceipt", (hash,))
            .await
            .map_err(failed)?;
        match receipt {
            Some(receipt) if receipt["status"] == "0x1" => return Ok(()),
            Some(_) => {
                return Err(Failure::new(
                    Kind::Refused,
                    format!("the transaction {hash:?} to {} was reverted", step.label),
                ));
            }
            // Mined within a block's time; every answer takes a round trip, so this doesn't spin.
            None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

#[derive(Serialize)]
struct Deployed {
    network: String,
    chain_id: u64,
    contracts: Contracts,
    token: Address,
    start_block: u64,
    transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for Deployed {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        if self.transactions.is_empty() {
            writeln!(out, "Everything is deployed on {} already.", self.network)?;
        }
        write_pairs(
            out,
            &[
                ("Escrow", self.contracts.escrow.to_string()),
                ("Settlement", self.contracts.settlement.to_string()),
                ("Registry", self.contracts.registry.to_string()),
                ("Token", self.token.to_string()),
            ],
        )
    }
}

/// Deploys what is missing.
///
/// # Errors
/// When it can't be paid, or the chain refuses.
pub async fn run(session: &Session, arguments: DeployArgs) -> Result {
    let network = &session.network;
    let on_chain = OnChain::new(session.chain()?, network);
    let missing = look(&on_chain, network).await?;
    let steps = steps(&missing);
    let mut start_block = network.start_block;
    let mut transactions = Vec::new();
    if !steps.is_empty() {
        let key = session.unlock()?;
        let ledger = session.open_store().await?;
        let transactor = Transactor::new(session, on_chain.clone(), ledger.clone(), key).await?;
        transactor.agree(&steps, arguments.yes).await?;
        let before = head_number(on_chain.chain()).await?;
        transactions = transactor.send_all(steps).await?;
        on_chain.check_deployed(network).await?;
        if missing.contracts {
            start_block = before;
            let mut file = network.to_file();
            file.start_block = start_block;
            session
                .home
                .write(&session.home.network(&network.name), file.to_toml()?.as_bytes(), true)?;
        }
        ledger.close().await;
    }
    session.output.print(&Deployed {
        network: network.name.clone(),
        chain_id: network.chain_id,
        contracts: network.contracts,
        token: network.token.address,
        start_block,
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}
