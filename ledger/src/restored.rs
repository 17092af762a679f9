//! A store that may be older than what was done with it, and what follows from that.
//!
//! Several things give an older copy away when it is opened: its lock file or witness file knows of a later commit, it is
//! marked as a backup, or the lock file beside it is missing, or was made elsewhere, because a whole directory was copied or
//! put back. A home that has lost its witness may also be one that joins a database; whether it is shows when it says whose
//! requests it bills. A snapshot of a whole disk shows nothing of that; there the chain may, where it has seen more of the
//! executor's side than its store has.

use std::{sync::atomic::Ordering, time::Duration};

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

/// Channels in which an operator's requests are looked for at once: no statement takes long, however many there are.
const CHANNELS_AT_ONCE: i64 = 1_000;

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
    /// Whether it was there before any lock file beside it, or is moved by a home without a witness to what it committed.
    pub(crate) is_unwitnessed: bool,
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
        } else if self.is_unwitnessed {
            "its lock file or witness file is missing"
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

/// Payments in blocks above `$1`, and not known to be as early as `$2`. Of blocks that were read many at once only the last
/// has its time on record. `CROSS JOIN`, for SQLite: new events are few, and come first.
pub(crate) const SELECT_UNKNOWN_PAYMENTS: &str = "SELECT c.id, c.payee, c.latest_settled, e.transaction_hash, e.block,
            CASE WHEN b.timestamp IS NULL THEN $2 END AS only_after
     FROM events e CROSS JOIN channels c CROSS JOIN accounts a
         LEFT JOIN blocks b ON b.number = e.block AND b.hash = e.block_hash
     WHERE e.block > $1 AND e.name IN ('settled', 'usage_settled', 'closed') AND c.id = e.channel AND a.channel = c.id
       AND a.side = 'serving' AND a.archive IS NULL AND c.latest_settled > a.head_amount
       AND NOT EXISTS (SELECT 1 FROM vouchers v WHERE v.account = a.id AND v.amount >= c.latest_settled)
       AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.hash = e.transaction_hash)
       AND ($2 IS NULL OR b.timestamp IS NULL OR b.timestamp > $2)
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
    /// Its block.
    pub block: BlockNumber,
    /// Where the store knows of a restore, and not when the block was: the payment tells of another loss only if it is
    /// later than this.
    pub only_after: Option<UnixSeconds>,
}

impl Ledger {
    /// The payments in blocks above `after` that this store can't explain, in their order: the channel has settled more
    /// than every voucher and receipt here allows, by a transaction that is not stored here, and, as far as is known, later
    /// than a restore that is known of would tell.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unknown_payments(&self, after: BlockNumber) -> Result<Vec<UnknownPayment>, LedgerError> {
        let mut session = self.snapshot("look for payments that are not on record").await?;
        let restored_at = find_restored_at(&mut session).await?;
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
                    block: row.read("block")?,
                    only_after: row.read_optional("only_after")?,
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
        self.submit(RememberLoss { now, operator: None }).await
    }

    /// Says that this home bills the requests of `operator`. Where it has no witness to what it committed, and the store
    /// knows such requests, the witness was lost, and perhaps the store put back: from here on it is what a restored one
    /// is, and requests of `operator` that are open are never billed. Says how many those were. A home that joins a
    /// database with a key of its own is taken for nothing else, and what others serve there is under way.
    ///
    /// To be called before anything is billed.
    ///
    /// # Errors
    /// When the store fails. Calling it again does what is missing.
    pub async fn recognize(&self, operator: Address) -> Result<u64, LedgerError> {
        let is_recognized = &self.inner.is_recognized;
        if is_recognized.load(Ordering::Acquire) {
            return Ok(0);
        }
        let mut waived = 0;
        if self.has_served(operator).await? {
            tracing::warn!(
                %operator,
                "this home has no witness to what it committed, and the store knows requests of its operator; requests the store can't know of are refused for a while"
            );
            let (now, operator) = (self.now(), Some(operator));
            waived = self.submit(RememberLoss { now, operator }).await?;
        }
        self.write_recognized().await?;
        is_recognized.store(true, Ordering::Release);
        Ok(waived)
    }

    /// Whether the store knows a request that was asked of `operator` and served, or taken on, on its channels.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_served(&self, operator: Address) -> Result<bool, LedgerError> {
        let mut session = self.reader("look for an operator's requests").await?;
        let mut after: Option<ChannelId> = None;
        loop {
            let channels = sql("SELECT a.channel,
                        (SELECT r.hash FROM requests r WHERE r.channel = a.channel AND r.operator = $1 LIMIT 1) AS served
                 FROM accounts a WHERE a.side = 'serving' AND ($2 IS NULL OR a.channel > $2)
                 ORDER BY a.channel LIMIT $3");
            let channels = channels.put(operator).put_optional(after).put(CHANNELS_AT_ONCE);
            let rows = session.rows(channels).await?;
            for row in &rows {
                if row.read_optional::<RequestHash>("served")?.is_some() {
                    return Ok(true);
                }
            }
            match rows.last() {
                Some(last) => after = Some(last.read("channel")?),
                None => return Ok(false),
            }
        }
    }

    /// When this store was noticed to be a copy that was put back, if it ever was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn restored_at(&self) -> Result<Option<UnixSeconds>, LedgerError> {
        find_restored_at(&mut self.reader("read when it was restored").await?).await
    }

    /// When this copy was made, where it is a backup that was not opened for writing yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn copied_at(&self) -> Result<Option<UnixSeconds>, LedgerError> {
        find_copied_at(&mut self.reader("read whether it is a backup").await?).await
    }
}

