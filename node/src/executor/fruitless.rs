//! Requests that came to nothing: what costs a payer nothing, and this side a place on its disk.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lloom_receipts::{ChannelId, UnixSeconds};

/// How many a channel may be ahead of those that came to something.
const MOST: u32 = 256;

/// And at least so many times what is served at a time: all of that may break off when a model server does.
const TIMES_CAPACITY: u32 = 4;

/// One is forgotten each time this has passed, so that a channel goes on once the model server is back.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(60);

/// How many of each channel's requests came to nothing, less those that came to something and those forgotten. Kept in
/// memory alone: nobody but this node's owner can make it forget.
#[derive(Debug)]
pub(super) struct Fruitless {
    most: u32,
    channels: Mutex<HashMap<ChannelId, Level>>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    requests: u32,
    /// Up to when the forgotten ones are taken off.
    at: UnixSeconds,
}

impl Level {
    fn forget(&mut self, now: UnixSeconds) {
        let every = FORGOTTEN_EVERY.as_secs();
        let forgotten = now.since(self.at).as_secs() / every;
        self.requests = self
            .requests
            .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        self.at = match self.requests {
            0 => now,
            _ => self
                .at
                .plus(FORGOTTEN_EVERY.saturating_mul(u32::try_from(forgotten).unwrap_or(u32::MAX))),
        };
    }
}

impl Fruitless {
    /// For a node that serves `capacity` requests at a time.
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            most: MOST.max(capacity.saturating_mul(TIMES_CAPACITY)),
            channels: Mutex::default(),
        }
    }

    /// Whether the channel may ask once more at `now`.
    ///
    /// # Errors
    /// From when on it may.
    pub(super) fn check(&self, channel: ChannelId, now: UnixSeconds) -> Result<(), UnixSeconds> {
        self.with(|channels| {
            let Some(level) = channels.get_mut(&channel) else {
                return Ok(());
            };
            level.forget(now);
            if level.requests < self.most {
                return Ok(());
            }
            let over = level.requests - self.most + 1;
            Err(level.at.plus(FORGOTTEN_EVERY.saturating_mul(over)))
        })
    }

    /// Takes a request that is over; `delivered` if it came to anything.
    pub(super) fn count(&self, channel: ChannelId, delivered: bool, now: UnixSeconds) {
        self.with(|channels| {
            if delivered {
                if let Some(level) = channels.get_mut(&channel) {
                    level.requests = level.requests.saturating_sub(1);
                    level.forget(now);
                    if level.requests == 0 {
                        channels.remove(&channel);
                    }
                }
                return;
            }
            if channels.len() == channels.capacity() {
                // Before it grows.
                channels.retain(|_, level| {
                    level.forget(now);
                    level.requests > 0
                });
            }
            let level = channels.entry(channel).or_insert(Level { requests: 0, at: now });
            level.forget(now);
            level.requests = level.requests.saturating_add(1);
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<ChannelId, Level>) -> T) -> T {
        // A count that is half done is off by one.
        change(&mut self.channels.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

    fn channel(byte: u8) -> ChannelId {
        ChannelId::new(B256::repeat_byte(byte))
    }

    fn asked_in_vain(fruitless: &Fruitless, times: u32) {
        for _ in 0..times {
            fruitless.check(channel(1), NOW).unwrap();
            fruitless.count(channel(1), false, NOW);
        }
    }

    #[test]
    fn a_channel_that_asks_in_vain_too_often_waits_and_no_other_does() {
        let fruitless = Fruitless::new(16);
        asked_in_vain(&fruitless, MOST);
        let until = NOW.plus(FORGOTTEN_EVERY);
        assert_eq!(fruitless.check(channel(1), NOW), Err(until));
        assert_eq!(fruitless.check(channel(2), NOW), Ok(()));
        let just_before = until.minus(Duration::from_secs(1));
        assert_eq!(fruitless.check(channel(1), just_before), Err(until));
        assert_eq!(fruitless.check(channel(1), until), Ok(()));
        fruitless.count(channel(1), false, until);
        assert_eq!(fruitless.check(channel(1), until), Err(until.plus(FORGOTTEN_EVERY)));
    }

    /// What was let in at once, and came to nothing together, is waited for one after the other.
    #[test]
    fn what_is_over_the_limit_is_waited_for() {
        let fruitless = Fruitless::new(16);
        asked_in_vain(&fruitless, MOST);
        fruitless.count(channel(1), false, NOW);
        fruitless.count(channel(1), false, NOW);
        assert_eq!(
            fruitless.check(channel(1), NOW),
            Err(NOW.plus(FORGOTTEN_EVERY.saturating_mul(3)))
        );
    }

    #[test]
    fn an_answer_makes_up_for_one_that_came_to_nothing() {
        let fruitless = Fruitless::new(16);
        asked_in_vain(&fruitless, MOST);
        fruitless.count(channel(1), true, NOW);
        assert_eq!(fruitless.check(channel(1), NOW), Ok(()));
        fruitless.count(channel(1), false, NOW);
        assert!(fruitless.check(channel(1), NOW).is_err());
        for _ in 0..MOST {
            fruitless.count(channel(1), true, NOW);
        }
        assert!(fruitless.with(|channels| channels.is_empty()), "nothing is kept of it");
    }

    #[test]
    fn what_breaks_off_together_is_within_the_limit() {
        let fruitless = Fruitless::new(1_000);
        asked_in_vain(&fruitless, 4_000);
        assert!(fruitless.check(channel(1), NOW).is_err());
    }

    #[test]
    fn answers_save_nothing_up() {
        let fruitless = Fruitless::new(16);
        for _ in 0..10 {
            fruitless.count(channel(1), true, NOW);
        }
        asked_in_vain(&fruitless, MOST);
        assert!(fruitless.check(channel(1), NOW).is_err());
    }

    #[test]
    fn channels_whose_requests_are_forgotten_take_no_room() {
        let fruitless = Fruitless::new(16);
        let later = NOW.plus(FORGOTTEN_EVERY);
        fruitless.count(channel(0), false, NOW);
        let room = fruitless.with(|channels| channels.capacity());
        for byte in 1..=u8::try_from(room).unwrap() {
            fruitless.count(channel(byte), false, later);
        }
        assert!(fruitless.with(|channels| !channels.contains_key(&channel(0))));
        assert_eq!(fruitless.with(|channels| channels.capacity()), room);
    }
}
