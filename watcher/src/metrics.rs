//! What a watcher does, counted where it happens.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use lloom_ledger::{AuthorizationRef, Finish, Purpose, TransactionRecord};
use lloom_receipts::UnixSeconds;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::deferral::DeferralCounts;

pub(crate) type Label = (&'static str, &'static str);

const PURPOSES: [&str; 4] = ["claim", "close", "cancellation", "other"];
const AUTHORIZATIONS: [&str; 2] = ["voucher", "receipt"];
const STATUSES: [&str; 6] = ["planned", "sent", "replaced", "confirmed", "reverted", "dropped"];

/// What a watcher and its sender do. Clones count together.
#[derive(Clone, Debug)]
pub struct WatcherMetrics {
    rounds: Family<[Label; 1], Counter>,
    round_seconds: Histogram,
    last_round: Gauge,
    transactions: Family<[Label; 2], Counter>,
    gas: Family<[Label; 1], Counter>,
    /// Wei leave 64 bits at 18 coins.
    fees: Family<[Label; 1], Counter<f64, AtomicU64>>,
    deferred: Family<[Label; 1], Gauge>,
    lost_channels: Counter,
    unusable: Family<[Label; 1], Counter>,
}

impl Default for WatcherMetrics {
    fn default() -> Self {
        let metrics = Self {
            rounds: Family::default(),
            round_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            last_round: Gauge::default(),
            transactions: Family::default(),
            gas: Family::default(),
            fees: Family::default(),
            deferred: Family::default(),
            lost_channels: Counter::default(),
            unusable: Family::default(),
        };
        // What is there from the beginning can be added up and compared before it happens the first time.
        for outcome in ["completed", "failed"] {
            drop(metrics.rounds.get_or_create(&[("outcome", outcome)]));
        }
        for purpose in PURPOSES {
            // Only claims are planned; a close is ordered.
            for status in STATUSES
                .into_iter()
                .filter(|status| purpose == "claim" || *status != "planned")
            {
                drop(
                    metrics
                        .transactions
                        .get_or_create(&[("purpose", purpose), ("status", status)]),
                );
            }
            drop(metrics.gas.get_or_create(&[("purpose", purpose)]));
            drop(metrics.fees.get_or_create(&[("purpose", purpose)]));
        }
        for document in AUTHORIZATIONS {
            drop(metrics.unusable.get_or_create(&[("document", document)]));
        }
        for (reason, _) in deferred(DeferralCounts::default()) {
            drop(metrics.deferred.get_or_create(&[("reason", reason)]));
        }
        metrics
    }
}

impl WatcherMetrics {
    /// Puts them into `registry`, which is prefixed with the program's name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "watcher_rounds",
            "Rounds of following, claiming and looking after what was sent",
            self.rounds.clone(),
        );
        registry.register_with_unit(
            "watcher_round_duration",
            "How long a round took",
            Unit::Seconds,
            self.round_seconds.clone(),
        );
        registry.register_with_unit(
            "watcher_last_round_timestamp",
            "When a round was completed last, Unix time; 0 before the first",
            Unit::Seconds,
            self.last_round.clone(),
        );
        registry.register(
            "transactions",
            "Transactions by what they are for and what became of them",
            self.transactions.clone(),
        );
        registry.register("gas_used", "Gas that final transactions used", self.gas.clone());
        registry.register(
            "fees_wei",
            "What final transactions paid for gas, in wei of the native coin",
            self.fees.clone(),
        );
        registry.register(
            "deferred_channels",
            "Channels with something to claim that are not claimed yet, by the reason",
            self.deferred.clone(),
        );
        registry.register(
            "lost_channels",
            "Channels that were closed with money unclaimed",
            self.lost_channels.clone(),
        );
        registry.register(
            "unusable_authorizations",
            "Vouchers and receipts that were taken on and set aside for good, because they settle nothing",
            self.unusable.clone(),
        );
    }

    pub(crate) fn round(&self, completed: bool, took: Duration) {
        let outcome = if completed { "completed" } else { "failed" };
        self.rounds.get_or_create(&[("outcome", outcome)]).inc();
        self.round_seconds.observe(took.as_secs_f64());
        if completed {
            let now = UnixSeconds::from(SystemTime::now()).get();
            self.last_round.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
    }

    /// Takes what the planner decided about all channels: its claims, and how many channels it put off.
    pub(crate) fn planned(&self, claims: usize, put_off: DeferralCounts) {
        for _ in 0..claims {
            self.count("claim", "planned");
        }
        for (reason, channels) in deferred(put_off) {
            let channels = i64::try_from(channels).unwrap_or(i64::MAX);
            self.deferred.get_or_create(&[("reason", reason)]).set(channels);
        }
    }

    /// Takes channels that are over, with money in them that was not claimed.
    pub(crate) fn lost(&self, channels: u64) {
        self.lost_channels.inc_by(channels);
    }

    /// Takes an authorization that was set aside for good.
    pub(crate) fn set_aside(&self, authorization: AuthorizationRef) {
        let document = match authorization {
            AuthorizationRef::Voucher { .. } => "voucher",
            AuthorizationRef::Receipt { .. } => "receipt",
        };
        self.unusable.get_or_create(&[("document", document)]).inc();
    }

    /// Takes a transaction that was stored to be sent.
    pub(crate) fn stored(&self, purpose: &'static str, replaces: bool) {
        self.count(purpose, if replaces { "replaced" } else { "sent" });
    }

    /// Takes a transaction whose fate is final.
    pub(crate) fn finished(&self, record: &TransactionRecord, finish: &Finish) {
        let purpose = purpose_of(&record.purpose);
        match finish {
            Finish::Mined {
                succeeded,
                gas_used,
                gas_price,
                ..
            } => {
                self.count(purpose, if *succeeded { "confirmed" } else { "reverted" });
                self.gas.get_or_create(&[("purpose", purpose)]).inc_by(*gas_used);
                let wei = *gas_used as f64 * *gas_price as f64;
                self.fees.get_or_create(&[("purpose", purpose)]).inc_by(wei);
            }
            // One of several under one nonce: the one that was mined is counted, or, of those dropped, the first.
            Finish::Dropped if record.replaces.is_none() => self.count(purpose, "dropped"),
            Finish::Replaced { .. } | Finish::Dropped => {}
        }
    }

    fn count(&self, purpose: &'static str, status: &'static str) {
        let labels = [("purpose", purpose), ("status", status)];
        self.transactions.get_or_create(&labels).inc();
    }
}

/// What a transaction is for, in a word.
pub(crate) const fn purpose_of(purpose: &Purpose) -> &'static str {
    match purpose {
        Purpose::Claim { .. } => "claim",
        Purpose::Close { .. } => "close",
        Purpose::Cancellation => "cancellation",
        Purpose::Other => "other",
    }
}

/// What a plan puts off, by reason.
const fn deferred(put_off: DeferralCounts) -> [(&'static str, u64); 3] {
    [
        ("not_worthwhile", put_off.not_worthwhile),
        ("awaits_receipt", put_off.awaits_receipt),
        ("quarantined", put_off.quarantined),
    ]
}

#[cfg(test)]
mod tests;
