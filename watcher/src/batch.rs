//! One claim's rows with their authorizations, and the simulation that finds the bad ones before gas is spent.

use std::collections::HashMap;

use alloy::{primitives::Address, sol_types::SolCall as _};
use lloom_bindings::ChannelEscrow;
use lloom_ledger::{ClaimBy, Claimable};
use lloom_receipts::{ChannelId, Domain, TokenAmount};

use crate::{
    chain::{Call, CallOutcome, Chain, ChainError, StateAt},
    claim_call::{ReceiptRow, VoucherRow, claim_receipts, claim_vouchers},
    planner::PlannedClaim,
    view::read_at,
};

/// Rows that go into one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) payee: Address,
    pub(crate) token: Address,
    rows: Rows,
}

#[derive(Clone, Debug)]
enum Rows {
    Vouchers(Vec<VoucherRow>),
    Receipts(Vec<ReceiptRow>),
}

/// A row that the chain would not settle now. No proof that it never will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRefused {
    /// The channel.
    pub channel: ChannelId,
    /// Why.
    pub reason: String,
}

/// What a simulation left of a batch.
pub(crate) struct Simulated {
    pub(crate) good: Option<Batch>,
    pub(crate) refused: Vec<RowRefused>,
}

impl Batch {
    /// The rows of `claim`, with the authorizations in `claimables`.
    pub(crate) fn new(claim: &PlannedClaim, claimables: &HashMap<ChannelId, Claimable>) -> Self {
        let found = claim
            .rows
            .iter()
            .filter_map(|row| claimables.get(&row.channel).map(|claimable| (row, claimable)));
        let rows = match claim.by {
            ClaimBy::Vouchers => Rows::Vouchers(
                found
                    .filter_map(|(row, claimable)| {
                        // One that was set aside since is no ceiling any more: the row is planned anew.
                        let voucher = claimable.voucher.clone();
                        Some(VoucherRow {
                            parameters: claimable.channel.parameters,
                            voucher: voucher.filter(|voucher| voucher.document().amount >= row.amount)?,
                            amount: row.amount,
                        })
                    })
                    .collect(),
            ),
            ClaimBy::Receipts => Rows::Receipts(
                found
                    .filter_map(|(_, claimable)| {
                        Some(ReceiptRow {
                            parameters: claimable.channel.parameters,
                            receipt: claimable.receipt.clone()?,
                        })
                    })
                    .collect(),
            ),
        };
        Self {
            payee: claim.payee,
            token: claim.token,
            rows,
        }
    }

