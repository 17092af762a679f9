use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    consensus::Transaction as _,
    network::TransactionResponse as _,
    primitives::{Address, B256},
    providers::Provider as _,
};
use eyre::{Result, ensure, eyre};
use lloom_ledger::{Finish, Resolution, TransactionRecord};
use lloom_receipts::{ChannelId, TokenAmount};

use crate::{Chain, Seller, wait};

/// What a channel owes the payee, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The channel.
    pub channel: ChannelId,
    /// What has to be settled in the end, and no more, base units.
    pub amount: TokenAmount,
}

/// What has to be true in the end, whatever happened: seen on the chain, and in the store beside it.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The operator's transactions that are in blocks.
    pub mined: usize,
    /// Stored transactions that others took the place of.
    pub replaced: usize,
    /// All that is stored, newest first.
    pub stored: Vec<TransactionRecord>,
}

impl Truth {
    /// Waits until the store knows the fate of everything that was sent, and every obligation's end. Somebody has to
    /// follow the chain meanwhile.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn settles(seller: &Seller) -> Result<()> {
        let store = seller.home.store().await?;
        wait::until("every fate to be known", || async {
            let done = store.pending_transactions().await?.is_empty() && store.obligations().await?.is_empty();
            Ok(done.then_some(()))
        })
        .await?;
        store.close().await;
        Ok(())
    }

    /// Checks that all `dues` are paid, once, and nothing else; that no nonce was used for two things; that the ledger says
    /// what the chain says; and that every obligation ended as it should.
    ///
    /// # Errors
    /// When one of these doesn't hold.
    pub async fn check(chain: &Chain, seller: &Seller, dues: &[Due]) -> Result<Self> {
        let store = seller.home.store().await?;
        let mut paid = TokenAmount::ZERO;
        for &Due { channel, amount } in dues {
            let on_chain = chain.money.channel(channel).await?;
            let settled = TokenAmount::new(on_chain.settled);
            ensure!(
                settled == amount,
                "{amount} is owed on {channel}, and {settled} were settled"
            );
            paid = paid.saturating_add(settled);
            let totals = chain.money.settlements(channel).await?;
            ensure!(
                totals.is_sorted_by(|before, after| before < after),
                "settled twice: {totals:?}"
            );
            let known = store.channel(channel).await?.and_then(|record| record.confirmed);
            let known = known.ok_or_else(|| eyre!("the store knows no final state of {channel}"))?;
            ensure!(
                known.settled == settled,
                "the store says {}, the chain {settled}",
                known.settled
            );
            ensure!(
                known.finalized == on_chain.finalized,
                "the store and the chain disagree about a close"
            );
            for obligation in store.obligations_of(channel).await? {
                match obligation.resolution {
                    Some(Resolution::Claimed { .. } | Resolution::Moot { .. }) => {}
                    // Everything has to be paid.
                    other @ (Some(Resolution::Lost { .. }) | None) => {
                        return Err(eyre!("an obligation ended with {other:?}"));
                    }
                }
            }
        }
        let held = chain.money.held_by(seller.paid_to).await?;
        ensure!(held == paid, "{paid} were settled, and the payee holds {held}");

        let stored = store.transactions(u32::MAX).await?;
        let on_chain = transactions_of(chain, seller.operator()).await?;
        let mut nonces = BTreeSet::new();
        for record in &stored {
            match &record.finish {
                Some(Finish::Mined { block, .. }) => {
                    ensure!(
                        nonces.insert(record.nonce),
                        "two stored transactions used the nonce {}",
                        record.nonce
                    );
                    let found = on_chain.get(&record.hash);
                    ensure!(
                        found == Some(&(record.nonce, block.get())),
                        "the store says that {} is in block {block}, the chain says {found:?}",
                        record.hash
                    );
                }
                Some(Finish::Replaced { .. } | Finish::Dropped) => {
                    ensure!(!on_chain.contains_key(&record.hash), "{} is on the chain", record.hash);
                }
                None => return Err(eyre!("nobody knows what became of {}", record.hash)),
            }
        }
        ensure!(
            on_chain.len() == nonces.len(),
            "the chain has {} transactions of the operator, the store {}",
            on_chain.len(),
            nonces.len()
        );
        store.close().await;
        Ok(Self {
            mined: nonces.len(),
            replaced: stored.len() - nonces.len(),
            stored,
        })
    }
}

/// The transactions of `account` that are in blocks: their nonces and their blocks.
async fn transactions_of(chain: &Chain, account: Address) -> Result<BTreeMap<B256, (u64, u64)>> {
    let provider = chain.anvil.provider();
    let mut found = BTreeMap::new();
    for number in 0..=provider.get_block_number().await? {
        let block = provider.get_block_by_number(number.into()).full().await?;
        let block = block.ok_or_else(|| eyre!("the chain has no block {number}"))?;
        for transaction in block.transactions.into_transactions() {
            if transaction.from() == account {
                found.insert(transaction.tx_hash(), (transaction.nonce(), number));
            }
        }
    }
    Ok(found)
}
