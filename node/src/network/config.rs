use std::time::Duration;

use alloy::primitives::Address;
use libp2p::Multiaddr;
use lloom_receipts::Keypair;

/// How a node takes part in the network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The node's key: its address is the peer's.
    pub keypair: Keypair,
    /// Which network this is. Executors of another one are not found under it.
    pub network: NetworkName,
    /// Where to listen; empty for a node that only dials.
    pub listen: Vec<Multiaddr>,
    /// Addresses others reach the node by and that it can't see itself (behind a NAT or a load balancer).
    pub external: Vec<Multiaddr>,
    /// Peers to connect to at start, and again whenever the connection is lost. Asked for offers, too.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether to look for peers by multicast on the local network.
    pub mdns: bool,
    /// The node's part in the hash table.
    pub dht: DhtMode,
    /// Whether private and loopback addresses that peers tell of are believed. A node on a public network only
    /// wastes dials on them; nodes of one machine or one office have no others.
    pub private_addresses: bool,
    /// What the node tells peers it is.
    pub agent: String,
    /// Everything that is bounded.
    pub limits: NetworkLimits,
}

impl NetworkConfig {
    /// A node that listens nowhere, knows nobody, and has every default.
    pub fn new(keypair: Keypair, network: NetworkName) -> Self {
        Self {
            keypair,
            network,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: false,
            dht: DhtMode::default(),
            private_addresses: true,
            agent: concat!("lloom/", env!("CARGO_PKG_VERSION")).to_owned(),
            limits: NetworkLimits::default(),
        }
    }
}

/// Tells networks apart: one name on one settlement contract of one chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkName {
    /// The name people use, such as `devnet`.
    pub name: String,
    /// The chain that settles.
    pub chain_id: u64,
    /// The contract that receipts are signed for.
    pub settlement: Address,
}

/// What a node does for the hash table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DhtMode {
    /// Answers queries and keeps records. For nodes that stay.
    #[default]
    Server,
    /// Only asks. For a client that is gone in a minute.
    Client,
}

/// The limits of a node, each with its default.
#[derive(Clone, Debug)]
pub struct NetworkLimits {
    /// Connections at a time, both directions (seed: 200).
    pub connections: u32,
    /// Of which others may open this many, so that they can't take every place.
    pub incoming_connections: u32,
    /// Connections to one peer (seed: 3).
    pub connections_per_peer: u32,
    /// Connections being opened by others.
    pub pending_incoming: u32,
    /// Connections being opened by this node.
    pub pending_outgoing: u32,
    /// How long a connection without a stream stays open (seed: ten minutes).
    pub idle_connection: Duration,
    /// How long a dial, its handshakes included, may take.
    pub dial: Duration,
    /// How long opening a stream may take, a dial included.
    pub open_stream: Duration,
    /// How long a peer may take to answer with its offer.
    pub offer: Duration,
    /// Offer exchanges of one connection at a time.
    pub offers_per_connection: usize,
    /// Offers asked for at a time while looking for executors.
    pub offers_in_flight: usize,
    /// How long a tower may take to answer; it writes to its disk first.
    pub tower: Duration,
    /// Questions to a tower on one connection at a time.
    pub tower_questions_per_connection: usize,
    /// Questions to this node as a tower that wait for an answer; more are answered that it is busy.
    pub waiting_tower_questions: usize,
    /// How long to look for providers in the hash table.
    pub find: Duration,
    /// The most peers that one search asks for an offer.
    pub candidates: usize,
    /// Peers remembered from multicast.
    pub mdns_peers: usize,
    /// Addresses believed of one peer.
    pub addresses_per_peer: usize,
    /// Inference streams that wait to be taken from [`IncomingStreams`](crate::IncomingStreams); more are reset.
    pub waiting_streams: usize,
    /// Inference streams that one connection may have open at a time.
    pub streams_per_connection: usize,
    /// Requests from handles that wait for the event loop.
    pub commands: usize,
    /// How often provider records are announced again.
    pub announce_every: Duration,
    /// How long a provider record lives (seed: a day).
    pub provider_ttl: Duration,
    /// How often lost bootstrap peers are dialed.
    pub bootstrap_every: Duration,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            connections: 200,
            incoming_connections: 150,
            connections_per_peer: 3,
            pending_incoming: 32,
            pending_outgoing: 32,
            idle_connection: Duration::from_secs(600),
            dial: Duration::from_secs(20),
            open_stream: Duration::from_secs(30),
            offer: Duration::from_secs(10),
            offers_per_connection: 8,
            offers_in_flight: 16,
            tower: Duration::from_secs(20),
            tower_questions_per_connection: 4,
            waiting_tower_questions: 128,
            find: Duration::from_secs(10),
            candidates: 128,
            mdns_peers: 64,
            addresses_per_peer: 16,
            waiting_streams: 128,
            streams_per_connection: 128,
            commands: 64,
            announce_every: Duration::from_secs(600),
            provider_ttl: Duration::from_secs(24 * 3600),
            bootstrap_every: Duration::from_secs(15),
        }
    }
}
