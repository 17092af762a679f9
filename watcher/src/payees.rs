//! Whom a watcher claims for: those that it was told, and those whose channels its store serves besides.
//!
//! A home that has another payee since (a splitter, say) still holds channels of the one it had before, and homes that share
//! a store may earn for different payees. Nobody else would claim for them. Anyone may claim by vouchers, because they pay
//! the payee alone; only receipts, and a close, take one of its operators.

use std::time::Duration;

use alloy::primitives::Address;
use lloom_ledger::{Ledger, LedgerError};
use lloom_receipts::UnixSeconds;

use crate::patience::waited;

/// How often the store is looked through for others: often enough for a deadline, and rarely enough for what it costs.
const INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct Payees {
    /// With the token it is claimed in, as configured.
    configured: Vec<(Address, Address)>,
    /// And whether the watcher's key is their operator.
    others: Vec<(Address, bool)>,
    looked_at: Option<UnixSeconds>,
}

impl Payees {
    pub(crate) const fn new(configured: Vec<(Address, Address)>) -> Self {
        Self {
            configured,
            others: Vec::new(),
            looked_at: None,
        }
    }

    /// Looks for others, if that is due, for a watcher that signs as `account`.
    pub(crate) async fn look(
        &mut self,
        ledger: &Ledger,
        account: Address,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        // Whoever claims for nobody serves nobody.
        let Some((own, _)) = self.configured.first() else {
            return Ok(());
        };
        if self.looked_at.is_some_and(|at| !waited(at, now, INTERVAL)) {
            return Ok(());
        }
        let mut others = Vec::new();
        for payee in ledger.other_payees_served(*own).await? {
            if self.configured.iter().any(|(configured, _)| *configured == payee) {
                continue;
            }
            let is_operator = payee == account || ledger.operators(payee).await?.contains(&(account, true));
            if !self.others.iter().any(|(known, _)| *known == payee) {
                tracing::warn!(%payee, is_operator, "the store serves channels of a payee that is not configured; claiming for it, too");
            }
            others.push((payee, is_operator));
        }
        self.others = others;
        self.looked_at = Some(now);
        Ok(())
    }

    /// All of them, and the tokens they are claimed in.
    pub(crate) fn all(&self) -> Vec<(Address, Address)> {
        let mut tokens: Vec<Address> = self.configured.iter().map(|(_, token)| *token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let others = self
            .others
            .iter()
            .flat_map(|(payee, _)| tokens.iter().map(|token| (*payee, *token)));
        self.configured.iter().copied().chain(others).collect()
    }

    /// Those of whom the watcher's key is no operator: it claims by vouchers for them.
    pub(crate) fn strangers(&self) -> Vec<Address> {
        let strangers = self.others.iter().filter(|(_, is_operator)| !is_operator);
        strangers.map(|(payee, _)| *payee).collect()
    }

    /// Whether the watcher may close channels of `payee`.
    pub(crate) fn may_close_for(&self, payee: Address) -> bool {
        self.configured.iter().any(|(configured, _)| *configured == payee) || self.others.contains(&(payee, true))
    }
}
