//! Whole systems on one machine: a real chain (anvil), real `lloomctl` processes, a real HTTP server in the place of a
//! language model, and what is needed to break them on purpose.
//!
//! Nothing here waits for time to pass. A test waits for a condition ([`wait::until`], [`Process::line`]), holds a
//! backend at a token ([`Ending::HoldAfter`]) or the chain at a block ([`Anvil::hold_mining`]), and every process dies
//! with its guard.

mod anvil;
mod clock;
mod cluster;
mod home;
mod interruption;
mod lloomctl;
mod money;
mod process;
mod prompts;
mod rpc_proxy;
mod settings;
mod small_disk;
mod stub_backend;
mod till;
mod truth;
pub mod wait;
mod weather;

pub use anvil::{Anvil, Mining};
pub use clock::Clock;
pub use cluster::{Buyer, Chain, Node, Seller, Tower};
pub use home::{Failure, Home};
pub use interruption::interruption;
pub use lloomctl::{Lloomctl, beside_this_program};
pub use money::{Money, Published, Settling, SettlingCall};
pub use process::{Finished, Process};
pub use prompts::{Prompt, prompts};
pub use rpc_proxy::{Fault, RpcProxy};
pub use settings::{Promising, Selling, Settings, Watching};
pub use small_disk::SmallDisk;
pub use stub_backend::{Behavior, Ending, Served, StubBackend, answer, prompt_tokens, tokens_of};
pub use till::{Patron, Till};
pub use truth::{Due, Truth};
pub use weather::Weather;
