//! What happened at least once.

use std::collections::BTreeMap;

use alloy::{primitives::Log, sol_types::SolEvent};

use crate::{
    abi::{
        IChannelEscrow::{ChannelClosed, ChannelSettled, ChannelToppedUp, ChannelsSettled, PayoutCredited, RowSkipped},
        IDevToken::Approval,
        IUsageSettlement::{UsageSettled, UsagesSettled},
    },
    action::Action,
    outcome::Outcome,
};

/// How often each action came to what.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, String), u64>,
}

impl Coverage {
    /// Counts a step: that it returned, or its error; and of its events those that say what became of a part.
    pub fn count(&mut self, action: &Action, outcome: Option<&Outcome>) {
        let mut add = |what: String| *self.counts.entry((action.name(), what)).or_default() += 1;
        match outcome.map(|outcome| &outcome.result) {
            None | Some(Ok(_)) => add("Ok".to_owned()),
            Some(Err(revert)) => add(revert.name()),
        }
        for event in outcome.iter().flat_map(|outcome| &outcome.events) {
            if let Some(part) = part(event) {
                add(part);
            }
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: Self) {
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += count;
        }
    }

    /// How often `action` came to `what`.
    pub fn of(&self, action: &str, what: &str) -> u64 {
        self.iter()
            .find_map(|(name, end, count)| (name == action && end == what).then_some(count))
            .unwrap_or_default()
    }

    /// All that was counted: an action, what it came to, how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str, u64)> {
        self.counts
            .iter()
            .map(|((action, what), &count)| (*action, what.as_str(), count))
    }
}

/// What an event says of a part of its call, where that is not one of the ends that every such call comes to.
fn part(event: &Log) -> Option<String> {
    if let Ok(skipped) = RowSkipped::decode_log(event) {
        return Some(format!("RowSkipped({:?})", skipped.reason));
    }
    if let Ok(topped_up) = ChannelToppedUp::decode_log(event) {
        return topped_up
            .closeCancelled
            .then(|| "ChannelToppedUp(closeCancelled)".to_owned());
    }
    let told = [
        (Approval::SIGNATURE_HASH, "Ok(permitted)"),
        (ChannelClosed::SIGNATURE_HASH, "ChannelClosed"),
        (ChannelSettled::SIGNATURE_HASH, "ChannelSettled"),
        (ChannelsSettled::SIGNATURE_HASH, "ChannelsSettled"),
        (PayoutCredited::SIGNATURE_HASH, "PayoutCredited"),
        (UsageSettled::SIGNATURE_HASH, "UsageSettled"),
        (UsagesSettled::SIGNATURE_HASH, "UsagesSettled"),
    ];
    let topic = event.topics().first()?;
    told.iter()
        .find(|(hash, _)| hash == topic)
        .map(|(_, name)| (*name).to_owned())
}