pub(crate) async fn find_restored_at(session: &mut Session) -> Result<Option<UnixSeconds>, LedgerError> {
    match session.row(sql("SELECT restored_at FROM store")).await? {
        Some(row) => row.read_optional("restored_at"),
        None => Ok(None),
    }
}

pub(crate) async fn find_copied_at(session: &mut Session) -> Result<Option<UnixSeconds>, LedgerError> {
    match session.row(sql("SELECT copied_at FROM store")).await? {
        Some(row) => row.read_optional("copied_at"),
        None => Ok(None),
    }
}

/// Bits of a generation that count the commits of one life; those above say when it began, Unix seconds. So many commits take
/// longer than a second, so a life that begins later counts higher.
const COMMITS: u32 = 31;

/// Where a life counts from that begins at `now`.
fn first_generation(now: UnixSeconds) -> i64 {
    let latest = i64::MAX >> COMMITS;
    i64::try_from(now.get()).map_or(latest, |now| now.min(latest)) << COMMITS
}

/// Whether two generations are of one life of a store, and their difference is a number of commits.
pub(crate) const fn are_of_one_life(one: i64, other: i64) -> bool {
    one >> COMMITS == other >> COMMITS
}

/// Remembers that a copy was put back, and gives up what may have been billed since the copy was made: a second,
/// different bill for one request is a fault that anybody can prove (design, section 3.3). From here on it counts beyond all that
/// was counted before: whichever copy of an earlier life is put in its place next, it is told by its count. Says how many
/// requests that were. Where `operator` is given, they are only its own: those of others are under way. A later time of a restore that
/// the store remembers stays.
pub(crate) async fn mark_restored(
    session: &mut Session,
    operator: Option<Address>,
    now: UnixSeconds,
) -> Result<u64, LedgerError> {
    let marked = sql("UPDATE store SET copied_at = NULL,
                restored_at = CASE WHEN restored_at > $1 THEN restored_at ELSE $1 END");
    session.write(marked.put(now)).await?;
    session.pass_generation(first_generation(now)).await?;
    release_reservations(session, operator).await?;
    let waived = session
        .write(
            sql(
                "UPDATE requests SET dropped = 'accepted before the store was restored from a copy', reserved = $1
                 WHERE hash IN (SELECT request FROM open_requests) AND ($2 IS NULL OR operator = $2)",
            )
            .put(TokenAmount::ZERO)
            .put_optional(operator),
        )
        .await?;
    let closed = sql("DELETE FROM open_requests
         WHERE EXISTS (SELECT 1 FROM requests r WHERE r.hash = open_requests.request AND ($1 IS NULL OR r.operator = $1))");
    session.write(closed.put_optional(operator)).await?;
    Ok(waived)
}

/// Takes what is reserved for open requests out of what is spent. They are never billed from here, so it would be spent for
/// ever, and nothing would cover it; a bill that comes back from its client is spent again.
async fn release_reservations(session: &mut Session, operator: Option<Address>) -> Result<(), LedgerError> {
    let open = sql(
        "SELECT r.channel, r.reserved FROM open_requests o JOIN requests r ON r.hash = o.request
         WHERE $1 IS NULL OR r.operator = $1",
    );
    for row in session.rows(open.put_optional(operator)).await? {
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
    /// Whose open requests may have been billed; anybody's where it is not given.
    operator: Option<Address>,
}

impl Operation for RememberLoss {
    const NAME: &'static str = "remember that records are missing";
    type Output = u64;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<u64, LedgerError> {
        mark_restored(session, self.operator, self.now).await
    }
}
