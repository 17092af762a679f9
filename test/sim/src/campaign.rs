use std::{
    fmt, io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use lloom_receipts::TokenAmount;

use crate::{
    fault::Faults,
    flaw::Flaw,
    properties::Violation,
    simulation::{Options, count_panics, simulate},
    witness::Counts,
};

/// Many seeds, on all cores.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed.
    pub start: u64,
    /// How many.
    pub seeds: u64,
    /// What to break.
    pub flaw: Option<Flaw>,
    /// Whether to stop at the first that fails.
    pub stops: bool,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// The rules that it broke.
    pub violations: Vec<Violation>,
}

/// The seed, which is all that a report needs, and what it broke first.
impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "seed {}: ", self.seed)?;
        if let Some(first) = self.violations.first() {
            write!(formatter, "{first}")?;
        }
        match self.violations.len().saturating_sub(1) {
            0 => Ok(()),
            more => write!(formatter, " (and {more} more)"),
        }
    }
}

/// What came of a campaign.
#[derive(Debug, Default)]
pub struct Report {
    /// How many seeds broke nothing.
    pub passed: u64,
    /// The others, in order.
    pub failures: Vec<Failure>,
    /// What happened in all of them.
    pub counts: Counts,
    /// What went wrong in all of them.
    pub faults: Faults,
    /// What all their channels have settled, base units.
    pub settled: TokenAmount,
}

impl Report {
    /// Whether no seed broke a rule.
    pub const fn is_well(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failures.len())
    }
}

impl Campaign {
    /// Runs it, and tells of each failure as soon as it is known.
    ///
    /// # Errors
    /// The machine's.
    pub fn run(&self, tell: impl Fn(&Failure) + Sync) -> io::Result<Report> {
        count_panics();
        let next = AtomicU64::new(0);
        let report = Mutex::new(Ok(Report::default()));
        let work = || {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= self.seeds {
                    return;
                }
                let seed = self.start.wrapping_add(turn);
                let options = Options {
                    flaw: self.flaw,
                    ..Options::of_seed(seed)
                };
                let outcome = simulate(&options);
                let mut known = report.lock().unwrap_or_else(PoisonError::into_inner);
                let outcome = match outcome {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        next.store(self.seeds, Ordering::Relaxed);
                        *known = Err(error);
                        return;
                    }
                };
                let Ok(report) = &mut *known else {
                    return;
                };
                report.counts.add(outcome.counts);
                report.faults.add(&outcome.faults);
                report.settled = report.settled.saturating_add(outcome.settled);
                if outcome.violations.is_empty() {
                    report.passed += 1;
                    continue;
                }
                let failure = Failure {
                    seed,
                    violations: outcome.violations,
                };
                tell(&failure);
                report.failures.push(failure);
                if self.stops {
                    next.store(self.seeds, Ordering::Relaxed);
                }
            }
        };
        let workers = thread::available_parallelism().map_or(1, |count| count.get());
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        report.failures.sort_by_key(|failure| failure.seed);
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::Property;

    fn failure(seed: u64, what: &[&str]) -> Failure {
        Failure {
            seed,
            violations: what.iter().map(|what| Violation::of(Property::Nonce, *what)).collect(),
        }
    }

    #[test]
    fn a_failure_is_a_line_that_names_its_seed() {
        assert_eq!(failure(7, &["two for 3"]).to_string(), "seed 7: Nonce: two for 3");
        assert_eq!(
            failure(8, &["two for 3", "two for 4", "two for 5"]).to_string(),
            "seed 8: Nonce: two for 3 (and 2 more)"
        );
    }

    #[test]
    fn a_campaign_ends_with_how_many_passed_and_how_many_failed() {
        let mut report = Report {
            passed: 12,
            ..Report::default()
        };
        assert_eq!(
            (report.to_string(), report.is_well()),
            ("12 passed, 0 failed".into(), true)
        );
        report.failures = vec![failure(7, &["two for 3"]), failure(8, &["two for 4"])];
        assert_eq!(
            (report.to_string(), report.is_well()),
            ("12 passed, 2 failed".into(), false)
        );
    }
}
