//! Whom a watcher claims for: those that it was told, and those whose channels its store serves besides.
//!
//! A home that has another payee since (a splitter, say) still holds channels of the one it had before, and homes that share
//! a store may earn for different payees. Nobody else would claim for them. Anyone may claim by vouchers, because they pay
//! the payee alone; only receipts, and a close, take one of its operators. So the payee that a watcher was told of is claimed
//! for in the same way once it has removed the watcher's key, and as before once it has named it again.

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
    others: Vec<Address>,
    /// Those of both whose operator the watcher's key is, at the newest block.
    employers: Vec<Address>,
    looked_at: Option<UnixSeconds>,
}

impl Payees {
    pub(crate) const fn new(configured: Vec<(Address, Address)>) -> Self {
        Self {
            configured,
            others: Vec::new(),
            employers: Vec::new(),
            looked_at: None,
        }
    }

    /// Looks whose operator `account`, as which the watcher signs, is at the newest block; and for others, if that is due.
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
        let is_due = self.looked_at.is_none_or(|at| waited(at, now, INTERVAL));
        let mut others = self.others.clone();
        if is_due {
            others = ledger.other_payees_served(*own).await?;
            others.retain(|payee| !self.is_configured(*payee));
        }
        // Each time: a store that is still catching up doesn't know yet who was named, and nobody closes for a payee that
        // has just removed the key.
        let mut employers = Vec::new();
        for payee in self.payees_of(&others) {
            if payee == account || ledger.operators(payee).await?.contains(&(account, true)) {
                employers.push(payee);
            }
        }
        for payee in others.iter().filter(|payee| !self.others.contains(payee)) {
            let is_operator = employers.contains(payee);
            tracing::warn!(%payee, is_operator, "the store serves channels of a payee that is not configured; claiming for it, too");
        }
        self.say_what_changed(&employers);
        self.others = others;
        self.employers = employers;
        if is_due {
            self.looked_at = Some(now);
        }
        Ok(())
    }

    /// Says of those that were told whether they have removed the watcher's key, or named it again.
    fn say_what_changed(&self, employers: &[Address]) {
        for (payee, _) in &self.configured {
            match (self.employers.contains(payee), employers.contains(payee)) {
                (true, false) => {
                    tracing::error!(%payee, "the payee has removed this node's key from its operators; claiming by vouchers alone");
                }
                (false, true) => {
                    tracing::info!(%payee, "the payee names this node's key as its operator");
                }
                _ => {}
            }
        }
    }

    fn is_configured(&self, payee: Address) -> bool {
        self.configured.iter().any(|(configured, _)| *configured == payee)
    }

    /// Those that were told, each once, however many tokens it is paid in, and `others`.
    fn payees_of(&self, others: &[Address]) -> Vec<Address> {
        let mut payees: Vec<Address> = self.configured.iter().map(|(payee, _)| *payee).collect();
        payees.extend(others);
        payees.sort_unstable();
        payees.dedup();
        payees
    }

    /// All of them, and the tokens they are claimed in.
    pub(crate) fn all(&self) -> Vec<(Address, Address)> {
        let mut tokens: Vec<Address> = self.configured.iter().map(|(_, token)| *token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let others = self
            .others
            .iter()
            .flat_map(|payee| tokens.iter().map(|token| (*payee, *token)));
        self.configured.iter().copied().chain(others).collect()
    }

    /// Those of whom the watcher's key is no operator: it claims by vouchers for them.
    pub(crate) fn strangers(&self) -> Vec<Address> {
        let mut strangers = self.payees_of(&self.others);
        strangers.retain(|payee| !self.employers.contains(payee));
        strangers
    }

    /// Whether the watcher may close channels of `payee`.
    pub(crate) fn may_close_for(&self, payee: Address) -> bool {
        self.employers.contains(&payee)
    }
}
