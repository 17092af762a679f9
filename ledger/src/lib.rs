//! The store: what a process that holds money has promised, was promised, and has seen on the chain.
//!
//! One SQLite file (`lloom.db`) belongs to one process and one deployment of the contracts; a database of PostgreSQL
//! belongs to one deployment and is shared by as many processes as there are homes ([`StoreUrl`] says which it is). It keeps
//!
//! - **the chain**, as events: channels and their money, at the newest block and at the newest confirmed one
//!   ([`Ledger::apply_blocks`], [`Ledger::roll_back`], [`Ledger::channel`]);
//! - **what an executor serves**: requests, vouchers, the one bill of each request, the receipts that link them
//!   ([`Ledger::accept_request`], [`Ledger::reserve`], [`Ledger::commit_bill`], [`Ledger::accept_receipt`]);
//! - **what a client buys**: everything it signs, before it is sent ([`Ledger::begin_request`], [`Ledger::authorize`],
//!   [`Ledger::link`]), and its budget;
//! - **what is being settled**: the best authorization of each channel, signed transactions, deadlines
//!   ([`Ledger::claimable`], [`Ledger::record_transaction`], [`Ledger::obligations`]);
//! - **what towers defend**: what a tower took on for others ([`Ledger::take_on`], [`Ledger::held_closing`]), and what
//!   towers have signed for an executor ([`Ledger::undelegated`], [`Ledger::record_appointments`]).
//!
//! Three rules hold for every write:
//!
//! 1. **It is on disk before it is answered.** Whoever got [`Outcome::Recorded`] finds it there after `kill -9` and
//!    after a power cut. Callers' writes are committed together, so that durability costs one `fsync` for all of them.
//! 2. **It is checked and recorded in one transaction.** Ten callers racing for the next receipt leave one chain; two
//!    bills for one request can't be committed; what is reserved over all of a payer's streams never passes its limit.
//! 3. **Doing it again does nothing.** Every write can be repeated after a lost answer and says
//!    [`Outcome::AlreadyKnown`] then.
//!
//! An executor's part of an inference:
//!
//! ```
//! # use std::time::{Duration, SystemTime};
//! # use alloy::primitives::{Address, B256, U256};
//! # use lloom_ledger::*;
//! # use lloom_receipts::*;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let deployment = StoreDeployment { chain_id: 31337, escrow: Address::repeat_byte(1), settlement: Address::repeat_byte(2) };
//! # let (payer, operator) = (Keypair::from_secret([7; 32])?, Keypair::from_secret([8; 32])?);
//! # let parameters = ChannelParameters { payer: payer.address(), payee: Address::repeat_byte(3), token: Address::repeat_byte(4), salt: B256::ZERO, authorized_signer: Address::ZERO };
//! # let domain = deployment.domain();
//! # let channel = parameters.id(&domain);
//! # let now: UnixSeconds = SystemTime::now().into();
//! # let price = PricePerMillion::new(TokenAmount::new(1_000_000));
//! # let request = payer.sign(&domain, InferenceRequest {
//! #     channel, operator: operator.address(), nonce: RequestNonce::new(U256::ONE), model: ModelHash::of_id("m"),
//! #     prompt_hash: ContentHash::new(B256::ZERO), max_input: TokenCount::new(10), max_output: TokenCount::new(100),
//! #     prices: Prices { input: price, output: price }, deadline: now.plus(Duration::from_secs(60)),
//! # });
//! # let voucher = payer.sign(&domain, Voucher { channel, amount: TokenAmount::new(50) });
//! let ledger = Ledger::open(&home.path().join("lloom.db"), &deployment).await?;
//! # let block = Block { number: BlockNumber::new(1), hash: B256::repeat_byte(1), parent: B256::ZERO, timestamp: now };
//! # let opened = ChainEvent {
//! #     block: block.number, block_hash: block.hash, position: EventPosition::of_log(0), transaction: B256::ZERO,
//! #     kind: ChainEventKind::ChannelOpened { channel, parameters, deposit: TokenAmount::new(1_000), refunds_to_balance: true },
//! # };
//! // The follower saw the channel open, and the block is confirmed.
//! ledger.apply_blocks(vec![block], vec![opened], block.number, ObligationPolicy::default()).await?;
//!
//! // The client asks and prepays the first increment. From here on its request is known, and served once.
//! let exposure = ExposurePolicy::default();
//! # let content_salt = ContentSalt::new(B256::ZERO);
//! let hash = request.document().hash();
//! let accepted = AcceptRequest {
//!     request: request.clone(), content_salt, voucher: Some(voucher), reserve: TokenAmount::new(20), exposure, now,
//! };
//! assert_eq!(ledger.accept_request(accepted).await?, Outcome::Recorded);
//!
//! // More is reserved before it is delivered; what no voucher covers waits for one.
//! ledger.reserve(hash, TokenAmount::new(50), exposure).await?;
//! let refused = ledger.reserve(hash, TokenAmount::new(51), exposure).await;
//! assert!(matches!(refused, Err(ServeError::Uncovered { .. })));
//!
//! // One bill, on disk before it is signed; the client links it into the channel's chain of receipts.
//! # let usage = Usage { input: TokenCount::new(0), output: TokenCount::new(50) };
//! # let bill = UsageBill::for_request(request.document(), usage, ContentHash::new(B256::ZERO), now)?;
//! let bill = operator.sign(&domain, *ledger.commit_bill(bill).await?.bill());
//! let receipt = payer.sign(&domain, ReceiptHead::empty(channel).link(*bill.document())?);
//! ledger.accept_receipt(Receipt::join(receipt, &bill)?, None).await?;
//! assert_eq!(ledger.claimable_channel(channel).await?.map(|found| found.unclaimed()), Some(TokenAmount::new(50)));
//! # ledger.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! The ledger verifies no signatures (it takes only what is `Verified`), keeps no clock (times come in as arguments,
//! except that of [`Ledger::open`]), and knows neither network nor chain. A process either serves a channel or buys on
//! it; the store refuses the other side.
//!
//! # Several processes
//!
//! On PostgreSQL the writers of all processes take turns: each transaction that writes locks the one row of `store` first.
//! So the three rules hold over all of them, and what one has recorded the next one sees. One process **leads**
//! ([`Ledger::lead`]): only it records what the chain says, transactions and their fate, and what follows for
//! obligations; in any other, these operations answer [`LedgerError::NotLeading`]. A connection that is lost is made anew,
//! and what became of a commit under way is found out before anybody is answered; only when the server stays out of reach is
//! the answer [`LedgerError::OutcomeUnknown`]. A server that may lose what it acknowledged is refused
//! ([`OpenError::Unfit`]).
//!
//! # Backups
//!
//! [`Ledger::back_up`] copies a store in use, and [`Ledger::restore`] puts the copy back, at a price: bills and receipts
//! made after the copy are lost to this side until the other sides hand them back. A store notices by itself that it is a
//! copy, whoever put it there: a backup says so of itself; the lock file `lloom.db.lock` counts the store's commits, and
//! knows when it was itself copied with the whole directory, or was missing. For a database, each home's witness file
//! (`lloom.witness`) counts the home's own commits, and [`Ledger::recognize`] notices that one was lost. The store then
//! never bills a request it had accepted before, and for [`MAX_DEADLINE_AHEAD`](lloom_receipts::MAX_DEADLINE_AHEAD) refuses
//! requests that may have been served before ([`ServeError::RestoredTooRecently`]), so that no request ever gets a second,
//! different bill: that would be a fault anybody can prove.

