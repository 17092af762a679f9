//! The way to executors: joining the network for the time of a command, and finding whom the user means.

use std::{fmt, str::FromStr};

use alloy::primitives::Address;
use libp2p::{Multiaddr, PeerId};
use lloom_node::{
    IncomingStreams, Network as PeerNetwork, NetworkConfig, NetworkError, NetworkHandle, Offer,
    network::{DhtMode, NetworkName},
    peer_address,
};
use lloom_receipts::{Keypair, ModelHash};

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    keystore,
    network::Network,
    progress::Progress,
    session::Session,
};

/// How a user names an executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutorName {
    /// By its operator's address, or its peer id, which says the same.
    Operator(Address),
    /// By where it listens.
    At(Multiaddr),
}

impl FromStr for ExecutorName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return text
                .parse()
                .map(Self::At)
                .map_err(|error| format!("no multiaddress: {error}"));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Operator(address));
        }
        if let Ok(peer) = text.parse::<PeerId>() {
            return peer_address(&peer)
                .map(Self::Operator)
                .ok_or_else(|| "the peer id holds no secp256k1 key, so it is no executor's".to_owned());
        }
        Err("give a multiaddress (/ip4/…/tcp/…/p2p/…), a peer id, or an operator's address (0x…)".to_owned())
    }
}

impl fmt::Display for ExecutorName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(address) => address.fmt(formatter),
            Self::At(address) => address.fmt(formatter),
        }
    }
}

/// The network's name among peers.
pub fn peer_network(network: &Network) -> NetworkName {
    NetworkName {
        name: network.name.clone(),
        chain_id: network.chain_id,
        settlement: network.contracts.settlement,
    }
}

/// Multiaddresses of config.toml.
///
/// # Errors
/// When one isn't.
pub fn multiaddresses(key: &str, texts: &[String]) -> Result<Vec<Multiaddr>> {
    texts
        .iter()
        .map(|text| {
            text.parse().or_fail(Kind::Configuration, || {
                format!("config.toml's {key} holds '{text}', which is no multiaddress")
            })
        })
        .collect()
}

