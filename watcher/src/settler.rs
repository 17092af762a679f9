//! Turns plans into transactions.

use std::collections::{HashMap, VecDeque};

use alloy::{primitives::Address, sol_types::SolCall as _};
use lloom_bindings::{ChannelEscrow, UsageSettlement};
use lloom_ledger::{
    AuthorizationRef, ChainEventKind, ClaimBy, Claimable, Finish, Ledger, LedgerError, Outcome, Purpose, SettleError,
    SkipReason,
};
use lloom_receipts::{ChannelId, Document as _, Domain, TokenAmount, UnixSeconds, Verifier};

use crate::{
    batch::{Batch, RowRefused},
    books::Books,
    chain::{CallOutcome, Chain, ChainError, StateAt},
    claim_call::{ReceiptRow, ceiling, close_with_receipt, close_with_voucher},
    close::CloseStep,
    deferral::Deferrals,
    event::Emitters,
    gas,
    planner::{Plan, PlannedClaim, PlannerPolicy, Situation, Waiting, WhyNow, plan_telling},
    quarantine::Quarantine,
    sender::{FinishedTransaction, Order, SendError, Sender, SentTransaction},
    transaction::call_of,
};

/// Which channels to claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimFilter {
    /// Only this payee's.
    pub payee: Option<Address>,
    /// Only these; empty for all.
    pub channels: Vec<ChannelId>,
}

impl ClaimFilter {
    fn matches(&self, payee: Address, channel: ChannelId) -> bool {
        self.payee.is_none_or(|wanted| wanted == payee)
            && (self.channels.is_empty() || self.channels.contains(&channel))
    }
}

/// Refusals of an endpoint in one round, before it is left alone: enough to find the few bad rows of a large claim.
const MAX_REFUSALS: usize = 32;

/// A claim that was sent.
#[derive(Clone, Debug)]
pub(crate) struct SentClaim {
    pub(crate) sent: SentTransaction,
    pub(crate) by: ClaimBy,
    pub(crate) rows: Vec<(ChannelId, TokenAmount)>,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    pub(crate) sent: Vec<SentClaim>,
    pub(crate) refused: Vec<RowRefused>,
    /// Why the rest of the plan was not sent, if it wasn't.
    pub(crate) failure: Option<SendError>,
}

/// What came of one claim.
#[derive(Debug, Default)]
struct Attempt {
    sent: Option<SentClaim>,
    /// Rows that are tried again later.
    refused: Vec<RowRefused>,
    /// Rows whose authorization is no good; another one may be.
    set_aside: Vec<RowRefused>,
}

pub(crate) struct Settler<C> {
    pub(crate) chain: C,
    pub(crate) ledger: Ledger,
    pub(crate) domain: Domain,
    pub(crate) emitters: Emitters,
    pub(crate) policy: PlannerPolicy,
    pub(crate) sender: Sender<C>,
    pub(crate) verifier: Verifier,
    /// What claims are simulated on: the block that the ledger, and so the plan, is at.
    pub(crate) at: StateAt,
    pub(crate) quarantine: Quarantine,
    pub(crate) deferrals: Deferrals,
}

impl<C: Chain> Settler<C> {
    /// What to claim now of `books`. An order takes channels that are in quarantine too.
    pub(crate) async fn plan(
        &self,
        books: &Books,
        filter: &ClaimFilter,
        ordered: bool,
        now: UnixSeconds,
    ) -> Result<Plan, SendError> {
        let mut waiting = Vec::new();
        let put_off = |channel| waiting.push(channel);
        let mut plan = self.plan_telling(books, filter, ordered, now, put_off).await?;
        plan.waiting = waiting;
        self.deferrals.describe(&mut plan);
        Ok(plan)
    }

