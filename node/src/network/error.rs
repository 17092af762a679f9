use std::{io, time::Duration};

use alloy::primitives::Address;
use libp2p::{Multiaddr, PeerId, TransportError, request_response::OutboundFailure};

use super::dial_failure::DialFailure;
use crate::OfferError;

/// What can go wrong between this node and its peers.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A part of the node couldn't be set up.
    #[error("starting the network: {part}")]
    Start {
        /// Which part.
        part: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An address is no address to listen on, or is taken.
    #[error("listening on {address}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why.
        #[source]
        source: TransportError<io::Error>,
    },
    /// Nobody answers at an address, or not as the peer that it names.
    #[error("dialing {address}")]
    Dial {
        /// The address.
        address: Multiaddr,
        /// Why.
        #[source]
        source: DialFailure,
    },
    /// A peer answers, but its key is no Ethereum key, so nothing it signs could be attributed to it.
    #[error("the peer {peer} has no secp256k1 key, so it has no address to be paid at")]
    NoAddress {
        /// The peer.
        peer: PeerId,
    },
    /// No stream could be opened.
    #[error("opening a stream to {peer}")]
    OpenStream {
        /// The peer.
        peer: PeerId,
        /// Why.
        #[source]
        source: OpenStreamError,
    },
    /// A peer was asked for its offer and didn't answer, or not in a form that can be read.
    #[error("asking {peer} for its offer")]
    RequestOffer {
        /// The peer.
        peer: PeerId,
        /// Why. An answer above the limit is an [`OutboundFailure::Io`] around an
        /// [`OfferError::TooLarge`].
        #[source]
        source: OutboundFailure,
    },
    /// The peer sells nothing.
    #[error("the peer {peer} is no executor")]
    NoOffer {
        /// The peer.
        peer: PeerId,
    },
    /// A peer was asked as a tower and didn't answer, or not in a form that can be read.
    #[error("asking the tower {peer}")]
    AskTower {
        /// The peer.
        peer: PeerId,
        /// Why.
        #[source]
        source: OutboundFailure,
    },
    /// An offer that is not believed, or that can't be served.
    #[error("the offer of {sender} is refused")]
    Offer {
        /// Whose offer.
        sender: Address,
        /// The broken rule.
        #[source]
        source: OfferError,
    },
    /// It took longer than its limit.
    #[error("{operation} took longer than {} s", limit.as_secs())]
    Timeout {
        /// What did.
        operation: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The node has been shut down.
    #[error("the network has been shut down")]
    Stopped,
}

/// Why a stream couldn't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStreamError {
    /// The peer couldn't be reached.
    #[error("the peer can't be reached")]
    Dial(#[source] DialFailure),
    /// The peer is connected but doesn't serve inference.
    #[error("the peer does not serve inference")]
    Unsupported,
    /// The connection broke while the protocol was agreed on.
    #[error("agreeing on the protocol")]
    Io(#[source] io::Error),
    /// The connection closed before the stream was there.
    #[error("the connection closed")]
    Closed,
    /// As many streams as the connection may have are open.
    #[error("{limit} streams are open on the connection already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}
