//! The store: what a process that holds money has promised, been promised, and seen on the chain.

mod acceptance;
mod account;
mod billing;
mod budget;
mod buying;
mod chain;
mod channel;
mod claim;
mod column;
mod document;
mod error;
mod follow;
mod lock;
mod migration;
mod obligation;
mod open;
mod purchase;
mod quality;
mod serving;
mod session;
mod settling;
mod transaction;
mod writer;

pub use buying::{
    Budget, BudgetLimit, BuyError, NewChannel, Observation, ObservedOutcome, OwnRequest, OwnRequestRecord,
    QUALITY_WINDOW, Quality,
};
pub use chain::{Block, ChainEvent, ChainEventKind, ChannelState, PublishedUsage, SkipReason};
pub use channel::{ChannelFilter, ChannelRecord};
pub use error::{LedgerError, Outcome};
pub use follow::{ApplyError, ObligationPolicy};
pub use open::{Ledger, OpenError, StoreDeployment};
pub use serving::{AcceptRequest, Account, CommittedBill, ExposurePolicy, InterruptedRequest, Progress, ServeError};
pub use settling::{
    AuthorizationRef, ChannelEarnings, ClaimBy, Claimable, Earnings, Finish, NewTransaction, Obligation, ObligationId,
    Purpose, Resolution, SettleError, TransactionId, TransactionRecord,
};
