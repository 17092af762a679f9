//! How often claims were put off, and why. For metrics; nothing is decided by it.

use std::collections::BTreeMap;

use lloom_receipts::{ChannelId, UnixSeconds};

use crate::planner::{Plan, Waiting, WhyNot};

/// How often a channel with something to claim was looked at and put off, since the process began. Each look at each
/// channel counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeferralCounts {
    /// The claim would not have been worth its fee, or the minimum.
    pub not_worthwhile: u64,
    /// Usage is to be published, and the client had not signed its receipt.
    pub awaits_receipt: u64,
    /// Its row had failed.
    pub quarantined: u64,
    /// It was due, and gas cost more than the policy pays.
    pub fees_too_high: u64,
    /// It was due, and the key had too few coins for the gas.
    pub gas_money: u64,
}

/// How long a channel has been put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Looks in a row at which it was put off.
    pub looks: u64,
    /// The first of them.
    pub since: UnixSeconds,
}

#[derive(Debug, Default)]
pub(crate) struct Deferrals {
    pub(crate) counts: DeferralCounts,
    /// How many plans were counted.
    look: u64,
    /// With the plan that put it off last.
    channels: BTreeMap<ChannelId, (Deferral, u64)>,
}

/// One look at all channels, while they are planned with.
pub(crate) struct Look<'a> {
    deferrals: &'a mut Deferrals,
    now: UnixSeconds,
    before: DeferralCounts,
}

impl Look<'_> {
    /// Counts a channel that is put off.
    pub(crate) fn count(&mut self, waiting: &Waiting) {
        let deferrals = &mut *self.deferrals;
        let counter = match waiting.why {
            WhyNot::NotWorthwhile { .. } => &mut deferrals.counts.not_worthwhile,
            WhyNot::AwaitsReceipt => &mut deferrals.counts.awaits_receipt,
            WhyNot::Quarantined(_) => &mut deferrals.counts.quarantined,
        };
        *counter += 1;
        let since = self.now;
        let first = Deferral { looks: 0, since };
        let (deferral, look) = deferrals.channels.entry(waiting.channel).or_insert((first, 0));
        deferral.looks += 1;
        *look = deferrals.look;
    }

    /// How many it put off, by why.
    pub(crate) fn conclude(self) -> DeferralCounts {
        let Self { deferrals, before, .. } = self;
        // What is claimed, or has nothing to claim any more, begins anew.
        deferrals.channels.retain(|_, (_, look)| *look == deferrals.look);
        deferrals.counts.since(before)
    }
}

impl DeferralCounts {
    fn since(self, before: Self) -> Self {
        Self {
            not_worthwhile: self.not_worthwhile - before.not_worthwhile,
            awaits_receipt: self.awaits_receipt - before.awaits_receipt,
            quarantined: self.quarantined - before.quarantined,
            fees_too_high: self.fees_too_high - before.fees_too_high,
            gas_money: self.gas_money - before.gas_money,
        }
    }
}

impl Deferrals {
    /// Begins a look at all channels.
    pub(crate) fn look(&mut self, now: UnixSeconds) -> Look<'_> {
        self.look += 1;
        let before = self.counts;
        Look {
            deferrals: self,
            now,
            before,
        }
    }

    /// Writes into `plan` what was counted.
    pub(crate) fn describe(&self, plan: &mut Plan) {
        for waiting in &mut plan.waiting {
            waiting.deferred = self.channels.get(&waiting.channel).map(|(deferral, _)| *deferral);
        }
    }

    /// Channels that wait.
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alloy::primitives::{Address, B256};
    use lloom_receipts::TokenAmount;

    use super::*;
    use crate::planner::Waiting;

    #[test]
    fn counts_looks_until_a_channel_is_claimed() {
        let start = UnixSeconds::new(100);
        let id = |number| ChannelId::new(B256::repeat_byte(number));
        let plan = |waiting: &[(u8, WhyNot)]| Plan {
            waiting: waiting
                .iter()
                .map(|(channel, why)| Waiting {
                    channel: id(*channel),
                    token: Address::ZERO,
                    value: TokenAmount::new(1),
                    why: *why,
                    claimed_from: None,
                    deferred: None,
                })
                .collect(),
            ..Plan::default()
        };
        let small = WhyNot::NotWorthwhile {
            value: TokenAmount::new(1),
            needed: TokenAmount::new(2),
        };
        let mut deferrals = Deferrals::default();
        let mut look = |waiting: &[(u8, WhyNot)], now| {
            let mut look = deferrals.look(now);
            plan(waiting).waiting.iter().for_each(|waiting| look.count(waiting));
            let counts = look.conclude();
            (counts.not_worthwhile, counts.awaits_receipt)
        };
        assert_eq!(look(&[(1, small), (2, WhyNot::AwaitsReceipt)], start), (1, 1));
        assert_eq!(look(&[(1, small)], start.plus(Duration::from_secs(2))), (1, 0));
        assert_eq!(
            (deferrals.counts.not_worthwhile, deferrals.counts.awaits_receipt),
            (2, 1)
        );
        assert_eq!(deferrals.channels(), 1);
        let mut described = plan(&[(1, small), (2, small)]);
        deferrals.describe(&mut described);
        assert_eq!(described.waiting[0].deferred, Some(Deferral { looks: 2, since: start }));
        assert_eq!(described.waiting[1].deferred, None);
    }
}
