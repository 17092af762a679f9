//! Rows that failed, and are left alone for a while. Pure.
//!
//! It lives in memory, and that is enough: no row enters a transaction that a simulation on the newest state would not
//! settle, so one that is bad is found again after a restart before it costs anything; what the chain itself refused for
//! good is set aside in the ledger; and what sank a whole transaction is read from the ledger when a process starts
//! ([`Quarantine::restore`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lloom_ledger::{Finish, Purpose, TransactionRecord};
use lloom_receipts::{ChannelId, UnixSeconds};

use crate::fees::REPLACEMENTS_BEFORE_DEADLINE;

/// How long a row that failed is left alone, doubling with each failure in a row.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// The shortest wait, however near a deadline is.
const SHORTEST_WAIT: Duration = Duration::from_secs(5);

/// A channel whose row would not be settled, or was not. It is tried again: no failure proves that it never will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRow {
    /// The channel.
    pub channel: ChannelId,
    /// Why it failed the last time.
    pub reason: String,
    /// How often it failed in a row.
    pub failures: u32,
    /// When it is tried again, unless a deadline comes sooner: then it is tried alone, after at most a tenth of the time
    /// that is left.
    pub until: UnixSeconds,
}

/// That a channel has failed, as the planner needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Until when it is left alone.
    pub until: UnixSeconds,
    /// How often it failed in a row.
    pub failures: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    rows: BTreeMap<ChannelId, Row>,
}

#[derive(Debug)]
struct Row {
    reason: String,
    failures: u32,
    failed_at: UnixSeconds,
}

impl Row {
    fn wait(&self, deadline: Option<UnixSeconds>) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(10);
        let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
        match deadline {
            Some(deadline) => {
                let part = deadline.since(self.failed_at) / REPLACEMENTS_BEFORE_DEADLINE;
                wait.min(part.max(SHORTEST_WAIT))
            }
            None => wait,
        }
    }
}

impl Quarantine {
    /// What `recent` transactions, newest first, say: rows of those that were reverted as a whole, and not settled since.
    pub(crate) fn restore(recent: &[TransactionRecord]) -> Self {
        let mut quarantine = Self::default();
        let mut settled = BTreeSet::new();
        for record in recent {
            let (Purpose::Claim { rows, .. }, Some(Finish::Mined { succeeded, .. })) =
                (&record.purpose, &record.finish)
            else {
                continue;
            };
            for (channel, _) in rows {
                if *succeeded {
                    settled.insert(*channel);
                } else if !settled.contains(channel) {
                    let row = quarantine.rows.entry(*channel).or_insert_with(|| Row {
                        reason: format!("the transaction {} was reverted", record.hash),
                        failures: 0,
                        failed_at: record.recorded_at,
                    });
                    row.failures = row.failures.saturating_add(1);
                }
            }
        }
        quarantine
    }

    /// Puts `channel` aside. Says until when.
    pub(crate) fn put(&mut self, channel: ChannelId, reason: String, now: UnixSeconds) -> UnixSeconds {
        let failures = self.rows.get(&channel).map_or(0, |row| row.failures);
        let row = Row {
            reason,
            failures: failures.saturating_add(1),
            failed_at: now,
        };
        let until = now.plus(row.wait(None));
        self.rows.insert(channel, row);
        until
    }

    pub(crate) fn release(&mut self, channel: ChannelId) {
        self.rows.remove(&channel);
    }

    /// Whether `channel` failed, and how long it is left alone if its payer may leave at `deadline`.
    pub(crate) fn held(&self, channel: ChannelId, deadline: Option<UnixSeconds>, now: UnixSeconds) -> Option<Held> {
        self.rows.get(&channel).map(|row| {
            let wait = row.wait(deadline);
            // Written by a clock that has been set back since.
            let is_ahead = row.failed_at.since(now) > wait;
            Held {
                until: if is_ahead { now } else { row.failed_at.plus(wait) },
                failures: row.failures,
            }
        })
    }

