use std::{io, num::NonZeroUsize, time::Duration};

use libp2p::{
    PeerId, Swarm, SwarmBuilder, connection_limits, identify, kad, mdns, noise, ping, request_response,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    tcp, yamux,
};
use tokio::sync::mpsc;

use super::{
    IDENTIFY_PROTOCOL, KAD_PROTOCOL, OFFER_PROTOCOL, TOWER_PROTOCOL,
    codec::OfferCodec,
    config::{DhtMode, NetworkConfig},
    error::NetworkError,
    identity::libp2p_keypair,
    inference,
    stream::IncomingStream,
    tower::TowerCodec,
};

/// How often multicast asks for new peers when nothing is heard (seed: 30 s).
const MDNS_QUERY_EVERY: Duration = Duration::from_secs(30);
/// How long others may remember what multicast told them (seed: 120 s).
const MDNS_TTL: Duration = Duration::from_secs(120);
/// Provider records that a node keeps for others, by key.
const MAX_PROVIDED_KEYS: usize = 4096;
/// Providers that are kept, and answered with, for one key.
const MAX_PROVIDERS_PER_KEY: usize = 64;

/// Everything a node speaks.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    // The limits come first, so that nothing else sees a connection that is refused.
    pub(super) limits: connection_limits::Behaviour,
    pub(super) inference: inference::Behaviour,
    pub(super) offers: request_response::Behaviour<OfferCodec>,
    pub(super) towers: request_response::Behaviour<TowerCodec>,
    pub(super) kad: kad::Behaviour<kad::store::MemoryStore>,
    pub(super) identify: identify::Behaviour,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) ping: ping::Behaviour,
}

pub(super) fn build_swarm(
    config: &NetworkConfig,
    incoming: mpsc::Sender<IncomingStream>,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let keypair = libp2p_keypair(&config.keypair);
    let local = keypair.public().to_peer_id();
    let limits = &config.limits;

    let connections = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(limits.connections))
        .with_max_established_incoming(Some(limits.incoming_connections))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
        .with_max_pending_incoming(Some(limits.pending_incoming))
        .with_max_pending_outgoing(Some(limits.pending_outgoing));
    let offers = request_response::Behaviour::with_codec(
        OfferCodec,
        [(OFFER_PROTOCOL, request_response::ProtocolSupport::Full)],
        request_response::Config::default()
            .with_request_timeout(limits.offer)
            .with_max_concurrent_streams(limits.offers_per_connection),
    );
    let towers = request_response::Behaviour::with_codec(
        TowerCodec,
        [(TOWER_PROTOCOL, request_response::ProtocolSupport::Full)],
        request_response::Config::default()
            .with_request_timeout(limits.tower)
            .with_max_concurrent_streams(limits.tower_questions_per_connection),
    );
    let identify = identify::Behaviour::new(
        identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), keypair.public())
            .with_agent_version(config.agent.clone())
            .with_push_listen_addr_updates(true),
    );
    let mdns = config
        .mdns
        .then(|| {
            let config = mdns::Config {
                ttl: MDNS_TTL,
                query_interval: MDNS_QUERY_EVERY,
                enable_ipv6: false,
            };
            mdns::tokio::Behaviour::new(config, local).map_err(|source| NetworkError::Start {
                part: "multicast discovery",
                source,
            })
        })
        .transpose()?;
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(connections),
        inference: inference::Behaviour::new(incoming, limits.streams_per_connection),
        offers,
        towers,
        kad: kademlia(local, config),
        identify,
        mdns: Toggle::from(mdns),
        ping: ping::Behaviour::default(),
    };

    let start = |part, error: String| NetworkError::Start {
        part,
        source: io::Error::other(error),
    };
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .map_err(|error| start("the Noise handshake", error.to_string()))?
        .with_dns()
        .map_err(|source| NetworkError::Start {
            part: "the DNS resolver",
            source,
        })?
        .with_behaviour(|_| behaviour)
        .unwrap_or_else(|never| match never {})
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(limits.idle_connection))
        .with_connection_timeout(limits.dial)
        .build();
    Ok(swarm)
}

fn kademlia(local: PeerId, config: &NetworkConfig) -> kad::Behaviour<kad::store::MemoryStore> {
    let store = kad::store::MemoryStoreConfig {
        // Only provider records are used; nobody can make a node store values.
        max_records: 0,
        max_providers_per_key: MAX_PROVIDERS_PER_KEY,
        max_provided_keys: MAX_PROVIDED_KEYS,
        ..kad::store::MemoryStoreConfig::default()
    };
    let mut settings = kad::Config::new(KAD_PROTOCOL);
    settings
        .set_query_timeout(config.limits.find)
        .set_provider_record_ttl(Some(config.limits.provider_ttl))
        .set_provider_publication_interval(Some(config.limits.announce_every))
        .set_parallelism(NonZeroUsize::MIN.saturating_add(2));
    let mut kad = kad::Behaviour::with_config(local, kad::store::MemoryStore::with_config(local, store), settings);
    // Said, not guessed from what others see of the node: a devnet on loopback has no confirmed address.
    kad.set_mode(Some(match config.dht {
        DhtMode::Server => kad::Mode::Server,
        DhtMode::Client => kad::Mode::Client,
    }));
    kad
}
