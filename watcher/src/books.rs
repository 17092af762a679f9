//! What the ledger holds, as the planner and the closer see it.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use alloy::primitives::Address;
use lloom_ledger::{Claimable, Ledger, LedgerError, Purpose, Tally, TransactionId, TransactionRecord};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{
    defence::{Defence, DefencePolicy},
    fees::REPLACEMENTS_BEFORE_DEADLINE,
    patience::waited,
    planner::{Candidate, PlannedClaim},
    sender::{Outlook, RowAtRisk},
};

/// How long what another key has signed is waited for, while no deadline presses: a leader before this one's.
const INHERITANCE_PATIENCE: Duration = Duration::from_secs(180);

/// Everything that can be claimed, and what is under way.
///
/// Of the channels served here it has the amounts alone, of which there may be very many; the authorizations of the few
/// that are claimed are read when they are.
pub(crate) struct Books {
    /// In the order of the channels.
    tallies: Vec<Tally>,
    /// What is defended for others.
    held: HashMap<ChannelId, Claimable>,
    /// What pending transactions will settle, if they do.
    under_way: HashMap<ChannelId, TokenAmount>,
    closing: Vec<ChannelId>,
    /// Payees whose operator whoever plans is not.
    strangers: Vec<Address>,
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
        let mut tallies: Vec<Tally> = Vec::new();
        for (index, (payee, _)) in payees.iter().enumerate() {
            // Once, however many tokens it is paid in.
            if payees[..index].iter().any(|(before, _)| before == payee) {
                continue;
            }
            let found = ledger.tallies(*payee).await?;
            if tallies.is_empty() {
                tallies = found;
            } else {
                tallies.extend(found);
            }
        }
        tallies.retain(|tally| payees.contains(&(tally.payee, tally.token)));
        tallies.sort_unstable_by_key(|tally| tally.channel);
        let mut books = Self {
            tallies,
            held: HashMap::new(),
            under_way: HashMap::new(),
            closing: Vec::new(),
            strangers: Vec::new(),
            moot: HashSet::new(),
            grace,
            defence: Defence::default(),
        };
        if let Some(policy) = defence {
            let mut held = ledger.held_closing().await?;
            held.retain(|held| books.tally(held.claimable.channel.id).is_none());
            books.defence = Defence::new(policy.margin(grace), &held);
            let held = held.into_iter().map(|held| (held.claimable.channel.id, held.claimable));
            books.held = held.collect();
        }
        let pending = ledger.pending_transactions().await?;
        // By nonce; the newest comes last.
        let is_claim = |record: &&TransactionRecord| matches!(record.purpose, Purpose::Claim { .. });
        let claims: HashMap<_, _> = pending
            .iter()
            .filter(is_claim)
            .map(|record| ((record.from, record.nonce), record))
            .collect();
        for record in &pending {
            if is_moot(ledger, &record.purpose).await? {
                books.moot.insert(record.id);
            }
            // What a part of it has taken the place of settles nothing more once that part is in a block. Until then the gas
            // money is that part's.
            let newest = claims.get(&(record.from, record.nonce));
            if is_claim(&record) && newest.is_some_and(|newest| newest.id != record.id && books.has_settled(newest)) {
                continue;
            }
            // One of another key can't be made dearer, so it is not waited for: what it settles in the end is settled
            // once, whoever settles it first, and a close settles no less for a claim beside it.
            if record.from == account || !waited(record.recorded_at, now, books.patience(record)) {
                books.count(record);
            }
        }
        Ok(books)
    }

    /// Passes over the receipts of these payees' channels: whoever plans is no operator of theirs.
    pub(crate) fn use_vouchers_for(&mut self, payees: Vec<Address>) {
        self.strangers = payees;
    }

    /// How long a transaction of another key is waited for: a part of the time that it had when it was made.
    fn patience(&self, record: &TransactionRecord) -> Duration {
        let had = self.deadline(record).map(|deadline| deadline.since(record.recorded_at));
        had.map_or(INHERITANCE_PATIENCE, |had| {
            INHERITANCE_PATIENCE.min(had / REPLACEMENTS_BEFORE_DEADLINE)
        })
    }

    fn count(&mut self, record: &TransactionRecord) {
        match &record.purpose {
            Purpose::Claim { rows, .. } => {
                for (channel, amount) in rows {
                    let known = self.under_way.entry(*channel).or_default();
                    *known = (*known).max(*amount);
                }
            }
            Purpose::Close { channel, .. } => self.closing.push(*channel),
            Purpose::Cancellation | Purpose::Other => {}
        }
    }

    fn tally(&self, channel: ChannelId) -> Option<&Tally> {
        let found = self.tallies.binary_search_by_key(&channel, |tally| tally.channel);
        found.ok().and_then(|index| self.tallies.get(index))
    }

    /// Whether the channel is one to plan with.
    pub(crate) fn has(&self, channel: ChannelId) -> bool {
        self.tally(channel).is_some() || self.held.contains_key(&channel)
    }

    /// The authorizations of a claim's rows, as the ledger has them now.
    pub(crate) async fn authorizations(
        &self,
        ledger: &Ledger,
        claim: &PlannedClaim,
    ) -> Result<HashMap<ChannelId, Claimable>, LedgerError> {
        let mut found = HashMap::with_capacity(claim.rows.len());
        for row in &claim.rows {
            let claimable = match self.held.get(&row.channel) {
                Some(held) => Some(held.clone()),
                None => ledger.claimable_channel(row.channel).await?,
            };
            found.extend(claimable.map(|claimable| (row.channel, claimable)));
        }
        Ok(found)
    }

    /// The channels to plan with: what a pending transaction will settle counts as settled, so it is not claimed twice.
    /// One after the other: there may be very many.
    pub(crate) fn candidates(&self, now: UnixSeconds) -> impl Iterator<Item = Candidate> + '_ {
        let served = self.tallies.iter().map(|tally| Candidate::new(tally, self.grace));
        let held = self.held.values().map(|claimable| candidate(claimable, self.grace));
        served
            .chain(held)
            .filter(|candidate| !self.closing.contains(&candidate.channel))
            .map(|mut candidate| {
                candidate.publishes = !self.strangers.contains(&candidate.payee);
                if let Some(under_way) = self.under_way.get(&candidate.channel) {
                    candidate.settled = candidate.settled.max(*under_way);
                }
                candidate
            })
            .filter(move |candidate| self.defence.allows(candidate, now))
    }

    /// From when on one's own watcher claims for others what their executors have not claimed.
    pub(crate) fn defends_from(&self, deadline: UnixSeconds) -> UnixSeconds {
        self.defence.begins(deadline)
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
            at_risk: self.at_risk(record).collect(),
        }
    }

    /// The rows of a claim that have something to settle yet.
    fn at_risk(&self, record: &TransactionRecord) -> impl Iterator<Item = RowAtRisk> {
        let rows = match &record.purpose {
            Purpose::Claim { rows, .. } => rows.as_slice(),
            Purpose::Close { .. } | Purpose::Cancellation | Purpose::Other => &[],
        };
        rows.iter().enumerate().filter_map(|(place, (channel, amount))| {
            let candidate = self.known(*channel)?;
            let value = amount.checked_sub(candidate.settled).filter(|value| !value.is_zero())?;
            Some(RowAtRisk {
                place,
                value,
                deadline: candidate.deadline,
            })
        })
    }

    /// Whether a claim is in the newest blocks, as far as its rows tell.
    fn has_settled(&self, claim: &TransactionRecord) -> bool {
        match &claim.purpose {
            Purpose::Claim { rows, .. } => self.at_risk(claim).count() < rows.len(),
            Purpose::Close { .. } | Purpose::Cancellation | Purpose::Other => false,
        }
    }

    /// A channel as the ledger has it, whatever is under way.
    fn known(&self, channel: ChannelId) -> Option<Candidate> {
        let held = || {
            self.held
                .get(&channel)
                .map(|claimable| candidate(claimable, self.grace))
        };
        let tally = self.tally(channel).map(|tally| Candidate::new(tally, self.grace));
        tally.or_else(held)
    }

    /// Until when a pending transaction has to be mined: the first deadline of its channels, as the chain has them now.
    /// What it was recorded with counts where one of them is not known here, or it has none.
    fn deadline(&self, record: &TransactionRecord) -> Option<UnixSeconds> {
        let of = |channel: &ChannelId| match self.known(*channel) {
            Some(candidate) => candidate.deadline,
            None => record.deadline,
        };
        match &record.purpose {
            Purpose::Claim { rows, .. } => rows.iter().filter_map(|(channel, _)| of(channel)).min(),
            Purpose::Close { channel, .. } => of(channel),
            Purpose::Cancellation | Purpose::Other => record.deadline,
        }
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
        publishes: true,
        held: None,
    }
}

#[cfg(test)]
mod tests;
