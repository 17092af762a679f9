//! Whether the signed transactions are what they are stored as, and replace each other as they say.

use std::collections::BTreeMap;

use alloy::primitives::{Address, keccak256};

use super::{Check, PAGE};
use crate::{
    Finish, Ledger, LedgerError, SettleError, TransactionId, TransactionRecord,
    transaction::{find_transaction, page_of_transactions},
};

impl Check<'_> {
    pub(super) async fn look_at_transactions(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let mut session = ledger.snapshot("check the transactions").await?;
        let mut after = TransactionId(0);
        // One transaction for each nonce: what was mined is never forgotten.
        let mut mined: BTreeMap<(Address, u64), TransactionId> = BTreeMap::new();
        loop {
            let page = page_of_transactions(&mut session, after, PAGE).await;
            let Some(page) = self.read(None, page)? else {
                return Ok(());
            };
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id;
            for transaction in page {
                self.checked.transactions += 1;
                if keccak256(&transaction.raw) != transaction.hash {
                    self.find(
                        None,
                        format!("transaction {}: its hash is not that of its bytes", transaction.id),
                    );
                }
                let related = [
                    transaction.replaces.map(|id| (id, "it replaces")),
                    match transaction.finish {
                        Some(Finish::Replaced { by }) => Some((by, "it was replaced by")),
                        _ => None,
                    },
                ];
                for (id, how) in related.into_iter().flatten() {
                    let other = match find_transaction(&mut session, id).await {
                        Ok(other) => Some(other),
                        Err(SettleError::Ledger(error)) => self.read(None, Err(error))?,
                        Err(_) => None,
                    };
                    self.look_at_relation(&transaction, how, id, other.as_ref());
                }
                if matches!(transaction.finish, Some(Finish::Mined { .. })) {
                    let nonce = (transaction.from, transaction.nonce);
                    if let Some(other) = mined.insert(nonce, transaction.id) {
                        self.find(
                            None,
                            format!(
                                "transactions {other} and {} are both mined with one nonce",
                                transaction.id
                            ),
                        );
                    }
                }
            }
        }
    }

    fn look_at_relation(
        &mut self,
        transaction: &TransactionRecord,
        how: &str,
        id: TransactionId,
        other: Option<&TransactionRecord>,
    ) {
        let related = |other: &TransactionRecord| (other.from, other.nonce) == (transaction.from, transaction.nonce);
        if !other.is_some_and(related) {
            self.find(
                None,
                format!(
                    "transaction {}: {how} {id}, which has another sender or nonce",
                    transaction.id
                ),
            );
        }
    }
}
