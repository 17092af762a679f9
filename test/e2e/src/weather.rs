use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::Fault;

/// A seeded schedule of faults: which call meets which. The same seed gives the same faults in the same order; which calls
/// they meet depends on what the processes ask, and when.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Of a thousand calls, so many get no answer at all.
    pub silence: u32,
    /// So many get an HTTP error.
    pub unavailable: u32,
    /// So many get a JSON-RPC error that means nothing.
    pub refused: u32,
    /// So many get half an answer.
    pub garbage: u32,
    /// So many are answered by an endpoint that is behind,
    pub behind: u32,
    /// by at most so many blocks.
    pub most_behind: u64,
    /// Of a thousand transactions, so many are sent and reported failed.
    pub done_but_failed: u32,
    /// So many are reported sent and dropped.
    pub dropped: u32,
    draws: StdRng,
}

impl Weather {
    /// A storm: one call in six meets something, and two transactions in five.
    pub fn storm(seed: u64) -> Self {
        Self {
            silence: 10,
            unavailable: 40,
            refused: 30,
            garbage: 30,
            behind: 60,
            most_behind: 6,
            done_but_failed: 200,
            dropped: 200,
            draws: StdRng::seed_from_u64(seed),
        }
    }

    /// A breeze: a fifth of that.
    pub fn breeze(seed: u64) -> Self {
        Self {
            silence: 2,
            unavailable: 8,
            refused: 6,
            garbage: 6,
            behind: 12,
            done_but_failed: 40,
            dropped: 40,
            ..Self::storm(seed)
        }
    }

    pub(crate) fn draw(&mut self, method: &str) -> Option<Fault> {
        let luck = self.draws.random_range(0..1_000);
        let blocks = self.draws.random_range(1..=self.most_behind.max(1));
        let mut passed = 0;
        let mut within = |share: u32| {
            passed += share;
            luck < passed
        };
        if method == "eth_sendRawTransaction" {
            return if within(self.done_but_failed) {
                Some(Fault::DoneButFailed)
            } else if within(self.dropped) {
                Some(Fault::ReportedButDropped)
            } else {
                None
            };
        }
        if within(self.silence) {
            Some(Fault::Silence)
        } else if within(self.unavailable) {
            Some(Fault::Unavailable)
        } else if within(self.refused) {
            Some(Fault::Error(-32_603, "internal error"))
        } else if within(self.garbage) {
            Some(Fault::Garbage)
        } else if within(self.behind) {
            Some(Fault::Behind(blocks))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_in_their_shares() {
        let draws = |seed| {
            let mut weather = Weather::storm(seed);
            (0..10_000).map(|_| weather.draw("eth_call")).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let met = draws(7).iter().filter(|fault| fault.is_some()).count();
        assert!((1_400..2_000).contains(&met), "{met}");
    }
}