    pub(crate) fn by(&self) -> ClaimBy {
        match self.rows {
            Rows::Vouchers(_) => ClaimBy::Vouchers,
            Rows::Receipts(_) => ClaimBy::Receipts,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.rows {
            Rows::Vouchers(rows) => rows.len(),
            Rows::Receipts(rows) => rows.len(),
        }
    }

    /// Each channel and what its `settled` is to become, in the order of the rows.
    pub(crate) fn targets(&self, domain: &Domain) -> Vec<(ChannelId, TokenAmount)> {
        match &self.rows {
            Rows::Vouchers(rows) => rows.iter().map(|row| (row.parameters.id(domain), row.amount)).collect(),
            Rows::Receipts(rows) => rows
                .iter()
                .map(|row| (row.parameters.id(domain), row.receipt.receipt().cumulative_amount))
                .collect(),
        }
    }

    pub(crate) fn call(&self, domain: &Domain) -> Call {
        match &self.rows {
            Rows::Vouchers(rows) => claim_vouchers(domain, self.payee, self.token, rows),
            Rows::Receipts(rows) => claim_receipts(domain, self.payee, self.token, rows),
        }
    }

    fn keep(self, good: &[bool]) -> Option<Self> {
        let mut index = 0;
        let mut keep = || {
            index += 1;
            good.get(index - 1).copied().unwrap_or(false)
        };
        let rows = match self.rows {
            Rows::Vouchers(mut rows) => {
                rows.retain(|_| keep());
                Rows::Vouchers(rows)
            }
            Rows::Receipts(mut rows) => {
                rows.retain(|_| keep());
                Rows::Receipts(rows)
            }
        };
        let batch = Self { rows, ..self };
        (batch.len() > 0).then_some(batch)
    }

    /// Drops what the chain would not settle now: first what its state already says, then what a simulated call of the
    /// rest shows, halving a batch that fails until the bad rows are known. All of it on one state, `at`: on two, a row
    /// could look bad because the other had it settled.
    ///
    /// Receipts must come with bills that an operator of the payee signed: their call doesn't say which rows it skips.
    pub(crate) async fn simulate<C: Chain>(
        self,
        chain: &C,
        domain: &Domain,
        operator: Address,
        at: StateAt,
    ) -> Result<Simulated, ChainError> {
        let targets = self.targets(domain);
        let ids = targets.iter().map(|(channel, _)| channel.hash()).collect();
        let view = ChannelEscrow::getChannelsBatchCall { channelIds: ids };
        let states = read_at(chain, domain.escrow(), &view, at).await?;
        let mut refused = Vec::new();
        let mut gains = Vec::new();
        let mut good = Vec::new();
        for ((channel, amount), state) in targets.iter().zip(&states) {
            let reason = if state.payer.is_zero() {
                Some("the channel is not on the chain")
            } else if state.finalized {
                Some("the channel is finalized")
            } else if state.settled >= amount.base_units() {
                Some("settled already")
            } else if state.deposit < amount.base_units() {
                Some("above the deposit")
            } else {
                None
            };
            match reason {
                Some(reason) => refused.push(RowRefused {
                    channel: *channel,
                    reason: reason.to_owned(),
                }),
                None => gains.push(amount.base_units() - state.settled),
            }
            good.push(reason.is_none());
        }
        let Some(batch) = self.keep(&good) else {
            return Ok(Simulated { good: None, refused });
        };
        let (good, found) = batch.halve(chain, domain, operator, at, &gains).await?;
        refused.extend(found);
        Ok(Simulated { good, refused })
    }

    async fn halve<C: Chain>(
        self,
        chain: &C,
        domain: &Domain,
        operator: Address,
        at: StateAt,
        gains: &[u128],
    ) -> Result<(Option<Self>, Vec<RowRefused>), ChainError> {
        let channels = self.targets(domain);
        let mut good = vec![false; self.len()];
        let mut refused = Vec::new();
        let mut left: Vec<_> = std::iter::once(0..self.len()).collect();
        while let Some(range) = left.pop() {
            let selected: Vec<bool> = (0..self.len()).map(|index| range.contains(&index)).collect();
            let Some(part) = self.clone().keep(&selected) else {
                continue;
            };
            let expected = gains[range.clone()]
                .iter()
                .fold(0u128, |sum, gain| sum.saturating_add(*gain));
            match part.try_call(chain, domain, operator, at, expected).await? {
                None => good[range].fill(true),
                Some(reason) if range.len() == 1 => refused.push(RowRefused {
                    channel: channels[range.start].0,
                    reason,
                }),
                Some(_) => {
                    let middle = range.start + range.len() / 2;
                    left.push(range.start..middle);
                    left.push(middle..range.end);
                }
            }
        }
        Ok((self.keep(&good), refused))
    }

    /// What is wrong with the call, if anything.
    async fn try_call<C: Chain>(
        &self,
        chain: &C,
        domain: &Domain,
        operator: Address,
        at: StateAt,
        expected: u128,
    ) -> Result<Option<String>, ChainError> {
        let returned = match chain.call(operator, &self.call(domain), at).await? {
            CallOutcome::Reverted(revert) => return Ok(Some(revert.to_string())),
            CallOutcome::Returned(returned) => returned,
        };
        match self.by() {
            ClaimBy::Receipts => Ok(None),
            ClaimBy::Vouchers => {
                let paid = ChannelEscrow::claimVouchersCall::abi_decode_returns(&returned).map_err(|error| {
                    ChainError::Malformed {
                        operation: "claimVouchers",
                        reason: error.to_string(),
                    }
                })?;
                let enough = paid.saturating_to::<u128>() >= expected;
                Ok((!enough).then(|| String::from("the voucher would be skipped")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