    /// The same with nothing that waits in it: `put_off` hears of each such channel.
    pub(crate) async fn plan_telling(
        &self,
        books: &Books,
        filter: &ClaimFilter,
        ordered: bool,
        now: UnixSeconds,
        put_off: impl FnMut(Waiting),
    ) -> Result<Plan, SendError> {
        let candidates = || {
            books
                .candidates(now)
                .filter(|candidate| filter.matches(candidate.payee, candidate.channel))
        };
        if candidates().next().is_none() {
            return Ok(Plan::default());
        }
        let situation = Situation {
            now,
            gas_price: self.chain.fees().await?.gas_price(),
            ordered,
        };
        let candidates = candidates().map(|mut candidate| {
            candidate.held = self.quarantine.held(candidate.channel, candidate.deadline, now);
            candidate
        });
        Ok(plan_telling(candidates, situation, &self.policy, put_off))
    }

    /// Sends the claims of `plan`. What was sent stays sent when a later claim fails; one that costs too much, or that the
    /// endpoint won't have, is no reason to leave the others behind it.
    pub(crate) async fn claim(&mut self, plan: &Plan, books: &Books, now: UnixSeconds) -> Claimed {
        let mut claimed = Claimed::default();
        let mut left: VecDeque<PlannedClaim> = plan.claims.iter().cloned().collect();
        let mut refusals = 0;
        while let Some(claim) = left.pop_front() {
            let refused = match self.claim_as_affordable(&claim, books, now).await {
                Ok(attempt) => {
                    claimed.sent.extend(attempt.sent);
                    claimed.refused.extend(attempt.set_aside);
                    attempt.refused
                }
                // The contract changed its mind between the simulation and the estimate.
                Err(SendError::Reverted { revert }) => {
                    let reason = revert.to_string();
                    let refused = claim.rows.iter().map(|row| RowRefused {
                        channel: row.channel,
                        reason: reason.clone(),
                    });
                    refused.collect()
                }
                Err(error @ (SendError::FeesTooHigh(_) | SendError::InsufficientGasMoney { .. })) => {
                    let counter = match error {
                        SendError::FeesTooHigh(_) => &mut self.deferrals.counts.fees_too_high,
                        _ => &mut self.deferrals.counts.gas_money,
                    };
                    *counter += claim.rows.len() as u64;
                    // The first is the one with the most at risk.
                    claimed.failure.get_or_insert(error);
                    continue;
                }
                // Endpoints have limits, of a call's size and of its gas: they may have a part of it.
                Err(SendError::Chain(error @ ChainError::Refused { .. })) if refusals < MAX_REFUSALS => {
                    refusals += 1;
                    if let Some((first, second)) = claim.halves() {
                        tracing::warn!(%error, rows = claim.rows.len(), "an endpoint refuses a claim; trying its halves");
                        left.push_front(second);
                        left.push_front(first);
                    } else {
                        tracing::error!(%error, value = %claim.value, "an endpoint refuses a claim; going on with the others");
                        claimed.failure.get_or_insert(error.into());
                    }
                    continue;
                }
                Err(error) => {
                    claimed.failure = Some(error);
                    break;
                }
            };
            for row in &refused {
                let due = claim.rows.iter().find(|planned| planned.channel == row.channel);
                let due = due.filter(|planned| planned.why == WhyNow::Deadline);
                match due {
                    Some(due) => {
                        tracing::error!(channel = %row.channel, reason = row.reason, value = %due.value, deadline = ?due.deadline, "a row that is due can't be claimed; it is tried again, alone");
                    }
                    None => tracing::warn!(channel = %row.channel, reason = row.reason, "left a row out of a claim"),
                }
                self.quarantine.put(row.channel, row.reason.clone(), now);
            }
            claimed.refused.extend(refused);
        }
        claimed
    }

    /// Sends a claim; where a deadline presses and there is too little gas money for all of it, as much of it as can be
    /// paid for. The rows with the most at risk come first.
    async fn claim_as_affordable(
        &mut self,
        claim: &PlannedClaim,
        books: &Books,
        now: UnixSeconds,
    ) -> Result<Attempt, SendError> {
        let mut part = claim.clone();
        loop {
            let presses = part.rows.first().is_some_and(|row| row.why == WhyNow::Deadline);
            match self.claim_one(&part, books, now).await {
                Err(SendError::InsufficientGasMoney { balance, needed, .. }) if presses && part.rows.len() > 1 => {
                    tracing::error!(%balance, %needed, rows = part.rows.len(), "too little gas money for all that is due; claiming half of it first");
                    part.rows.truncate(part.rows.len().div_ceil(2));
                }
                done => return done,
            }
        }
    }

