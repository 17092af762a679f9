use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use alloy::primitives::B256;
use lloom_ledger::{Block, TransactionId, TransactionRecord};

/// Looks at different confirmed blocks until a transaction is believed to have been overtaken by a stranger's: one
/// endpoint may know the nonce and another, which is behind, be asked for the receipt.
const LOOKS_FOR_A_STRANGER: u32 = 3;
/// Transactions whose nonce looks used by a stranger.
#[derive(Default)]
pub(super) struct Suspects(Mutex<BTreeMap<TransactionId, Suspicion>>);

/// How often a transaction was looked for in vain though its nonce is used.
#[derive(Clone, Copy)]
struct Suspicion {
    looks: u32,
    /// The newest confirmed block at the last look.
    at: B256,
}

impl Suspects {
    /// Notes that `id` was looked for in vain while `confirmed` was the newest confirmed block. Says whether that was
    /// often enough.
    pub(super) fn convict(&self, id: TransactionId, confirmed: Block) -> bool {
        let mut suspects = self.known();
        let looks = match suspects.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(Suspicion {
                    looks: 1,
                    at: confirmed.hash,
                });
                1
            }
            Entry::Occupied(mut entry) => {
                let suspicion = entry.get_mut();
                if suspicion.at != confirmed.hash {
                    suspicion.looks += 1;
                    suspicion.at = confirmed.hash;
                }
                suspicion.looks
            }
        };
        looks >= LOOKS_FOR_A_STRANGER && suspects.remove(&id).is_some()
    }

    /// They are in a block, or their nonce is free.
    pub(super) fn clear(&self, group: &[TransactionRecord]) {
        let mut suspects = self.known();
        for record in group {
            suspects.remove(&record.id);
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TransactionId, Suspicion>> {
        // Suspicions have no invariant that a panic elsewhere could break.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
