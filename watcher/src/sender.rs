//! Sends transactions so that a crash at any moment loses none and repeats none: sign, store, broadcast.

use std::{collections::BTreeMap, sync::Arc};

use alloy::primitives::{Address, B256, U256};
use lloom_ledger::{
    Block, Finish, Ledger, LedgerError, NewTransaction, Purpose, SettleError, TransactionId, TransactionRecord,
};
use lloom_receipts::{BlockNumber, Keypair, TokenAmount, UnixSeconds};
use tokio::sync::Mutex;

mod bids;
mod pushing;
mod suspects;

use self::{bids::Bids, suspects::Suspects};
use crate::{
    chain::{Broadcast, Call, Chain, ChainError, MinedTransaction, NonceAt, Revert, StateAt},
    fees::{FeePolicy, Fees, FeesTooHigh},
    metrics::{WatcherMetrics, purpose_of},
    patience::waited,
    transaction::{Envelope, SignedTransaction, UnreadableTransaction, call_of, sign},
};

/// Finished transactions that are looked through for one that a deep reorg has undone.
pub(crate) const RECENT_TRANSACTIONS: u32 = 256;

/// How far beyond what is known here an endpoint's pool is believed to be: pools hold about as many transactions of an account.
const MAX_STRANGERS: u64 = 64;
/// Nonces that a key may have waiting: one further ahead of the chain was made up by an endpoint, and nothing is ever mined
/// there. Far more than a reorg takes back.
const MAX_AHEAD: u64 = 4_096;

/// One key's transactions. Clones share the one place where nonces are given out.
#[derive(Clone)]
pub(crate) struct Sender<C> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    chain: C,
    ledger: Ledger,
    key: Keypair,
    chain_id: u64,
    fees: FeePolicy,
    /// Held from choosing a nonce until the transaction is stored and broadcast.
    nonces: Mutex<()>,
    /// Transactions whose nonce looks used by a stranger.
    suspects: Suspects,
    bids: Bids,
    metrics: WatcherMetrics,
}

/// What a pending transaction is up against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// Until when it has to be mined, if anything presses.
    pub(crate) deadline: Option<UnixSeconds>,
    /// Whether all that it was sent for is final already, by somebody else's doing.
    pub(crate) is_moot: bool,
    /// The rows of a claim that have something to settle yet.
    pub(crate) at_risk: Vec<RowAtRisk>,
}

/// A row of a pending claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowAtRisk {
    /// Its place in the claim.
    pub(crate) place: usize,
    /// What it would settle now, base units.
    pub(crate) value: TokenAmount,
    /// From when on the payer may take the rest out.
    pub(crate) deadline: Option<UnixSeconds>,
}

impl Outlook {
    /// What the transaction's own record says.
    pub(crate) const fn of(record: &TransactionRecord) -> Self {
        Self {
            deadline: record.deadline,
            is_moot: false,
            at_risk: Vec::new(),
        }
    }
}

/// What presses a nonce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pressing {
    /// The first deadline of what waits for it: its own transactions, and those of later nonces.
    deadline: Option<UnixSeconds>,
    /// The first of its own transactions.
    own_deadline: Option<UnixSeconds>,
    /// Whether its transactions have nothing to do any more.
    is_moot: bool,
    /// What the newest of them has to settle yet.
    at_risk: Vec<RowAtRisk>,
}

/// A transaction that is stored, and so will be sent until its fate is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentTransaction {
    /// Its name in the ledger.
    pub id: TransactionId,
    /// Its hash; a replacement has another one.
    pub hash: B256,
    /// Why the first endpoint didn't take it, if it didn't. It is sent again all the same.
    pub refused: Option<String>,
}

/// A transaction whose fate is known.
#[derive(Clone, Debug)]
pub(crate) struct FinishedTransaction {
    pub(crate) record: TransactionRecord,
    pub(crate) finish: Finish,
    pub(crate) mined: Option<MinedTransaction>,
}

/// Where the chain stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heights {
    pub(crate) head: Block,
    /// The newest block that counts as final.
    pub(crate) confirmed: Block,
}

