//! Whether what is derived from the chain's events is what they say.

use lloom_receipts::{BlockNumber, UnixSeconds};

use super::Check;
use crate::{
    ChainEventKind, ChannelRecord, ChannelState, Ledger, LedgerError,
    account::{Side, Standing},
    channel::read_event_kind,
    column::{Put as _, Read as _, sql},
    follow::confirmed_block,
    session::Session,
};

impl Check<'_> {
    /// The newest blocks, each of which names its parent.
    pub(super) async fn look_at_blocks(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let blocks = ledger.newest_blocks(u32::MAX).await?;
        for pair in blocks.windows(2) {
            let [child, parent] = pair else { continue };
            if child.number == parent.number.next() && child.parent != parent.hash {
                self.find(
                    None,
                    format!("block {} is not the child of the block before it", child.number),
                );
            }
        }
        let confirmed = ledger.confirmed_block().await?;
        if confirmed > blocks.first().map(|block| block.number) {
            self.find(None, "a block is confirmed that was never seen");
        }
        Ok(())
    }

    /// The channel's states at the newest block and at the confirmed one, and its deadline.
    pub(super) async fn look_at_states(
        &mut self,
        session: &mut Session,
        standing: &Standing,
    ) -> Result<(), LedgerError> {
        let channel: &ChannelRecord = &standing.channel;
        let confirmed_block = confirmed_block(session).await?;
        let rows = session
            .rows(sql("SELECT block, data FROM events WHERE channel = $1 ORDER BY block, position").put(channel.id))
            .await?;
        let (mut confirmed, mut latest) = (None, None);
        for row in &rows {
            self.checked.events += 1;
            let Some(kind) = self.read(channel.id, read_event_kind(row))? else {
                return Ok(());
            };
            let block: BlockNumber = row.read("block")?;
            if let ChainEventKind::ChannelOpened { parameters, .. } = &kind
                && *parameters != channel.parameters
            {
                self.find(channel.id, "it was opened with other parameters than are recorded");
            }
            latest = ChannelState::after(latest, &kind);
            if Some(block) <= confirmed_block {
                confirmed = latest;
            }
        }
        if latest != channel.latest {
            self.find(channel.id, "its state at the newest block is not what the events say");
        }
        if confirmed != channel.confirmed {
            self.find(channel.id, "its confirmed state is not what the events say");
        }
        self.look_at_deadline(session, standing).await
    }

    /// A channel served here whose payer wants the rest has to be claimed in time: an obligation says so.
    async fn look_at_deadline(&mut self, session: &mut Session, standing: &Standing) -> Result<(), LedgerError> {
        let Some(latest) = standing.channel.latest.filter(|state| !state.finalized) else {
            return Ok(());
        };
        let (Some(requested_at), Some(Side::Serving)) = (latest.close_requested_at, standing.side) else {
            return Ok(());
        };
        let known: Vec<UnixSeconds> = session
            .rows(sql("SELECT requested_at FROM obligations WHERE channel = $1").put(standing.channel.id))
            .await?
            .iter()
            .map(|row| row.read("requested_at"))
            .collect::<Result<_, _>>()?;
        if !known.contains(&requested_at) {
            self.find(
                standing.channel.id,
                "its payer has asked for its close, and no obligation says until when to claim",
            );
        }
        Ok(())
    }
}
