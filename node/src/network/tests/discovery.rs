use std::collections::HashSet;

use tokio::sync::oneshot;

use super::*;
use crate::{discovery::provider_key, network::handle::Command};

#[tokio::test]
async fn an_executor_is_found_at_an_explicit_address() {
    let executor = Node::start(config(1)).await;
    executor.serve().await;
    let client = Node::start(NetworkConfig::new(keypair(2), network_name())).await;
    let peer = client.handle.dial(executor.address()).await.unwrap();
    assert_eq!(peer, executor.handle.peer_id());
    assert_eq!(peer_address(&peer), Some(keypair(1).address()));
    assert_eq!(client.handle.request_offer(peer).await.unwrap(), executor.offer());
    // Dialing it again is no second connection.
    assert_eq!(client.handle.dial(executor.address()).await.unwrap(), peer);
    // Without the peer id at its end the address is good for whoever is there.
    let bare: Multiaddr = executor.address().iter().take(2).collect();
    assert_eq!(client.handle.dial(bare).await.unwrap(), peer);
}

#[tokio::test]
async fn an_executor_is_found_at_a_configured_address() {
    let executor = Node::start(config(1)).await;
    executor.serve().await;
    // The very first search of a client that has just started finds it.
    let client = Node::joining(2, &[&executor]).await;
    let found = client.handle.find_executors(Some(tiny())).await.unwrap();
    assert_eq!(found, [(executor.handle.peer_id(), executor.offer())]);
    assert_eq!(
        client
            .handle
            .find_executors(Some(ModelHash::of_id("other")))
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn an_executor_is_found_through_a_third_node() {
    let third = Node::start(config(3)).await;
    let executor = Node::joining(1, &[&third]).await;
    // Offered before anybody is connected: the records follow when peers appear.
    executor.serve().await;
    let mut config = NetworkConfig::new(keypair(2), network_name());
    config.bootstrap = vec![third.address()];
    config.dht = DhtMode::Client;
    let client = Node::start(config).await;
    assert_eq!(
        find(&client.handle, Some(tiny()), executor.handle.peer_id()).await,
        executor.offer()
    );
    assert_eq!(
        find(&client.handle, None, executor.handle.peer_id()).await,
        executor.offer()
    );
    // It is the hash table that knows it, for what it sells and for nothing else.
    for (model, sold) in [
        (None, true),
        (Some(tiny()), true),
        (Some(ModelHash::of_id("other")), false),
    ] {
        let providers = providers(&client.handle, model).await;
        assert_eq!(providers.contains(&executor.handle.peer_id()), sold, "{model:?}");
    }
    // The third node sells nothing.
    let error = client.handle.request_offer(third.handle.peer_id()).await.unwrap_err();
    assert!(matches!(error, NetworkError::NoOffer { .. }), "{error:?}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let mut limited = config(1);
    limited.limits.incoming_connections = 1;
    let executor = Node::start(limited).await;
    executor.serve().await;
    let first = Node::start(config(2)).await;
    let peer = first.handle.dial(executor.address()).await.unwrap();
    let second = Node::start(config(3)).await;
    // The dialer learns of it when the connection is closed again, which may be just after it was made.
    let refused = second.handle.dial(executor.address()).await;
    if refused.is_ok() {
        assert!(second.handle.request_offer(peer).await.is_err());
    }
    assert_eq!(executor.handle.known_peers(), 1);
    assert_eq!(first.handle.request_offer(peer).await.unwrap(), executor.offer());
}

#[tokio::test]
async fn networks_that_share_peers_do_not_mix() {
    let third = Node::start(config(3)).await;
    let ours = Node::joining(1, &[&third]).await;
    ours.serve().await;
    let mut config = config(4);
    config.network.chain_id = 84532;
    config.bootstrap = vec![third.address()];
    let theirs = Node::start(config).await;
    let mut offer = theirs.offer();
    offer.chain_id = 84532;
    theirs.handle.serve_offer(offer.clone()).await.unwrap();

    let client = Node::joining(2, &[&third, &theirs]).await;
    find(&client.handle, Some(tiny()), ours.handle.peer_id()).await;
    let found = client.handle.find_executors(Some(tiny())).await.unwrap();
    assert_eq!(found, [(ours.handle.peer_id(), ours.offer())]);
    // Asked directly, the other one still says what it is.
    assert_eq!(
        client.handle.request_offer(theirs.handle.peer_id()).await.unwrap(),
        offer
    );
}

#[tokio::test]
async fn a_configured_peer_that_comes_late_is_found() {
    // Takes a port and lets it go again, to know an address nobody is at yet.
    let placeholder = Node::start(config(1)).await;
    let address = placeholder.address();
    placeholder.handle.shutdown().await;

    let mut client = config(2);
    client.bootstrap = vec![address.clone()];
    client.limits.bootstrap_every = Duration::from_millis(50);
    let client = Node::start(client).await;
    assert_eq!(client.handle.find_executors(None).await.unwrap(), []);

    let mut late = config(1);
    late.listen = vec![address.iter().take(2).collect()];
    let late = Node::start(late).await;
    late.serve().await;
    find(&client.handle, None, late.handle.peer_id()).await;

    // And again when it was away.
    late.handle.shutdown().await;
    let mut again = config(1);
    again.listen = vec![address.iter().take(2).collect()];
    let again = Node::start(again).await;
    again.serve().await;
    find(&client.handle, None, again.handle.peer_id()).await;
}

#[tokio::test]
async fn an_executor_is_found_by_multicast() {
    // Other runs of this test may be heard on the same network, so each has keys of its own.
    let unique = |byte: u8| {
        let mut secret = [byte; 32];
        secret[..4].copy_from_slice(&std::process::id().to_be_bytes());
        let mut config = config(byte);
        config.keypair = Keypair::from_secret(secret).unwrap();
        config
    };
    let mut executor = unique(11);
    executor.listen = vec!["/ip4/0.0.0.0/tcp/0".parse().unwrap()];
    executor.mdns = true;
    let executor = Node::start(executor).await;
    executor.serve().await;
    let mut client = unique(12);
    client.listen = vec!["/ip4/0.0.0.0/tcp/0".parse().unwrap()];
    client.mdns = true;
    let client = Node::start(client).await;
    assert_eq!(
        find(&client.handle, Some(tiny()), executor.handle.peer_id()).await,
        executor.offer()
    );
}

#[tokio::test]
async fn a_taken_port_and_an_address_of_no_kind_are_errors() {
    let node = Node::start(config(1)).await;
    for address in [node.address(), "/memory/7".parse().unwrap()] {
        let mut config = config(2);
        config.listen = vec![address.iter().take(2).collect()];
        let error = Network::start(config).await.unwrap_err();
        assert!(matches!(error, NetworkError::Listen { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn dials_that_lead_nowhere_say_why() {
    let node = Node::start(config(1)).await;
    let client = Node::start(config(2)).await;
    // Somebody else than the address names.
    let wrong: Multiaddr = format!(
        "{}/p2p/{}",
        node.address().iter().take(2).collect::<Multiaddr>(),
        peer_id(&keypair(9))
    )
    .parse()
    .unwrap();
    let error = client.handle.dial(wrong).await.unwrap_err();
    assert!(
        matches!(&error, NetworkError::Dial { source, .. } if matches!(source.error(), libp2p::swarm::DialError::WrongPeerId { .. })),
        "{error:?}"
    );
    // Nobody.
    let address: Multiaddr = node.address().iter().take(2).collect();
    node.handle.shutdown().await;
    let error = client.handle.dial(address).await.unwrap_err();
    let NetworkError::Dial { source, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.to_string(), "Connection refused (os error 111)");
    assert!(std::error::Error::source(&source).is_none(), "it would be said twice");
    // A peer whose address nobody knows.
    let unknown = peer_id(&keypair(9));
    let error = client.handle.open_inference_stream(unknown).await.unwrap_err();
    assert!(
        matches!(
            error,
            NetworkError::OpenStream {
                source: OpenStreamError::Dial(_),
                ..
            }
        ),
        "{error:?}"
    );
    let error = client.handle.request_offer(unknown).await.unwrap_err();
    assert!(matches!(error, NetworkError::RequestOffer { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_stops_when_it_is_told_and_when_its_handles_are_gone() {
    let node = Node::start(config(1)).await;
    let client = Node::joining(2, &[&node]).await;
    find_connected(&client.handle).await;
    let Node { handle, mut incoming } = node;
    handle.shutdown().await;
    handle.shutdown().await;
    assert!(incoming.next().await.is_none());
    let error = handle.dial(client.address()).await.unwrap_err();
    assert!(matches!(error, NetworkError::Stopped), "{error:?}");
    assert!(matches!(handle.find_executors(None).await, Err(NetworkError::Stopped)));

    let Node { handle, mut incoming } = client;
    drop(handle);
    let ended = timeout(PATIENCE, incoming.next()).await.expect("the node ends");
    assert!(ended.is_none());
}

/// Waits until the node has a peer.
async fn find_connected(handle: &NetworkHandle) {
    let mut status = handle.shared.status.clone();
    timeout(PATIENCE, status.wait_for(|status| status.peers > 0))
        .await
        .expect("a peer connects")
        .unwrap();
}

/// What the hash table answers, whatever the node knows besides.
async fn providers(handle: &NetworkHandle, model: Option<ModelHash>) -> HashSet<PeerId> {
    let (reply, found) = oneshot::channel();
    let key = provider_key(&network_name(), model);
    let command = Command::FindProviders { key, reply };
    handle.shared.commands.send(command).await.unwrap();
    timeout(PATIENCE, found).await.expect("the search ends").unwrap()
}
