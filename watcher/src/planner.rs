//! What to claim now, and why not yet. Pure: everything it knows comes in as arguments.

use std::{borrow::Borrow, cmp::Reverse, collections::BTreeMap, time::Duration};

use alloy::primitives::Address;
use lloom_ledger::{ClaimBy, Tally};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{deferral::Deferral, quarantine::Held};

#[cfg(test)]
mod tests;
mod thresholds;

pub use thresholds::TokenThresholds;

/// Gas of a claim, whole transaction: what `snapshots/Settlement.json` measures, rounded up. Only the value rule uses
/// it; a transaction's own limit comes from an estimate.
const VOUCHERS_BASE_GAS: u64 = 40_000;
const VOUCHERS_ROW_GAS: u64 = 15_000;
const RECEIPTS_BASE_GAS: u64 = 42_000;
const RECEIPTS_ROW_GAS: u64 = 22_000;

/// How an executor wants its channels settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// By vouchers: cheapest, publishes nothing.
    Vouchers,
    /// By receipts: every claim publishes what was used.
    Receipts,
    /// By vouchers, but channels are closed with their last receipt, which publishes their totals once.
    ReceiptsOnClose,
}

/// When a claim is worth its fee.
#[derive(Clone, Debug)]
pub struct PlannerPolicy {
    /// A claim has to be worth this many times its fee.
    pub min_value_over_fee: u32,
    /// What one whole native coin costs, in base units of the token claimed. Without it fees can't be compared with
    /// values, and `min_claim` decides instead.
    pub native_price_in_token: Option<TokenAmount>,
    /// The least a claim has to bring where `native_price_in_token` is not known, base units.
    pub min_claim: TokenAmount,
    /// Other thresholds than these four for other tokens: an amount of one says nothing of an amount of another.
    pub tokens: BTreeMap<Address, TokenThresholds>,
    /// How the executor wants its channels settled.
    pub publish: Publish,
    /// How long before a deadline a claim stops waiting for a better price. It also has to cover the confirmations.
    pub safety_margin: Duration,
    /// A channel is claimed, if that is no loss, once no more than this of its deposit is left to serve, base units: the
    /// payer's exposure limit is measured against what was settled, so the next deposit starts with more credit.
    pub exposure_near: TokenAmount,
    /// The most rows of one transaction.
    pub max_rows: usize,
}

impl Default for PlannerPolicy {
    fn default() -> Self {
        Self {
            min_value_over_fee: 10,
            native_price_in_token: None,
            min_claim: TokenAmount::new(1_000_000),
            tokens: BTreeMap::new(),
            publish: Publish::Vouchers,
            safety_margin: Duration::from_secs(30 * 60),
            exposure_near: TokenAmount::ZERO,
            max_rows: 100,
        }
    }
}

impl PlannerPolicy {
    /// What counts for `token`.
    pub fn thresholds(&self, token: Address) -> TokenThresholds {
        self.tokens.get(&token).copied().unwrap_or(TokenThresholds {
            min_value_over_fee: self.min_value_over_fee,
            native_price_in_token: self.native_price_in_token,
            min_claim: self.min_claim,
            exposure_near: self.exposure_near,
        })
    }
}

/// A channel as the planner sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The channel.
    pub channel: ChannelId,
    /// Who is paid.
    pub payee: Address,
    /// In which token.
    pub token: Address,
    /// What the channel holds in all, base units.
    pub deposit: TokenAmount,
    /// What is settled at the head, or will be by a transaction under way.
    pub settled: TokenAmount,
    /// The sum of all bills: the most that is owed.
    pub billed: TokenAmount,
    /// The best voucher's signed amount.
    pub voucher: Option<TokenAmount>,
    /// The best receipt's cumulative amount.
    pub receipt: Option<TokenAmount>,
    /// From when on the payer may take the rest out, if it asked to.
    pub deadline: Option<UnixSeconds>,
    /// Whether whoever plans may publish its usage: a receipt takes one of its payee's operators. Nothing waits for a receipt
    /// where it may not.
    pub publishes: bool,
    /// That its row failed: then it is left alone for a while, and near a deadline it is claimed by itself.
    pub held: Option<Held>,
}