/// A network failure with its advice.
pub fn network_failure(error: NetworkError, operation: impl Into<String>) -> Failure {
    let hint = match &error {
        NetworkError::Listen { .. } => Some("is another node using the port? config.toml's `listen` names it"),
        NetworkError::Dial { .. } | NetworkError::OpenStream { .. } | NetworkError::RequestOffer { .. } => {
            Some("is the executor running, and is the address right? `lloomctl node run` prints it")
        }
        NetworkError::AskTower { .. } => {
            Some("is the tower running, and is the address right? `lloomctl watch --tower` prints it")
        }
        _ => None,
    };
    let failure = Failure::of(Kind::Network, error).while_(operation);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Joins the network as a client does: it asks, and nobody asks it.
///
/// # Errors
/// When the configuration names something that is no address, or the network can't be set up.
pub async fn join(session: &Session, key: &Keypair, known: &[ExecutorName]) -> Result<NetworkHandle> {
    let config = session.config()?;
    let mut network = NetworkConfig::new(key.clone(), peer_network(&session.network));
    network.bootstrap = multiaddresses("bootstrap", &config.bootstrap)?;
    for name in known {
        if let ExecutorName::At(address) = name {
            network.bootstrap.push(address.clone());
        }
    }
    network.mdns = config.mdns;
    network.dht = DhtMode::Client;
    let (handle, _incoming) = PeerNetwork::start(network)
        .await
        .map_err(|error| network_failure(error, "cannot join the network"))?;
    Ok(handle)
}

/// Joins the network under a name made up for the occasion, to ask peers who are named by where they are.
///
/// A node that runs is known by the home's key: whoever would join with it beside it would be two of one.
///
/// # Errors
/// When the network can't be set up.
pub async fn join_as_nobody(session: &Session) -> Result<NetworkHandle> {
    let key = keystore::generate()?;
    let mut network = NetworkConfig::new(key, peer_network(&session.network));
    network.dht = DhtMode::Client;
    let (handle, _incoming) = PeerNetwork::start(network)
        .await
        .map_err(|error| network_failure(error, "cannot join the network"))?;
    Ok(handle)
}

/// Joins the network as a node does that others ask: with a place to listen.
///
/// # Errors
/// When the configuration names no such place, or the network can't be set up.
pub async fn join_listening(session: &Session, key: &Keypair) -> Result<(NetworkHandle, IncomingStreams)> {
    let config = session.config()?;
    let mut network = NetworkConfig::new(key.clone(), peer_network(&session.network));
    network.listen = multiaddresses("listen", &config.listen)?;
    network.external = multiaddresses("external", &config.external)?;
    network.bootstrap = multiaddresses("bootstrap", &config.bootstrap)?;
    network.mdns = config.mdns;
    if network.listen.is_empty() {
        return Err(Failure::new(
            Kind::Configuration,
            "config.toml's `listen` is empty: nobody could reach this node",
        )
        .hint("listen = [\"/ip4/0.0.0.0/tcp/4401\"]"));
    }
    PeerNetwork::start(network)
        .await
        .map_err(|error| network_failure(error, "cannot join the network"))
}

/// Finds the executor that the user means, and what it offers.
///
/// # Errors
/// When it can't be found, or settles elsewhere.
pub async fn find(session: &Session, handle: &NetworkHandle, name: &ExecutorName) -> Result<(PeerId, Offer)> {
    let _progress = Progress::spinner(session.output, format!("Looking for {name}"));
    let (peer, offer) = match name {
        ExecutorName::At(address) => {
            let operation = || format!("cannot reach the executor at {address}");
            let peer = handle
                .dial(address.clone())
                .await
                .map_err(|error| network_failure(error, operation()))?;
            let offer = handle
                .request_offer(peer)
                .await
                .map_err(|error| network_failure(error, operation()))?;
            (peer, offer)
        }
        ExecutorName::Operator(operator) => executors(session, handle, None)
            .await?
            .into_iter()
            .find(|(_, offer)| offer.operator == *operator)
            .ok_or_else(|| {
                Failure::new(Kind::Network, format!("no executor {operator} can be found"))
                    .hint("name it by its multiaddress, which `lloomctl node run` prints, or add a bootstrap peer to config.toml")
            })?,
    };
    check_offer(&session.network, &offer)?;
    Ok((peer, offer))
}

/// Advice for whoever met nobody.
pub fn nobody_hint(network: &Network) -> String {
    let elsewhere = "name peers to meet others through in config.toml's `bootstrap`, or an executor by its multiaddress with --executor";
    if network.development {
        format!("on a devnet, `lloomctl node run` in an executor's home is one; {elsewhere}")
    } else {
        elsewhere.to_owned()
    }
}

/// All executors that can be found, or those that sell `model`, and settle where this network does.
///
/// # Errors
/// When the network stopped.
pub async fn executors(
    session: &Session,
    handle: &NetworkHandle,
    model: Option<ModelHash>,
) -> Result<Vec<(PeerId, Offer)>> {
    let found = handle
        .find_executors(model)
        .await
        .map_err(|error| network_failure(error, "cannot look for executors"))?;
    Ok(found
        .into_iter()
        .filter(|(_, offer)| check_offer(&session.network, offer).is_ok())
        .collect())
}

fn check_offer(network: &Network, offer: &Offer) -> Result {
    let contracts = network.contracts;
    if offer.chain_id != network.chain_id
        || offer.escrow != contracts.escrow
        || offer.settlement != contracts.settlement
    {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "the executor {} settles at the contracts {} and {} on chain {}, not on '{}'",
                offer.operator, offer.escrow, offer.settlement, offer.chain_id, network.name
            ),
        )
        .hint("choose its network with --network"));
    }
    if offer.token != network.token.address {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "the executor {} is paid in the token {}, not in {}",
                offer.operator, offer.token, network.token.symbol
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_have_three_kinds_of_names() {
        let key = Keypair::from_secret([7; 32]).unwrap();
        let peer = lloom_node::peer_id(&key);
        let by_address = ExecutorName::Operator(key.address());
        assert_eq!(key.address().to_string().parse(), Ok(by_address.clone()));
        assert_eq!(peer.to_string().parse(), Ok(by_address));
        let address = format!("/ip4/127.0.0.1/tcp/4401/p2p/{peer}");
        assert_eq!(address.parse(), Ok(ExecutorName::At(address.parse().unwrap())));
        for wrong in [
            "",
            "somebody",
            "/ip4/nowhere",
            "0x12",
            "12D3KooWH3uVF6wv47WnArKHk5ZDVmGb6CVbEDqVyemfPnCaQnQM",
        ] {
            assert!(wrong.parse::<ExecutorName>().is_err(), "{wrong}");
        }
    }
}
