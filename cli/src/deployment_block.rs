//! The block the contracts were deployed in: from there on the chain is followed.

use alloy::primitives::Bytes;
use lloom_watcher::ChainError;

use crate::{
    failure::{Failure, Result},
    onchain::{OnChain, chain_failure, head_number},
    session::Session,
};

/// No event of the network's contracts lies before this block. Where the network's file doesn't say, the chain is asked
/// by halves, once, and the answer written down: following a long chain from its beginning takes hours.
///
/// # Errors
/// When the endpoint forgot its old states.
pub async fn of(session: &Session, on_chain: &OnChain) -> Result<u64> {
    let network = &session.network;
    if network.development || network.start_block > 0 {
        return Ok(network.start_block);
    }
    let mut without = 0;
    let mut with = head_number(on_chain.chain()).await?;
    while without < with {
        let middle = without + (with - without) / 2;
        if has_code(session, on_chain, middle).await? {
            with = middle;
        } else {
            without = middle + 1;
        }
    }
    let mut file = network.to_file();
    file.start_block = with;
    // The endpoint may be this command's alone.
    if let Ok(stored) = crate::network::Network::load(&session.home, &network.name) {
        file.rpc_urls = stored.rpc_urls;
    }
    session
        .home
        .write(&session.home.network(&network.name), file.to_toml()?.as_bytes(), true)?;
    tracing::info!(block = with, "found the block the contracts were deployed in");
    Ok(with)
}

async fn has_code(session: &Session, on_chain: &OnChain, block: u64) -> Result<bool> {
    let network = &session.network;
    let code: std::result::Result<Bytes, ChainError> = on_chain
        .chain()
        .request("eth_getCode", (network.contracts.deployer, format!("{block:#x}")))
        .await;
    match code {
        Ok(code) => Ok(!code.is_empty()),
        Err(error) => Err(advise(
            chain_failure(error, "cannot find the block the contracts were deployed in"),
            session,
        )),
    }
}

fn advise(failure: Failure, session: &Session) -> Failure {
    failure.hint(format!(
        "the endpoint has to know old states for that, once; or write `start_block` into {}",
        session.home.network(&session.network.name).display()
    ))
}