/// Why a transaction can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The contract would refuse it.
    #[error("the contract refuses: {revert}")]
    Reverted {
        /// Its refusal.
        revert: Revert,
    },
    /// Gas is too dear.
    #[error(transparent)]
    FeesTooHigh(#[from] FeesTooHigh),
    /// The key has too few native coins for the gas.
    #[error("{account} has {balance} wei left for gas, and the transaction may need {needed}")]
    InsufficientGasMoney {
        /// Who pays.
        account: Address,
        /// What it has, beside what its pending transactions may cost, wei.
        balance: U256,
        /// What the transaction may cost, wei.
        needed: U256,
    },
    /// The chain gave no answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store refuses the transaction.
    #[error("the store refuses the transaction")]
    Settle(#[source] SettleError),
    /// The store was written for another chain of the same id, such as a development chain before it was started anew.
    #[error("the store was written for another chain: this one does not have what the store knows of block {block}")]
    OtherChain {
        /// A block that the store knows, or in which a transaction of the store was final.
        block: BlockNumber,
    },
    /// A stored transaction is damaged.
    #[error(transparent)]
    Unreadable(#[from] UnreadableTransaction),
}

impl From<SettleError> for SendError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Ledger(error) => Self::Ledger(error),
            error => Self::Settle(error),
        }
    }
}

/// Whether a nonce is so far ahead of the chain's `next` one that nothing is ever mined there.
const fn is_out_of_reach(nonce: u64, next: u64) -> bool {
    nonce.saturating_sub(next) > MAX_AHEAD
}

/// The highest fee, wei per gas, that `balance` affords beside `value`, if it affords that.
fn affordable_fee(balance: U256, value: U256, gas_limit: u64) -> Option<u128> {
    let left = balance.checked_sub(value)?;
    let fee = left.checked_div(U256::from(gas_limit)).unwrap_or(U256::MAX);
    Some(fee.saturating_to())
}

/// What is to be sent.
pub(crate) struct Order {
    pub(crate) call: Call,
    pub(crate) gas_limit: u64,
    pub(crate) purpose: Purpose,
    pub(crate) deadline: Option<UnixSeconds>,
}

/// What became of the transactions of one nonce.
enum Judged {
    /// The endpoint doesn't want to say.
    Unknown(Vec<TransactionRecord>),
    /// All that is final of them now.
    Finished(Vec<FinishedTransaction>),
    /// One is in a block that may still be replaced.
    Unfinal,
    /// None is in a block.
    Pending(Vec<TransactionRecord>),
}

impl<C: Chain> Sender<C> {
    pub(crate) fn new(chain: C, ledger: Ledger, key: Keypair, chain_id: u64, fees: FeePolicy) -> Self {
        Self {
            shared: Arc::new(Shared {
                chain,
                ledger,
                key,
                chain_id,
                fees,
                nonces: Mutex::new(()),
                suspects: Suspects::default(),
                bids: Bids::default(),
                metrics: WatcherMetrics::default(),
            }),
        }
    }

    pub(crate) fn account(&self) -> Address {
        self.shared.key.address()
    }

    pub(crate) fn metrics(&self) -> &WatcherMetrics {
        &self.shared.metrics
    }

    /// The newest transaction of this key that is in a final block, and that block.
    pub(crate) async fn newest_mined(&self) -> Result<Option<(B256, BlockNumber)>, LedgerError> {
        let recent = self.shared.ledger.transactions(RECENT_TRANSACTIONS).await?;
        let own = recent.into_iter().filter(|record| record.from == self.account());
        let mined = own.filter_map(|record| match record.finish {
            Some(Finish::Mined { block, .. }) => Some((record.hash, block)),
            _ => None,
        });
        Ok(mined.max_by_key(|(_, block)| *block))
    }

