//! When provider records reach the nodes that keep them.

use futures::StreamExt as _;
use libp2p::{
    Swarm, SwarmBuilder, identify, kad, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};

use super::*;
use crate::network::identity::libp2p_keypair;

/// Keys that [`offer_for_tests`] is announced under: any model, and its only one.
const RECORDS: usize = 2;

#[derive(NetworkBehaviour)]
struct KeeperBehaviour {
    kad: kad::Behaviour<kad::store::MemoryStore>,
    // By which others learn that it keeps records.
    identify: identify::Behaviour,
}

/// A node that does nothing but keep records.
struct Keeper {
    swarm: Swarm<KeeperBehaviour>,
    address: Multiaddr,
}

impl Keeper {
    async fn start() -> Self {
        let mut swarm = SwarmBuilder::with_existing_identity(libp2p_keypair(&keypair(7)))
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| {
                let local = key.public().to_peer_id();
                let store = kad::store::MemoryStore::new(local);
                let mut kad = kad::Behaviour::with_config(local, store, kad::Config::new(KAD_PROTOCOL));
                kad.set_mode(Some(kad::Mode::Server));
                let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), key.public());
                KeeperBehaviour {
                    kad,
                    identify: identify::Behaviour::new(identify),
                }
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                return Self { swarm, address };
            }
        }
    }

    /// Closes the connection to `peer` and waits until it is back.
    async fn lose(&mut self, peer: PeerId) {
        self.swarm.disconnect_peer_id(peer).unwrap();
        let mut lost = false;
        let lose = async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::ConnectionClosed { .. } => lost = true,
                    SwarmEvent::ConnectionEstablished { .. } if lost => return,
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, lose).await.expect("the peer comes back");
    }

    /// Waits until `count` records have come.
    async fn keep(&mut self, count: usize) {
        let mut kept = 0;
        let keep = async {
            while kept < count {
                if let SwarmEvent::Behaviour(KeeperBehaviourEvent::Kad(kad::Event::InboundRequest {
                    request: kad::InboundRequest::AddProvider { .. },
                })) = self.swarm.select_next_some().await
                {
                    kept += 1;
                }
            }
        };
        timeout(PATIENCE, keep).await.expect("the records come");
    }
}

#[tokio::test]
async fn a_peer_gets_the_records_when_it_is_met_and_when_it_comes_back() {
    let mut keeper = Keeper::start().await;
    let mut config = config(1);
    config.bootstrap = vec![keeper.address.clone()];
    config.limits.bootstrap_every = Duration::from_millis(50);
    let executor = Node::start(config).await;
    // It is no executor yet: nothing is announced when the two meet.
    executor.serve().await;
    for _ in 0..2 {
        keeper.keep(RECORDS).await;
        keeper.lose(executor.handle.peer_id()).await;
    }
    keeper.keep(RECORDS).await;
}

#[tokio::test]
async fn records_are_announced_again_and_again() {
    let mut keeper = Keeper::start().await;
    let mut config = config(1);
    config.bootstrap = vec![keeper.address.clone()];
    config.limits.announce_every = Duration::from_millis(100);
    let executor = Node::start(config).await;
    executor.serve().await;
    // Far more than the meeting accounts for.
    keeper.keep(8 * RECORDS).await;
}
