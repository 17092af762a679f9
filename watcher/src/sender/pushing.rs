//! What is done about a transaction that waits: sent again, made dearer, cancelled; and about a gap before it.

use std::{cmp::Reverse, collections::BTreeSet, ops::Range, time::Duration};

use alloy::primitives::U256;
use lloom_ledger::{Finish, Purpose, TransactionRecord};
use lloom_receipts::UnixSeconds;

use super::{Pressing, RECENT_TRANSACTIONS, RowAtRisk, SendError, Sender, affordable_fee};
use crate::{
    chain::{Call, CallOutcome, Chain, FeeQuote, NonceAt, StateAt},
    claim_call::part_of,
    fees::Fees,
    gas::{self, with_margin},
    patience::waited,
    transaction::{Envelope, call_of, sign},
};

/// Nonces of a gap that are filled at a time.
const MAX_FILLED: usize = 16;
/// How long what another program with the same key has in a pool may keep transactions waiting while nothing is due. Whoever
/// ordered one of them would hear nothing otherwise, for as long as that program offers less than blocks take.
const STRANGER_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What takes the place of a stored transaction, or fills a gap before one.
struct Replacement {
    call: Call,
    envelope: Envelope,
    purpose: Purpose,
}

/// What is offered in the place of a transaction that waits.
#[derive(Clone, Copy)]
struct Raise {
    /// What that one offers.
    previous: Fees,
    /// What the policy says, whatever the balance affords.
    wanted: Fees,
    quote: FeeQuote,
    deadline: Option<UnixSeconds>,
    /// The state that it is tried on: the one that its rows were planned on.
    at: StateAt,
    now: UnixSeconds,
}

impl<C: Chain> Sender<C> {
    /// Replaces a transaction that waits too long by a dearer one, by a part of it or by a cancellation, or sends it again.
    pub(super) async fn push(
        &self,
        group: Vec<TransactionRecord>,
        is_next: bool,
        pressing: Pressing,
        at: StateAt,
        now: UnixSeconds,
    ) -> Result<(), SendError> {
        let Some(newest) = group.last() else {
            return Ok(());
        };
        let deadline = pressing.deadline;
        let sent_at = newest.broadcast_at.unwrap_or(newest.recorded_at);
        let fees = &self.shared.fees;
        // A higher fee doesn't help one that waits for an earlier nonce.
        let lost_patience = waited(newest.recorded_at, now, fees.patience(deadline, now));
        let mut is_outbid = false;
        if is_next && newest.broadcast_at.is_some() && lost_patience {
            let previous = Fees {
                max_fee: newest.max_fee,
                priority_fee: newest.priority_fee,
            };
            let quote = self.shared.chain.fees().await?;
            let was_passed_over = self.shared.bids.was_passed_over(newest.id);
            let raised = match was_passed_over {
                true => fees.escalate(previous, quote, deadline, now),
                false => fees.catch_up(previous, quote, deadline, now),
            };
            if let Some(wanted) = raised {
                let raise = Raise {
                    previous,
                    wanted,
                    quote,
                    deadline,
                    at,
                    now,
                };
                let can_cancel = newest.purpose != Purpose::Cancellation;
                let mut replacements = Vec::new();
                if !(can_cancel && pressing.is_moot) {
                    replacements.push(self.raised(newest, wanted)?);
                }
                // What nothing presses gives way to what waits behind it: its channels are planned anew.
                let presses = fees.is_urgent(pressing.own_deadline, now);
                let is_in_the_way = fees.is_urgent(deadline, now) && !presses;
                if can_cancel && (pressing.is_moot || is_in_the_way) {
                    replacements.push(self.cancellation(newest.nonce, wanted).await?);
                }
                let mut affordable = None;
                for replacement in replacements {
                    if affordable.is_none() {
                        affordable = self.affordable(replacement, raise).await?;
                    }
                }
                // While the next block may take all of it, nothing is left out.
                if affordable.is_none() && presses && !pressing.is_moot && !fees.suffices(previous, quote) {
                    affordable = Box::pin(self.part(newest, pressing.at_risk, raise)).await?;
                }
                if let Some(replacement) = affordable {
                    // What waits behind it may be gone by the next time.
                    return self.replace(newest, replacement, pressing.own_deadline, now).await;
                }
            }
            if fees.is_urgent(deadline, now) {
                is_outbid = was_passed_over;
                tracing::warn!(transaction = %newest.hash, max_fee = newest.max_fee, base_fee = quote.base_fee, ?deadline, "a deadline is near, and the limit of fees, or of the balance, is reached; waiting on");
            } else {
                tracing::debug!(transaction = %newest.hash, "the limit of fees, or of the balance, is reached; waiting on");
            }
        }
        self.shared.bids.set_outbid(newest.id, is_outbid);
        if newest.broadcast_at.is_none() || waited(sent_at, now, fees.rebroadcast) {
            self.rebroadcast(newest, now).await?;
        }
        Ok(())
    }