    async fn claim_one(&mut self, claim: &PlannedClaim, books: &Books, now: UnixSeconds) -> Result<Attempt, SendError> {
        let authorizations = books.authorizations(&self.ledger, claim).await?;
        let (claim, set_aside) = self.set_damaged_aside(claim, &authorizations).await?;
        let (claim, refused) = self.check_billers(&claim, &authorizations).await?;
        let mut attempt = Attempt {
            sent: None,
            refused,
            set_aside,
        };
        if let Some(loss) = claim.loss() {
            tracing::warn!(payee = %claim.payee, value = %claim.value, %loss, "claiming at a loss: the payer is leaving");
        }
        let operator = self.sender.account();
        let batch = Batch::new(&claim, &authorizations);
        if batch.len() == 0 {
            return Ok(attempt);
        }
        let simulated = batch.simulate(&self.chain, &self.domain, operator, self.at).await?;
        attempt.refused.extend(simulated.refused);
        let Some(batch) = simulated.good else {
            return Ok(attempt);
        };
        let call = batch.call(&self.domain);
        let gas = match self.chain.estimate_gas(operator, &call, self.at).await? {
            CallOutcome::Returned(gas) => gas,
            CallOutcome::Reverted(revert) => return Err(SendError::Reverted { revert }),
        };
        let rows = batch.targets(&self.domain);
        let by = batch.by();
        let order = Order {
            call,
            gas_limit: gas::for_claim(gas, rows.len()),
            purpose: Purpose::Claim { by, rows: rows.clone() },
            deadline: claim.deadline,
        };
        let sent = self.sender.submit(order, now).await?;
        tracing::info!(transaction = %sent.hash, ?by, rows = rows.len(), value = %claim.value, "sent a claim");
        attempt.sent = Some(SentClaim { sent, by, rows });
        Ok(attempt)
    }

    /// Leaves out vouchers and receipts that the payer's side did not sign as they lie here, and sets them aside: they were checked when
    /// they were taken, so the disk has changed them. The next round plans with the best that is left.
    async fn set_damaged_aside(
        &self,
        claim: &PlannedClaim,
        claimables: &HashMap<ChannelId, Claimable>,
    ) -> Result<(PlannedClaim, Vec<RowRefused>), SendError> {
        let mut claim = claim.clone();
        let mut set_aside = Vec::new();
        for row in claim
            .rows
            .iter()
            .filter(|row| !is_authorized(claim.by, claimables.get(&row.channel)))
        {
            for authorization in self.ledger.unreadable_authorizations(row.channel).await? {
                let reason = String::from("what lies in the store is no signature");
                self.set_aside(row.channel, authorization, reason.clone()).await?;
                let channel = row.channel;
                set_aside.push(RowRefused { channel, reason });
            }
        }
        let by = claim.by;
        let mut damaged = Vec::new();
        claim.rows.retain(|row| {
            let Some(claimable) = claimables.get(&row.channel) else {
                return true;
            };
            let signed = match by {
                ClaimBy::Vouchers => claimable.voucher.as_ref().map(|voucher| {
                    let amount = voucher.document().amount;
                    let authorization = AuthorizationRef::Voucher { amount };
                    (
                        authorization,
                        voucher.document().digest(&self.domain),
                        voucher.signature(),
                    )
                }),
                ClaimBy::Receipts => claimable.receipt.as_ref().map(|receipt| {
                    let sequence = receipt.receipt().sequence;
                    let authorization = AuthorizationRef::Receipt { sequence };
                    (
                        authorization,
                        receipt.receipt().digest(&self.domain),
                        receipt.payer_signature(),
                    )
                }),
            };
            let signer = claimable.channel.parameters.payer_side();
            let unsound =
                signed.filter(|(_, digest, signature)| self.verifier.check(*digest, signature, signer).is_err());
            damaged.extend(unsound.map(|(authorization, ..)| (row.channel, authorization, row.amount)));
            unsound.is_none()
        });
        for (channel, authorization, target) in damaged {
            let reason = format!("the payer's side did not sign {authorization} as it lies in the store");
            let mut outcome = self.ledger.set_unusable(channel, authorization, reason.clone()).await;
            if let Err(SettleError::UnknownAuthorization) = outcome {
                outcome = self.ledger.let_damaged_held_go(channel, target).await;
            }
            match outcome {
                Ok(outcome) => self.tell_of_set_aside(outcome, channel, authorization, &reason),
                Err(SettleError::UnknownAuthorization) => {}
                Err(error) => return Err(error.into()),
            }
            set_aside.push(RowRefused { channel, reason });
        }
        Ok((claim, set_aside))
    }

