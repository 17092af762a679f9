//! Which of the channels that are held for others have to be claimed now. Pure.

use std::{collections::HashMap, time::Duration};

use lloom_ledger::{Held, HeldTerms};
use lloom_receipts::{ChannelId, UnixSeconds};

use crate::planner::Candidate;

/// The part of the grace period that a tower leaves to the executor, in thirds: an executor's own watcher claims when
/// half of it is over, and a tower that goes out at the same moment only pays for a claim that comes too late.
const THIRDS_FOR_THE_EXECUTOR: u32 = 2;

/// How a tower defends what it has taken on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefencePolicy {
    /// How long before a deadline a tower claims what the executor has not claimed; a third of the grace period where it
    /// is `None`. A close that is seen later than that is answered at once.
    pub margin: Option<Duration>,
}

impl DefencePolicy {
    pub(crate) fn margin(&self, grace: Duration) -> Duration {
        let third = grace / 3 * (3 - THIRDS_FOR_THE_EXECUTOR);
        self.margin.unwrap_or(third).min(grace)
    }
}

/// What was promised of the channels that are held, and when it is due.
#[derive(Debug, Default)]
pub(crate) struct Defence {
    margin: Duration,
    promised: HashMap<ChannelId, HeldTerms>,
}

impl Defence {
    pub(crate) fn new(margin: Duration, held: &[Held]) -> Self {
        Self {
            margin,
            promised: held
                .iter()
                .map(|held| (held.claimable.channel.id, held.terms))
                .collect(),
        }
    }

    /// From when on a channel with this deadline is claimed, where any is held.
    pub(crate) fn begins(&self, deadline: UnixSeconds) -> UnixSeconds {
        deadline.minus(self.margin)
    }

    /// Whether `candidate` is to be planned with: one's own channel always is. One that is held is claimed when the
    /// executor has had its chance, and only for what was promised.
    pub(crate) fn allows(&self, candidate: &Candidate, now: UnixSeconds) -> bool {
        let Some(terms) = self.promised.get(&candidate.channel) else {
            return true;
        };
        let Some(deadline) = candidate.deadline else {
            return false;
        };
        let value = candidate
            .by_voucher()
            .map(|amount| amount.saturating_sub(candidate.settled));
        now >= self.begins(deadline) && value.is_some_and(|value| value >= terms.minimum_value)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};
    use lloom_ledger::CLAIM_TAKES;
    use lloom_receipts::TokenAmount;

    use super::*;
    use crate::FeePolicy;

    const GRACE: Duration = Duration::from_secs(3_600);
    const REQUESTED_AT: UnixSeconds = UnixSeconds::new(10_000);

    fn candidate(settled: u128) -> Candidate {
        Candidate {
            channel: ChannelId::new(B256::repeat_byte(1)),
            payee: Address::ZERO,
            token: Address::ZERO,
            deposit: TokenAmount::new(1_000),
            settled: TokenAmount::new(settled),
            billed: TokenAmount::new(500),
            voucher: Some(TokenAmount::new(600)),
            receipt: None,
            deadline: Some(REQUESTED_AT.plus(GRACE)),
            publishes: true,
            held: None,
        }
    }

    fn defence(policy: DefencePolicy) -> Defence {
        let terms = HeldTerms {
            minimum_value: TokenAmount::new(100),
            max_fee_per_gas: 1,
        };
        Defence {
            margin: policy.margin(GRACE),
            promised: HashMap::from([(candidate(0).channel, terms)]),
        }
    }

    fn after(seconds: u64) -> UnixSeconds {
        REQUESTED_AT.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn waits_until_the_executor_has_had_its_chance() {
        let usual = defence(DefencePolicy::default());
        assert!(!usual.allows(&candidate(0), after(2_399)));
        assert!(usual.allows(&candidate(0), after(2_400)));
        assert!(
            usual.allows(&candidate(0), after(9_000)),
            "the payer may not have withdrawn yet"
        );
        let early = defence(DefencePolicy {
            margin: Some(Duration::from_secs(86_400)),
        });
        assert!(
            early.allows(&candidate(0), after(0)),
            "a margin beyond the grace period is all of it"
        );
    }

    #[test]
    fn what_is_taken_on_last_is_claimed_at_once_with_time_for_dearer_bids() {
        assert!(CLAIM_TAKES >= FeePolicy::default().patience * 3);
        assert!(CLAIM_TAKES < DefencePolicy::default().margin(GRACE));
        let taken_on = GRACE - CLAIM_TAKES;
        assert!(defence(DefencePolicy::default()).allows(&candidate(0), after(taken_on.as_secs())));
    }

    #[test]
    fn goes_out_for_what_was_promised_and_for_no_less() {
        let usual = defence(DefencePolicy::default());
        assert!(usual.allows(&candidate(400), after(3_000)));
        assert!(!usual.allows(&candidate(401), after(3_000)));
        assert!(!usual.allows(&candidate(500), after(3_000)), "settled");
        let open = Candidate {
            deadline: None,
            ..candidate(0)
        };
        assert!(!usual.allows(&open, after(3_000)), "nobody leaves");
        let own = Candidate {
            channel: ChannelId::new(B256::repeat_byte(2)),
            ..open
        };
        assert!(usual.allows(&own, after(0)), "one's own are the planner's alone");
    }
}
