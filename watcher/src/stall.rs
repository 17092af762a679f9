//! What is due and gets nowhere. Pure.

use std::collections::BTreeMap;

use lloom_receipts::{ChannelId, UnixSeconds};

/// Channels whose payers are leaving, whose safety margin has begun, and of which no claim goes forward: none can be sent,
/// or no endpoint takes the one that is, or blocks pass over the highest bid that may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// How many.
    pub channels: usize,
    /// Since when, of the one that waits longest.
    pub since: UnixSeconds,
    /// What keeps that one.
    pub reason: String,
}

/// Since when each of them gets nowhere. It lives in memory: a new process tries everything that is due at once.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    since: BTreeMap<ChannelId, UnixSeconds>,
}

impl Stalls {
    /// Takes all channels that are due and that a round brought no further, with the reasons. Each has its own time, so that
    /// many which wait for a moment, one after the other, are not one that waits for long.
    pub(crate) fn look(&mut self, stuck: &BTreeMap<ChannelId, String>, now: UnixSeconds) -> Option<Stall> {
        self.since.retain(|channel, _| stuck.contains_key(channel));
        for channel in stuck.keys() {
            self.since.entry(*channel).or_insert(now);
        }
        let (channel, since) = self.since.iter().min_by_key(|(_, since)| **since)?;
        Some(Stall {
            channels: stuck.len(),
            since: *since,
            reason: stuck.get(channel)?.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    #[test]
    fn each_channel_waits_for_itself() {
        let at = UnixSeconds::new;
        let stuck = |channels: &[u8]| {
            let named = channels.iter().map(|number| {
                let channel = ChannelId::new(B256::repeat_byte(*number));
                (channel, format!("{number} has no money"))
            });
            named.collect::<BTreeMap<_, _>>()
        };
        let mut stalls = Stalls::default();
        let mut look = |channels: &[u8], now| {
            let stall = stalls.look(&stuck(channels), at(now));
            stall.map(|stall| (stall.channels, stall.since.get(), stall.reason))
        };
        let told = |channels, since, number: u8| Some((channels, since, format!("{number} has no money")));
        assert_eq!(look(&[], 100), None);
        assert_eq!(look(&[2], 110), told(1, 110, 2));
        assert_eq!(look(&[1, 2], 120), told(2, 110, 2));
        // The one that waited longest goes forward.
        assert_eq!(look(&[1, 3], 130), told(2, 120, 1));
        assert_eq!(look(&[3], 140), told(1, 130, 3));
        assert_eq!(look(&[], 150), None);
        assert_eq!(look(&[1], 160), told(1, 160, 1), "it begins anew");
    }
}
