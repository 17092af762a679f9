//! Standing by while another watcher on the same store leads.
//!
//! Only the leader follows the chain, plans, claims and sends. The others look at the chain too, and whether the store
//! keeps up with it: a node whose store falls behind must not serve, whoever should have kept it up.

use std::time::Duration;

use lloom_ledger::{Leadership, LedgerError};
use lloom_receipts::{BlockNumber, UnixSeconds};

use super::{LONGEST_BACKOFF, Watcher};
use crate::{
    chain::{Chain, ChainError},
    deferral::DeferralCounts,
    handle::{Command, HandleError, WatcherStatus},
};

/// How long one that has just failed as the leader does not take the store's keeping up for progress, in multiples of the
/// time after which a leader that fails makes room (and a backoff more): if all of them fail, it leads again before that.
const DOUBTED_FOR: u32 = 5;

/// A head that was seen, and when.
type Sighting = (BlockNumber, UnixSeconds);

impl<C: Chain> Watcher<C> {
    /// Waits until this watcher leads. Orders are refused meanwhile, but for those that only ask for the store to have
    /// caught up.
    pub(super) async fn stand_by(&mut self, commands: &mut Vec<Command>) -> Result<Leadership, LedgerError> {
        if let Some(leadership) = self.ledger.try_lead().await? {
            return Ok(leadership);
        }
        tracing::info!("another watcher of this store leads; standing by");
        self.status.send_modify(WatcherStatus::stand_by);
        self.sender.metrics().planned(0, DeferralCounts::default());
        let leading = {
            let ledger = self.ledger.clone();
            async move { ledger.lead().await }
        };
        tokio::pin!(leading);
        let mut sighting = None;
        let elected = loop {
            tokio::select! {
                biased;
                elected = &mut leading => break elected,
                Some(command) = self.commands.recv() => commands.push(command),
                () = tokio::time::sleep(self.config.poll_interval) => {}
            }
            self.look_on(&mut sighting, commands).await?;
        };
        self.status.send_modify(|status| status.standing_by = false);
        elected
    }

    async fn look_on(
        &mut self,
        sighting: &mut Option<Sighting>,
        commands: &mut Vec<Command>,
    ) -> Result<(), LedgerError> {
        let (asking, refused): (Vec<Command>, Vec<Command>) = commands
            .drain(..)
            .partition(|command| matches!(command, Command::Sync { .. }));
        *commands = asking;
        refused
            .into_iter()
            .for_each(|command| command.fail(HandleError::StandsBy));

        let seen = self.chain.head().await;
        let endpoints = self.chain.endpoints();
        self.status.send_modify(|status| status.endpoints = endpoints);
        let head = match seen {
            Ok(head) => head,
            Err(error) => {
                self.note(&error);
                return Ok(());
            }
        };
        let now = self.ledger.now();
        let cursor = self.ledger.cursor().await?;
        let confirmed = self.ledger.confirmed_block().await?;
        let reached = |number| cursor.is_some_and(|cursor| cursor.number >= number);
        let caught_up = sighting.filter(|(number, _)| reached(*number)).map(|(_, at)| at);
        if caught_up.is_some() || sighting.is_none() {
            *sighting = Some((head.number, now));
        }
        // Another one that fares no better keeps the store up, too, for as long as it leads.
        let doubts = self.yielded_at.is_some_and(|at| at.elapsed() < self.doubted_for());
        self.status.send_modify(|status| {
            status.see(head, now);
            status.cursor = cursor;
            status.confirmed = confirmed;
            if doubts {
                return;
            }
            status.problem = None;
            if reached(head.number) {
                status.last_progress = Some(now);
            } else {
                status.last_progress = status.last_progress.max(caught_up);
            }
        });
        // An old head has been reached long ago.
        let is_old = self.status.borrow().old_head(now, self.config.max_head_age).is_some();
        if let Some(cursor) = cursor.filter(|cursor| cursor.number >= head.number && !is_old) {
            for command in commands.drain(..) {
                match command {
                    Command::Sync { reply } => drop(reply.send(Ok(cursor))),
                    other => other.fail(HandleError::StandsBy),
                }
            }
        }
        Ok(())
    }

    /// For how long what became of this watcher as the leader says more than how the store does.
    pub(super) fn doubted_for(&self) -> Duration {
        self.config.yields_after * DOUBTED_FOR + LONGEST_BACKOFF
    }

    fn note(&self, error: &ChainError) {
        let reason = error.to_string();
        tracing::warn!(reason, "the chain can't be looked at while standing by");
        self.status.send_modify(|status| status.problem = Some(reason));
    }
}