impl Candidate {
    /// A channel that is served here, where payers wait for `grace` before they take the rest out.
    pub fn new(tally: &Tally, grace: Duration) -> Self {
        Self {
            channel: tally.channel,
            payee: tally.payee,
            token: tally.token,
            deposit: tally.deposit,
            settled: tally.settled,
            billed: tally.billed,
            voucher: tally.voucher,
            receipt: tally.receipt,
            deadline: tally.close_requested_at.map(|requested_at| requested_at.plus(grace)),
            publishes: true,
            held: None,
        }
    }

    /// What a voucher row may settle: what was billed, never the voucher's slack.
    pub fn by_voucher(&self) -> Option<TokenAmount> {
        self.voucher
            .map(|ceiling| ceiling.min(self.billed).min(self.deposit))
            .filter(|amount| *amount > self.settled)
    }

    /// What a receipt row settles: exactly its amount.
    pub fn by_receipt(&self) -> Option<TokenAmount> {
        self.receipt
            .filter(|amount| self.publishes && *amount > self.settled && *amount <= self.deposit)
    }

    fn best(&self) -> Option<TokenAmount> {
        self.by_voucher().max(self.by_receipt())
    }

    fn is_exhausted(&self, near: TokenAmount) -> bool {
        self.deposit.saturating_sub(self.billed) <= near
    }
}

/// What the chain is like at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Now.
    pub now: UnixSeconds,
    /// What one gas costs, wei.
    pub gas_price: u128,
    /// Whether somebody ordered the claim: then fees and minimums don't matter.
    pub ordered: bool,
}

/// What to send, the highest value at risk first, and what to leave for later.
///
/// Claims with a row whose safety margin has begun come before all others. Among each kind, what counts is the claim's
/// value in units of what would make it worth its fee, so that tokens can be compared; multiplied, inside the margin, by
/// how many times the time that is left fits into the margin.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What one gas cost when it was made, wei.
    pub gas_price: u128,
    /// One transaction each.
    pub claims: Vec<PlannedClaim>,
    /// Channels that have something to claim, but not yet.
    pub waiting: Vec<Waiting>,
}

/// One transaction to send.
#[derive(Clone, Debug)]
pub struct PlannedClaim {
    /// Who is paid.
    pub payee: Address,
    /// In which token.
    pub token: Address,
    /// What authorizes it.
    pub by: ClaimBy,
    /// The rows, in the order of the value at risk.
    pub rows: Vec<PlannedRow>,
    /// What it brings, base units.
    pub value: TokenAmount,
    /// What it costs, in base units of the token, where the price is known.
    pub fee: Option<TokenAmount>,
    /// The first of its rows' deadlines.
    pub deadline: Option<UnixSeconds>,
}

impl Plan {
    /// Leaves claims for a later plan: those that a deadline presses stay, and of the others the first `room`.
    pub(crate) fn keep_first(&mut self, room: usize) {
        let mut left = room;
        self.claims.retain(|claim| {
            let presses = claim.rows.iter().any(|row| row.why == WhyNow::Deadline);
            let fits = left > 0;
            left = left.saturating_sub(usize::from(!presses));
            presses || fits
        });
    }
}

impl PlannedClaim {
    /// What the claim costs more than it brings: only a deadline makes that worth it.
    pub fn loss(&self) -> Option<TokenAmount> {
        self.fee
            .and_then(|fee| fee.checked_sub(self.value))
            .filter(|loss| !loss.is_zero())
    }

