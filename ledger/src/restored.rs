//! A store that may be older than what was done with it, and what follows from that.
//!
//! Several things give an older copy away when it is opened: its lock file or witness file knows of a later commit, it is
//! marked as a backup, or the lock file beside it was made elsewhere, because a whole directory was copied or put back. A
//! snapshot of a whole disk shows nothing of that; there the chain may, where it has seen more of the executor's side than
//! its store has.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use lloom_receipts::{BlockNumber, ChannelId, RequestHash, TokenAmount, UnixSeconds};

use crate::{
    Ledger, LedgerError,
    account::minus,
    column::{Put as _, Read as _, sql},
    session::Session,
    writer::Operation,
};

/// For how long after a restore a transaction may still be mined that was sent before it, and that the store lost.
const UNDER_WAY: Duration = Duration::from_secs(86_400);

/// What is known at opening of how old a store is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// The newest commit that the store knows of this home's.
    pub(crate) committed: i64,
    /// The newest one that the lock file or the witness file knows.
    pub(crate) witnessed: Option<i64>,
    /// When it was made, where it is a backup that nobody has opened yet.
    pub(crate) copied_at: Option<UnixSeconds>,
    /// Whether the lock file beside it was made in another place: what has been done there since, nobody here knows.
    pub(crate) lies_elsewhere: bool,
}

impl Evidence {
    /// The newest commit anybody knows of.
    pub(crate) fn newest(&self) -> i64 {
        self.committed.max(self.witnessed.unwrap_or(0))
    }

    /// Whether the store may be older than what was done with it. Says so.
    pub(crate) fn tells_of_a_copy(&self) -> bool {
        let reason = if self.newest() > self.committed {
            "its newest commits are missing"
        } else if self.copied_at.is_some() {
            "it is a backup that was put in its place"
        } else if self.lies_elsewhere {
            "its directory is a copy of another one"
        } else {
            return false;
        };
        tracing::warn!(
            reason,
            committed = self.committed,
            witnessed = self.witnessed,
            "the store is a copy that was put back; requests it can't know of are refused for a while"
        );
        true
    }
}

/// Payments in blocks above `$1`, and later than `$2`. `CROSS JOIN`, for SQLite: new events are few, and come first.
pub(crate) const SELECT_UNKNOWN_PAYMENTS: &str = "SELECT c.id, c.payee, c.latest_settled, e.transaction_hash
     FROM events e CROSS JOIN blocks b CROSS JOIN channels c CROSS JOIN accounts a
     WHERE e.block > $1 AND e.name IN ('settled', 'usage_settled', 'closed')
       AND b.number = e.block AND b.hash = e.block_hash AND c.id = e.channel AND a.channel = c.id
       AND a.side = 'serving' AND a.archive IS NULL AND c.latest_settled > a.head_amount
       AND NOT EXISTS (SELECT 1 FROM vouchers v WHERE v.account = a.id AND v.amount >= c.latest_settled)
       AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.hash = e.transaction_hash)
       AND ($2 IS NULL OR b.timestamp > $2)
     ORDER BY e.block, e.position";

/// A payment on a channel served here that no authorization on record allows, made by a transaction that is not on record.
/// If somebody of the executor's side sent it, records are missing; anybody else may have got a voucher elsewhere: the
/// payer signs as many as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPayment {
    /// The channel.
    pub channel: ChannelId,
    /// Who was paid.
    pub payee: Address,
    /// What the channel has settled, base units.
    pub settled: TokenAmount,
    /// The transaction.
    pub transaction: B256,
}

