//! Offers from peers that don't play by the rules.

use futures::StreamExt as _;
use libp2p::{Swarm, SwarmBuilder, identity, noise, request_response, swarm::SwarmEvent, tcp, yamux};

use super::*;
use crate::network::{
    codec::{Answer, OfferCodec},
    identity::libp2p_keypair,
};

type Offers = request_response::Behaviour<OfferCodec>;

/// A peer that answers every question with `answer`, whatever it says.
async fn answering(keypair: identity::Keypair, answer: Answer) -> Multiaddr {
    let mut swarm: Swarm<Offers> = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| {
            let protocols = [(OFFER_PROTOCOL, request_response::ProtocolSupport::Full)];
            Offers::with_codec(OfferCodec, protocols, request_response::Config::default())
        })
        .unwrap()
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(request_response::Event::Message {
                message: request_response::Message::Request { channel, .. },
                ..
            }) = event
            {
                swarm.behaviour_mut().send_response(channel, answer.clone()).unwrap();
            }
        }
    });
    address
}

async fn offer_of(answer: Offer) -> Result<Offer, NetworkError> {
    let address = answering(libp2p_keypair(&keypair(7)), Answer::Offer(Box::new(answer))).await;
    let client = Node::start(NetworkConfig::new(keypair(2), network_name())).await;
    let peer = client.handle.dial(address).await.unwrap();
    let answer = client.handle.request_offer(peer).await;
    let found = client.handle.find_executors(None).await.unwrap();
    assert_eq!(
        found.len(),
        usize::from(answer.is_ok()),
        "who is refused is not found either"
    );
    answer
}

#[tokio::test]
async fn an_offer_in_its_own_name_is_believed() {
    let offer = offer_for_tests(keypair(7).address());
    assert_eq!(offer_of(offer.clone()).await.unwrap(), offer);
}

#[tokio::test]
async fn an_offer_in_another_name_is_refused() {
    let error = offer_of(offer_for_tests(keypair(8).address())).await.unwrap_err();
    let NetworkError::Offer {
        source: OfferError::WrongOperator { operator, sender },
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((operator, sender), (keypair(8).address(), keypair(7).address()));
}

#[tokio::test]
async fn an_oversize_offer_is_refused() {
    let mut offer = offer_for_tests(keypair(7).address());
    offer.agent = "x".repeat(1024 * 1024);
    let error = offer_of(offer).await.unwrap_err();
    let NetworkError::RequestOffer {
        source: request_response::OutboundFailure::Io(source),
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    let source = source.get_ref().unwrap().downcast_ref::<OfferError>();
    assert!(matches!(source, Some(OfferError::TooLarge { .. })), "{source:?}");
}

#[tokio::test]
async fn an_offer_nobody_would_believe_is_not_served() {
    let node = Node::start(config(1)).await;
    let error = node
        .handle
        .serve_offer(offer_for_tests(keypair(8).address()))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            NetworkError::Offer {
                source: OfferError::WrongOperator { .. },
                ..
            }
        ),
        "{error:?}"
    );
    let mut offer = node.offer();
    offer.models[0].id = "m".repeat(100_000);
    let error = node.handle.serve_offer(offer).await.unwrap_err();
    assert!(
        matches!(
            error,
            NetworkError::Offer {
                source: OfferError::ModelIdLength { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_peer_without_an_ethereum_key_is_not_connected_to() {
    // Ed25519 would do for libp2p, but it signs nothing that an escrow could check.
    let ed25519: identity::Keypair = identity::Keypair::ed25519_from_bytes([5; 32]).unwrap();
    let stranger = ed25519.public().to_peer_id();
    let address = answering(ed25519, Answer::NoOffer).await;
    let client = Node::start(config(2)).await;
    for address in [
        address.clone(),
        address.with(libp2p::multiaddr::Protocol::P2p(stranger)),
    ] {
        let error = client.handle.dial(address).await.unwrap_err();
        assert!(
            matches!(error, NetworkError::NoAddress { peer } if peer == stranger),
            "{error:?}"
        );
    }
    let error = client.handle.request_offer(stranger).await.unwrap_err();
    assert!(matches!(error, NetworkError::NoAddress { .. }), "{error:?}");
    assert_eq!(client.handle.known_peers(), 0);
}
