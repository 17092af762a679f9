//! Which executor to buy from.
//!
//! Every executor that sells the model within the price limit gets a **merit cost**: what the request is expected to
//! cost there, made worse by how often it fails and by how long it takes.
//!
//! ```text
//! merit = (cost + 1) · success^-reliability · (time / fastest)^speed
//!
//! cost     what the expected tokens cost at its prices, in base units (plus one, so that free executors differ)
//! success  (completed + PRIOR_SUCCESS · PRIOR_WEIGHT) / (observations + PRIOR_WEIGHT)
//! time     time to first token + expected output / tokens per second; what isn't known is taken from the median of
//!          the others
//! fastest  the shortest time among the candidates
//! ```
//!
//! The least merit cost wins. An executor that has been observed less than [`Policy::known_after`] times is unknown: one
//! choice in so many ([`Policy::explore_per_mille`]) goes to the cheapest unknown first, so that newcomers are tried and
//! a price alone doesn't win for ever. Which choices those are follows from the seed alone: the same arguments give the
//! same answer.
//!
//! Nothing here is money: amounts are rounded to floating point to be compared, never to be paid.

use std::cmp::Ordering;

use alloy::primitives::keccak256;
use libp2p::PeerId;
use lloom_ledger::Quality;
use lloom_receipts::{ModelHash, Prices, TokenAmount, TokenCount, Usage};

use crate::Offer;

/// What success rate an executor that was never observed is assumed to have.
const PRIOR_SUCCESS: f64 = 0.8;
/// How many observations that assumption weighs.
const PRIOR_WEIGHT: f64 = 4.0;
/// Keeps a division by a measured zero finite: a thousandth of a token a second.
const SLOWEST: f64 = 0.001;

/// What is to be bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The model.
    pub model: ModelHash,
    /// The tokens it will probably take.
    pub expected: Usage,
    /// The highest acceptable prices; anything goes without.
    pub limit: Option<Prices>,
    /// How far ahead is paid at the most. Output tokens.
    pub max_increment: TokenCount,
}

/// How price and quality are weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How much failures count: 1 makes a merit cost the price of a success.
    pub reliability: f64,
    /// How much time counts: 0 not at all; at 1 twice as long is as bad as twice as dear.
    pub speed: f64,
    /// From how many observations on an executor is known.
    pub known_after: u32,
    /// How many choices in a thousand go to an unknown executor, where there is one.
    pub explore_per_mille: u16,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            reliability: 2.0,
            speed: 0.5,
            known_after: 3,
            explore_per_mille: 100,
        }
    }
}

/// The executors that can serve `wanted`, best first: the next one is whom to ask when one refuses. Positions are those
/// in `candidates`. Empty when nobody sells the model within the limits.
pub fn rank(candidates: &[(PeerId, Offer, Quality)], wanted: &Wanted, policy: &Policy, seed: u64) -> Vec<usize> {
    let eligible: Vec<Eligible> = candidates
        .iter()
        .enumerate()
        .filter_map(|(position, (peer, offer, quality))| Eligible::new(position, *peer, offer, quality, wanted))
        .collect();
    let median_time = median(eligible.iter().filter_map(|candidate| candidate.time).collect());
    // Where nobody's time is known, all count as equally fast.
    let time = |candidate: &Eligible| candidate.time.or(median_time).unwrap_or(1.0);
    let fastest = eligible.iter().map(time).fold(f64::INFINITY, f64::min);
    let merit = |candidate: &Eligible| {
        let slowness = time(candidate) / fastest;
        (candidate.cost + 1.0) * candidate.success.powf(-policy.reliability) * slowness.powf(policy.speed)
    };

    let mut ranked: Vec<(f64, &Eligible)> = eligible.iter().map(|candidate| (merit(candidate), candidate)).collect();
    ranked.sort_by(|(left_merit, left), (right_merit, right)| {
        left_merit.total_cmp(right_merit).then_with(|| left.tie(right, seed))
    });
    if explores(policy, seed) {
        let unknown = eligible
            .iter()
            .filter(|candidate| candidate.observations < policy.known_after)
            .min_by(|left, right| left.cost.total_cmp(&right.cost).then_with(|| left.tie(right, seed)));
        if let Some(unknown) = unknown {
            // Stable: the rest stays in its order.
            ranked.sort_by_key(|(_, candidate)| candidate.position != unknown.position);
        }
    }
    ranked.into_iter().map(|(_, candidate)| candidate.position).collect()
}

/// The best of `candidates` for `wanted`.
pub fn choose<'candidates>(
    candidates: &'candidates [(PeerId, Offer, Quality)],
    wanted: &Wanted,
    policy: &Policy,
    seed: u64,
) -> Option<&'candidates (PeerId, Offer, Quality)> {
    let best = *rank(candidates, wanted, policy, seed).first()?;
    candidates.get(best)
}

/// An executor that sells what is wanted.
struct Eligible {
    position: usize,
    peer: PeerId,
    cost: f64,
    success: f64,
    /// Expected seconds; nothing where it was never measured.
    time: Option<f64>,
    observations: u32,
}

impl Eligible {
    fn new(position: usize, peer: PeerId, offer: &Offer, quality: &Quality, wanted: &Wanted) -> Option<Self> {
        let model = offer.model(wanted.model)?;
        let fits = wanted.expected.input <= model.max_input && wanted.expected.output <= model.max_output;
        let affordable = wanted.limit.is_none_or(|limit| model.prices.within(&limit));
        let is_far_ahead = offer.increment > wanted.max_increment;
        if !fits || !affordable || is_far_ahead {
            return None;
        }
        // A price no request could be made at is no price.
        let cost: TokenAmount = model.prices.charge(wanted.expected).ok()?;
        let observations = f64::from(quality.observations);
        let completed = quality.success_rate.clamp(0.0, 1.0) * observations;
        let output = f64::from(wanted.expected.output.get());
        let time = match (quality.time_to_first_token, quality.tokens_per_second) {
            (Some(first), Some(speed)) => Some(first.as_secs_f64() + output / speed.max(SLOWEST)),
            _ => None,
        };
        Some(Self {
            position,
            peer,
            cost: cost.base_units() as f64,
            success: (completed + PRIOR_SUCCESS * PRIOR_WEIGHT) / (observations + PRIOR_WEIGHT),
            time: time.map(|seconds| seconds.max(SLOWEST)),
            observations: quality.observations,
        })
    }

    /// Equals are told apart by the seed, so that not every client goes to the same one.
    fn tie(&self, other: &Self, seed: u64) -> Ordering {
        let draw = |peer: &PeerId| keccak256([&seed.to_be_bytes()[..], &peer.to_bytes()].concat());
        draw(&self.peer).cmp(&draw(&other.peer))
    }
}

fn explores(policy: &Policy, seed: u64) -> bool {
    let draw = keccak256([b"explore".as_slice(), &seed.to_be_bytes()].concat());
    let draw = u16::from_be_bytes([draw[0], draw[1]]) % 1000;
    draw < policy.explore_per_mille
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests;
