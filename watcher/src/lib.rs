//! The watcher: follows the chain, claims what was earned, closes channels, and meets deadlines.
//!
//! ```text
//! chain ──▶ follower ──▶ ledger ──▶ planner ──▶ settler ──▶ sender ──▶ chain
//!           blocks,      the truth  what, why   simulates,  signs, stores,
//!           forks                   now         splits      broadcasts
//! ```
//!
//! It plans from the ledger and believes the chain. A transaction that was sent is unknown until a receipt of it, or of
//! its replacement, is final; until then it is sent again, and dearer as a deadline nears. What counts in the end is that
//! a channel's `settled` reached its target, whoever got it there. The watcher can be stopped at any moment and goes on
//! where it was. A tower is a watcher that also defends what others have handed to it ([`Watcher::defending`]).
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use lloom_watcher::{RpcChain, RpcConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use lloom_watcher::Chain as _;
//!
//! let chain = RpcChain::new(&RpcConfig {
//!     endpoints: vec![String::from("http://127.0.0.1:8545")],
//!     chain_id: 31_337,
//!     genesis: None,
//!     timeout: Duration::from_secs(10),
//! })?;
//! println!("block {}", chain.head().await?.number);
//! # Ok(())
//! # }
//! ```
//!
//! What it refuses: to believe an endpoint that serves another chain, to settle more than was billed, to close a channel
//! while something better is unclaimed, to call a transaction failed because it takes long, and to stop without an error.

mod backoff;
mod batch;
mod books;
mod chain;
mod claim_call;
mod close;
mod defence;
mod deferral;
mod event;
mod explanation;
mod fees;
mod follower;
mod gas;
mod handle;
mod log_filter;
mod log_range;
mod lost_records;
mod metrics;
mod obligation;
mod order;
mod outbox;
mod patience;
mod payees;
mod planner;
mod quarantine;
mod revert;
mod rpc_chain;
mod sender;
mod settler;
mod stall;
mod transaction;
mod view;
mod watcher;

#[cfg(test)]
mod scripted_chain;

pub use batch::RowRefused;
pub use chain::{
    Broadcast, Call, CallOutcome, Chain, ChainError, EndpointHealth, FeeQuote, MinedTransaction, NonceAt, Revert,
    Standing, StateAt,
};
pub use defence::DefencePolicy;
pub use deferral::{Deferral, DeferralCounts};
pub use explanation::{Explanation, NothingDue, Verdict};
pub use fees::{FeePolicy, Fees, FeesTooHigh};
pub use handle::{
    ClaimReport, ClaimTransaction, ClaimedRow, CloseError, CloseReport, HandleError, MinedClaim, WatcherHandle,
    WatcherStatus,
};
pub use log_filter::LogFilter;
pub use metrics::WatcherMetrics;
pub use outbox::{CostEstimate, Fate, Outbox};
pub use planner::{
    Candidate, Plan, PlannedClaim, PlannedRow, PlannerPolicy, Publish, Situation, TokenThresholds, Waiting, WhyNot,
    WhyNow, plan,
};
pub use quarantine::{Held, QuarantinedRow};
pub use rpc_chain::{RpcChain, RpcConfig, RpcConfigError, RpcMetrics};
pub use sender::{SendError, SentTransaction};
pub use settler::ClaimFilter;
pub use stall::Stall;
pub use transaction::UnreadableTransaction;
pub use view::{ChannelView, read};
pub use watcher::{Watcher, WatcherConfig, WatcherError};