    /// Lets go of what is held for others and lies in the store as no signature can be. The next best of each channel is
    /// defended already.
    pub(crate) async fn let_damaged_held_go(&self) -> Result<(), SettleError> {
        for (channel, claim) in self.ledger.unreadable_held().await? {
            match self.ledger.let_damaged_held_go(channel, claim).await {
                Ok(outcome) => {
                    let voucher = AuthorizationRef::Voucher { amount: claim };
                    self.tell_of_set_aside(outcome, channel, voucher, "what lies in the store is no signature");
                }
                Err(SettleError::UnknownAuthorization) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leaves out receipts whose bill the registry's events don't attribute to the payee: the chain would skip them
    /// without saying so beforehand.
    async fn check_billers(
        &self,
        claim: &PlannedClaim,
        claimables: &HashMap<ChannelId, Claimable>,
    ) -> Result<(PlannedClaim, Vec<RowRefused>), LedgerError> {
        let mut claim = claim.clone();
        if claim.by == ClaimBy::Vouchers {
            return Ok((claim, Vec::new()));
        }
        let operators = self.ledger.operators(claim.payee).await?;
        let mut refused = Vec::new();
        let payee = claim.payee;
        claim.rows.retain(|row| {
            let receipt = claimables
                .get(&row.channel)
                .and_then(|claimable| claimable.receipt.as_ref());
            let known = receipt.is_some_and(|receipt| {
                let digest = receipt.receipt().bill.digest(&self.domain);
                self.verifier
                    .recover(digest, receipt.bill_signature())
                    .is_ok_and(|biller| biller == payee || operators.iter().any(|(operator, _)| *operator == biller))
            });
            if !known {
                refused.push(RowRefused {
                    channel: row.channel,
                    reason: String::from("the registry names nobody who signed its bill as an operator of the payee"),
                });
            }
            known
        });
        Ok((claim, refused))
    }

    /// Sends the transaction that closes a channel.
    pub(crate) async fn close(
        &self,
        claimable: &Claimable,
        step: CloseStep,
        deadline: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<SentTransaction, SendError> {
        let parameters = claimable.channel.parameters;
        let (call, amount) = match (step, &claimable.receipt) {
            (CloseStep::WithReceipt { amount }, Some(receipt)) => {
                let row = ReceiptRow {
                    parameters,
                    receipt: receipt.clone(),
                };
                (close_with_receipt(&self.domain, &row), amount)
            }
            (
                CloseStep::WithReceipt { amount }
                | CloseStep::WithVoucher { amount }
                | CloseStep::ClaimFirst { amount },
                _,
            ) => {
                let call = close_with_voucher(&self.domain, &parameters, claimable.voucher.as_ref(), amount);
                (call, amount)
            }
        };
        let gas = match self.chain.estimate_gas(self.sender.account(), &call, self.at).await? {
            CallOutcome::Returned(gas) => gas,
            CallOutcome::Reverted(revert) => return Err(SendError::Reverted { revert }),
        };
        let order = Order {
            call,
            gas_limit: gas::for_claim(gas, 1),
            purpose: Purpose::Close {
                channel: claimable.channel.id,
                amount,
            },
            deadline,
        };
        self.sender.submit(order, now).await
    }

    /// Learns from a finished transaction: which rows the chain skipped, and why.
    pub(crate) async fn learn(&mut self, done: &FinishedTransaction, now: UnixSeconds) -> Result<(), SettleError> {
        let Purpose::Claim { by, rows } = &done.record.purpose else {
            return Ok(());
        };
        let succeeded = matches!(done.finish, Finish::Mined { succeeded: true, .. });
        if matches!(done.finish, Finish::Mined { succeeded: false, .. }) {
            for (channel, _) in rows {
                let reason = format!("the transaction {} was reverted", done.record.hash);
                self.quarantine.put(*channel, reason, now);
            }
        }
        let (true, Some(mined)) = (succeeded, &done.mined) else {
            return Ok(());
        };
        for (channel, _) in rows {
            self.quarantine.release(*channel);
        }
        let events = mined
            .logs
            .iter()
            .flat_map(|log| self.emitters.read(log).unwrap_or_default());
        for event in events.collect::<Vec<_>>() {
            let ChainEventKind::RowSkipped { channel, index, reason } = event.kind else {
                continue;
            };
            tracing::warn!(%channel, ?reason, transaction = %mined.hash, "the chain skipped a row of a claim");
            self.quarantine
                .put(channel, format!("the chain skipped it: {reason:?}"), now);
            // Ours, signed and checked here: what the chain refuses for good will be refused for good. All other
            // reasons pass, or are good news from somebody who claimed first.
            if matches!(reason, SkipReason::InvalidSignature | SkipReason::AmountExceedsVoucher)
                && let Some(authorization) = authorization(*by, &done.record.raw, index)
            {
                let reason = format!("skipped in {}: {reason:?}", mined.hash);
                match self.set_aside(channel, authorization, reason).await {
                    Ok(_) | Err(SettleError::UnknownAuthorization) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Takes an authorization out of what is claimable, whether it is one's own or held for somebody else.
    async fn set_aside(
        &self,
        channel: ChannelId,
        authorization: AuthorizationRef,
        reason: String,
    ) -> Result<(), SettleError> {
        let served = self.ledger.set_unusable(channel, authorization, reason.clone()).await;
        let outcome = match (served, authorization) {
            (Err(SettleError::UnknownAuthorization), AuthorizationRef::Voucher { amount }) => {
                self.ledger.set_held_unusable(channel, amount, reason.clone()).await?
            }
            (served, _) => served?,
        };
        self.tell_of_set_aside(outcome, channel, authorization, &reason);
        Ok(())
    }

    fn tell_of_set_aside(&self, outcome: Outcome, channel: ChannelId, authorization: AuthorizationRef, reason: &str) {
        if outcome == Outcome::Recorded {
            tracing::error!(%channel, ?authorization, reason, "an authorization settles nothing, and is set aside for good");
            self.sender.metrics().set_aside(authorization);
        }
    }
}

/// Whether there is what a row is claimed by.
fn is_authorized(by: ClaimBy, claimable: Option<&Claimable>) -> bool {
    claimable.is_some_and(|claimable| match by {
        ClaimBy::Vouchers => claimable.voucher.is_some(),
        ClaimBy::Receipts => claimable.receipt.is_some(),
    })
}

/// What row `index` of a stored claim put before the chain.
fn authorization(by: ClaimBy, raw: &alloy::primitives::Bytes, index: u64) -> Option<AuthorizationRef> {
    let index = usize::try_from(index).ok()?;
    let call = call_of(raw).ok()?;
    match by {
        ClaimBy::Vouchers => {
            let call = ChannelEscrow::claimVouchersCall::abi_decode(&call.data).ok()?;
            Some(AuthorizationRef::Voucher {
                amount: ceiling(call.rows.get(index)?.amounts),
            })
        }
        ClaimBy::Receipts => {
            let call = UsageSettlement::claimReceiptsCall::abi_decode(&call.data).ok()?;
            Some(AuthorizationRef::Receipt {
                sequence: call.rows.get(index)?.sequence,
            })
        }
    }
}

#[cfg(test)]
mod tests;
