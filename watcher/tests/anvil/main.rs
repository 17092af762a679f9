//! The watcher against a real chain: every test starts an anvil of its own and deploys the contracts on it.

#![allow(clippy::unwrap_used, reason = "a test may panic, and does so where it fails")]

mod claims;
mod closes;
mod crashes;
mod devnet;
mod executor;
mod faulty_chain;
mod leading;
mod outbox;
mod putting_off;
mod towers;
