//! Meeting deadlines while the chain can't be followed.

use super::{Rounds, trouble::RoundError};
use crate::{
    chain::{Chain, StateAt},
    sender::Heights,
};

impl<C: Chain> Rounds<C> {
    /// Claims what is due by what the store knows. An endpoint may give no logs, and answer everything else: its limits on
    /// these are the tightest. What it doesn't show counts as not having happened, which is safe: an amount is what a channel
    /// has settled in all, and every claim is executed on the newest state before it is sent.
    pub(super) async fn claim_unfollowed(&mut self) -> Result<(), RoundError> {
        let ledger = self.settler.ledger.clone();
        let (Some(cursor), Some(confirmed)) = (ledger.cursor().await?, ledger.confirmed_block().await?) else {
            return Ok(());
        };
        let Some(confirmed) = ledger.block(confirmed).await? else {
            // It is far behind, and knows little of what is due.
            return Ok(());
        };
        // What was learnt until now may have met a deadline, or be its end.
        self.review(confirmed).await?;
        let Some(deadline) = self.status.borrow().next_deadline.filter(|_| self.config.auto_claim) else {
            return Ok(());
        };
        // Deadlines are the chain's: its time counts where it is ahead.
        let head = self.settler.chain.head().await?;
        let now = ledger.now().max(cursor.timestamp).max(head.timestamp);
        if now < deadline.minus(self.settler.policy.safety_margin) {
            return Ok(());
        }
        // Another chain of the same id would execute it.
        let shown = self.settler.chain.block(cursor.number).await?;
        if shown.is_none_or(|shown| shown.hash != cursor.hash) {
            return Ok(());
        }
        tracing::warn!("something is due, and the chain can't be followed: claiming by what the store knows");
        self.payees.look(&ledger, self.settler.sender.account(), now).await?;
        self.settler.at = StateAt::Latest;
        let heights = Heights {
            head: cursor,
            confirmed,
        };
        let books = self.books_of_sent(now).await?;
        let advanced = self.look_after_sent(heights, now, books.as_ref()).await?;
        self.claim_due(now).await?;
        Ok(advanced?)
    }
}
