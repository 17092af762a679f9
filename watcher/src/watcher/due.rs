//! Claiming what the policy says, and what of it gets nowhere.

use std::collections::BTreeMap;

use lloom_ledger::{Purpose, TransactionRecord};
use lloom_receipts::{ChannelId, UnixSeconds};

use super::{Rounds, sent::outlook, trouble::RoundError};
use crate::{
    books::Books,
    chain::Chain,
    planner::{Waiting, WhyNow},
    sender::{Outlook, SendError},
    settler::ClaimFilter,
    stall::Stall,
};

/// Claims that may be under way at a time, unless a deadline presses: an endpoint's pool promises an account room for about as
/// many transactions, and a round with hundreds of them would see nothing else meanwhile.
const CLAIMS_UNDER_WAY: usize = 16;

/// What came of what the policy claims.
#[derive(Default)]
pub(super) struct DueClaims {
    /// What keeps it from being claimed, if that is nothing to stop for.
    pub(super) problem: Option<String>,
    /// Channels that are due and of which nothing was sent, with the reasons.
    pub(super) unsent: BTreeMap<ChannelId, String>,
}

impl<C: Chain> Rounds<C> {
    /// Claims what the policy says.
    pub(super) async fn claim_due(&mut self, now: UnixSeconds) -> Result<DueClaims, RoundError> {
        let books = self.books(now).await?;
        // What is put off is counted as it comes, and kept nowhere: it may be very much.
        let mut deferrals = std::mem::take(&mut self.settler.deferrals);
        let mut look = deferrals.look(now);
        let mut unsent = BTreeMap::new();
        let quarantine = &self.settler.quarantine;
        let count = |waiting: Waiting| {
            look.count(&waiting);
            if waiting.claimed_from.is_some_and(|from| now >= from) {
                let reason = quarantine.reason(waiting.channel).unwrap_or("it waits");
                unsent.insert(waiting.channel, reason.to_owned());
            }
        };
        let all = ClaimFilter::default();
        let planned = self.settler.plan_telling(&books, &all, false, now, count).await;
        let planned = planned.map(|plan| (plan, look.conclude()));
        self.settler.deferrals = deferrals;
        let (mut plan, put_off) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                let problem = Some(tolerate(error)?);
                return Ok(DueClaims { problem, unsent });
            }
        };
        let account = self.settler.sender.account();
        let pending = self.settler.ledger.pending_transactions().await?;
        let under_way = pending.iter().filter(|record| record.from == account).count();
        plan.keep_first(CLAIMS_UNDER_WAY.saturating_sub(under_way));
        self.settler.sender.metrics().planned(plan.claims.len(), put_off);
        let claimed = self.settler.claim(&plan, &books, now).await;
        let problem = claimed.failure.map(tolerate).transpose()?;
        let due = plan.claims.iter().flat_map(|claim| &claim.rows);
        for row in due.filter(|row| row.why == WhyNow::Deadline) {
            let mut refused = claimed.refused.iter();
            let refused = refused.find(|refused| refused.channel == row.channel);
            let reason = refused.map(|refused| refused.reason.as_str()).or(problem.as_deref());
            unsent.insert(row.channel, reason.unwrap_or("nothing was sent").to_owned());
        }
        for (channel, _) in claimed.sent.iter().flat_map(|claim| &claim.rows) {
            unsent.remove(channel);
        }
        Ok(DueClaims { problem, unsent })
    }

    /// What is due and gets nowhere: what was not sent, and what was and waits for ever.
    pub(super) fn stalled(
        &mut self,
        unsent: BTreeMap<ChannelId, String>,
        pending: &[TransactionRecord],
        books: Option<&Books>,
        now: UnixSeconds,
    ) -> Option<Stall> {
        let mut stuck = unsent;
        for (record, reason) in self.settler.sender.stuck(pending) {
            let Outlook { deadline, is_moot, .. } = outlook(books, &record);
            let is_due = deadline.is_some_and(|deadline| now >= deadline.minus(self.settler.policy.safety_margin));
            if !is_due || is_moot {
                continue;
            }
            let channels = match record.purpose {
                Purpose::Claim { rows, .. } => rows.into_iter().map(|(channel, _)| channel).collect(),
                Purpose::Close { channel, .. } => vec![channel],
                Purpose::Cancellation | Purpose::Other => Vec::new(),
            };
            stuck.extend(channels.into_iter().map(|channel| (channel, reason.clone())));
        }
        // By the machine's clock, as whoever asks how long that has been.
        self.stalls.look(&stuck, self.settler.ledger.now())
    }
}

/// Lets a claim wait that can't be sent now, though the chain and the store are fine.
fn tolerate(error: SendError) -> Result<String, RoundError> {
    match error {
        SendError::Reverted { .. } | SendError::FeesTooHigh(_) | SendError::InsufficientGasMoney { .. } => {
            tracing::error!(%error, "a claim can't be sent");
            Ok(error.to_string())
        }
        error => Err(error.into()),
    }
}
