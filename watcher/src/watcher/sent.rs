//! Looking after what was sent.

use lloom_ledger::{LedgerError, TransactionRecord};
use lloom_receipts::UnixSeconds;

use super::{Rounds, trouble::RoundError};
use crate::{
    books::Books,
    chain::Chain,
    sender::{Heights, Outlook, SendError},
};

impl<C: Chain> Rounds<C> {
    /// The books where there is something to look after: they may be large.
    pub(super) async fn books_of_sent(&self, now: UnixSeconds) -> Result<Option<Books>, LedgerError> {
        match self.settler.ledger.pending_transactions().await?.is_empty() {
            true => Ok(None),
            false => self.books(now).await.map(Some),
        }
    }

    /// Looks after what was sent. What came of that is told apart from what keeps the round from going on: it is no reason
    /// to let a deadline pass.
    pub(super) async fn look_after_sent(
        &mut self,
        heights: Heights,
        now: UnixSeconds,
        books: Option<&Books>,
    ) -> Result<Result<(), SendError>, RoundError> {
        let sender = self.settler.sender.clone();
        let mut finished = Vec::new();
        let outlook = |record: &TransactionRecord| outlook(books, record);
        let mut advanced = sender.advance(heights, now, outlook, &mut finished).await;
        if advanced.is_ok() {
            advanced = sender.advance_inherited(heights, now, &mut finished).await;
        }
        // What is finished is looked at only once, whatever became of the others.
        for done in &finished {
            self.settler.learn(done, now).await?;
        }
        Ok(advanced)
    }
}

/// What is known of a transaction that was sent.
pub(super) fn outlook(books: Option<&Books>, record: &TransactionRecord) -> Outlook {
    match books {
        Some(books) => books.outlook(record),
        None => Outlook::of(record),
    }
}
