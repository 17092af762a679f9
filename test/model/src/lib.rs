//! A model of the contracts, and the same random calls made to both.
//!
//! The model ([`Model`]) is written from the documentation in `contracts/interfaces`, the contracts run as the committed
//! bytecode in an EVM in this process ([`Chain`]). A sequence is a seed: its steps are drawn from the model's state
//! ([`generator`]), done on both sides ([`Run`]), and both sides have to agree on
//!
//! - what every call returned, or the error it raised, with its arguments;
//! - every event of every contract, with its address, topics, data and place;
//! - after every step, every channel, every balance of every account inside and outside of the escrow, every
//!   allowance, every nonce and every operator.
//!
//! A disagreement prints its seed and the few steps that it needs: `LLOOM_MODEL_SEED` runs it again, and
//! `LLOOM_MODEL_SEQUENCES` says how many sequences follow. `make model` runs 20,000 of them from a new seed.
//!
//! Gas is not modelled, nor is what a hostile token or a contract signer could do beyond refusing, saying yes and moving
//! nothing. `advanceChannels` and `closeChannel` are called by accounts, which may not; the settlement's own calls of them
//! are part of `claimReceipts`, `closeWithReceipt` and `closeWithVoucher`.
//!
//! ```
//! use lloom_model::{Chain, Coverage, sequence};
//!
//! let chain = Chain::deploy();
//! let mut coverage = Coverage::default();
//! sequence(&chain, None, 1, 20, &mut coverage).expect("both sides agree");
//! ```

pub mod abi;
mod action;
mod artifact;
mod campaign;
mod chain;
mod coverage;
mod flaw;
pub mod generator;
mod model;
mod outcome;
mod run;
pub mod signer;
pub mod typed_data;
mod views;
mod world;

pub use action::{Action, Call};
pub use campaign::Campaign;
pub use chain::Chain;
pub use coverage::Coverage;
pub use flaw::Flaw;
pub use model::{CLOSE_GRACE_PERIOD, Channel, Model, OperatorStatus, Terms, Token};
pub use outcome::{Outcome, Revert, event_text};
pub use run::{Difference, Disagreement, Run, sequence};
pub use world::{CHAIN_ID, START, World};
