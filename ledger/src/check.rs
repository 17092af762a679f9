//! Looking through a whole store: whether every signature, every link and every total in it is right.
//!
//! What was recorded was verified when it came, so on a sound disk nothing is found. It is for a disk that isn't, for a
//! backup before it is relied on, and for a person who has to know. Everything is read a page at a time, so a store
//! of any size can be looked through in little memory; each channel is read as it is at one moment, also while a process
//! works on it.

mod archives;
mod chain;
mod channel;
mod sending;
mod towers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Domain, Verifier};
use serde::Serialize;

use crate::{ChannelFilter, Ledger, LedgerError, backup::find_damage, column::sql, sqlite};

/// Something that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The channel it is about, where it is about one.
    pub channel: Option<ChannelId>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.channel {
            Some(channel) => write!(formatter, "channel {channel}: {}", self.what),
            None => formatter.write_str(&self.what),
        }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Channels of which anything is recorded.
    pub channels: u64,
    /// Events of the chain.
    pub events: u64,
    /// Requests.
    pub requests: u64,
    /// Bills.
    pub bills: u64,
    /// Receipts.
    pub receipts: u64,
    /// Vouchers, those held for others included.
    pub vouchers: u64,
    /// Promises of towers.
    pub appointments: u64,
    /// Signed transactions.
    pub transactions: u64,
    /// Files of the archive.
    pub archives: u64,
    /// Receipts in them.
    pub archived_receipts: u64,
    /// Signatures that were verified.
    pub signatures: u64,
    /// What is wrong.
    pub findings: u64,
}

/// Rows that are read, and documents that are verified, at a time.
pub(crate) const PAGE: u32 = 1_000;

/// A look in progress.
pub(crate) struct Check<'a> {
    pub(crate) domain: Domain,
    pub(crate) verifier: Verifier,
    /// The operators that payees have ever named.
    pub(crate) named: BTreeMap<Address, BTreeSet<Address>>,
    pub(crate) checked: Checked,
    found: &'a mut (dyn FnMut(Finding) + Send),
}

impl Check<'_> {
    /// Tells of something wrong.
    pub(crate) fn find(&mut self, channel: impl Into<Option<ChannelId>>, what: impl Into<String>) {
        self.checked.findings += 1;
        (self.found)(Finding {
            channel: channel.into(),
            what: what.into(),
        });
    }

    /// Passes a failure of the store on, and tells of what can't be read in it.
    fn read<T>(
        &mut self,
        channel: impl Into<Option<ChannelId>>,
        read: Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error @ (LedgerError::Unreadable { .. } | LedgerError::Inconsistent { .. })) => {
                self.find(channel, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether `biller` may sign bills for `payee`, as far as is known here.
    pub(crate) fn is_named(&self, payee: Address, biller: Address) -> bool {
        biller == payee || self.named.get(&payee).is_some_and(|named| named.contains(&biller))
    }
}

impl Ledger {
    /// Verifies everything that can be verified without the chain, and changes nothing: pages, signatures, hash links,
    /// sequences, totals, the chain's states as its events tell them, deadlines, transactions, and the archive's files, if
    /// there is such a directory. Calls `found` with each thing that is wrong.
    ///
    /// # Errors
    /// When the store can't be read on. What was found before that was told.
    pub async fn check(&self, archive: &Path, found: &mut (dyn FnMut(Finding) + Send)) -> Result<Checked, LedgerError> {
        let mut check = Check {
            domain: *self.domain(),
            verifier: Verifier::default(),
            named: self.named_operators().await?,
            checked: Checked::default(),
            found,
        };
        check.look_at_pages(self).await?;
        check.look_at_blocks(self).await?;
        for record in self.channels(ChannelFilter::default()).await? {
            check.look_at_channel(self, record).await?;
        }
        check.look_at_transactions(self).await?;
        check.look_at_towers(self).await?;
        check.look_at_archives(self, archive).await?;
        Ok(check.checked)
    }

    pub(crate) async fn named_operators(&self) -> Result<BTreeMap<Address, BTreeSet<Address>>, LedgerError> {
        let mut named: BTreeMap<Address, BTreeSet<Address>> = BTreeMap::new();
        let statement = sql("SELECT data FROM events WHERE name = 'operator_added'");
        for row in &self.reader("list operators").await?.rows(statement).await? {
            if let crate::ChainEventKind::OperatorAdded { payee, operator } = crate::channel::read_event_kind(row)? {
                named.entry(payee).or_default().insert(operator);
            }
        }
        Ok(named)
    }
}

impl Check<'_> {
    /// The pages of a file; a server looks after its own.
    async fn look_at_pages(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        const OPERATION: &str = "check its pages";
        let Some(path) = ledger.url().path() else {
            return Ok(());
        };
        let failed = |source| LedgerError::Sql {
            operation: OPERATION,
            source,
        };
        let mut connection = sqlite::connect_to_read(path).await.map_err(failed)?;
        if let Some(damage) = find_damage(&mut connection).await.map_err(failed)? {
            self.find(None, damage);
        }
        sqlx::Connection::close(connection).await.map_err(failed)
    }
}

/// How many things there are, in words: `1 receipt`, `2 receipts`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
