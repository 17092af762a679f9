//! What the ledger holds, as the planner and the closer see it.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use alloy::primitives::Address;
use lloom_ledger::{Claimable, Ledger, LedgerError, Purpose, TransactionId, TransactionRecord};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{
    defence::{Defence, DefencePolicy},
    planner::Candidate,
    sender::Outlook,
};

/// How long a claim that another key has signed is waited for: a leader before this one's.
const INHERITANCE_PATIENCE: Duration = Duration::from_secs(180);

/// Everything that can be claimed, and what is under way.
pub(crate) struct Books {
    claimables: HashMap<ChannelId, Claimable>,
    /// What pending transactions will settle, if they do.
    under_way: HashMap<ChannelId, TokenAmount>,
    closing: Vec<ChannelId>,
    /// Pending transactions that have nothing to do any more.
    moot: HashSet<TransactionId>,
    grace: Duration,
    defence: Defence,
}

impl Books {
    /// Reads what is claimable by `payees` in their tokens, for a watcher that signs as `account`, and what has to be
    /// defended for others, if that is done here.
    pub(crate) async fn open(
        ledger: &Ledger,
        payees: &[(Address, Address)],
        grace: Duration,
        account: Address,
        now: UnixSeconds,
        defence: Option<&DefencePolicy>,
    ) -> Result<Self, LedgerError> {
        let mut claimables = HashMap::new();
        for (payee, token) in payees {
            for claimable in ledger.claimable(*payee).await? {
                if claimable.channel.parameters.token == *token && claimable.channel.is_open() {
                    claimables.insert(claimable.channel.id, claimable);
                }
            }
        }
        let defence = match defence {
            Some(policy) => {
                let mut held = ledger.held_closing().await?;
                held.retain(|held| !claimables.contains_key(&held.claimable.channel.id));
                let defence = Defence::new(policy.margin(grace), &held);
                for held in held {
                    claimables.insert(held.claimable.channel.id, held.claimable);
                }
                defence
            }
            None => Defence::default(),
        };
        let mut books = Self {
            claimables,
            under_way: HashMap::new(),
            closing: Vec::new(),
            moot: HashSet::new(),
            grace,
            defence,
        };
        for record in ledger.pending_transactions().await? {
            if is_moot(ledger, &record.purpose).await? {
                books.moot.insert(record.id);
            }
            // One of another key can't be made dearer, so it is not waited for: what it settles in the end is settled
            // once, whoever settles it first.
            let given_up = record.from != account && now.since(record.recorded_at) > INHERITANCE_PATIENCE;
            let claims = matches!(record.purpose, Purpose::Claim { .. });
            if !(given_up && claims) {
                books.count(record);
            }
        }
        Ok(books)
    }

    fn count(&mut self, record: TransactionRecord) {
        match record.purpose {
            Purpose::Claim { rows, .. } => {
                for (channel, amount) in rows {
                    let known = self.under_way.entry(channel).or_default();
                    *known = amount.max(*known);
                }
            }
            Purpose::Close { channel, .. } => self.closing.push(channel),
            Purpose::Cancellation | Purpose::Other => {}
        }
    }

    pub(crate) fn claimables(&self) -> &HashMap<ChannelId, Claimable> {
        &self.claimables
    }

    /// The channels to plan with: what a pending transaction will settle counts as settled, so it is not claimed twice.
    pub(crate) fn candidates(&self, now: UnixSeconds) -> Vec<Candidate> {
        self.claimables
            .values()
            .filter(|claimable| !self.closing.contains(&claimable.channel.id))
            .map(|claimable| {
                let mut candidate = candidate(claimable, self.grace);
                if let Some(under_way) = self.under_way.get(&claimable.channel.id) {
                    candidate.settled = candidate.settled.max(*under_way);
                }
                candidate
            })
            .filter(|candidate| self.defence.allows(candidate, now))
            .collect()
    }

    /// A channel as the planner sees it, whatever is under way.
    pub(crate) fn candidate(&self, claimable: &Claimable) -> Candidate {
        candidate(claimable, self.grace)
    }

    /// What a pending transaction is up against.
    pub(crate) fn outlook(&self, record: &TransactionRecord) -> Outlook {
        Outlook {
            deadline: self.deadline(record),
            is_moot: self.moot.contains(&record.id),
        }
    }

    /// Until when a pending transaction has to be mined: the first deadline of its channels.
    fn deadline(&self, record: &TransactionRecord) -> Option<UnixSeconds> {
        let of = |channel: &ChannelId| {
            self.claimables
                .get(channel)
                .and_then(|claimable| candidate(claimable, self.grace).deadline)
        };
        let live = match &record.purpose {
            Purpose::Claim { rows, .. } => rows.iter().filter_map(|(channel, _)| of(channel)).min(),
            Purpose::Close { channel, .. } => of(channel),
            Purpose::Cancellation | Purpose::Other => None,
        };
        live.into_iter().chain(record.deadline).min()
    }
}

/// Whether all that a transaction is to do is done, or can't be done any more, in blocks that are final.
async fn is_moot(ledger: &Ledger, purpose: &Purpose) -> Result<bool, LedgerError> {
    let rows = match purpose {
        Purpose::Claim { rows, .. } => rows.clone(),
        // What closing would settle is no reason to leave a channel open.
        Purpose::Close { channel, .. } => vec![(*channel, TokenAmount::MAX)],
        Purpose::Cancellation | Purpose::Other => return Ok(false),
    };
    for (channel, target) in &rows {
        let state = ledger.channel(*channel).await?.and_then(|record| record.confirmed);
        if !state.is_some_and(|state| state.finalized || state.settled >= *target) {
            return Ok(false);
        }
    }
    Ok(!rows.is_empty())
}

/// A channel as the ledger has it at the newest block.
pub(crate) fn candidate(claimable: &Claimable, grace: Duration) -> Candidate {
    let state = claimable.channel.latest;
    Candidate {
        channel: claimable.channel.id,
        payee: claimable.channel.parameters.payee,
        token: claimable.channel.parameters.token,
        deposit: state.map_or(TokenAmount::ZERO, |state| state.deposit),
        settled: state.map_or(TokenAmount::ZERO, |state| state.settled),
        billed: claimable.billed,
        voucher: claimable.voucher.as_ref().map(|voucher| voucher.document().amount),
        receipt: claimable
            .receipt
            .as_ref()
            .map(|receipt| receipt.receipt().cumulative_amount),
        deadline: state
            .and_then(|state| state.close_requested_at)
            .map(|requested_at| requested_at.plus(grace)),
        held: None,
    }
}
