//! The node: executors that sell inference and clients that buy it, over libp2p.
//!
//! A node's libp2p key is secp256k1, so its peer id holds the public key and *is* its Ethereum address: whoever speaks
//! on a connection has proven to own the operator (or client) key that its documents are signed with. Three things
//! follow from that here:
//!
//! - [`peer_address`] turns a peer id into an address; peers without one are not connected to at all;
//! - an [`Offer`] is believed only when its operator is the peer that sent it;
//! - an inference stream arrives together with the address of who opened it.
//!
//! ```
//! use alloy::primitives::address;
//! use lloom_node::{peer_address, peer_id};
//! use lloom_receipts::Keypair;
//!
//! let operator = Keypair::from_secret([1; 32])?;
//! assert_eq!(peer_address(&peer_id(&operator)), Some(operator.address()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`network`] finds peers and opens streams, [`backend`] speaks to the LLM server behind an executor, [`selection`]
//! picks an executor by price and measured quality. What is paid, and how, is between an [`executor`] and a [`client`];
//! [`wire`] is what they say to each other. A [`tower`] defends an executor's channels while it is away.
//!
//! This crate holds no money and decides no signature's validity: documents are checked by `lloom-receipts`, and what
//! has to survive a crash is in `lloom-ledger` before it is visible here.

pub mod backend;
pub mod client;
pub mod discovery;
pub mod executor;
mod label;
pub mod network;
mod offer;
pub mod selection;
pub mod tower;
pub mod wire;

pub use backend::{Backend, BackendConfig, BackendError, BackendEvent, Secret};
pub use network::{
    IncomingStream, IncomingStreams, InferenceStream, Network, NetworkConfig, NetworkError, NetworkHandle,
    peer_address, peer_id,
};
pub use offer::{ModelOffer, Offer, OfferError};
