//! The documents a payment is made of, and the rules that make them worth money.
//!
//! An inference leaves four documents behind:
//!
//! ```text
//! payer side                                executor side
//!   InferenceRequest  ── asks, at prices ──▶
//!   Voucher           ── pays ahead ───────▶
//!                     ◀── bills, once ─────   UsageBill
//!   UsageReceipt      ── links and signs ──▶   (the bill inside it: signed by both)
//! ```
//!
//! Every document comes off the wire as `Signed<_, Unverified>`; [`Signed::verify`] is the only way to
//! `Signed<_, Verified>`, and nothing downstream accepts less. Receipts form a chain: each holds the hash of the one
//! before, totals only grow, and the newest one settles the whole channel.
//!
//! ```
//! use alloy::primitives::{Address, B256};
//! use lloom_receipts::{ChannelId, Domain, Keypair, TokenAmount, Unverified, Signed, Verifier, Voucher};
//!
//! let domain = Domain::new(31337, Address::repeat_byte(1), Address::repeat_byte(2));
//! let payer = Keypair::from_secret([7; 32])?;
//! let voucher = Voucher { channel: ChannelId::new(B256::repeat_byte(3)), amount: TokenAmount::new(1_000) };
//! let sent = payer.sign(&domain, voucher);
//!
//! let received: Signed<Voucher, Unverified> = sent.into_unverified();
//! let verified = received.verify(&domain, &Verifier::default(), payer.address())?;
//! assert_eq!(verified.document().amount, TokenAmount::new(1_000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Many signatures at once
//!
//! [`Verifier::verify_all`] takes documents of any kinds together, says of each what verifying it alone would say, and
//! needs a fraction of the time: one random linear combination of all their signatures is checked, and only where it
//! fails are parts of it checked, down to the single signatures that are bad. `src/batch.rs` holds the argument why that
//! is as safe.
//!
//! ```
//! # use alloy::primitives::{Address, B256};
//! # use lloom_receipts::{ChannelId, Domain, Keypair, TokenAmount, Verifier, Voucher};
//! # let domain = Domain::new(31337, Address::repeat_byte(1), Address::repeat_byte(2));
//! # let payer = Keypair::from_secret([7; 32])?;
//! # let channel = ChannelId::new(B256::repeat_byte(3));
//! let vouchers = (1..=100).map(|amount| {
//!     let voucher = Voucher { channel, amount: TokenAmount::new(amount) };
//!     payer.sign(&domain, voucher).into_unverified().by(payer.address())
//! });
//! let verdicts = Verifier::default().verify_all(&domain, vouchers.collect());
//! assert!(verdicts.iter().all(Result::is_ok));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate does no I/O and keeps no clock: time comes in as [`UnixSeconds`]. It does not decide whom to trust with
//! credit; it says what is true of a document.

mod amount;
mod appointment;
mod batch;
mod bill;
mod chain;
mod channel;
mod content;
mod domain;
mod id;
mod key;
mod pricing;
mod receipt;
mod request;
mod signature;
mod signed;
mod struct_hash;
mod time;
mod tokens;
mod verifiable;
mod verifier;
mod voucher;

pub use amount::{Decimals, ParseAmountError, TokenAmount};
pub use appointment::TowerAppointment;
pub use bill::{BillError, UsageBill};
pub use chain::{ChainError, ReceiptHead};
pub use channel::{ChannelParameters, commitment_salt};
pub use content::{ContentHash, ContentHasher, ContentSalt};
pub use domain::Domain;
pub use id::{BillHash, ChannelId, ModelHash, ReceiptHash, RequestHash, RequestNonce};
pub use key::{KeyError, Keypair};
pub use pricing::{PriceOverflow, PricePerMillion, Prices};
pub use receipt::{Receipt, ReceiptError, UsageReceipt};
pub use request::{InferenceRequest, MAX_DEADLINE_AHEAD, RequestError};
pub use signature::{Signature, SignatureError};
pub use signed::{Document, Signed, Unverified, Verified};
pub use time::{BlockNumber, UnixSeconds};
pub use tokens::{TokenCount, TokenTotal, Usage};
pub use verifiable::{ReceiptBy, SignedBy, Verifiable};
pub use verifier::{SignatureCheck, Verifier, VerifyError};
pub use voucher::Voucher;
