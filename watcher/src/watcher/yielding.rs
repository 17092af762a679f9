//! Letting another watcher of the store lead, which may do better.

use std::time::{Duration, Instant};

use super::Watcher;
use crate::chain::Chain;

/// How long a leader that yields leaves the others at most: whoever stands by looks twice a second whether it may lead.
const STEPS_ASIDE: Duration = Duration::from_secs(5);

impl<C: Chain> Watcher<C> {
    /// How long it leaves the others to be elected.
    pub(super) fn aside(&self) -> Duration {
        STEPS_ASIDE.min(self.config.yields_after / 4)
    }

    /// Why a leader since `leads_since` gets nowhere, though its rounds succeed. Whoever leads has time for whole rounds
    /// first: where nobody fares better, all lead in turns.
    pub(super) fn gets_nowhere(&self, leads_since: Instant) -> Option<String> {
        let patience = self.config.yields_after;
        if leads_since.elapsed() < patience {
            return None;
        }
        let limit = self.config.max_head_age.map(|limit| limit.max(patience));
        let old = self.status.borrow().old_head(self.ledger.now(), limit);
        old.map(|(head, age)| {
            format!(
                "the endpoint's newest block, {}, is {} s old",
                head.number,
                age.as_secs()
            )
        })
    }
}