    /// `replacement` at what the balance affords, if pools take it at that: one that they refuse must not take the place of
    /// one that waits.
    async fn affordable(&self, mut replacement: Replacement, raise: Raise) -> Result<Option<Replacement>, SendError> {
        let Raise {
            previous,
            wanted,
            quote,
            deadline,
            now,
            ..
        } = raise;
        let Envelope { gas_limit, nonce, .. } = replacement.envelope;
        let free = self.free_balance(Some(nonce)).await?;
        let most = affordable_fee(free, replacement.call.value, gas_limit);
        let fees = &self.shared.fees;
        let lowered = most.and_then(|most| fees.lower_replacement(previous, wanted, most, quote, deadline, now));
        Ok(lowered.map(|lowered| {
            replacement.envelope.fees = lowered;
            replacement
        }))
    }

    /// As many rows of a claim as the balance affords, though not all: those that press, and of them those with the most at
    /// risk, come first.
    async fn part(
        &self,
        record: &TransactionRecord,
        mut rows: Vec<RowAtRisk>,
        raise: Raise,
    ) -> Result<Option<Replacement>, SendError> {
        let Purpose::Claim { rows: all, .. } = &record.purpose else {
            return Ok(None);
        };
        let presses = |row: &RowAtRisk| self.shared.fees.is_urgent(row.deadline, raise.now);
        rows.sort_by_key(|row| (!presses(row), Reverse(row.value)));
        let (mut enough, mut too_many) = (0, all.len().min(rows.len() + 1));
        let mut best = None;
        while too_many.saturating_sub(enough) > 1 {
            let count = usize::midpoint(enough, too_many);
            let kept = rows[..count].iter().map(|row| row.place).collect();
            let affordable = match self.with_rows(record, &kept, raise).await? {
                Some(part) => self.affordable(part, raise).await?,
                None => None,
            };
            if affordable.is_some() {
                (best, enough) = (affordable, count);
            } else {
                too_many = count;
            }
        }
        if best.is_some() {
            tracing::error!(transaction = %record.hash, rows = all.len(), kept = enough, "gas became too dear for all of a claim that is due; going on with a part of it");
        }
        Ok(best)
    }

    /// A claim with those of its rows that are in these places.
    async fn with_rows(
        &self,
        record: &TransactionRecord,
        kept: &BTreeSet<usize>,
        raise: Raise,
    ) -> Result<Option<Replacement>, SendError> {
        let Purpose::Claim { by, rows } = &record.purpose else {
            return Ok(None);
        };
        let Some(call) = part_of(&call_of(&record.raw)?, *by, |place| kept.contains(&place)) else {
            return Ok(None);
        };
        let estimated = self.shared.chain.estimate_gas(self.account(), &call, raise.at).await?;
        let CallOutcome::Returned(estimate) = estimated else {
            return Ok(None);
        };
        let rows = kept.iter().filter_map(|place| rows.get(*place).copied()).collect();
        Ok(Some(Replacement {
            call,
            envelope: Envelope {
                chain_id: self.shared.chain_id,
                nonce: record.nonce,
                gas_limit: gas::for_claim(estimate, kept.len()),
                fees: raise.wanted,
            },
            purpose: Purpose::Claim { by: *by, rows },
        }))
    }

    /// The same call at higher fees.
    fn raised(&self, record: &TransactionRecord, fees: Fees) -> Result<Replacement, SendError> {
        Ok(Replacement {
            call: call_of(&record.raw)?,
            envelope: Envelope {
                chain_id: self.shared.chain_id,
                nonce: record.nonce,
                gas_limit: record.gas_limit,
                fees,
            },
            purpose: record.purpose.clone(),
        })
    }

