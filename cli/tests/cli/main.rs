//! `lloomctl` as a person meets it: real processes, and a real chain where one is needed.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that can't go on says so by panicking"
)]

mod bad_input;
mod caring;
mod chain;
mod dismissal;
mod doctor;
mod documents;
mod harness;
mod money;
mod monitoring;
mod operating;
mod receipts;
mod reference;
mod setup;
mod shared_store;
mod splitter;
mod terminal;
mod towers;
