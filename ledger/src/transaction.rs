//! Signed transactions: stored before they are broadcast, until their fate is final.

use std::collections::{HashMap, HashSet};

use alloy::primitives::{Address, Bytes};
use lloom_receipts::{BlockNumber, ChannelId, TokenAmount, UnixSeconds};

use crate::{
    Finish, Ledger, LedgerError, NewTransaction, Outcome, Purpose, ServeError, SettleError, TransactionId,
    TransactionRecord,
    account::find_standing,
    column::{Column, Put as _, Read as _, Row, from_json, sql, to_json},
    session::Session,
    writer::Operation,
};

impl Column for TransactionId {
    type Form = i64;

    fn store(self) -> i64 {
        self.0
    }

    fn load(form: i64) -> Option<Self> {
        Some(Self(form))
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, sender, nonce, hash, raw, purpose, replaces, max_fee, priority_fee, gas_limit, deadline,
                 recorded_at, broadcast_at, finish FROM transactions ",
            $rest
        )
    };
}

impl Ledger {
    /// Stores a signed transaction, before it is broadcast. The same one again gives its name again.
    ///
    /// # Errors
    /// [`SettleError::NoReplacement`] when it can't replace what it says it does; [`SettleError::BeingServed`] and
    /// [`SettleError::Forfeits`] when it closes a channel that has more to give.
    pub async fn record_transaction(&self, transaction: NewTransaction) -> Result<TransactionId, SettleError> {
        self.submit_leading(RecordTransaction { transaction }).await
    }

    /// Notes that a transaction was (again) handed to an endpoint. That says nothing of its fate.
    ///
    /// # Errors
    /// [`SettleError::UnknownTransaction`].
    pub async fn mark_broadcast(&self, id: TransactionId, now: UnixSeconds) -> Result<(), SettleError> {
        self.submit_leading(MarkBroadcast { id, now }).await
    }

    /// Records what became of a transaction for good.
    ///
    /// # Errors
    /// [`SettleError::UnknownTransaction`], [`SettleError::FinishedOtherwise`].
    pub async fn finish_transaction(&self, id: TransactionId, finish: Finish) -> Result<Outcome, SettleError> {
        self.submit_leading(FinishTransaction { id, finish }).await
    }

    /// The transactions whose fate is unknown, by sender and nonce.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pending_transactions(&self) -> Result<Vec<TransactionRecord>, LedgerError> {
        let statement = sql(select!("WHERE finish IS NULL ORDER BY sender, nonce, id"));
        let rows = self
            .snapshot("list pending transactions")
            .await?
            .rows(statement)
            .await?;
        rows.iter().map(read_transaction).collect()
    }

    /// A stored transaction.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn transaction(&self, id: TransactionId) -> Result<Option<TransactionRecord>, LedgerError> {
        let statement = sql(select!("WHERE id = $1")).put(id);
        let row = self.reader("read a transaction").await?.row(statement).await?;
        row.as_ref().map(read_transaction).transpose()
    }

    /// The stored transaction that was the last to settle `channel`, in a block up to `up_to`. `None` when only others did.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn settled_by(
        &self,
        channel: ChannelId,
        up_to: BlockNumber,
    ) -> Result<Option<TransactionRecord>, LedgerError> {
        let statement = sql(select!(
            "WHERE hash = (SELECT t.hash FROM events e JOIN transactions t ON t.hash = e.transaction_hash
                           WHERE e.channel = $1 AND e.block <= $2 AND e.name IN ('settled', 'usage_settled', 'closed')
                           ORDER BY e.block DESC, e.position DESC LIMIT 1)"
        ));
        let statement = statement.put(channel).put(up_to);
        let row = self
            .reader("look for what settled a channel")
            .await?
            .row(statement)
            .await?;
        row.as_ref().map(read_transaction).transpose()
    }

    /// The newest transactions, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn transactions(&self, limit: u32) -> Result<Vec<TransactionRecord>, LedgerError> {
        let statement = sql(select!("ORDER BY id DESC LIMIT $1")).put(i64::from(limit));
        let rows = self.reader("list transactions").await?.rows(statement).await?;
        rows.iter().map(read_transaction).collect()
    }

    /// The highest nonce of a stored transaction of `from` that was not dropped.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn highest_nonce(&self, from: Address) -> Result<Option<u64>, LedgerError> {
        let statement =
            sql("SELECT nonce FROM transactions WHERE sender = $1 AND NOT dropped ORDER BY nonce DESC LIMIT 1")
                .put(from);
        let row = self.reader("read the highest nonce").await?.row(statement).await?;
        row.map(|row| row.read("nonce")).transpose()
    }
}

