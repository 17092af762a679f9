use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use lloom_ledger::{ApplyError, Finish, Ledger, ObligationPolicy, Purpose};
use lloom_receipts::{BlockNumber, Keypair};

use crate::{
    chain::{Call, CallOutcome, Chain, ChainError, MinedTransaction, StateAt},
    fees::FeePolicy,
    gas::with_margin,
    sender::{Heights, Order, Outlook, SendError, Sender, SentTransaction},
};

/// A person's own transactions: approvals, deposits, openings, withdrawals.
///
/// They go the way a watcher's go: signed, stored, broadcast, and looked after until their fate is known, by this or by
/// any later process with the same key and store. One key has one place that gives out nonces: beside a watcher of the
/// same key, use [`Watcher::outbox`](crate::Watcher::outbox).
pub struct Outbox<C> {
    chain: C,
    ledger: Ledger,
    sender: Sender<C>,
    confirmations: u64,
    poll_interval: Duration,
}

/// What a call would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostEstimate {
    /// Gas it uses, about.
    pub gas: u64,
    /// What one gas costs now, wei.
    pub gas_price: u128,
}

impl CostEstimate {
    /// What it costs, about, wei.
    pub fn wei(&self) -> U256 {
        U256::from(self.gas) * U256::from(self.gas_price)
    }
}

/// What became of a transaction, for good.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It, or its replacement, is in a final block.
    Mined(MinedTransaction),
    /// Its nonce was used by a transaction that is not in the store. It will never be mined.
    Dropped,
}

impl<C: Chain> Outbox<C> {
    /// The outbox of `key` on `chain`. A transaction counts as final `confirmations` blocks deep.
    pub fn new(
        chain: C,
        ledger: Ledger,
        key: Keypair,
        chain_id: u64,
        fees: FeePolicy,
        confirmations: u64,
        poll_interval: Duration,
    ) -> Self {
        let sender = Sender::new(chain.clone(), ledger.clone(), key, chain_id, fees);
        Self::beside(chain, ledger, sender, confirmations, poll_interval)
    }

    pub(crate) const fn beside(
        chain: C,
        ledger: Ledger,
        sender: Sender<C>,
        confirmations: u64,
        poll_interval: Duration,
    ) -> Self {
        Self {
            chain,
            ledger,
            sender,
            confirmations,
            poll_interval,
        }
    }

    /// Whose transactions these are.
    pub fn account(&self) -> Address {
        self.sender.account()
    }

    /// What `call` would cost.
    ///
    /// # Errors
    /// [`SendError::Reverted`] when the contract would refuse it.
    pub async fn estimate(&self, call: &Call) -> Result<CostEstimate, SendError> {
        Ok(CostEstimate {
            gas: self.gas(call).await?,
            gas_price: self.chain.fees().await?.gas_price(),
        })
    }

    /// Signs, stores and broadcasts `call`.
    ///
    /// # Errors
    /// [`SendError`]; then nothing was sent, and nothing will be.
    pub async fn send(&self, call: Call) -> Result<SentTransaction, SendError> {
        self.check_chain().await?;
        let gas_limit = with_margin(self.gas(&call).await?);
        let order = Order {
            call,
            gas_limit,
            purpose: Purpose::Other,
            deadline: None,
        };
        self.sender.submit(order, self.ledger.now()).await
    }

    /// Waits until the fate of `sent` is known, pushing it and everything before it along.
    ///
    /// # Errors
    /// [`SendError`] when the chain or the store fails: the transaction's fate is unknown then, not decided.
    pub async fn confirm(&self, sent: &SentTransaction) -> Result<Fate, SendError> {
        let mut id = sent.id;
        loop {
            self.advance().await?;
            let Some(record) = self.ledger.transaction(id).await? else {
                return Ok(Fate::Dropped);
            };
            match record.finish {
                Some(Finish::Replaced { by }) => id = by,
                Some(Finish::Dropped) => return Ok(Fate::Dropped),
                Some(Finish::Mined { .. }) => {
                    if let Some(mined) = self.chain.transaction_receipt(record.hash).await? {
                        return Ok(Fate::Mined(mined));
                    }
                    tokio::time::sleep(self.poll_interval).await;
                }
                None => tokio::time::sleep(self.poll_interval).await,
            }
        }
    }