    /// Why `channel` failed the last time, if it did.
    pub(crate) fn reason(&self, channel: ChannelId) -> Option<&str> {
        self.rows.get(&channel).map(|row| row.reason.as_str())
    }

    pub(crate) fn list(&self) -> Vec<QuarantinedRow> {
        let rows = self.rows.iter().map(|(channel, row)| QuarantinedRow {
            channel: *channel,
            reason: row.reason.clone(),
            failures: row.failures,
            until: row.failed_at.plus(row.wait(None)),
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, Bytes};
    use lloom_ledger::{ClaimBy, TransactionId};
    use lloom_receipts::{BlockNumber, TokenAmount};

    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_000_000);

    fn id(number: u8) -> ChannelId {
        ChannelId::new(B256::repeat_byte(number))
    }

    fn seconds(quarantine: &Quarantine, deadline: Option<u64>) -> u64 {
        let deadline = deadline.map(|seconds| NOW.plus(Duration::from_secs(seconds)));
        quarantine
            .held(id(1), deadline, NOW)
            .unwrap()
            .until
            .since(NOW)
            .as_secs()
    }

    #[test]
    fn waits_double_and_end_with_a_success() {
        let mut quarantine = Quarantine::default();
        let waits: Vec<u64> = (0..7)
            .map(|_| quarantine.put(id(1), String::from("bad"), NOW).since(NOW).as_secs())
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(quarantine.list()[0].failures, 7);
        quarantine.release(id(1));
        assert_eq!(quarantine.held(id(1), None, NOW), None);
        quarantine.put(id(1), String::from("bad"), NOW);
        assert_eq!(seconds(&quarantine, None), 30);
    }

    #[test]
    fn a_deadline_shortens_the_wait_to_a_tenth_of_what_is_left() {
        let mut quarantine = Quarantine::default();
        for _ in 0..6 {
            quarantine.put(id(1), String::from("bad"), NOW);
        }
        for (left, expected) in [
            (None, 900),
            (Some(20_000), 900),
            (Some(1_800), 180),
            (Some(100), 10),
            (Some(0), 5),
        ] {
            assert_eq!(seconds(&quarantine, left), expected, "{left:?}");
        }
    }

    #[test]
    fn a_new_process_knows_what_sank_a_transaction() {
        let record = |number: u8, succeeded, channels: &[u8]| {
            let mined = |succeeded| Finish::Mined {
                block: BlockNumber::new(1),
                succeeded,
                gas_used: 1,
                gas_price: 1,
            };
            let rows = channels
                .iter()
                .map(|&channel| (id(channel), TokenAmount::new(5)))
                .collect();
            TransactionRecord {
                id: serde_json::from_str::<TransactionId>(&number.to_string()).unwrap(),
                from: Address::ZERO,
                nonce: u64::from(number),
                hash: B256::repeat_byte(number),
                raw: Bytes::new(),
                purpose: Purpose::Claim {
                    by: ClaimBy::Vouchers,
                    rows,
                },
                replaces: None,
                max_fee: 1,
                priority_fee: 1,
                gas_limit: 1,
                deadline: None,
                recorded_at: NOW.plus(Duration::from_secs(u64::from(number))),
                broadcast_at: None,
                finish: Some(mined(succeeded)),
            }
        };
        // Newest first.
        let quarantine = Quarantine::restore(&[
            record(4, false, &[1]),
            record(3, true, &[2]),
            record(2, false, &[1, 2]),
            record(1, false, &[3]),
        ]);
        let held = |channel| {
            quarantine
                .held(id(channel), None, NOW)
                .map(|held| (held.failures, held.until.since(NOW).as_secs()))
        };
        assert_eq!(held(1), Some((2, 4 + 60)));
        assert_eq!(held(2), None, "it was settled since");
        assert_eq!(held(3), Some((1, 1 + 30)));
    }
}
