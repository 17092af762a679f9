//! What a client's receipts prove of this node's own store.
//!
//! A bill is on disk before it is signed. So one that bears this node's signature, and that its store does not know, was
//! lost: the store is an old copy, whether or not anything else gave that away. Such receipts come before all others of
//! their channel, because each goes on from the one before.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use lloom_ledger::LedgerError;
use lloom_receipts::{ChannelId, UsageBill};

use super::Shared;

/// The channels with a receipt since this process began whose bill was on record: nothing that was lost can come on them
/// any more. One entry for each channel that pays here.
#[derive(Debug, Default)]
pub(super) struct FamiliarChannels(Mutex<HashSet<ChannelId>>);

impl FamiliarChannels {
    fn with<T>(&self, look: impl FnOnce(&mut HashSet<ChannelId>) -> T) -> T {
        // Every change is one insertion: a panic elsewhere leaves nothing half done.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    /// Whether this store has lost `bill`, which this node has signed.
    pub(super) async fn was_lost(&self, bill: &UsageBill) -> Result<bool, LedgerError> {
        if self.familiar.with(|channels| channels.contains(&bill.channel)) {
            return Ok(false);
        }
        Ok(!self.ledger.knows_bill(bill.request).await?)
    }

    /// Draws the conclusions, once a receipt with `bill` is recorded.
    pub(super) async fn learn(&self, bill: &UsageBill, was_lost: bool) -> Result<(), LedgerError> {
        if !was_lost {
            self.familiar.with(|channels| channels.insert(bill.channel));
            return Ok(());
        }
        // Bills from before a restore that is known of are what that restore has lost.
        let restored_at = self.ledger.restored_at().await?;
        if restored_at.is_some_and(|at| bill.completed_at <= at) {
            return Ok(());
        }
        let waived = self.ledger.remember_loss().await?;
        tracing::error!(
            channel = %bill.channel,
            request = %bill.request,
            waived,
            "a client has a bill of this node that the store has lost: it is an old copy; requests it can't know of are refused for a while"
        );
        Ok(())
    }
}