struct RecordTransaction {
    transaction: NewTransaction,
}

impl Operation for RecordTransaction {
    const NAME: &'static str = "record a transaction";
    type Output = TransactionId;
    type Error = SettleError;

    async fn run(&self, session: &mut Session) -> Result<TransactionId, SettleError> {
        let transaction = &self.transaction;
        let known = session
            .row(sql("SELECT id FROM transactions WHERE hash = $1").put(transaction.hash))
            .await?;
        if let Some(row) = known {
            return Ok(row.read("id")?);
        }
        if let Some(replaces) = transaction.replaces {
            let replaced = find_transaction(session, replaces).await?;
            if (replaced.from, replaced.nonce) != (transaction.from, transaction.nonce) {
                return Err(SettleError::NoReplacement { replaces });
            }
        } else if let Purpose::Close { channel, amount } = transaction.purpose {
            check_close(session, channel, amount).await?;
        }
        let row = session
            .write_returning(
                sql(
                    "INSERT INTO transactions (sender, nonce, hash, raw, purpose, replaces, max_fee, priority_fee,
                                               gas_limit, deadline, recorded_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
                )
                .put(transaction.from)
                .put(transaction.nonce)
                .put(transaction.hash)
                .put(transaction.raw.to_vec())
                .put(to_json(&transaction.purpose)?)
                .put_optional(transaction.replaces)
                .put(transaction.max_fee)
                .put(transaction.priority_fee)
                .put(transaction.gas_limit)
                .put_optional(transaction.deadline)
                .put(transaction.now),
            )
            .await?;
        Ok(row.read("id")?)
    }
}

struct MarkBroadcast {
    id: TransactionId,
    now: UnixSeconds,
}

impl Operation for MarkBroadcast {
    const NAME: &'static str = "mark a transaction as broadcast";
    type Output = ();
    type Error = SettleError;

    async fn run(&self, session: &mut Session) -> Result<(), SettleError> {
        find_transaction(session, self.id).await?;
        session
            .write(
                sql("UPDATE transactions SET broadcast_at = $2 WHERE id = $1")
                    .put(self.id)
                    .put(self.now),
            )
            .await?;
        Ok(())
    }
}

struct FinishTransaction {
    id: TransactionId,
    finish: Finish,
}

impl Operation for FinishTransaction {
    const NAME: &'static str = "finish a transaction";
    type Output = Outcome;
    type Error = SettleError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, SettleError> {
        match find_transaction(session, self.id).await?.finish {
            Some(finish) if finish == self.finish => return Ok(Outcome::AlreadyKnown),
            Some(finish) => return Err(SettleError::FinishedOtherwise { id: self.id, finish }),
            None => {}
        }
        if let Finish::Replaced { by } = self.finish {
            find_transaction(session, by).await?;
        }
        session
            .write(
                sql("UPDATE transactions SET finish = $2, dropped = $3 WHERE id = $1")
                    .put(self.id)
                    .put(to_json(&self.finish)?)
                    .put(self.finish == Finish::Dropped),
            )
            .await?;
        Ok(Outcome::Recorded)
    }
}

/// Refuses a close that gives up what is earned, or still being earned. Decided here, in the transaction that makes
/// [`PendingCloses`] know of it: what was looked up before may have grown since.
async fn check_close(session: &mut Session, channel: ChannelId, amount: TokenAmount) -> Result<(), SettleError> {
    let Some(standing) = find_standing(session, channel).await? else {
        return Ok(());
    };
    let account = standing.account;
    if account.spent > account.billed {
        return Err(SettleError::BeingServed { channel });
    }
    let settled = standing.channel.latest.map_or(TokenAmount::ZERO, |state| state.settled);
    let claimable = account.billed.min(account.authorized);
    if claimable > amount.max(settled) {
        return Err(SettleError::Forfeits { channel, claimable });
    }
    Ok(())
}

