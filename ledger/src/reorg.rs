//! Taking back what a fork of the chain made untrue.

use std::collections::BTreeSet;

use lloom_receipts::{BlockNumber, ChannelId};

use crate::{
    ChainEventKind, ChannelState, Ledger, LedgerError, Outcome,
    account::refresh_authorized,
    channel::read_event_kind,
    column::{Put as _, Read as _, sql},
    follow::{Height, confirmed_block, newest_block, store_state},
    session::Session,
    transaction::reopen_transactions,
    writer::Operation,
};

impl Ledger {
    /// Takes back everything above `ancestor`, in one transaction: blocks, events, obligations that came from them, and
    /// what was derived. Where it takes back what counted as final, the transactions that were mined there are pending
    /// again, and the obligations of the channels they were about stand again. The cursor is the newest block left. When no recorded block is left, everything goes, and
    /// following starts anew.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn roll_back(&self, ancestor: BlockNumber) -> Result<Outcome, LedgerError> {
        self.submit_leading(RollBack { ancestor }).await
    }
}

/// The channels, one an event, of which something is told from block `$1` on. Asked for the different ones, or for those that
/// aren't NULL, SQLite would walk through all events there are, in the order of channels.
pub(crate) const SELECT_CHANNELS_SINCE: &str = "SELECT channel FROM events WHERE block >= $1";

struct RollBack {
    ancestor: BlockNumber,
}

impl Operation for RollBack {
    const NAME: &'static str = "roll blocks back";
    type Output = Outcome;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, LedgerError> {
        if newest_block(session)
            .await?
            .is_none_or(|cursor| cursor.number <= self.ancestor)
        {
            return Ok(Outcome::AlreadyKnown);
        }
        let connected = session
            .row(sql("SELECT 1 FROM blocks WHERE number <= $1 LIMIT 1").put(self.ancestor))
            .await?
            .is_some();
        let ancestor = connected.then_some(self.ancestor);
        let first_gone = ancestor.map_or_else(BlockNumber::default, BlockNumber::next);
        let gone = session.rows(sql(SELECT_CHANNELS_SINCE).put(first_gone)).await?;
        let channels = gone.iter().map(|row| row.read_optional("channel"));
        let channels: Vec<Option<ChannelId>> = channels.collect::<Result<_, _>>()?;
        let channels: BTreeSet<ChannelId> = channels.into_iter().flatten().collect();
        let was_confirmed = confirmed_block(session).await?;
        let confirmed = was_confirmed.and_then(|before| Some(before.min(ancestor?)));
        session
            .write(
                sql("DELETE FROM obligations WHERE (block_hash, position) IN
                         (SELECT block_hash, position FROM events WHERE block >= $1);
                     DELETE FROM events WHERE block >= $1;
                     DELETE FROM blocks WHERE number >= $1;
                     UPDATE store SET confirmed = $2")
                .put(first_gone)
                .put_optional(confirmed),
            )
            .await?;
        for channel in &channels {
            replay(session, *channel, confirmed).await?;
        }
        if confirmed < was_confirmed {
            reopen_transactions(session, ancestor).await?;
            for channel in &channels {
                reopen_obligations(session, *channel).await?;
            }
        }
        Ok(Outcome::Recorded)
    }
}

/// What ended the channel's obligations may be gone: they stand again until the chain, as it is now, ends them.
async fn reopen_obligations(session: &mut Session, channel: ChannelId) -> Result<(), LedgerError> {
    session
        .write(sql("UPDATE obligations SET resolution = NULL WHERE channel = $1").put(channel))
        .await?;
    Ok(())
}

/// Derives a channel's states anew from the events that are left.
async fn replay(
    session: &mut Session,
    channel: ChannelId,
    confirmed_block: Option<BlockNumber>,
) -> Result<(), LedgerError> {
    let rows = session
        .rows(sql("SELECT block, data FROM events WHERE channel = $1 ORDER BY block, position").put(channel))
        .await?;
    let (mut opened_in, mut refunds, mut confirmed, mut latest) = (None, false, None, None);
    for row in &rows {
        let block: BlockNumber = row.read("block")?;
        let kind = read_event_kind(row)?;
        if let ChainEventKind::ChannelOpened { refunds_to_balance, .. } = kind {
            (opened_in, refunds) = (Some(block), refunds_to_balance);
        }
        latest = ChannelState::after(latest, &kind);
        if Some(block) <= confirmed_block {
            confirmed = latest;
        }
    }
    session
        .write(
            sql("UPDATE channels SET opened_in = $2, refunds_to_balance = $3 WHERE id = $1")
                .put(channel)
                .put_optional(opened_in)
                .put(refunds),
        )
        .await?;
    store_state(session, Height::Confirmed, channel, confirmed).await?;
    store_state(session, Height::Latest, channel, latest).await?;
    refresh_authorized(session, channel).await?;
    // A channel that no event opens and nobody recorded or used was never more than a rumour.
    session
        .write(
            sql(
                "DELETE FROM channels WHERE id = $1 AND opened_in IS NULL AND planned_deposit IS NULL
                   AND NOT EXISTS (SELECT 1 FROM accounts WHERE channel = $1)
                   AND NOT EXISTS (SELECT 1 FROM obligations WHERE channel = $1)
                   AND NOT EXISTS (SELECT 1 FROM held_vouchers WHERE channel = $1)",
            )
            .put(channel),
        )
        .await?;
    Ok(())
}