    /// A transfer of nothing to oneself, which uses the nonce up.
    async fn cancellation(&self, nonce: u64, fees: Fees) -> Result<Replacement, SendError> {
        let account = self.account();
        let call = Call::transfer(account, U256::ZERO);
        let estimate = match self.shared.chain.estimate_gas(account, &call, StateAt::Latest).await? {
            CallOutcome::Returned(gas) => gas,
            CallOutcome::Reverted(revert) => return Err(SendError::Reverted { revert }),
        };
        Ok(Replacement {
            call,
            envelope: Envelope {
                chain_id: self.shared.chain_id,
                nonce,
                gas_limit: with_margin(estimate),
                fees,
            },
            purpose: Purpose::Cancellation,
        })
    }

    async fn replace(
        &self,
        record: &TransactionRecord,
        replacement: Replacement,
        deadline: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<(), SendError> {
        let Replacement {
            call,
            envelope,
            purpose,
        } = replacement;
        let signed = sign(&self.shared.key, &call, envelope);
        let cancels = purpose == Purpose::Cancellation;
        tracing::info!(replaced = %record.hash, by = %signed.hash, max_fee = envelope.fees.max_fee, cancels, "replacing a transaction that waits too long");
        let id = self
            .store(&signed, envelope, purpose, Some(record.id), deadline, now)
            .await?;
        self.broadcast(id, &signed, now).await.map(drop)
    }

    /// Sends finished transactions again whose nonce is free: a reorg deeper than the confirmations took them back, and
    /// nothing later can be mined before them. Says which nonces have one.
    pub(super) async fn reopen(&self, nonces: Range<u64>, now: UnixSeconds) -> Result<BTreeSet<u64>, SendError> {
        let recent = self.shared.ledger.transactions(RECENT_TRANSACTIONS).await?;
        let mut reopened = BTreeSet::new();
        for record in recent {
            let was_mined = matches!(record.finish, Some(Finish::Mined { .. }));
            if record.from == self.account() && was_mined && nonces.contains(&record.nonce) {
                tracing::warn!(transaction = %record.hash, "a final transaction is gone from the chain; sending it again");
                self.rebroadcast(&record, now).await?;
                reopened.insert(record.nonce);
            }
        }
        Ok(reopened)
    }

    /// Bids for the nonces before the stored transactions with transfers of nothing to oneself. Somebody who uses the same
    /// key had sent something there, so the nonces were skipped: where it has vanished, nothing is mined any more without
    /// them; where a pool holds it, it may offer less than any block takes, and it is no more in the way of a deadline than
    /// an own transaction that nothing presses, and in nobody's way for ever.
    pub(super) async fn fill(
        &self,
        mut missing: Vec<u64>,
        waiting_since: UnixSeconds,
        deadline: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<(), SendError> {
        let shared = &self.shared;
        if missing.is_empty() || !waited(waiting_since, now, shared.fees.patience(deadline, now)) {
            return Ok(());
        }
        // What a pool holds may still be mined: it is waited for, though not for ever, while nothing is due.
        let pending = shared.chain.nonce(self.account(), NonceAt::Pending).await?;
        let outbids = shared.fees.is_urgent(deadline, now) || waited(waiting_since, now, STRANGER_PATIENCE);
        missing.retain(|nonce| outbids || *nonce >= pending);
        for nonce in missing.into_iter().take(MAX_FILLED) {
            let fees = match shared.fees.offer(shared.chain.fees().await?, deadline, now) {
                Ok(fees) => fees,
                // Something that presses more may be worth it; the round goes on to find that out.
                Err(dear) => {
                    tracing::warn!(nonce, %dear, "a nonce before the stored transactions is used by none of them, and a bid for it costs too much now");
                    return Ok(());
                }
            };
            let Replacement {
                call,
                envelope,
                purpose,
            } = self.cancellation(nonce, fees).await?;
            let signed = sign(&shared.key, &call, envelope);
            let is_held = nonce < pending;
            tracing::warn!(nonce, transaction = %signed.hash, is_held, "a nonce before the stored transactions is used by none of them; bidding for it");
            let id = self.store(&signed, envelope, purpose, None, deadline, now).await?;
            self.broadcast(id, &signed, now).await?;
        }
        Ok(())
    }
}
