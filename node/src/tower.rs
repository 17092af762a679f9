//! Towers: who defends an executor's channels while it is away.
//!
//! An executor hands each tower the newest voucher of every channel and what to settle with it ([`Courier`]). A tower
//! ([`Tower`]) keeps it and answers with a signed [`TowerAppointment`](lloom_receipts::TowerAppointment): its word, which
//! proves that it slept should the money be lost all the same. Its watcher claims when a payer leaves and the executor
//! does not.
//!
//! ```text
//! executor (Courier)                               tower (Tower)
//!   Terms                                     ─▶
//!                                             ◀─   what it promises, how far it sees
//!   Status { after }                          ─▶
//!                                             ◀─   what it holds for the asker
//!   Update { voucher, claim } …               ─▶   checks, stores,
//!                                             ◀─   signs: an appointment, or a refusal, for each
//! ```
//!
//! Nobody has to trust a tower with money: a claim by vouchers pays the channel's payee, whoever makes it. The peer id of
//! who asks is its address, so a tower takes vouchers only from operators that the payee has named.

mod courier;
mod message;
mod metrics;
mod quota;
mod service;
mod statement;

pub(crate) use message::{MAX_ANSWER_BYTES, MAX_QUESTION_BYTES};

pub use courier::{Courier, CourierConfig};
pub use message::{
    DelegationAnswer, DelegationMessage, Deployment, Impediment, MAX_DELEGATIONS, MAX_HELD_CLAIMS, TowerAnswer,
    TowerHead, TowerProfile, TowerQuestion, TowerRefusal, UpdateRefusal,
};
pub use metrics::TowerMetrics;
pub use service::{Tower, TowerConfig};
pub use statement::{TowerFault, check_answers};

#[cfg(test)]
mod tests;
