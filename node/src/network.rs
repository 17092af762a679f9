//! Peers: finding them, asking what they sell, and opening streams to them.
//!
//! One task, the event loop, owns the libp2p swarm. Everything else speaks to it through a [`NetworkHandle`], over a
//! bounded queue. [`NetworkConfig`] names every limit.
//!
//! | protocol | for |
//! |---|---|
//! | `/lloom/kad/1.0.0` | provider records: who serves which model |
//! | `/lloom/req-resp/1.0.0` | an executor's [`Offer`](crate::Offer), in CBOR |
//! | `/lloom/inference/1.0.0` | streams of inference |
//! | `/lloom/tower/1.0.0` | what executors hand to [towers](crate::tower), in CBOR |
//!
//! plus identify, ping and, on a local network, multicast DNS, over TCP with Noise and Yamux.
//!
//! The transport keeps no promise about money: that an offer comes from its operator is checked here, everything
//! signed is checked by who reads it.

mod behaviour;
mod bootstrap;
mod codec;
mod config;
mod dial;
mod dial_failure;
mod error;
mod event_loop;
mod handle;
mod identity;
mod inference;
mod listen;
mod stream;
mod tower;

use std::sync::Arc;

use libp2p::StreamProtocol;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use config::{DhtMode, NetworkConfig, NetworkLimits, NetworkName};
pub use dial_failure::DialFailure;
pub use error::{NetworkError, OpenStreamError};
pub use handle::NetworkHandle;
pub use identity::{peer_address, peer_id};
pub use stream::{IncomingStream, IncomingStreams, InferenceStream};
pub use tower::{TowerInquiries, TowerInquiry};

/// The hash table.
pub const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/lloom/kad/1.0.0");
/// Offers.
pub const OFFER_PROTOCOL: StreamProtocol = StreamProtocol::new("/lloom/req-resp/1.0.0");
/// Inference.
pub const INFERENCE_PROTOCOL: StreamProtocol = StreamProtocol::new("/lloom/inference/1.0.0");
/// Towers.
pub const TOWER_PROTOCOL: StreamProtocol = StreamProtocol::new("/lloom/tower/1.0.0");
/// What identify calls the network's protocols as a whole.
const IDENTIFY_PROTOCOL: &str = "/lloom/1.0.0";

/// A node's part of the network.
#[derive(Debug)]
pub struct Network;

impl Network {
    /// Starts the node: listens, dials the configured peers, and runs until it is shut down. Returns once every
    /// listener has its address. A node that serves no inference drops the [`IncomingStreams`].
    ///
    /// # Errors
    /// [`NetworkError::Listen`] for an address that can't be listened on, [`NetworkError::Start`] for the rest.
    pub async fn start(config: NetworkConfig) -> Result<(NetworkHandle, IncomingStreams), NetworkError> {
        let (incoming, receiver) = mpsc::channel(config.limits.waiting_streams.max(1));
        let (commands, queue) = mpsc::channel(config.limits.commands.max(1));
        let (publish, status) = watch::channel(handle::Status::default());
        let stop = CancellationToken::new();
        let stopped = CancellationToken::new();
        let swarm = behaviour::build_swarm(&config, incoming)?;
        let shared = handle::Shared {
            local: *swarm.local_peer_id(),
            address: config.keypair.address(),
            network: config.network.clone(),
            mdns: config.mdns,
            limits: config.limits.clone(),
            commands,
            status,
            stop: stop.clone(),
            stopped: stopped.clone(),
        };
        let mut event_loop = event_loop::EventLoop::new(swarm, config, queue, publish, stop);
        event_loop.listen().await?;
        let guard = stopped.drop_guard();
        let span = tracing::info_span!("network", node = %shared.address);
        let run = async move {
            // Held by the task itself, so that even a panic in it is told to those who wait.
            let _guard = guard;
            Box::pin(event_loop.run()).await;
        };
        tokio::spawn(run.instrument(span));
        let handle = NetworkHandle {
            shared: Arc::new(shared),
        };
        Ok((handle, IncomingStreams { receiver }))
    }
}

/// A small valid offer.
#[cfg(test)]
pub(crate) fn offer_for_tests(operator: alloy::primitives::Address) -> crate::Offer {
    use alloy::primitives::Address;
    use lloom_receipts::{ModelHash, PricePerMillion, Prices, TokenAmount, TokenCount};

    crate::Offer {
        chain_id: 31337,
        escrow: Address::repeat_byte(0xe5),
        settlement: Address::repeat_byte(0x5e),
        token: Address::repeat_byte(0x70),
        payee: Address::repeat_byte(0x9a),
        operator,
        models: vec![crate::ModelOffer {
            id: "tiny".to_owned(),
            hash: ModelHash::of_id("tiny"),
            prices: Prices {
                input: PricePerMillion::new(TokenAmount::new(150_000)),
                output: PricePerMillion::new(TokenAmount::new(600_000)),
            },
            max_input: TokenCount::new(8_192),
            max_output: TokenCount::new(2_048),
        }],
        increment: TokenCount::new(64),
        min_deposit: TokenAmount::new(1_000_000),
        confirmations: 2,
        capacity: 4,
        agent: "lloom/test".to_owned(),
    }
}

#[cfg(test)]
mod tests;
