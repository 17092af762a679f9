//! The ledger on real SQLite files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod buying;
mod chain;
mod grouped;
mod opening;
mod receiving;
mod restoring;
mod serving;
mod settling;
mod surveying;
mod surviving;
mod world;
mod writing;
