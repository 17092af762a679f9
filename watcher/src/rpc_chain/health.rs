//! How an endpoint does, and whom to ask first. Pure: the time comes in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use alloy::primitives::B256;
use lloom_ledger::Block;

use super::shown_blocks::ShownBlocks;
use crate::chain::{EndpointHealth, Standing};

/// Blocks behind the best endpoint from which on a head is not believed. Endpoints that hear of a block a moment later
/// are no worse for it.
const STALE_BEHIND: u64 = 3;
/// How long what an endpoint showed is held against the others: the best one may be gone.
const HEAD_COUNTS_FOR: Duration = Duration::from_secs(60);
/// Heads of an endpoint that are remembered, to find out that two are on different forks.
const HEADS_KEPT: usize = 16;
/// An answer's weight in the averages: one in eight.
const WEIGHT: u32 = 8;
/// How long an endpoint is left alone after a failure, doubling with each in a row.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Differences below this don't outweigh the order of the configuration: endpoints are not swapped for a few
/// milliseconds.
const PENALTY_STEP: u64 = 250;

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether it has shown the right chain id and genesis since it last failed.
    proven: bool,
    failures_per_mille: u32,
    failures_in_a_row: u32,
    latency: Option<Duration>,
    resting_until: Option<Instant>,
    heads: VecDeque<Block>,
    shown: ShownBlocks,
    seen_at: Option<Instant>,
    probing: bool,
}

impl Health {
    pub(super) const fn is_proven(&self) -> bool {
        self.proven
    }

    pub(super) const fn prove(&mut self) {
        self.proven = true;
    }

    pub(super) fn succeeded(&mut self, took: Duration) {
        self.failures_in_a_row = 0;
        self.resting_until = None;
        self.failures_per_mille -= self.failures_per_mille.div_ceil(WEIGHT);
        self.latency = Some(match self.latency {
            Some(known) => (known * (WEIGHT - 1) + took) / WEIGHT,
            None => took,
        });
    }

    /// It has to show again which chain it serves: behind the same address another one may answer tomorrow.
    pub(super) fn failed(&mut self, now: Instant) {
        self.proven = false;
        self.failures_per_mille += (1_000 - self.failures_per_mille) / WEIGHT;
        let rest = FIRST_REST.saturating_mul(1 << self.failures_in_a_row.min(10));
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.resting_until = Some(now + rest.min(LONGEST_REST));
    }

    /// Whether it is left alone. Once its rest is over, one question decides.
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.resting_until.is_some_and(|until| now < until)
    }

    pub(super) fn saw(&mut self, head: Block, now: Instant) {
        // What it says now replaces what it said of these heights before.
        self.heads.retain(|known| known.number < head.number);
        if let Some(before) = self.heads.back()
            && before.number.next() == head.number
            && before.hash != head.parent
        {
            self.heads.clear();
        }
        if self.heads.len() == HEADS_KEPT {
            self.heads.pop_front();
        }
        self.heads.push_back(head);
        self.seen_at = Some(now);
    }

    /// Blocks that it has shown.
    pub(super) const fn shown(&mut self) -> &mut ShownBlocks {
        &mut self.shown
    }

    /// Whether it is time to ask it for its head beside the work; then nobody else does before
    /// [`end_probe`](Self::end_probe).
    pub(super) fn begin_probe(&mut self, now: Instant, every: Duration) -> bool {
        let is_due = self.seen_at.is_none_or(|seen| now.duration_since(seen) >= every);
        let begins = is_due && !self.probing && !self.is_resting(now);
        self.probing |= begins;
        begins
    }

    pub(super) const fn end_probe(&mut self) {
        self.probing = false;
    }

    fn head(&self) -> Option<Block> {
        self.heads.back().copied()
    }

    fn counting_head(&self, now: Instant) -> Option<Block> {
        let seen = self.seen_at?;
        self.head().filter(|_| now.duration_since(seen) < HEAD_COUNTS_FOR)
    }

    fn hash_at(&self, block: Block) -> Option<B256> {
        let known = self.heads.iter().find(|known| known.number == block.number);
        known.map(|known| known.hash)
    }

    fn penalty(&self, behind: u64) -> u64 {
        let latency = self.latency.map_or(0, |latency| latency.as_millis().min(1_000) as u64);
        u64::from(self.failures_per_mille) + latency / 2 + behind.min(STALE_BEHIND) * 100
    }
}

/// The highest block that any endpoint has shown lately.
fn best(all: &[&Health], now: Instant) -> u64 {
    let heads = all.iter().filter_map(|health| health.counting_head(now));
    heads.map(|head| head.number.get()).max().unwrap_or(0)
}

fn behind(all: &[&Health], index: usize, now: Instant) -> u64 {
    let head = all[index].head().map(|head| head.number.get());
    head.map_or(0, |head| best(all, now).saturating_sub(head))
}

/// Whether another endpoint that is ahead has another block at a height that both know.
fn is_on_another_fork(all: &[&Health], index: usize, now: Instant) -> bool {
    let Some(own) = all[index].head() else {
        return false;
    };
    all.iter().enumerate().any(|(other, health)| {
        let Some(head) = health.counting_head(now).filter(|_| other != index) else {
            return false;
        };
        let is_ahead = head.number > own.number || (head.number == own.number && other < index);
        let known = all[index].heads.iter();
        is_ahead
            && known
                .filter_map(|block| Some((block.hash, health.hash_at(*block)?)))
                .any(|(own, others)| own != others)
    })
}

