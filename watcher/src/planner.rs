//! What to claim now, and why not yet. Pure: everything it knows comes in as arguments.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use alloy::primitives::{Address, U256};
use lloom_ledger::ClaimBy;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

#[cfg(test)]
mod tests;

/// Gas of a claim, whole transaction: what `snapshots/Settlement.json` measures, rounded up. Only the value rule uses
/// it; a transaction's own limit comes from an estimate.
const VOUCHERS_BASE_GAS: u64 = 40_000;
const VOUCHERS_ROW_GAS: u64 = 15_000;
const RECEIPTS_BASE_GAS: u64 = 42_000;
const RECEIPTS_ROW_GAS: u64 = 22_000;

const WEI_PER_COIN: u64 = 1_000_000_000_000_000_000;

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
            publish: Publish::Vouchers,
            safety_margin: Duration::from_secs(30 * 60),
            exposure_near: TokenAmount::ZERO,
            max_rows: 100,
        }
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
}

impl Candidate {
    /// What a voucher row may settle: what was billed, never the voucher's slack.
    pub fn by_voucher(&self) -> Option<TokenAmount> {
        self.voucher
            .map(|ceiling| ceiling.min(self.billed).min(self.deposit))
            .filter(|amount| *amount > self.settled)
    }

    /// What a receipt row settles: exactly its amount.
    pub fn by_receipt(&self) -> Option<TokenAmount> {
        self.receipt
            .filter(|amount| *amount > self.settled && *amount <= self.deposit)
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

/// What to send, the most urgent first, and what to leave for later.
#[derive(Clone, Debug, Default)]
pub struct Plan {
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

impl PlannedClaim {
    /// What the claim costs more than it brings: only a deadline makes that worth it.
    pub fn loss(&self) -> Option<TokenAmount> {
        self.fee
            .and_then(|fee| fee.checked_sub(self.value))
            .filter(|loss| !loss.is_zero())
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
    /// What a claim would bring.
    pub value: TokenAmount,
    /// Why not yet.
    pub why: WhyNot,
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
}

/// Plans the claims of `candidates`.
pub fn plan(candidates: &[Candidate], situation: Situation, policy: &PlannerPolicy) -> Plan {
    let planner = Planner { situation, policy };
    let mut plan = Plan::default();
    let mut groups: BTreeMap<(Address, Address, bool), (ClaimBy, Vec<PlannedRow>)> = BTreeMap::new();
    for candidate in candidates {
        match planner.consider(candidate) {
            Considered::Row(by, row) => groups
                .entry((candidate.payee, candidate.token, by == ClaimBy::Receipts))
                .or_insert_with(|| (by, Vec::new()))
                .1
                .push(row),
            Considered::Wait(waiting) => plan.waiting.push(waiting),
            Considered::Nothing => {}
        }
    }
    for ((payee, token, _), (by, rows)) in groups {
        planner.pack(payee, token, by, rows, &mut plan);
    }
    plan.claims.sort_by_key(|claim| {
        (
            claim.deadline.is_none(),
            claim.deadline,
            Reverse(claim.value),
            claim.payee,
        )
    });
    plan
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
        let why = self.why(candidate);
        let Some((by, amount)) = self.choose(candidate, why) else {
            return Considered::Wait(Waiting {
                channel: candidate.channel,
                value: best.saturating_sub(candidate.settled),
                why: WhyNot::AwaitsReceipt,
            });
        };
        let row = PlannedRow {
            channel: candidate.channel,
            amount,
            value: amount.saturating_sub(candidate.settled),
            why,
            deadline: candidate.deadline,
        };
        let needed = match why {
            WhyNow::Deadline | WhyNow::Ordered => None,
            WhyNow::DepositUsed => self.fee(row_gas(by)),
            WhyNow::Worthwhile => self.fee(row_gas(by)).map(|fee| self.worth(fee)),
        };
        match needed {
            Some(needed) if row.value < needed => Considered::Wait(Waiting {
                channel: row.channel,
                value: row.value,
                why: WhyNot::NotWorthwhile {
                    value: row.value,
                    needed,
                },
            }),
            _ => Considered::Row(by, row),
        }
    }

    fn why(&self, candidate: &Candidate) -> WhyNow {
        let margin_begins = |deadline: UnixSeconds| deadline.minus(self.policy.safety_margin);
        if candidate
            .deadline
            .is_some_and(|deadline| self.situation.now >= margin_begins(deadline))
        {
            WhyNow::Deadline
        } else if self.situation.ordered {
            WhyNow::Ordered
        } else if candidate.is_exhausted(self.policy.exposure_near) {
            WhyNow::DepositUsed
        } else {
            WhyNow::Worthwhile
        }
    }

    /// By what, and how much. Where usage is to be published, money that only a voucher covers waits for its receipt
    /// until something presses.
    fn choose(&self, candidate: &Candidate, why: WhyNow) -> Option<(ClaimBy, TokenAmount)> {
        let voucher = candidate.by_voucher().map(|amount| (ClaimBy::Vouchers, amount));
        let receipt = candidate.by_receipt().map(|amount| (ClaimBy::Receipts, amount));
        let larger =
            |first: Option<(ClaimBy, TokenAmount)>, second: Option<(ClaimBy, TokenAmount)>| match (first, second) {
                (Some(first), Some(second)) if second.1 > first.1 => Some(second),
                (first, second) => first.or(second),
            };
        match (self.policy.publish, why) {
            (Publish::Vouchers | Publish::ReceiptsOnClose, _) => larger(voucher, receipt),
            (Publish::Receipts, WhyNow::Deadline) => larger(receipt, voucher),
            (Publish::Receipts, WhyNow::Ordered | WhyNow::DepositUsed) => receipt.or(voucher),
            (Publish::Receipts, WhyNow::Worthwhile) => receipt,
        }
    }

    fn pack(&self, payee: Address, token: Address, by: ClaimBy, mut rows: Vec<PlannedRow>, plan: &mut Plan) {
        rows.sort_by_key(|row| {
            (
                row.why,
                row.deadline.is_none(),
                row.deadline,
                Reverse(row.value),
                row.channel,
            )
        });
        for rows in rows.chunks(self.policy.max_rows.max(1)) {
            let value = rows
                .iter()
                .fold(TokenAmount::ZERO, |sum, row| sum.saturating_add(row.value));
            let fee = self.fee(base_gas(by) + row_gas(by) * rows.len() as u64);
            // Rows are sorted by why: the first one presses the most.
            let needed = match (rows[0].why, fee) {
                (WhyNow::Deadline | WhyNow::Ordered, _) | (WhyNow::DepositUsed, None) => TokenAmount::ZERO,
                (WhyNow::DepositUsed, Some(fee)) => fee,
                (WhyNow::Worthwhile, Some(fee)) => self.worth(fee),
                (WhyNow::Worthwhile, None) => self.policy.min_claim,
            };
            if value < needed {
                plan.waiting.extend(rows.iter().map(|row| Waiting {
                    channel: row.channel,
                    value: row.value,
                    why: WhyNot::NotWorthwhile { value, needed },
                }));
            } else {
                plan.claims.push(PlannedClaim {
                    payee,
                    token,
                    by,
                    rows: rows.to_vec(),
                    value,
                    fee,
                    deadline: rows.iter().filter_map(|row| row.deadline).min(),
                });
            }
        }
    }

    fn worth(&self, fee: TokenAmount) -> TokenAmount {
        let multiple = u128::from(self.policy.min_value_over_fee);
        TokenAmount::new(fee.base_units().saturating_mul(multiple))
    }

    /// What `gas` costs in the token, rounded up.
    fn fee(&self, gas: u64) -> Option<TokenAmount> {
        let price = self.policy.native_price_in_token?;
        let wei = U256::from(gas) * U256::from(self.situation.gas_price);
        // A product of three numbers below 2^128 can leave 256 bits: then the fee is beyond any amount.
        let fee = wei
            .checked_mul(U256::from(price.base_units()))
            .map_or(U256::MAX, |product| product.div_ceil(U256::from(WEI_PER_COIN)));
        Some(TokenAmount::new(u128::try_from(fee).unwrap_or(u128::MAX)))
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
