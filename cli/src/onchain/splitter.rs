use alloy::primitives::{Address, U256};
use lloom_bindings::RevenueSplitter;
use lloom_receipts::TokenAmount;
use lloom_watcher::ChainError;

use super::{OnChain, chain_failure};
use crate::{
    failure::{Failure, Kind, Result},
    money::saturating,
};

/// A splitter, and what it holds for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitterOnChain {
    /// Host, validators and treasury.
    pub parties: [SplitterParty; 3],
    /// What the escrow keeps for it.
    pub in_escrow: TokenAmount,
}

/// One that shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitterParty {
    /// What it is.
    pub role: &'static str,
    /// Who is paid.
    pub account: Address,
    /// Its share.
    pub basis_points: u16,
    /// What `account` could be paid now, in all its roles.
    pub due: TokenAmount,
}

impl SplitterOnChain {
    /// Whom a release would pay, once what is in the escrow is brought in.
    pub fn accounts_due(&self) -> Vec<Address> {
        let mut accounts = Vec::new();
        for party in &self.parties {
            let due = !party.due.is_zero() || (!self.in_escrow.is_zero() && party.basis_points > 0);
            if due && !accounts.contains(&party.account) {
                accounts.push(party.account);
            }
        }
        accounts
    }
}

impl OnChain {
    /// The splitter at `address`.
    ///
    /// # Errors
    /// When there is none, or the chain doesn't answer.
    pub async fn splitter(&self, address: Address) -> Result<SplitterOnChain> {
        let failed = |error| match error {
            ChainError::Reverted { .. } | ChainError::Malformed { .. } => {
                Failure::new(Kind::Usage, format!("there is no splitter at {address}"))
                    .hint("`lloomctl splitter deploy` makes one, and says where it is")
            }
            error => chain_failure(error, format!("cannot read the splitter {address}")),
        };
        let read = async {
            Ok([
                self.party(
                    address,
                    "host",
                    self.view(address, RevenueSplitter::HOSTCall {}).await?,
                    self.view(address, RevenueSplitter::HOST_SHARECall {}).await?,
                )
                .await?,
                self.party(
                    address,
                    "validators",
                    self.view(address, RevenueSplitter::VALIDATORSCall {}).await?,
                    self.view(address, RevenueSplitter::VALIDATORS_SHARECall {}).await?,
                )
                .await?,
                self.party(
                    address,
                    "treasury",
                    self.view(address, RevenueSplitter::TREASURYCall {}).await?,
                    self.view(address, RevenueSplitter::TREASURY_SHARECall {}).await?,
                )
                .await?,
            ])
        };
        let parties = read.await.map_err(failed)?;
        Ok(SplitterOnChain {
            parties,
            in_escrow: self.escrow_balance(address).await?,
        })
    }

    async fn party(
        &self,
        splitter: Address,
        role: &'static str,
        account: Address,
        share: U256,
    ) -> std::result::Result<SplitterParty, ChainError> {
        let token = self.token.address;
        let due = self
            .view(splitter, RevenueSplitter::releasableCall { token, account })
            .await?;
        Ok(SplitterParty {
            role,
            account,
            basis_points: share.saturating_to(),
            due: saturating(due),
        })
    }
}
