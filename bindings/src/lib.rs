//! What the chain and the signatures look like from Rust: EIP-712 structs, contract types and deployments.
//!
//! No I/O and no policy: the rules of a payment live in `lloom-receipts`, the store in `lloom-ledger`.

#![allow(
    missing_docs,
    reason = "alloy generates the contracts' types; the Solidity interfaces are their manual"
)]

pub mod eip712;
