//! How often claims were put off, and why. For metrics; nothing is decided by it.

use std::collections::BTreeMap;

use lloom_receipts::{ChannelId, UnixSeconds};

use crate::planner::{Plan, WhyNot};

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

impl Deferrals {
    /// Counts what `plan`, made for all channels, puts off.
    pub(crate) fn count(&mut self, plan: &Plan, now: UnixSeconds) {
        self.look += 1;
        for waiting in &plan.waiting {
            let counter = match waiting.why {
                WhyNot::NotWorthwhile { .. } => &mut self.counts.not_worthwhile,
                WhyNot::AwaitsReceipt => &mut self.counts.awaits_receipt,
                WhyNot::Quarantined(_) => &mut self.counts.quarantined,
            };
            *counter += 1;
            let first = Deferral { looks: 0, since: now };
            let (deferral, look) = self.channels.entry(waiting.channel).or_insert((first, 0));
            deferral.looks += 1;
            *look = self.look;
        }
        // What is claimed, or has nothing to claim any more, begins anew.
        self.channels.retain(|_, (_, look)| *look == self.look);
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
        deferrals.count(&plan(&[(1, small), (2, WhyNot::AwaitsReceipt)]), start);
        deferrals.count(&plan(&[(1, small)]), start.plus(Duration::from_secs(2)));
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
