use std::time::{Duration, SystemTime};

use lloom_receipts::UnixSeconds;
use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// What the writer does, counted where it happens. Clones count together.
#[derive(Clone, Debug)]
pub struct LedgerMetrics {
    operations: Histogram,
    seconds: Histogram,
    rollbacks: Counter,
    last_commit: Gauge,
}

impl Default for LedgerMetrics {
    fn default() -> Self {
        Self {
            // Up to the 1,024 operations that are committed together at most.
            operations: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            // From a quarter of a millisecond, which a fast disk's `fsync` takes, to a second.
            seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 13)),
            rollbacks: Counter::default(),
            last_commit: Gauge::default(),
        }
    }
}

impl LedgerMetrics {
    /// Puts them into `registry`, which is prefixed with the program's name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "store_commit_operations",
            "Operations that were committed together",
            self.operations.clone(),
        );
        registry.register_with_unit(
            "store_commit_duration",
            "How long transactions took, from their begin to the disk",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "store_rollbacks",
            "Transactions that failed and were rolled back",
            self.rollbacks.clone(),
        );
        registry.register_with_unit(
            "store_last_commit_timestamp",
            "When the writer committed last, Unix time; 0 before the first commit",
            Unit::Seconds,
            self.last_commit.clone(),
        );
    }

    /// When the writer committed last, if it did since the store was opened.
    pub fn last_commit(&self) -> Option<UnixSeconds> {
        u64::try_from(self.last_commit.get())
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(UnixSeconds::new)
    }

    pub(crate) fn committed(&self, operations: usize, took: Duration) {
        self.operations.observe(operations as f64);
        self.seconds.observe(took.as_secs_f64());
        let now = UnixSeconds::from(SystemTime::now()).get();
        self.last_commit.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    pub(crate) fn rolled_back(&self) {
        self.rollbacks.inc();
    }
}