/// The channels that transactions of this side close, which were sent and may still be mined, and what each pays at the least.
/// What is earned or authorized beyond that is forfeited.
#[derive(Default)]
pub(crate) struct PendingCloses(HashMap<ChannelId, TokenAmount>);

impl PendingCloses {
    pub(crate) async fn read(session: &mut Session) -> Result<Self, LedgerError> {
        let pending = session
            .rows(sql(
                "SELECT purpose FROM transactions WHERE finish IS NULL AND purpose LIKE '%\"close\"%'",
            ))
            .await?;
        let mut closes = HashMap::new();
        for row in &pending {
            let purpose: String = row.read("purpose")?;
            if let Purpose::Close { channel, amount } = from_json("purpose", &purpose)? {
                let least: &mut TokenAmount = closes.entry(channel).or_insert(amount);
                *least = amount.min(*least);
            }
        }
        Ok(Self(closes))
    }

    pub(crate) fn contains(&self, channel: ChannelId) -> bool {
        self.0.contains_key(&channel)
    }

    /// Refuses an authorization over more than what a close of its channel pays: nobody could claim with it.
    pub(crate) fn check(&self, channel: ChannelId, authorized: TokenAmount) -> Result<(), ServeError> {
        match self.0.get(&channel) {
            Some(paid) if authorized > *paid => Err(ServeError::ChannelClosing),
            _ => Ok(()),
        }
    }
}

/// The transactions that were stored after the one called `after`, in order.
pub(crate) async fn page_of_transactions(
    session: &mut Session,
    after: TransactionId,
    limit: u32,
) -> Result<Vec<TransactionRecord>, LedgerError> {
    let statement = sql(select!("WHERE id > $1 ORDER BY id LIMIT $2"));
    let rows = session.rows(statement.put(after).put(i64::from(limit))).await?;
    rows.iter().map(read_transaction).collect()
}

/// Takes back what was known of transactions in blocks above `ancestor`, and of those that they replaced: they may be mined
/// again, either of them, or a stranger's in their place.
pub(crate) async fn reopen_transactions(
    session: &mut Session,
    ancestor: Option<BlockNumber>,
) -> Result<(), LedgerError> {
    let rows = session.rows(sql(select!("WHERE finish IS NOT NULL"))).await?;
    let finished = rows.iter().map(read_transaction).collect::<Result<Vec<_>, _>>()?;
    let is_gone = |record: &&TransactionRecord| match record.finish {
        Some(Finish::Mined { block, .. }) => Some(block) > ancestor,
        _ => false,
    };
    let gone: HashSet<TransactionId> = finished.iter().filter(is_gone).map(|record| record.id).collect();
    for record in finished {
        let reopens = match record.finish {
            Some(Finish::Replaced { by }) => gone.contains(&by),
            _ => gone.contains(&record.id),
        };
        if reopens {
            session
                .write(sql("UPDATE transactions SET finish = NULL WHERE id = $1").put(record.id))
                .await?;
        }
    }
    Ok(())
}

pub(crate) async fn find_transaction(
    session: &mut Session,
    id: TransactionId,
) -> Result<TransactionRecord, SettleError> {
    let row = session.row(sql(select!("WHERE id = $1")).put(id)).await?;
    let row = row.ok_or(SettleError::UnknownTransaction { id })?;
    Ok(read_transaction(&row)?)
}

fn read_transaction(row: &Row) -> Result<TransactionRecord, LedgerError> {
    let purpose: String = row.read("purpose")?;
    let finish: Option<String> = row.read_optional("finish")?;
    let raw: Vec<u8> = row.read("raw")?;
    Ok(TransactionRecord {
        id: row.read("id")?,
        from: row.read("sender")?,
        nonce: row.read("nonce")?,
        hash: row.read("hash")?,
        raw: Bytes::from(raw),
        purpose: from_json::<Purpose>("purpose", &purpose)?,
        replaces: row.read_optional("replaces")?,
        max_fee: row.read("max_fee")?,
        priority_fee: row.read("priority_fee")?,
        gas_limit: row.read("gas_limit")?,
        deadline: row.read_optional("deadline")?,
        recorded_at: row.read("recorded_at")?,
        broadcast_at: row.read_optional("broadcast_at")?,
        finish: finish.map(|finish| from_json("finish", &finish)).transpose()?,
    })
}
