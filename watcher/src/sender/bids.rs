use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lloom_ledger::{Block, TransactionId, TransactionRecord};
use lloom_receipts::BlockNumber;

/// At which block pending transactions made their bids. A process that starts anew knows of none.
#[derive(Default)]
pub(super) struct Bids(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The newest block when somebody looked last.
    head: Option<Block>,
    made_at: BTreeMap<TransactionId, BlockNumber>,
}

impl Bids {
    /// Notes the newest block, and forgets the bids of all but `pending`.
    pub(super) fn look(&self, head: Block, pending: &[TransactionRecord]) {
        let mut known = self.known();
        known.head = Some(head);
        known
            .made_at
            .retain(|id, _| pending.iter().any(|record| record.id == *id));
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

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing here depends on anything else here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
