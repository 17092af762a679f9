//! A PostgreSQL server of a test's own.
//!
//! Its programs come from npm, as anvil does, or from the system. It listens on a UNIX socket in a temporary directory,
//! and on a port of this machine where a test asks for that, keeps everything in the directory, and ends with the process
//! that started it, however that ends.

mod certificate;
mod nobody;
mod programs;
mod server;

pub use certificate::Certificate;
pub use server::Server;