    /// Signs, stores and broadcasts, in this order. Once this returns, the transaction is sent until its fate is known,
    /// whatever the first endpoint said to it. An error says that nothing was sent, and nothing will be.
    pub(crate) async fn submit(&self, order: Order, now: UnixSeconds) -> Result<SentTransaction, SendError> {
        let shared = &self.shared;
        let _nonces = shared.nonces.lock().await;
        let fees = self.affordable_fees(&order, now).await?;
        let envelope = Envelope {
            chain_id: shared.chain_id,
            nonce: self.next_nonce().await?,
            gas_limit: order.gas_limit,
            fees,
        };
        let signed = sign(&shared.key, &order.call, envelope);
        let id = self
            .store(&signed, envelope, order.purpose, None, order.deadline, now)
            .await?;
        // It is stored: somebody sends it, if not this process.
        let refused = self.broadcast(id, &signed, now).await;
        Ok(SentTransaction {
            id,
            hash: signed.hash,
            refused: refused.unwrap_or_else(|error| Some(error.to_string())),
        })
    }

    /// Broadcasts every stored transaction without a known fate: what a start after a crash begins with.
    pub(crate) async fn rebroadcast_all(&self, now: UnixSeconds) -> Result<(), SendError> {
        for record in self.pending().await? {
            self.rebroadcast(&record, now).await?;
        }
        Ok(())
    }

    /// Looks what became of the pending transactions, finishes those whose fate is known (they come to `finished`, also when
    /// a later one fails), and pushes the others: one
    /// that waits too long is made dearer, or, once it has nothing to do any more, cancelled by a transfer of nothing to
    /// oneself. It isn't left alone then: every later one would wait for it, and whoever ordered it would never hear.
    pub(crate) async fn advance(
        &self,
        heights: Heights,
        now: UnixSeconds,
        outlook: impl Fn(&TransactionRecord) -> Outlook,
        finished: &mut Vec<FinishedTransaction>,
    ) -> Result<(), SendError> {
        // One look at a time, or two would both find a transaction too old and replace it.
        let _nonces = self.shared.nonces.lock().await;
        let pending = self.pending().await?;
        self.shared.bids.look(heights.head, &pending);
        let mut groups: BTreeMap<u64, Vec<TransactionRecord>> = BTreeMap::new();
        for record in pending {
            groups.entry(record.nonce).or_default().push(record);
        }
        let Some(first) = groups.keys().next().copied() else {
            return Ok(());
        };
        let next_at_head = self.next_nonce_at(heights.head).await?;
        let next_confirmed = self.next_nonce_at(heights.confirmed).await?;
        // Whatever waits for a later nonce waits for this one too.
        let mut pressing = BTreeMap::new();
        let mut earliest = None;
        for (nonce, group) in groups.iter().rev() {
            let mut outlooks: Vec<_> = group.iter().map(&outlook).collect();
            let own_deadline = outlooks.iter().filter_map(|outlook| outlook.deadline).min();
            earliest = own_deadline.into_iter().chain(earliest).min();
            let presses = Pressing {
                deadline: earliest,
                own_deadline,
                is_moot: outlooks.iter().any(|outlook| outlook.is_moot),
                at_risk: outlooks.pop().unwrap_or_default().at_risk,
            };
            pressing.insert(*nonce, presses);
        }
        if let Some(next) = next_at_head
            && next < first
            && !is_out_of_reach(first, next)
        {
            let reopened = self.reopen(next..first, now).await?;
            let missing = (next..first).filter(|nonce| !reopened.contains(nonce)).collect();
            let waiting_since = groups[&first].iter().map(|record| record.recorded_at).min();
            self.fill(missing, waiting_since.unwrap_or(now), earliest, now).await?;
        }
        for (nonce, group) in groups {
            let ids: Vec<_> = group.iter().map(|record| record.id).collect();
            match self.judge(group, nonce, next_confirmed, heights).await? {
                Judged::Finished(group) => finished.extend(group),
                Judged::Unfinal => self.shared.bids.mined(&ids),
                Judged::Unknown(_) if next_at_head.is_none_or(|next| next > nonce) => {}
                // A nonce that is free says as much as a receipt that is missing.
                Judged::Pending(group) | Judged::Unknown(group) => {
                    let pressing = pressing.remove(&nonce).unwrap_or_default();
                    let is_next = nonce == next_at_head.unwrap_or(first);
                    let at = StateAt::Block(heights.head.hash);
                    self.push(group, is_next, pressing, at, now).await?;
                }
            }
        }
        Ok(())
    }

