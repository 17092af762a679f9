//! The ledger on real SQLite files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod buying;
mod chain;
mod delegating;
mod grouped;
mod opening;
mod receiving;
mod restoring;
mod serving;
mod settling;
mod surviving;
mod towers;
mod world;
mod writing;