    /// The half with the most at risk, and the other one. `None` when it has one row only.
    pub(crate) fn halves(&self) -> Option<(Self, Self)> {
        let middle = self.rows.len().div_ceil(2);
        let (first, second) = self
            .rows
            .split_at_checked(middle)
            .filter(|(_, rest)| !rest.is_empty())?;
        let part = |rows: &[PlannedRow]| Self {
            rows: rows.to_vec(),
            value: rows
                .iter()
                .fold(TokenAmount::ZERO, |sum, row| sum.saturating_add(row.value)),
            deadline: rows.iter().filter_map(|row| row.deadline).min(),
            ..self.clone()
        };
        Some((part(first), part(second)))
    }
}

/// One channel of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRow {
    /// The channel.
    pub channel: ChannelId,
    /// What its `settled` becomes.
    pub amount: TokenAmount,
    /// What that brings.
    pub value: TokenAmount,
    /// Why now.
    pub why: WhyNow,
    /// From when on the payer may take the rest out.
    pub deadline: Option<UnixSeconds>,
}

/// Why a row is claimed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyNow {
    /// The payer is leaving, and the safety margin has begun.
    Deadline,
    /// Somebody ordered it.
    Ordered,
    /// The channel's deposit is as good as used up.
    DepositUsed,
    /// It is worth the fee.
    Worthwhile,
}

/// A channel with something to claim, but not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The channel.
    pub channel: ChannelId,
    /// In which token it pays.
    pub token: Address,
    /// What a claim would bring.
    pub value: TokenAmount,
    /// Why not yet.
    pub why: WhyNot,
    /// From when on it is claimed at any fee, because its payer is leaving.
    pub claimed_from: Option<UnixSeconds>,
    /// How long it has been put off; `None` where nobody counts.
    pub deferred: Option<Deferral>,
}

/// Why a channel is not claimed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The row, or the claim it would be part of, brings less than the policy asks for.
    NotWorthwhile {
        /// What it brings.
        value: TokenAmount,
        /// What it would have to bring.
        needed: TokenAmount,
    },
    /// Usage is to be published, and the client has not linked these bills into a receipt yet.
    AwaitsReceipt,
    /// Its row failed; it is tried again when that is over.
    Quarantined(Held),
}

/// Plans the claims of `candidates`.
pub fn plan(
    candidates: impl IntoIterator<Item = impl Borrow<Candidate>>,
    situation: Situation,
    policy: &PlannerPolicy,
) -> Plan {
    let mut waiting = Vec::new();
    let mut plan = plan_telling(candidates, situation, policy, |channel| waiting.push(channel));
    plan.waiting = waiting;
    plan
}

/// The same with nothing that waits in the plan: `put_off` hears of each such channel, of which there may be very many.
pub(crate) fn plan_telling(
    candidates: impl IntoIterator<Item = impl Borrow<Candidate>>,
    situation: Situation,
    policy: &PlannerPolicy,
    mut put_off: impl FnMut(Waiting),
) -> Plan {
    let planner = Planner { situation, policy };
    let mut plan = Plan {
        gas_price: situation.gas_price,
        ..Plan::default()
    };
    let mut groups: BTreeMap<Group, (ClaimBy, Vec<Ranked>)> = BTreeMap::new();
    for candidate in candidates {
        let candidate = candidate.borrow();
        match planner.consider(candidate) {
            Considered::Row(by, row) => groups
                .entry(Group {
                    payee: candidate.payee,
                    token: candidate.token,
                    by_receipts: by == ClaimBy::Receipts,
                    // One that failed must not sink what is due with it.
                    alone: candidate
                        .held
                        .filter(|_| row.why == WhyNow::Deadline)
                        .map(|_| row.channel),
                })
                .or_insert_with(|| (by, Vec::new()))
                .1
                .push(planner.rank(row)),
            Considered::Wait(waiting) => put_off(waiting),
            Considered::Nothing => {}
        }
    }
    for (Group { payee, token, .. }, (by, rows)) in groups {
        planner.pack(payee, token, by, rows, &mut plan, &mut put_off);
    }
    plan.claims.sort_by_cached_key(|claim| {
        let presses = claim.rows.iter().any(|row| row.why == WhyNow::Deadline);
        (!presses, Reverse(planner.at_risk(claim)), claim.payee, claim.token)
    });
    plan
}

