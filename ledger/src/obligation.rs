//! Deadlines: channels that have to be claimed before their payers can withdraw.

use std::time::Duration;

use alloy::primitives::B256;
use lloom_receipts::{ChannelId, UnixSeconds};

use crate::{
    ChainEventKind, EventPosition, Ledger, LedgerError, Obligation, ObligationId, Outcome, Resolution, SettleError,
    channel::read_event_kind,
    column::{Column, Put as _, Read as _, Row, from_json, sql, to_json},
    session::Session,
    writer::Operation,
};

impl Column for ObligationId {
    type Form = i64;

    fn store(self) -> i64 {
        self.0
    }

    fn load(form: i64) -> Option<Self> {
        Some(Self(form))
    }
}

impl Ledger {
    /// The obligations that stand, the most urgent first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn obligations(&self) -> Result<Vec<Obligation>, LedgerError> {
        let statement = sql("SELECT id, channel, requested_at, deadline, resolution FROM obligations
             WHERE resolution IS NULL ORDER BY deadline, id");
        let rows = self.reader("list obligations").await?.rows(statement).await?;
        rows.iter().map(read_obligation).collect()
    }

    /// Those of the [`obligations`](Self::obligations) that can have ended, or of which something can be lost: of channels
    /// that were served or are defended, and of those whose final state is over or no longer has the request. A stranger may
    /// open a channel, ask for its close and leave it so, as often as it likes; those are passed over in one statement.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn obligations_to_review(&self) -> Result<Vec<Obligation>, LedgerError> {
        let statement = sql("SELECT o.id, o.channel, o.requested_at, o.deadline, o.resolution
             FROM obligations o JOIN channels c ON c.id = o.channel
             WHERE o.resolution IS NULL AND (
                 c.confirmed_finalized
                 OR c.confirmed_deposit IS NOT NULL
                    AND (c.confirmed_close_requested_at IS NULL OR c.confirmed_close_requested_at <> o.requested_at)
                 OR EXISTS (SELECT 1 FROM accounts a WHERE a.channel = o.channel AND a.side = 'serving')
                 OR EXISTS (SELECT 1 FROM held_vouchers h WHERE h.channel = o.channel))
             ORDER BY o.deadline, o.id");
        let rows = self.reader("list obligations to review").await?.rows(statement).await?;
        rows.iter().map(read_obligation).collect()
    }

    /// How many obligations stand.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count_obligations(&self) -> Result<u64, LedgerError> {
        let statement = sql("SELECT count(*) AS standing FROM obligations WHERE resolution IS NULL");
        let row = self.reader("count obligations").await?.row(statement).await?;
        let standing: i64 = row.map_or(Ok(0), |row| row.read("standing"))?;
        Ok(u64::try_from(standing).unwrap_or_default())
    }

    /// All obligations the channel ever had, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn obligations_of(&self, channel: ChannelId) -> Result<Vec<Obligation>, LedgerError> {
        let statement = sql("SELECT id, channel, requested_at, deadline, resolution FROM obligations
             WHERE channel = $1 ORDER BY id")
        .put(channel);
        let rows = self
            .snapshot("list a channel's obligations")
            .await?
            .rows(statement)
            .await?;
        rows.iter().map(read_obligation).collect()
    }

    /// Ends an obligation: on a final success, a proof that it is moot, or a final loss.
    ///
    /// # Errors
    /// [`SettleError::UnknownObligation`].
    pub async fn resolve_obligation(&self, id: ObligationId, resolution: Resolution) -> Result<Outcome, SettleError> {
        self.submit_leading(ResolveObligation { id, resolution }).await
    }
}

struct ResolveObligation {
    id: ObligationId,
    resolution: Resolution,
}

impl Operation for ResolveObligation {
    const NAME: &'static str = "resolve an obligation";
    type Output = Outcome;
    type Error = SettleError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, SettleError> {
        let statement = sql("SELECT id, channel, requested_at, deadline, resolution FROM obligations WHERE id = $1");
        let row = session
            .row(statement.put(self.id))
            .await?
            .ok_or(SettleError::UnknownObligation)?;
        // The first resolution stays: it is history.
        if read_obligation(&row)?.resolution.is_some() {
            return Ok(Outcome::AlreadyKnown);
        }
        session
            .write(
                sql("UPDATE obligations SET resolution = $2 WHERE id = $1")
                    .put(self.id)
                    .put(to_json(&self.resolution)?),
            )
            .await?;
        Ok(Outcome::Recorded)
    }
}

/// Makes the close request that a channel's state shows an obligation, if it is none yet: for who takes the channel on
/// after it was seen.
pub(crate) async fn remember_close(
    session: &mut Session,
    channel: ChannelId,
    grace: Duration,
) -> Result<(), LedgerError> {
    let statement = sql("SELECT block_hash, position, data FROM events
         WHERE channel = $1 AND name = 'close_requested' ORDER BY block DESC, position DESC LIMIT 1")
    .put(channel);
    let Some(row) = session.row(statement).await? else {
        return Ok(());
    };
    if let ChainEventKind::CloseRequested { requested_at, .. } = read_event_kind(&row)? {
        let event = (row.read("block_hash")?, row.read("position")?);
        insert_obligation(session, channel, requested_at, grace, event).await?;
    }
    Ok(())
}

pub(crate) async fn insert_obligation(
    session: &mut Session,
    channel: ChannelId,
    requested_at: UnixSeconds,
    grace: Duration,
    (block_hash, position): (B256, EventPosition),
) -> Result<(), LedgerError> {
    session
        .write(
            sql(
                "INSERT INTO obligations (channel, requested_at, deadline, block_hash, position)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            )
            .put(channel)
            .put(requested_at)
            .put(requested_at.plus(grace))
            .put(block_hash)
            .put(position),
        )
        .await?;
    Ok(())
}

fn read_obligation(row: &Row) -> Result<Obligation, LedgerError> {
    let resolution: Option<String> = row.read_optional("resolution")?;
    Ok(Obligation {
        id: row.read("id")?,
        channel: row.read("channel")?,
        requested_at: row.read("requested_at")?,
        deadline: row.read("deadline")?,
        resolution: resolution.map(|text| from_json("resolution", &text)).transpose()?,
    })
}
