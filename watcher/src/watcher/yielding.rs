//! Letting another watcher of the store lead, which may do better.

use std::time::{Duration, Instant};

use super::Watcher;
use crate::{chain::Chain, stall::Stalls};

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
        let (status, now) = (self.status.borrow(), self.ledger.now());
        let limit = self.config.max_head_age.map(|limit| limit.max(patience));
        if let Some((head, age)) = status.old_head(now, limit) {
            return Some(format!(
                "the endpoint's newest block, {}, is {} s old",
                head.number,
                age.as_secs()
            ));
        }
        // It may be out of gas money, which another one has.
        let stall = status.stalled.as_ref()?;
        (now.since(stall.since) >= patience).then(|| format!("what is due gets nowhere: {}", stall.reason))
    }

    /// Keeps since when what gets nowhere, for when this watcher leads again.
    pub(super) fn remember(&mut self, stalls: Stalls) {
        self.remembered = Some((Instant::now(), stalls));
    }

    /// What got nowhere when this watcher last led, unless another one has led for long since then: nobody is told that
    /// it is well because leaders that fare no better take turns.
    pub(super) fn recall(&mut self) -> Stalls {
        let remembered = self
            .remembered
            .take()
            .filter(|(at, _)| at.elapsed() < self.doubted_for());
        remembered.map(|(_, stalls)| stalls).unwrap_or_default()
    }
}
