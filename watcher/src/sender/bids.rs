use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use lloom_ledger::{Block, TransactionId, TransactionRecord};
use lloom_receipts::BlockNumber;

/// At which block pending transactions made their bids, and which of them get nowhere. A process that starts anew knows of
/// none.
#[derive(Default)]
pub(super) struct Bids(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The newest block when somebody looked last.
    head: Option<Block>,
    made_at: BTreeMap<TransactionId, BlockNumber>,
    /// Those that no endpoint took when they were offered last, and why.
    refused: BTreeMap<TransactionId, String>,
    /// Those that may bid no more, and are passed over.
    outbid: BTreeSet<TransactionId>,
}

impl Bids {
    /// Notes the newest block, and forgets the bids of all but `pending`.
    pub(super) fn look(&self, head: Block, pending: &[TransactionRecord]) {
        let mut known = self.known();
        known.head = Some(head);
        let is_pending = |id: &TransactionId| pending.iter().any(|record| record.id == *id);
        known.made_at.retain(|id, _| is_pending(id));
        known.refused.retain(|id, _| is_pending(id));
        known.outbid.retain(is_pending);
    }

    /// The newest block when somebody looked last.
    pub(super) fn head(&self) -> Option<Block> {
        self.known().head
    }

    /// Notes that a bid is made now.
    pub(super) fn note(&self, id: TransactionId) {
        let mut known = self.known();
        if let Some(head) = known.head {
            known.made_at.insert(id, head.number);
        }
    }

    /// Whether a block may have passed over a bid: one was made since.
    pub(super) fn was_passed_over(&self, id: TransactionId) -> bool {
        let known = self.known();
        let made_at = known.made_at.get(&id);
        made_at.is_none_or(|made_at| known.head.is_none_or(|head| head.number > *made_at))
    }

    /// Notes whether an endpoint has taken a transaction, or why none has.
    pub(super) fn offered(&self, id: TransactionId, refused: Option<&str>) {
        let mut known = self.known();
        match refused {
            Some(reason) => known.refused.insert(id, reason.to_owned()),
            None => known.refused.remove(&id),
        };
    }

    /// Notes whether a transaction that blocks pass over may bid no more.
    pub(super) fn set_outbid(&self, id: TransactionId, is_outbid: bool) {
        let mut known = self.known();
        match is_outbid {
            true => known.outbid.insert(id),
            false => known.outbid.remove(&id),
        };
    }

    /// Notes that transactions of one nonce are in a block: nothing keeps them any more.
    pub(super) fn mined(&self, ids: &[TransactionId]) {
        let mut known = self.known();
        for id in ids {
            known.refused.remove(id);
            known.outbid.remove(id);
        }
    }

    /// Why the transactions of one nonce, the newest last, get nowhere, if they don't.
    pub(super) fn trouble(&self, nonce: &[TransactionId]) -> Option<String> {
        let known = self.known();
        if nonce.last().is_some_and(|newest| known.outbid.contains(newest)) {
            return Some(
                "blocks pass over its transaction, which bids as much as the limit of fees or the balance allows"
                    .to_owned(),
            );
        }
        let mut reasons = nonce
            .iter()
            .map(|id| known.refused.get(id))
            .collect::<Option<Vec<_>>>()?;
        let newest = reasons.pop()?;
        Some(format!("no endpoint takes its transaction: {newest}"))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing here depends on anything else here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
