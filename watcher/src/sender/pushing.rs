//! What is done about a transaction that waits: sent again, made dearer, cancelled; and about a gap before it.

use std::{collections::BTreeSet, ops::Range};

use alloy::primitives::U256;
use lloom_ledger::{Finish, Purpose, TransactionRecord};
use lloom_receipts::UnixSeconds;

use super::{Pressing, RECENT_TRANSACTIONS, SendError, Sender, affordable_fee};
use crate::{
    chain::{Call, CallOutcome, Chain, NonceAt, StateAt},
    fees::Fees,
    gas::with_margin,
    patience::waited,
    transaction::{Envelope, call_of, sign},
};

/// Nonces of a gap that are filled at a time.
const MAX_FILLED: usize = 16;

/// What takes the place of a stored transaction, or fills a gap before one.
struct Replacement {
    call: Call,
    envelope: Envelope,
    purpose: Purpose,
}

impl<C: Chain> Sender<C> {
    /// Replaces a transaction that waits too long by a dearer one, or by a cancellation, or sends it again.
    pub(super) async fn push(
        &self,
        group: Vec<TransactionRecord>,
        is_next: bool,
        pressing: Pressing,
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
            if let Some(raised) = raised {
                let can_cancel = newest.purpose != Purpose::Cancellation;
                let mut replacements = Vec::new();
                if !(can_cancel && pressing.is_moot) {
                    replacements.push(self.raised(newest, raised)?);
                }
                // What nothing presses gives way to what waits behind it: its channels are planned anew.
                let is_in_the_way = fees.is_urgent(deadline, now) && !fees.is_urgent(pressing.own_deadline, now);
                if can_cancel && (pressing.is_moot || is_in_the_way) {
                    replacements.push(self.cancellation(newest.nonce, raised).await?);
                }
                for mut replacement in replacements {
                    let most = self.affordable(&replacement).await?;
                    let lowered =
                        most.and_then(|most| fees.lower_replacement(previous, raised, most, quote, deadline, now));
                    // One that pools refuse must not take the place of one that waits.
                    if let Some(lowered) = lowered {
                        replacement.envelope.fees = lowered;
                        // What waits behind it may be gone by the next time.
                        return self.replace(newest, replacement, pressing.own_deadline, now).await;
                    }
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

    /// The highest fee, wei per gas, at which pools would take it, if there is one.
    async fn affordable(&self, replacement: &Replacement) -> Result<Option<u128>, SendError> {
        let Envelope { gas_limit, nonce, .. } = replacement.envelope;
        let free = self.free_balance(Some(nonce)).await?;
        Ok(affordable_fee(free, replacement.call.value, gas_limit))
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
    /// an own transaction that nothing presses.
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
        // What a pool holds may still be mined: it is waited for while nothing is due.
        let pending = shared.chain.nonce(self.account(), NonceAt::Pending).await?;
        let is_urgent = shared.fees.is_urgent(deadline, now);
        missing.retain(|nonce| is_urgent || *nonce >= pending);
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
