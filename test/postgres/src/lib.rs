//! A PostgreSQL server of a test's own.
//!
//! Its programs come from npm, as anvil does, or from the system. It listens on a UNIX socket in a temporary directory
//! and nowhere else, keeps everything there, and ends with the process that started it, however that ends.

mod programs;
mod server;

pub use server::Server;
