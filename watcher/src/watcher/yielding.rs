//! Letting another watcher of the store lead, which may do better.

use std::time::{Duration, Instant};

use super::{Rounds, Watcher};
use crate::{chain::Chain, handle::HandleError, stall::Stalls};

/// How long a leader that yields leaves the others at most: whoever stands by looks twice a second whether it may lead.
const STEPS_ASIDE: Duration = Duration::from_secs(5);

impl<C: Chain> Watcher<C> {
    /// How long it leaves the others to be elected.
    pub(super) fn aside(&self) -> Duration {
        STEPS_ASIDE.min(self.config.yields_after / 4)
    }

    /// Why a leader since `leads_since` gets nowhere, though its rounds succeed. Whoever leads has time for whole rounds
    /// first: where nobody fares better, all lead in turns. Where it is not contested, there is nobody to make room for.
    pub(super) async fn gets_nowhere(&self, leads_since: Instant, is_contested: bool) -> Option<String> {
        let patience = self.config.yields_after;
        if !is_contested || leads_since.elapsed() < patience {
            return None;
        }
        let limit = self.config.max_head_age.map(|limit| limit.max(patience));
        let old_head = || self.status.borrow().old_head(self.ledger.now(), limit);
        if old_head().is_some() {
            // It is as old as the round was long: that is not the endpoint's fault.
            if let Ok(head) = self.chain.head().await {
                let now = self.ledger.now();
                self.status.send_modify(|status| status.see(head, now));
            }
        }
        if let Some((head, age)) = old_head() {
            return Some(format!(
                "the endpoint's newest block, {}, is {} s old",
                head.number,
                age.as_secs()
            ));
        }
        // It may be out of gas money, which another one has.
        let status = self.status.borrow();
        let stall = status.stalled.as_ref()?;
        let stuck_for = self.ledger.now().since(stall.since);
        (stuck_for >= patience).then(|| format!("what is due gets nowhere: {}", stall.reason))
    }

    /// Leaves the work to others. Whoever gave orders that are under way is told, and since when what gets nowhere does is
    /// kept, for when this watcher leads again.
    pub(super) fn hand_over(&mut self, rounds: &mut Option<Rounds<C>>) {
        let Some(rounds) = rounds.take() else {
            return;
        };
        for order in rounds.claims {
            order.hand_over();
        }
        for order in rounds.closes {
            // Nobody may wait for it any more.
            drop(order.reply.send(Err(HandleError::HandedOver)));
        }
        self.remembered = Some((Instant::now(), rounds.stalls));
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