mod acceptance;
mod account;
mod appointment;
mod archive;
mod asking;
mod backup;
mod billing;
mod budget;
mod buying;
mod chain;
mod channel;
mod check;
mod claim;
mod closings;
mod column;
mod compacting;
mod delegation;
mod dialect;
mod document;
mod environment;
mod error;
mod follow;
mod gathered;
mod group;
mod held;
#[cfg(feature = "simulation")]
mod inline;
mod leading;
mod linking;
mod lock;
mod metrics;
mod migration;
mod moving;
mod new_file;
mod new_requests;
mod obligation;
mod open;
mod open_error;
mod packed;
#[cfg(test)]
mod plans;
mod postgres;
mod purchase;
mod quality;
mod receiving;
mod refused;
mod reorg;
mod resolution;
mod restore;
mod restored;
mod row;
mod server;
mod serving;
mod session;
mod settling;
mod sqlite;
mod statement;
mod survey;
mod taking;
mod tally;
mod tower;
mod transaction;
mod url;
mod withdrawal;
mod writer;

pub use archive::{ArchiveError, ArchivedChannel, ArchivedReceipt, ArchivedRequest};
pub use backup::{BackupError, MadeBackup};
pub use buying::{
    Budget, BudgetLimit, BuyError, NewChannel, Observation, ObservedOutcome, OwnRequest, OwnRequestRecord,
    QUALITY_WINDOW, Quality, WithdrawnReceipt,
};
pub use chain::{Block, ChainEvent, ChainEventKind, ChannelState, EventPosition, PublishedUsage, SkipReason};
pub use channel::{ChannelFilter, ChannelRecord};
pub use check::{Checked, Finding};
pub use compacting::{CompactError, Compactable, Compacted};
pub use environment::{Disk, Environment};
pub use error::{LedgerError, Outcome};
pub use follow::{ApplyError, ObligationPolicy};
pub use leading::Leadership;
pub use lock::LockState;
pub use metrics::LedgerMetrics;
pub use migration::SCHEMA_VERSION;
pub use moving::{MoveError, MovedStore};
pub use open::{Ledger, StoreDeployment};
pub use open_error::OpenError;
pub use resolution::{Moot, Resolution};
pub use restore::{RestoreError, RestoredStore};
pub use restored::UnknownPayment;
pub use serving::{AcceptRequest, Account, CommittedBill, ExposurePolicy, InterruptedRequest, Progress, ServeError};
pub use settling::{
    AuthorizationRef, ChannelEarnings, ClaimBy, Claimable, Earnings, Finish, NewTransaction, Obligation, ObligationId,
    Purpose, SettleError, TransactionId, TransactionRecord,
};
pub use survey::SurveyedChannel;
pub use tally::Tally;
pub use tower::{
    AppointmentRecord, CLAIM_TAKES, CommittedAppointment, Delegation, DelegationRefusal, HELD_VOUCHER_BYTES,
    HELD_VOUCHERS_PER_CHANNEL, Held, HeldClaim, HeldTerms, HeldTotals, StandingRefusal, TOWER_SILENCE, TakeOn,
    TowerQuotas, TowerRecord, TowerTerms, Undelegated, ValueAtRisk,
};
pub use url::{StoreUrl, StoreUrlError};
