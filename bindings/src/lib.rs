//! What the chain and the signatures look like from Rust: EIP-712 structs, contract types, their code and addresses.
//!
//! No I/O, and no policy: the rules of a payment live in `lloom-receipts`, the store in `lloom-ledger`.
//!
//! ```
//! use lloom_bindings::Contracts;
//!
//! let contracts = Contracts::of_this_version();
//! assert_ne!(contracts.escrow, contracts.settlement);
//! ```

#![allow(
    missing_docs,
    reason = "alloy generates the contracts' types; the Solidity interfaces are their manual"
)]

mod contracts;
mod deployment;
pub mod eip712;
mod runtime;
mod splitter;

pub use contracts::{
    ChannelEscrow, DevToken, ExecutorRegistry, LloomDeployer, RevenueSplitter, UsageSettlement, channel_escrow,
    executor_registry, revenue_splitter, usage_settlement,
};
pub use deployment::{CREATE2_PROXY, Contracts, DEPLOYMENT_SALT, dev_token_address, dev_token_creation_call};
pub use runtime::Runtime;
pub use splitter::SplitterTerms;