    /// Sends again what an earlier process left without a known fate. [`confirm`](Self::confirm) of any later
    /// transaction looks after them too.
    ///
    /// # Errors
    /// [`SendError`] when the chain or the store fails, or they don't belong together.
    pub async fn resume(&self) -> Result<(), SendError> {
        self.check_chain().await?;
        self.sender.rebroadcast_all(self.ledger.now()).await
    }

    /// Waits until the fate of all that was sent with this key before is known, pushing it along; `tell` is given what is
    /// waited for, each time that changes. Whoever decides what to send looks afterwards: an opening that is repeated while
    /// the first one waits would pay twice.
    ///
    /// # Errors
    /// As [`confirm`](Self::confirm).
    pub async fn settle(&self, mut tell: impl FnMut(B256)) -> Result<(), SendError> {
        let mut told = None;
        loop {
            let pending = self.ledger.pending_transactions().await?;
            let Some(first) = pending.iter().find(|record| record.from == self.account()) else {
                return Ok(());
            };
            if told != Some(first.hash) {
                told = Some(first.hash);
                tell(first.hash);
            }
            self.advance().await?;
            tokio::time::sleep(self.poll_interval).await;
        }
    }

    async fn gas(&self, call: &Call) -> Result<u64, SendError> {
        match self.chain.estimate_gas(self.account(), call, StateAt::Latest).await? {
            CallOutcome::Returned(gas) => Ok(gas),
            CallOutcome::Reverted(revert) => Err(SendError::Reverted { revert }),
        }
    }

    /// Refuses a chain that is not the store's. One that began anew under the same id would be sent everything the
    /// other had confirmed: from its side, all of that is gone.
    async fn check_chain(&self) -> Result<(), SendError> {
        let stored = self.ledger.newest_blocks(u32::MAX).await?;
        let Some(oldest) = stored.last() else {
            return self.anchor().await;
        };
        // The first block, or one deeper than forks reach.
        match self.chain.block(oldest.number).await? {
            Some(block) if block.hash == oldest.hash => Ok(()),
            _ => Err(SendError::OtherChain { block: oldest.number }),
        }
    }

    /// Records the chain's first block in a store that knows none, as a watcher's follower does.
    async fn anchor(&self) -> Result<(), SendError> {
        // A store may have sent before it recorded blocks.
        if let Some((hash, block)) = self.sender.newest_mined().await?
            && self.chain.transaction_receipt(hash).await?.is_none()
        {
            return Err(SendError::OtherChain { block });
        }
        let first = BlockNumber::new(0);
        let genesis = self.chain.block(first).await?.ok_or(ChainError::Malformed {
            operation: "eth_getBlockByNumber",
            reason: String::from("the first block is missing"),
        })?;
        let policy = ObligationPolicy::default();
        match self.ledger.apply_blocks(vec![genesis], Vec::new(), first, policy).await {
            Ok(_) => Ok(()),
            Err(ApplyError::Ledger(error)) => Err(error.into()),
            // Another process has recorded another first block in the meantime.
            Err(_) => Err(SendError::OtherChain { block: first }),
        }
    }

    async fn advance(&self) -> Result<(), SendError> {
        self.check_chain().await?;
        let head = self.chain.head().await?;
        let depth = head.number.below(self.confirmations);
        let confirmed = match self.chain.block(depth).await? {
            Some(block) => block,
            None => return Ok(()),
        };
        self.sender
            .advance(
                Heights { head, confirmed },
                self.ledger.now(),
                Outlook::of,
                &mut Vec::new(),
            )
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests;