impl Ledger {
    /// The payments in blocks above `after` that this store can't explain, in their order: the channel has settled more
    /// than every voucher and receipt here allows, by a transaction that is not stored here, and later than a restore that
    /// is known of would tell. Blocks that are no longer kept are not looked at.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unknown_payments(&self, after: Option<BlockNumber>) -> Result<Vec<UnknownPayment>, LedgerError> {
        let mut session = self.snapshot("look for payments that are not on record").await?;
        let bounds =
            sql("SELECT restored_at, (SELECT number FROM blocks ORDER BY number LIMIT 1) AS oldest FROM store");
        let Some(bounds) = session.row(bounds).await? else {
            return Ok(Vec::new());
        };
        let restored_at: Option<UnixSeconds> = bounds.read_optional("restored_at")?;
        let oldest: Option<BlockNumber> = bounds.read_optional("oldest")?;
        let Some(after) = after.max(oldest.map(|oldest| oldest.below(1))) else {
            return Ok(Vec::new());
        };
        let statement = sql(SELECT_UNKNOWN_PAYMENTS);
        let statement = statement
            .put(after)
            .put_optional(restored_at.map(|at| at.plus(UNDER_WAY)));
        let rows = session.rows(statement).await?;
        rows.iter()
            .map(|row| {
                Ok(UnknownPayment {
                    channel: row.read("id")?,
                    payee: row.read("payee")?,
                    settled: row.read("latest_settled")?,
                    transaction: row.read("transaction_hash")?,
                })
            })
            .collect()
    }

    /// Whether the request's bill is on record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn knows_bill(&self, request: RequestHash) -> Result<bool, LedgerError> {
        let mut session = self.reader("look for a bill").await?;
        let bill = sql("SELECT 1 FROM bills WHERE request = $1").put(request);
        Ok(session.row(bill).await?.is_some())
    }

    /// Remembers that records of this store are missing, as something outside of it proves: from here on it is what a
    /// restored one is. Says how many requests are never billed because of that.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remember_loss(&self) -> Result<u64, LedgerError> {
        let now = self.now();
        self.submit(RememberLoss { now }).await
    }

    /// When this store was noticed to be a copy that was put back, if it ever was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn restored_at(&self) -> Result<Option<UnixSeconds>, LedgerError> {
        let mut session = self.reader("read when it was restored").await?;
        match session.row(sql("SELECT restored_at FROM store")).await? {
            Some(row) => row.read_optional("restored_at"),
            None => Ok(None),
        }
    }

    /// When this copy was made, where it is a backup that was not opened for writing yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn copied_at(&self) -> Result<Option<UnixSeconds>, LedgerError> {
        find_copied_at(&mut self.reader("read whether it is a backup").await?).await
    }
}

pub(crate) async fn find_copied_at(session: &mut Session) -> Result<Option<UnixSeconds>, LedgerError> {
    match session.row(sql("SELECT copied_at FROM store")).await? {
        Some(row) => row.read_optional("copied_at"),
        None => Ok(None),
    }
}

/// Remembers that a copy was put back, and gives up what may have been billed since the copy was made: a second,
/// different bill for one request is a fault that anybody can prove (design, section 3.3). Says how many requests that
/// were. A later time of a restore that the store remembers stays.
pub(crate) async fn mark_restored(session: &mut Session, now: UnixSeconds) -> Result<u64, LedgerError> {
    let marked = sql("UPDATE store SET copied_at = NULL,
                restored_at = CASE WHEN restored_at > $1 THEN restored_at ELSE $1 END");
    session.write(marked.put(now)).await?;
    release_reservations(session).await?;
    let waived = session
        .write(
            sql(
                "UPDATE requests SET dropped = 'accepted before the store was restored from a copy', reserved = $1
                 WHERE hash IN (SELECT request FROM open_requests)",
            )
            .put(TokenAmount::ZERO),
        )
        .await?;
    session.write(sql("DELETE FROM open_requests")).await?;
    Ok(waived)
}

/// Takes what is reserved for open requests out of what is spent. They are never billed from here, so it would be spent for
/// ever, and nothing would cover it; a bill that comes back from its client is spent again.
async fn release_reservations(session: &mut Session) -> Result<(), LedgerError> {
    let open = sql("SELECT r.channel, r.reserved FROM open_requests o JOIN requests r ON r.hash = o.request");
    for row in session.rows(open).await? {
        let (channel, reserved): (ChannelId, TokenAmount) = (row.read("channel")?, row.read("reserved")?);
        let account = sql("SELECT spent FROM accounts WHERE channel = $1").put(channel);
        let Some(row) = session.row(account).await? else {
            continue;
        };
        let spent = minus(row.read("spent")?, reserved)?;
        session
            .write(
                sql("UPDATE accounts SET spent = $2 WHERE channel = $1")
                    .put(channel)
                    .put(spent),
            )
            .await?;
    }
    Ok(())
}

struct RememberLoss {
    now: UnixSeconds,
}

impl Operation for RememberLoss {
    const NAME: &'static str = "remember that records are missing";
    type Output = u64;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<u64, LedgerError> {
        mark_restored(session, self.now).await
    }
}
