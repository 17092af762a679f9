//! What the chain proves of a store: that records are missing in it.
//!
//! The executor's side claims with what its store holds, by transactions that its store holds. A payment by its keys
//! that the store knows neither of was recorded once, and then lost with the copy of the disk that was put back. A stranger's payment
//! proves nothing: a payer may sign and submit what it likes.

use alloy::primitives::Address;
use lloom_ledger::{Ledger, LedgerError, UnknownPayment};
use lloom_receipts::BlockNumber;

use crate::{
    chain::{Chain, ChainError},
    follower::{Change, FollowError, Step},
};

/// Looks at each payment once.
pub(crate) struct LostRecords<C> {
    chain: C,
    ledger: Ledger,
    /// The key that claims here.
    account: Address,
    /// The block up to which all is judged.
    judged: BlockNumber,
    /// Whether there may be payments above it.
    is_behind: bool,
}

impl<C: Chain> LostRecords<C> {
    /// Begins with the blocks that are kept, before the follower goes on: what the last process saw, it may not have judged.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn begin(chain: C, ledger: Ledger, account: Address) -> Result<Self, LedgerError> {
        let kept = ledger.newest_blocks(u32::MAX).await?;
        let judged = kept
            .last()
            .map_or_else(BlockNumber::default, |oldest| oldest.number.below(1));
        Ok(Self {
            chain,
            ledger,
            account,
            judged,
            is_behind: true,
        })
    }

    /// Whether there may be a payment that nobody has judged yet.
    pub(crate) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Judges what is new after a step of the follower.
    pub(crate) async fn look(&mut self, step: &Step) -> Result<(), FollowError> {
        match step.change {
            Some(Change::Committed { events, .. }) => self.is_behind |= events > 0,
            Some(Change::Reorged { ancestor, .. } | Change::Missed { ancestor, .. }) => {
                self.judged = self.judged.min(ancestor)
            }
            None => {}
        }
        if !self.is_behind {
            return Ok(());
        }
        for payment in self.ledger.unknown_payments(self.judged).await? {
            // An endpoint that shows an event, and not its block or its transaction, is asked again in the next round.
            match self.is_late_enough(&payment).await? {
                None => return Ok(()),
                Some(false) => continue,
                Some(true) => {}
            }
            match self.sender_of(&payment).await? {
                None => return Ok(()),
                Some(sender) if self.is_own(&payment, sender).await? => {
                    let waived = self.ledger.remember_loss().await?;
                    tracing::error!(
                        channel = %payment.channel,
                        settled = %payment.settled,
                        transaction = %payment.transaction,
                        %sender,
                        waived,
                        "the chain has seen a claim of this side that the store knows nothing of: it is an old copy; requests it can't know of are refused for a while"
                    );
                    break;
                }
                Some(sender) => tracing::warn!(
                    channel = %payment.channel,
                    settled = %payment.settled,
                    transaction = %payment.transaction,
                    %sender,
                    "somebody else claimed more for this side than it holds a voucher for"
                ),
            }
        }
        self.judged = step.cursor.number;
        self.is_behind = false;
        Ok(())
    }

    /// Whether the payment is later than a restore that is known of would tell.
    async fn is_late_enough(&self, payment: &UnknownPayment) -> Result<Option<bool>, ChainError> {
        let Some(limit) = payment.only_after else {
            return Ok(Some(true));
        };
        let block = self.chain.block(payment.block).await?;
        Ok(block.map(|block| block.timestamp > limit))
    }

    async fn sender_of(&self, payment: &UnknownPayment) -> Result<Option<Address>, ChainError> {
        let mined = self.chain.transaction_receipt(payment.transaction).await?;
        Ok(mined.map(|mined| mined.from))
    }

    /// Whether `sender` is of the executor's side: this key, the payee, or an operator that the payee has ever named.
    async fn is_own(&self, payment: &UnknownPayment, sender: Address) -> Result<bool, FollowError> {
        if sender == self.account || sender == payment.payee {
            return Ok(true);
        }
        let operators = self.ledger.operators(payment.payee).await?;
        Ok(operators.iter().any(|(operator, _)| *operator == sender))
    }
}

#[cfg(test)]
mod tests;
