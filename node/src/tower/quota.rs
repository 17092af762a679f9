use std::{collections::HashMap, time::Duration};

use alloy::primitives::Address;
use lloom_receipts::UnixSeconds;

/// Peers whose messages are counted at a time. Beyond it, those who have asked nothing yet wait for others' minutes to
/// end.
const MAX_PEERS: usize = 16_384;
const MINUTE: Duration = Duration::from_secs(60);

/// How many messages each peer has sent in its current minute.
#[derive(Debug)]
pub(super) struct MessageQuota {
    per_minute: u32,
    minutes: HashMap<Address, (UnixSeconds, u32)>,
}

impl MessageQuota {
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            minutes: HashMap::new(),
        }
    }

    /// Counts a message of `peer`, or says how long it has to wait until one is answered again.
    pub(super) fn count(&mut self, peer: Address, now: UnixSeconds) -> Result<(), Duration> {
        if self.minutes.len() >= MAX_PEERS && !self.minutes.contains_key(&peer) {
            self.minutes.retain(|_, (began, _)| now.since(*began) < MINUTE);
            if self.minutes.len() >= MAX_PEERS {
                return Err(MINUTE);
            }
        }
        let (began, messages) = self.minutes.entry(peer).or_insert((now, 0));
        // A clock that was set back begins a new minute, too.
        if now.since(*began) >= MINUTE || now < *began {
            (*began, *messages) = (now, 0);
        }
        if *messages >= self.per_minute {
            return Err(MINUTE.saturating_sub(now.since(*began)));
        }
        *messages += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_000_000);

    #[test]
    fn each_peer_has_its_own_minute() {
        let mut quota = MessageQuota::new(2);
        let (one, two) = (Address::repeat_byte(1), Address::repeat_byte(2));
        assert_eq!(quota.count(one, NOW), Ok(()));
        let later = NOW.plus(Duration::from_secs(50));
        assert_eq!(quota.count(one, later), Ok(()));
        assert_eq!(quota.count(one, later), Err(Duration::from_secs(10)));
        assert_eq!(quota.count(two, later), Ok(()));
        assert_eq!(quota.count(one, NOW.plus(MINUTE)), Ok(()));
        assert_eq!(quota.count(one, NOW), Ok(()), "the clock was set back");
    }

    #[test]
    fn forgets_peers_whose_minute_is_over_and_remembers_no_more_than_its_limit() {
        let mut quota = MessageQuota::new(1);
        let peer = |index: usize| Address::left_padding_from(&index.to_be_bytes());
        for index in 0..MAX_PEERS {
            assert_eq!(quota.count(peer(index), NOW), Ok(()));
        }
        assert_eq!(quota.count(peer(MAX_PEERS), NOW), Err(MINUTE));
        assert_eq!(quota.count(peer(0), NOW), Err(MINUTE), "who is known is still counted");
        assert_eq!(quota.count(peer(MAX_PEERS), NOW.plus(MINUTE)), Ok(()));
        assert_eq!(quota.minutes.len(), 1);
    }
}
