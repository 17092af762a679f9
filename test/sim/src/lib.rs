//! Deterministic simulation: the real ledger, watcher and both ends of the payment protocol, in one thread, with the
//! contracts' bytecode in an EVM as the chain, and everything that can go wrong around them.
//!
//! A seed chooses what happens ([`Choices`]): requests, deposits, closes, reorgs, stale and lying endpoints, lost
//! transactions, fee spikes, crashes at any step, power cuts, restored backups. Then everything is settled in peace, and the
//! rules of the design are held against what happened ([`properties`]). The same seed does the same again: [`Outcome::trace`]
//! is equal to the bit.
//!
//! ```no_run
//! use lloom_sim::Options;
//!
//! let outcome = lloom_sim::simulate(&Options::of_seed(1))?;
//! assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! How it works, what is simulated and what is not: `test/README.md`.

mod actions;
mod audit;
mod campaign;
mod cast;
mod chain;
mod choices;
mod client;
mod crook;
mod dealings;
mod disk;
mod doom;
pub mod evidence;
mod executor;
mod fault;
mod flaw;
mod grants;
mod life;
mod network;
mod process;
pub mod properties;
mod rogue;
mod script;
mod simulation;
mod template;
mod trace;
mod witness;
mod world;

pub use campaign::{Campaign, Failure, Report};
pub use choices::Choices;
pub use fault::{Fault, Faults};
pub use flaw::Flaw;
pub use simulation::{Options, Outcome, simulate};
pub use witness::{Counts, Seen};
