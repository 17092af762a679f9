//! Why a channel is claimed now, or not yet.

use alloy::primitives::{Address, B256};
use lloom_ledger::{ClaimBy, Ledger, LedgerError, Purpose};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{
    books::Books,
    chain::Chain,
    obligation::promised,
    planner::{Plan, TokenThresholds, Waiting, WhyNow},
    settler::Settler,
};

/// All that decides about a channel's claim at this moment. Amounts are base units.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The channel.
    pub channel: ChannelId,
    /// Whom it pays.
    pub payee: Address,
    /// In which token.
    pub token: Address,
    /// What the channel holds in all.
    pub deposit: TokenAmount,
    /// What is settled, as of the newest block.
    pub settled: TokenAmount,
    /// The sum of all bills.
    pub billed: TokenAmount,
    /// The best voucher's signed amount.
    pub voucher: Option<TokenAmount>,
    /// The best receipt's cumulative amount.
    pub receipt: Option<TokenAmount>,
    /// From when on the payer may take the rest out, if it asked to.
    pub deadline: Option<UnixSeconds>,
    /// From when on it is claimed at any fee, if it has a deadline.
    pub claimed_from: Option<UnixSeconds>,
    /// When a claim of its token is worth its fee.
    pub thresholds: TokenThresholds,
    /// What one gas costs, wei.
    pub gas_price: u128,
    /// Why its row failed the last time, if it did.
    pub failed: Option<String>,
    /// What follows.
    pub verdict: Verdict,
}

/// What follows for a channel.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is claimed now.
    Now {
        /// With what.
        by: ClaimBy,
        /// What that brings.
        value: TokenAmount,
        /// Why.
        why: WhyNow,
        /// How many channels the transaction carries.
        rows: usize,
        /// What the transaction brings.
        claim_value: TokenAmount,
        /// What the transaction costs, where the coin's price is known.
        fee: Option<TokenAmount>,
    },
    /// Not yet.
    NotYet(Waiting),
    /// A transaction that was sent does it.
    UnderWay {
        /// Which: the newest of its nonce.
        transaction: B256,
        /// What the channel's `settled` becomes.
        amount: TokenAmount,
        /// Whether it closes the channel.
        closes: bool,
    },
    /// It is held for its executor, who has to be away for it to be claimed here.
    Held {
        /// What would be claimed.
        value: TokenAmount,
        /// From when on, if its payer has asked for a close.
        from: Option<UnixSeconds>,
    },
    /// There is nothing to claim.
    Nothing(NothingDue),
}

/// Why there is nothing to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NothingDue {
    /// It pays nobody this watcher works for, or another token, or is not served here.
    NotOurs,
    /// The channel is over.
    Closed,
    /// Nothing was billed beyond what is settled.
    AllSettled,
    /// What was billed is not authorized by the client, or its authorizations are beyond the deposit.
    NotAuthorized,
}

/// Explains `channel` with a plan of all channels.
pub(crate) async fn explain<C: Chain>(
    ledger: &Ledger,
    books: &Books,
    settler: &Settler<C>,
    plan: &Plan,
    channel: ChannelId,
) -> Result<Explanation, LedgerError> {
    let record = ledger.channel(channel).await?;
    let claimable = ledger.claimable_channel(channel).await?;
    let held = match claimable {
        Some(_) => None,
        None => ledger.held_channel(channel).await?,
    };
    let shown = claimable.as_ref().or(held.as_ref().map(|held| &held.claimable));
    let state = record.as_ref().and_then(|record| record.latest);
    let parameters = record.as_ref().map(|record| record.parameters);
    let token = parameters.map_or(Address::ZERO, |parameters| parameters.token);
    let candidate = shown.map(|claimable| books.candidate(claimable));
    let deadline = candidate.as_ref().and_then(|candidate| candidate.deadline);
    let quarantined = settler.quarantine.list();
    let failed = quarantined.into_iter().find(|row| row.channel == channel);

    let planned = plan.claims.iter().find_map(|claim| {
        let row = claim.rows.iter().find(|row| row.channel == channel)?;
        Some((claim, row))
    });
    let waiting = plan.waiting.iter().find(|waiting| waiting.channel == channel);
    let verdict = if let Some((claim, row)) = planned {
        Verdict::Now {
            by: claim.by,
            value: row.value,
            why: row.why,
            rows: claim.rows.len(),
            claim_value: claim.value,
            fee: claim.fee,
        }
    } else if let Some(waiting) = waiting {
        Verdict::NotYet(waiting.clone())
    } else if let Some((transaction, amount, closes)) = under_way(ledger, channel).await? {
        Verdict::UnderWay {
            transaction,
            amount,
            closes,
        }
    } else if let Some(held) = held.as_ref().filter(|_| state.is_some_and(|state| !state.finalized)) {
        let settled = state.map_or(TokenAmount::ZERO, |state| state.settled);
        match promised(held, settled).saturating_sub(settled) {
            TokenAmount::ZERO => Verdict::Nothing(NothingDue::AllSettled),
            value => Verdict::Held {
                value,
                from: deadline.map(|deadline| books.defends_from(deadline)),
            },
        }
    } else {
        Verdict::Nothing(match &claimable {
            _ if state.is_some_and(|state| state.finalized) => NothingDue::Closed,
            Some(claimable) if books.has(channel) => {
                let settled = state.map_or(TokenAmount::ZERO, |state| state.settled);
                if claimable.billed <= settled {
                    NothingDue::AllSettled
                } else {
                    NothingDue::NotAuthorized
                }
            }
            _ => NothingDue::NotOurs,
        })
    };
    Ok(Explanation {
        channel,
        payee: parameters.map_or(Address::ZERO, |parameters| parameters.payee),
        token,
        deposit: state.map_or(TokenAmount::ZERO, |state| state.deposit),
        settled: state.map_or(TokenAmount::ZERO, |state| state.settled),
        billed: shown.map_or(TokenAmount::ZERO, |claimable| claimable.billed),
        voucher: candidate.as_ref().and_then(|candidate| candidate.voucher),
        receipt: candidate.as_ref().and_then(|candidate| candidate.receipt),
        deadline,
        claimed_from: deadline.map(|deadline| deadline.minus(settler.policy.safety_margin)),
        thresholds: settler.policy.thresholds(token),
        gas_price: plan.gas_price,
        failed: failed.map(|row| row.reason),
        verdict,
    })
}

/// The newest pending transaction that settles `channel`, and what its `settled` becomes.
async fn under_way(ledger: &Ledger, channel: ChannelId) -> Result<Option<(B256, TokenAmount, bool)>, LedgerError> {
    let pending = ledger.pending_transactions().await?;
    Ok(pending.iter().rev().find_map(|record| match &record.purpose {
        Purpose::Claim { rows, .. } => {
            let (_, amount) = rows.iter().find(|(claimed, _)| *claimed == channel)?;
            Some((record.hash, *amount, false))
        }
        Purpose::Close {
            channel: closed,
            amount,
        } => (*closed == channel).then_some((record.hash, *amount, true)),
        Purpose::Cancellation | Purpose::Other => None,
    }))
}
