//! Whether somebody has waited long enough.

use std::time::Duration;

use lloom_receipts::UnixSeconds;

/// Whether `wait` has passed since `since`. A time that is further ahead than that was written by a clock that has been
/// set back since, or by another machine's: to wait until it comes would be to sit idle.
pub(crate) fn waited(since: UnixSeconds, now: UnixSeconds, wait: Duration) -> bool {
    now.since(since) >= wait || since.since(now) > wait
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_time_that_a_wrong_clock_wrote_down() {
        let wait = Duration::from_secs(60);
        let since = UnixSeconds::new(1_000);
        let waited = |now| waited(since, UnixSeconds::new(now), wait);
        assert!(!waited(1_000) && !waited(1_059) && waited(1_060));
        assert!(!waited(940), "two clocks may differ a little");
        assert!(waited(939));
    }
}
