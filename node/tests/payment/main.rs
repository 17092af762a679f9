//! The payment protocol between a real client and a real executor, over in-memory streams: real ledgers on disk, a real
//! HTTP model server, and hand-made frames where one side has to misbehave.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod backend;
mod bad_days;
mod counting;
mod executor_faults;
mod happy_days;
mod left_open;
mod refusals;
mod returns;
mod world;