    /// Those of this key's `pending` transactions that get nowhere, and why: by themselves, or behind an earlier nonce that
    /// does not.
    pub(crate) fn stuck(&self, pending: &[TransactionRecord]) -> Vec<(TransactionRecord, String)> {
        let mut nonces: BTreeMap<u64, Vec<&TransactionRecord>> = BTreeMap::new();
        for record in pending.iter().filter(|record| record.from == self.account()) {
            nonces.entry(record.nonce).or_default().push(record);
        }
        let mut stuck = Vec::new();
        let mut before = None;
        for group in nonces.values_mut() {
            group.sort_by_key(|record| record.id);
            let ids: Vec<_> = group.iter().map(|record| record.id).collect();
            before = before.or_else(|| self.shared.bids.trouble(&ids));
            if let Some(reason) = &before {
                stuck.extend(group.iter().map(|record| ((*record).clone(), reason.clone())));
            }
        }
        stuck
    }

    /// [`advance`](Self::advance) for transactions that other keys have signed: those of a leader before this one, or of
    /// this operator before its key was changed. They can be sent again and not be made dearer.
    pub(crate) async fn advance_inherited(
        &self,
        heights: Heights,
        now: UnixSeconds,
        finished: &mut Vec<FinishedTransaction>,
    ) -> Result<(), SendError> {
        let mut groups: BTreeMap<(Address, u64), Vec<TransactionRecord>> = BTreeMap::new();
        for record in self.shared.ledger.pending_transactions().await? {
            if record.from != self.account() {
                groups.entry((record.from, record.nonce)).or_default().push(record);
            }
        }
        for ((account, nonce), group) in groups {
            let next_confirmed = self.next_nonce_of(account, heights.confirmed).await?;
            match self.judge(group, nonce, next_confirmed, heights).await? {
                Judged::Finished(group) => finished.extend(group),
                Judged::Unfinal | Judged::Unknown(_) => {}
                Judged::Pending(group) => {
                    let due = |record: &&TransactionRecord| {
                        record
                            .broadcast_at
                            .is_none_or(|at| waited(at, now, self.shared.fees.rebroadcast))
                    };
                    if let Some(newest) = group.last().filter(due) {
                        self.rebroadcast(newest, now).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks what became of the transactions of `group`, which share a nonce. Whoever asks has read the account's next nonce
    /// before, so that a transaction that used this one has its receipt by now.
    async fn judge(
        &self,
        group: Vec<TransactionRecord>,
        nonce: u64,
        next_confirmed: Option<u64>,
        heights: Heights,
    ) -> Result<Judged, SendError> {
        let mut mined = None;
        for record in &group {
            match self.shared.chain.transaction_receipt(record.hash).await {
                Ok(Some(receipt)) => mined = Some((record.clone(), receipt)),
                Ok(None) => {}
                // One that still indexes its transactions, say, is no reason to leave all others alone.
                Err(error @ ChainError::Refused { .. }) => {
                    tracing::warn!(transaction = %record.hash, %error, "nobody says whether a transaction is in a block");
                    return Ok(Judged::Unknown(group));
                }
                Err(error) => return Err(error.into()),
            }
        }
        match mined {
            Some((record, receipt)) if self.is_final(&receipt, heights).await? => {
                self.finish_mined(record, receipt, group).await.map(Judged::Finished)
            }
            Some(_) => {
                self.shared.suspects.clear(&group);
                Ok(Judged::Unfinal)
            }
            None if next_confirmed.is_some_and(|next| next > nonce || is_out_of_reach(nonce, next)) => self
                .finish_dropped(group, heights.confirmed)
                .await
                .map(Judged::Finished),
            None => {
                self.shared.suspects.clear(&group);
                Ok(Judged::Pending(group))
            }
        }
    }

    /// The next nonce: the only place that decides it. The chain counts strangers' use of the key, the ledger counts
    /// what no endpoint's pool remembers. What a pool is said to hold is no block's state, so it is believed within limits.
    async fn next_nonce(&self) -> Result<u64, SendError> {
        let shared = &self.shared;
        let pending = shared.chain.nonce(self.account(), NonceAt::Pending).await?;
        let head = match shared.bids.head() {
            Some(head) => head,
            None => shared.chain.head().await?,
        };
        let next_at_head = self.next_nonce_at(head).await?;
        let is_near = |nonce: &u64| next_at_head.is_none_or(|next| !is_out_of_reach(*nonce, next));
        let mut stored = shared.ledger.highest_nonce(self.account()).await?;
        if !stored.iter().all(is_near) {
            let pending = self.pending().await?;
            stored = pending.iter().map(|record| record.nonce).filter(is_near).max();
        }
        let own = stored.map(|highest| highest.saturating_add(1)).max(next_at_head);
        Ok(match own {
            Some(own) if pending.saturating_sub(own) > MAX_STRANGERS && next_at_head.is_some() => {
                tracing::warn!(
                    pending,
                    own,
                    "an endpoint counts more pending transactions of this key than any pool holds; passing over that"
                );
                own
            }
            own => own.map_or(pending, |own| own.max(pending)),
        })
    }

    /// The key's next nonce after `block`; `None` where the endpoint forgot that state, or doesn't know the block any
    /// more. Then nothing can be concluded from it.
    async fn next_nonce_at(&self, block: Block) -> Result<Option<u64>, SendError> {
        self.next_nonce_of(self.account(), block).await
    }

    async fn next_nonce_of(&self, account: Address, block: Block) -> Result<Option<u64>, SendError> {
        match self.shared.chain.nonce(account, NonceAt::Block(block.hash)).await {
            Ok(nonce) => Ok(Some(nonce)),
            Err(ChainError::Refused { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What `order` offers: what the policy says, or what the balance affords if the deadline is near.
    async fn affordable_fees(&self, order: &Order, now: UnixSeconds) -> Result<Fees, SendError> {
        let shared = &self.shared;
        let quote = shared.chain.fees().await?;
        let fees = shared.fees.offer(quote, order.deadline, now)?;
        let balance = self.free_balance(None).await?;
        let affordable = affordable_fee(balance, order.call.value, order.gas_limit);
        let lowered = affordable.and_then(|most| shared.fees.lower(fees, most, quote, order.deadline, now));
        let Some(lowered) = lowered else {
            let gas = U256::from(order.gas_limit) * U256::from(fees.max_fee);
            return Err(SendError::InsufficientGasMoney {
                account: self.account(),
                balance,
                needed: gas.saturating_add(order.call.value),
            });
        };
        if lowered != fees {
            tracing::warn!(account = %self.account(), %balance, max_fee = lowered.max_fee, wanted = fees.max_fee, "little gas money is left; a deadline is near, so offering what it affords");
        }
        Ok(lowered)
    }

    /// What the key has beside the most that its pending transactions may cost, but for those of the nonce `but`: pools take
    /// no transaction that an account could not pay for together with those that it has there. What is in a block has paid
    /// already, final or not.
    async fn free_balance(&self, but: Option<u64>) -> Result<U256, SendError> {
        let pending = self.pending().await?;
        let mined_below = match self.shared.bids.head() {
            Some(head) if !pending.is_empty() => self.next_nonce_at(head).await?,
            _ => None,
        };
        let mut costs: BTreeMap<u64, U256> = BTreeMap::new();
        for record in pending {
            if Some(record.nonce) == but || mined_below.is_some_and(|next| record.nonce < next) {
                continue;
            }
            let gas = U256::from(record.gas_limit) * U256::from(record.max_fee);
            let cost = gas.saturating_add(call_of(&record.raw)?.value);
            let known = costs.entry(record.nonce).or_default();
            *known = cost.max(*known);
        }
        let balance = self.shared.chain.native_balance(self.account()).await?;
        Ok(costs.values().fold(balance, |left, cost| left.saturating_sub(*cost)))
    }

    async fn store(
        &self,
        signed: &SignedTransaction,
        envelope: Envelope,
        purpose: Purpose,
        replaces: Option<TransactionId>,
        deadline: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<TransactionId, SendError> {
        let stored = purpose_of(&purpose);
        let id = self
            .shared
            .ledger
            .record_transaction(NewTransaction {
                from: self.account(),
                nonce: envelope.nonce,
                hash: signed.hash,
                raw: signed.raw.clone(),
                purpose,
                replaces,
                max_fee: envelope.fees.max_fee,
                priority_fee: envelope.fees.priority_fee,
                gas_limit: envelope.gas_limit,
                deadline,
                now,
            })
            .await?;
        self.shared.bids.note(id);
        self.shared.metrics.stored(stored, replaces.is_some());
        tracing::info!(transaction = %signed.hash, nonce = envelope.nonce, max_fee = envelope.fees.max_fee, "stored a transaction");
        Ok(id)
    }

    /// Hands stored bytes to the network. No failure here is final: the next round tries again.
    async fn broadcast(
        &self,
        id: TransactionId,
        signed: &SignedTransaction,
        now: UnixSeconds,
    ) -> Result<Option<String>, SendError> {
        // Whoever leads now looks after it.
        self.shared.ledger.check_leads().await?;
        let refused = match self.shared.chain.broadcast(&signed.raw).await {
            Ok(Broadcast::Accepted | Broadcast::AlreadyKnown | Broadcast::NonceUsed) => None,
            Ok(Broadcast::Refused { reason }) => Some(reason),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = &refused {
            tracing::warn!(transaction = %signed.hash, reason, "a transaction was not taken; it will be sent again");
        }
        self.shared.bids.offered(id, refused.as_deref());
        self.shared.ledger.mark_broadcast(id, now).await?;
        Ok(refused)
    }

    async fn rebroadcast(&self, record: &TransactionRecord, now: UnixSeconds) -> Result<(), SendError> {
        let signed = SignedTransaction {
            hash: record.hash,
            raw: record.raw.clone(),
        };
        self.broadcast(record.id, &signed, now).await.map(drop)
    }

    async fn pending(&self) -> Result<Vec<TransactionRecord>, SendError> {
        let mut pending = self.shared.ledger.pending_transactions().await?;
        pending.retain(|record| record.from == self.account());
        pending.sort_by_key(|record| (record.nonce, record.id));
        Ok(pending)
    }

    async fn is_final(&self, receipt: &MinedTransaction, heights: Heights) -> Result<bool, SendError> {
        if receipt.block > heights.confirmed.number {
            return Ok(false);
        }
        // The receipt may be an endpoint's that has not heard of a fork yet.
        let canonical = self.shared.chain.block(receipt.block).await?;
        Ok(canonical.is_some_and(|block| block.hash == receipt.block_hash))
    }

    async fn finish_mined(
        &self,
        record: TransactionRecord,
        receipt: MinedTransaction,
        group: Vec<TransactionRecord>,
    ) -> Result<Vec<FinishedTransaction>, SendError> {
        self.shared.suspects.clear(&group);
        let mut finished = Vec::new();
        // The others first: should this be interrupted, the one that was mined is still looked at.
        for other in group.into_iter().filter(|other| other.id != record.id) {
            let finish = Finish::Replaced { by: record.id };
            self.finish(other, finish, None, &mut finished).await?;
        }
        if !receipt.succeeded {
            tracing::error!(transaction = %record.hash, gas_used = receipt.gas_used, "a transaction was reverted");
        }
        let finish = Finish::Mined {
            block: receipt.block,
            succeeded: receipt.succeeded,
            gas_used: receipt.gas_used,
            gas_price: receipt.gas_price,
        };
        self.finish(record, finish, Some(receipt), &mut finished).await?;
        Ok(finished)
    }

    async fn finish_dropped(
        &self,
        group: Vec<TransactionRecord>,
        confirmed: Block,
    ) -> Result<Vec<FinishedTransaction>, SendError> {
        let mut finished = Vec::new();
        for record in group {
            if self.shared.suspects.convict(record.id, confirmed) {
                tracing::warn!(transaction = %record.hash, nonce = record.nonce, "the nonce was used by a transaction that is not ours, or will never be reached");
                self.finish(record, Finish::Dropped, None, &mut finished).await?;
            }
        }
        Ok(finished)
    }

    async fn finish(
        &self,
        record: TransactionRecord,
        finish: Finish,
        mined: Option<MinedTransaction>,
        finished: &mut Vec<FinishedTransaction>,
    ) -> Result<(), SendError> {
        self.shared.ledger.finish_transaction(record.id, finish.clone()).await?;
        self.shared.metrics.finished(&record, &finish);
        finished.push(FinishedTransaction { record, finish, mined });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
