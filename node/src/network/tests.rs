//! Nodes on loopback, over real sockets.

mod announcements;
mod discovery;
mod offers;
mod streams;

use std::time::Duration;

use alloy::primitives::Address;
use libp2p::{Multiaddr, PeerId};
use lloom_receipts::{Keypair, ModelHash};
use tokio::time::timeout;

use super::*;
use crate::{Offer, OfferError};

/// Longer than anything here takes, so that a test that waits in vain fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

fn network_name() -> NetworkName {
    NetworkName {
        name: "test".to_owned(),
        chain_id: 31337,
        settlement: Address::repeat_byte(0x5e),
    }
}

fn keypair(byte: u8) -> Keypair {
    Keypair::from_secret([byte; 32]).unwrap()
}

fn config(byte: u8) -> NetworkConfig {
    let mut config = NetworkConfig::new(keypair(byte), network_name());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config
}

/// A node, and what comes in at it.
struct Node {
    handle: NetworkHandle,
    incoming: IncomingStreams,
}

impl Node {
    async fn start(config: NetworkConfig) -> Self {
        let (handle, incoming) = Network::start(config).await.unwrap();
        Self { handle, incoming }
    }

    /// A node that knows the nodes at `bootstrap`.
    async fn joining(byte: u8, bootstrap: &[&Self]) -> Self {
        let mut config = config(byte);
        config.bootstrap = bootstrap.iter().map(|node| node.address()).collect();
        Self::start(config).await
    }

    fn address(&self) -> Multiaddr {
        self.handle.listen_addresses().swap_remove(0)
    }

    fn offer(&self) -> Offer {
        offer_for_tests(self.handle.address())
    }

    async fn serve(&self) {
        self.handle.serve_offer(self.offer()).await.unwrap();
    }
}

fn tiny() -> ModelHash {
    ModelHash::of_id("tiny")
}

/// Asks again until `peer` is found.
async fn find(handle: &NetworkHandle, model: Option<ModelHash>, peer: PeerId) -> Offer {
    let search = async {
        loop {
            let found = handle.find_executors(model).await.unwrap();
            if let Some((_, offer)) = found.into_iter().find(|(found, _)| *found == peer) {
                return offer;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, search).await.expect("the executor is found")
}