/// How the endpoint at `index` stands among `all`.
pub(super) fn standing(all: &[&Health], index: usize, now: Instant) -> Standing {
    if all[index].is_resting(now) {
        Standing::Resting
    } else if behind(all, index, now) > STALE_BEHIND || is_on_another_fork(all, index, now) {
        Standing::Stale
    } else if all[index].is_proven() {
        Standing::Healthy
    } else {
        Standing::Unproven
    }
}

/// In which order to ask: the healthy ones as they are configured, unless one is clearly worse; then those that have to
/// prove themselves, those whose view is old, and last, rather than nobody, those that failed just now.
pub(super) fn order(all: &[&Health], now: Instant) -> Vec<usize> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&index| {
        let health = all[index];
        let standing = standing(all, index, now);
        // One that was never asked, and never failed, has the place its owner gave it.
        let standing = match standing {
            Standing::Unproven if health.failures_in_a_row == 0 => Standing::Healthy,
            standing => standing,
        };
        (standing, health.penalty(behind(all, index, now)) / PENALTY_STEP, index)
    });
    order
}

/// What to tell of the endpoint at `index`.
pub(super) fn report(all: &[&Health], index: usize, name: &str, now: Instant) -> EndpointHealth {
    let health = all[index];
    EndpointHealth {
        name: name.to_owned(),
        standing: standing(all, index, now),
        head: health.head().map(|head| head.number),
        behind: behind(all, index, now),
        failures_per_mille: health.failures_per_mille,
        latency: health.latency,
    }
}

#[cfg(test)]
mod tests {
    use lloom_receipts::{BlockNumber, UnixSeconds};

    use super::*;

    fn block(number: u64, fork: u8) -> Block {
        let hash = |number: u64| B256::with_last_byte(number as u8 ^ fork);
        Block {
            number: BlockNumber::new(number),
            hash: hash(number),
            parent: hash(number - 1),
            timestamp: UnixSeconds::new(number),
        }
    }

    fn proven() -> Health {
        let mut health = Health::default();
        health.prove();
        health.succeeded(Duration::from_millis(20));
        health
    }

    #[test]
    fn the_configured_order_holds_among_equals() {
        let (now, all) = (Instant::now(), [proven(), proven(), Health::default()]);
        let all: Vec<&Health> = all.iter().collect();
        assert_eq!(order(&all, now), [0, 1, 2]);
    }

    #[test]
    fn one_that_failed_rests_longer_each_time_and_is_asked_last() {
        let start = Instant::now();
        let mut first = proven();
        first.failed(start);
        let second = proven();
        assert_eq!(order(&[&first, &second], start), [1, 0]);
        assert_eq!(standing(&[&first, &second], 0, start), Standing::Resting);
        let later = start + Duration::from_secs(1);
        // Half open: it is asked again, behind those that are known to answer.
        assert_eq!(standing(&[&first, &second], 0, later), Standing::Unproven);
        assert_eq!(order(&[&first, &second], later), [1, 0]);
        first.failed(later);
        assert!(first.is_resting(later + Duration::from_millis(1_999)));
        assert!(!first.is_resting(later + Duration::from_secs(2)));
        for _ in 0..40 {
            first.failed(later);
        }
        assert!(!first.is_resting(later + LONGEST_REST));

        first.prove();
        first.succeeded(Duration::from_millis(20));
        assert_eq!(standing(&[&first, &second], 0, later), Standing::Healthy);
        assert_eq!(
            order(&[&first, &second], later),
            [1, 0],
            "it has to earn its place again"
        );
        for _ in 0..16 {
            first.succeeded(Duration::from_millis(20));
        }
        assert_eq!(order(&[&first, &second], later), [0, 1]);
    }

    #[test]
    fn a_slow_one_loses_its_place_only_when_it_is_clearly_slower() {
        let now = Instant::now();
        let mut first = proven();
        let second = proven();
        first.succeeded(Duration::from_millis(60));
        assert_eq!(order(&[&first, &second], now), [0, 1]);
        for _ in 0..40 {
            first.succeeded(Duration::from_millis(900));
        }
        assert_eq!(order(&[&first, &second], now), [1, 0]);
    }

    #[test]
    fn one_whose_head_is_far_behind_is_not_believed_until_the_other_is_forgotten() {
        let now = Instant::now();
        let (mut first, mut second) = (proven(), proven());
        first.saw(block(100, 0), now);
        second.saw(block(103, 0), now);
        assert_eq!(standing(&[&first, &second], 0, now), Standing::Healthy);
        second.saw(block(104, 0), now);
        assert_eq!(standing(&[&first, &second], 0, now), Standing::Stale);
        assert_eq!(order(&[&first, &second], now), [1, 0]);
        assert_eq!(report(&[&first, &second], 0, "a", now).behind, 4);
        // The other has been silent since: perhaps it made its blocks up.
        let later = now + HEAD_COUNTS_FOR;
        assert_eq!(standing(&[&first, &second], 0, later), Standing::Healthy);
    }

    #[test]
    fn of_two_on_different_forks_the_longer_one_is_believed() {
        let now = Instant::now();
        let (mut first, mut second) = (proven(), proven());
        for number in 90..=100 {
            first.saw(block(number, 0), now);
            second.saw(block(number, if number < 98 { 0 } else { 0x80 }), now);
        }
        assert_eq!(
            standing(&[&first, &second], 1, now),
            Standing::Stale,
            "the first wins a tie"
        );
        second.saw(block(101, 0x80), now);
        assert_eq!(standing(&[&first, &second], 0, now), Standing::Stale);
        assert_eq!(standing(&[&first, &second], 1, now), Standing::Healthy);
        // It has heard of the fork.
        first.saw(block(101, 0x80), now);
        assert_eq!(standing(&[&first, &second], 0, now), Standing::Healthy);
    }
}