/// A row with what it is worth to come first.
struct Ranked {
    at_risk: u128,
    row: PlannedRow,
}

/// Rows that go into the same transactions.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    payee: Address,
    token: Address,
    by_receipts: bool,
    alone: Option<ChannelId>,
}

struct Planner<'a> {
    situation: Situation,
    policy: &'a PlannerPolicy,
}

enum Considered {
    Row(ClaimBy, PlannedRow),
    Wait(Waiting),
    Nothing,
}

impl Planner<'_> {
    fn consider(&self, candidate: &Candidate) -> Considered {
        let Some(best) = candidate.best() else {
            return Considered::Nothing;
        };
        let wait = |value, why| {
            Considered::Wait(Waiting {
                channel: candidate.channel,
                token: candidate.token,
                value,
                why,
                claimed_from: self.margin_begins(candidate.deadline),
                deferred: None,
            })
        };
        let best = best.saturating_sub(candidate.settled);
        if let Some(held) = candidate.held
            && self.situation.now < held.until
            && !self.situation.ordered
        {
            return wait(best, WhyNot::Quarantined(held));
        }
        let why = self.why(candidate);
        let Some((by, amount)) = self.choose(candidate, why) else {
            return wait(best, WhyNot::AwaitsReceipt);
        };
        let thresholds = self.policy.thresholds(candidate.token);
        let fee = thresholds.fee(row_gas(by), self.situation.gas_price);
        let row = PlannedRow {
            channel: candidate.channel,
            amount,
            value: amount.saturating_sub(candidate.settled),
            why,
            deadline: candidate.deadline,
        };
        let needed = match why {
            WhyNow::Deadline | WhyNow::Ordered => None,
            WhyNow::DepositUsed => fee,
            WhyNow::Worthwhile => fee.map(|fee| thresholds.worth(fee)),
        };
        match needed {
            Some(needed) if row.value < needed => {
                let value = row.value;
                wait(value, WhyNot::NotWorthwhile { value, needed })
            }
            _ => Considered::Row(by, row),
        }
    }

    /// From when on a channel with this deadline is claimed at any fee.
    fn margin_begins(&self, deadline: Option<UnixSeconds>) -> Option<UnixSeconds> {
        deadline.map(|deadline| deadline.minus(self.policy.safety_margin))
    }

    fn why(&self, candidate: &Candidate) -> WhyNow {
        if self
            .margin_begins(candidate.deadline)
            .is_some_and(|begins| self.situation.now >= begins)
        {
            WhyNow::Deadline
        } else if self.situation.ordered {
            WhyNow::Ordered
        } else if candidate.is_exhausted(self.policy.thresholds(candidate.token).exposure_near) {
            WhyNow::DepositUsed
        } else {
            WhyNow::Worthwhile
        }
    }

    /// By what, and how much. Where usage is to be published, money that only a voucher covers waits for its receipt
    /// until something presses. What failed by one kind is tried by the other when it is due: a receipt takes an active
    /// operator and a bill that the registry attributes to the payee, a voucher neither.
    fn choose(&self, candidate: &Candidate, why: WhyNow) -> Option<(ClaimBy, TokenAmount)> {
        let voucher = candidate.by_voucher().map(|amount| (ClaimBy::Vouchers, amount));
        let receipt = candidate.by_receipt().map(|amount| (ClaimBy::Receipts, amount));
        let larger =
            |first: Option<(ClaimBy, TokenAmount)>, second: Option<(ClaimBy, TokenAmount)>| match (first, second) {
                (Some(first), Some(second)) if second.1 > first.1 => Some(second),
                (first, second) => first.or(second),
            };
        if why == WhyNow::Deadline
            && let (Some(voucher), Some(receipt), Some(held)) = (voucher, receipt, candidate.held)
        {
            let receipts_first = self.policy.publish == Publish::Receipts || receipt.1 > voucher.1;
            let swaps = held.failures % 2 == 1;
            return Some(if receipts_first != swaps { receipt } else { voucher });
        }
        let publish = match candidate.publishes {
            true => self.policy.publish,
            false => Publish::Vouchers,
        };
        match (publish, why) {
            (Publish::Vouchers | Publish::ReceiptsOnClose, _) => larger(voucher, receipt),
            (Publish::Receipts, WhyNow::Deadline) => larger(receipt, voucher),
            (Publish::Receipts, WhyNow::Ordered | WhyNow::DepositUsed) => receipt.or(voucher),
            (Publish::Receipts, WhyNow::Worthwhile) => receipt,
        }
    }

    fn rank(&self, row: PlannedRow) -> Ranked {
        let at_risk = row.value.base_units().saturating_mul(self.nearness(row.deadline));
        Ranked { at_risk, row }
    }

    fn pack(
        &self,
        payee: Address,
        token: Address,
        by: ClaimBy,
        mut rows: Vec<Ranked>,
        plan: &mut Plan,
        put_off: &mut impl FnMut(Waiting),
    ) {
        let thresholds = self.policy.thresholds(token);
        // In place: there may be very many.
        rows.sort_unstable_by_key(|Ranked { at_risk, row }| (row.why, Reverse(*at_risk), row.channel));
        for rows in rows.chunks(self.policy.max_rows.max(1)) {
            let rows = || rows.iter().map(|ranked| &ranked.row);
            let value = rows().fold(TokenAmount::ZERO, |sum, row| sum.saturating_add(row.value));
            let gas = base_gas(by) + row_gas(by) * rows().len() as u64;
            let fee = thresholds.fee(gas, self.situation.gas_price);
            // Rows are sorted by why: the first one presses the most.
            let needed = match (rows().next().map(|row| row.why), fee) {
                (None | Some(WhyNow::Deadline | WhyNow::Ordered), _) | (Some(WhyNow::DepositUsed), None) => {
                    TokenAmount::ZERO
                }
                (Some(WhyNow::DepositUsed), Some(fee)) => fee,
                (Some(WhyNow::Worthwhile), fee) => thresholds.needed(fee),
            };
            if value < needed {
                rows().for_each(|row| {
                    put_off(Waiting {
                        channel: row.channel,
                        token,
                        value: row.value,
                        why: WhyNot::NotWorthwhile { value, needed },
                        claimed_from: self.margin_begins(row.deadline),
                        deferred: None,
                    });
                });
            } else {
                plan.claims.push(PlannedClaim {
                    payee,
                    token,
                    by,
                    rows: rows().cloned().collect(),
                    value,
                    fee,
                    deadline: rows().filter_map(|row| row.deadline).min(),
                });
            }
        }
    }

    /// A claim's value in thousandths of what would make it worth its fee, and the more the nearer its deadline is.
    fn at_risk(&self, claim: &PlannedClaim) -> u128 {
        let unit = self
            .policy
            .thresholds(claim.token)
            .needed(claim.fee)
            .base_units()
            .max(1);
        let worth = claim.value.base_units().saturating_mul(1_000) / unit;
        worth.saturating_mul(self.nearness(claim.deadline))
    }

    /// How many times the time that is left fits into the safety margin; 1 outside of it.
    fn nearness(&self, deadline: Option<UnixSeconds>) -> u128 {
        let margin = u128::from(self.policy.safety_margin.as_secs());
        let left = deadline.map(|deadline| u128::from(deadline.since(self.situation.now).as_secs()));
        left.map_or(1, |left| (margin / (left + 1)).max(1))
    }
}

const fn base_gas(by: ClaimBy) -> u64 {
    match by {
        ClaimBy::Vouchers => VOUCHERS_BASE_GAS,
        ClaimBy::Receipts => RECEIPTS_BASE_GAS,
    }
}

const fn row_gas(by: ClaimBy) -> u64 {
    match by {
        ClaimBy::Vouchers => VOUCHERS_ROW_GAS,
        ClaimBy::Receipts => RECEIPTS_ROW_GAS,
    }
}
