use std::{fs, path::Path};

use eyre::{Result, WrapErr, ensure};
use lloom_receipts::TokenAmount;
use serde::Serialize;

use crate::{audit::Audit, market::Holdings};

/// The demo's result for programs. Money in base units, as decimal strings.
#[derive(Debug, Serialize)]
pub struct Summary {
    requests: usize,
    receipts: usize,
    input_tokens: u64,
    output_tokens: u64,
    charged: String,
    settled: String,
    payee_balance_delta: String,
    payer_balance_delta: String,
    channels: usize,
    claim_transactions: usize,
    claim_gas: u64,
}

impl Summary {
    /// What `audit` found, and how holdings changed from `before` to `after`.
    pub fn new(audit: &Audit, before: Holdings, after: Holdings) -> Self {
        let claims = || {
            audit
                .transactions
                .iter()
                .filter(|transaction| transaction.call.is_claim())
        };
        Self {
            requests: audit.requests,
            receipts: audit.channels.iter().map(|channel| channel.receipts).sum(),
            input_tokens: audit.channels.iter().map(|channel| channel.input_tokens).sum(),
            output_tokens: audit.channels.iter().map(|channel| channel.output_tokens).sum(),
            charged: audit.charged().base_units().to_string(),
            settled: audit.settled().base_units().to_string(),
            payee_balance_delta: difference(before.payees, after.payees),
            payer_balance_delta: difference(before.payers, after.payers),
            channels: audit.channels.len(),
            claim_transactions: claims().count(),
            claim_gas: claims().map(|transaction| transaction.gas).sum(),
        }
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).wrap_err_with(|| format!("making {}", folder.display()))?;
        }
        let json = serde_json::to_string_pretty(self)?;
        fs::write(path, json + "\n").wrap_err_with(|| format!("writing {}", path.display()))
    }

    /// Checks that not a unit is lost or made: `charged == settled == payee_balance_delta == -payer_balance_delta`, and
    /// that every request has its receipt.
    ///
    /// # Errors
    /// When a number differs.
    pub fn check(&self) -> Result<()> {
        let paid = format!("-{}", self.charged);
        ensure!(
            self.charged == self.settled
                && self.charged == self.payee_balance_delta
                && self.payer_balance_delta == paid,
            "the money differs: charged {}, settled {}, payees got {}, payers' change is {}",
            self.charged,
            self.settled,
            self.payee_balance_delta,
            self.payer_balance_delta
        );
        ensure!(self.charged != "0", "nothing was charged");
        ensure!(
            self.requests == self.receipts,
            "{} requests have {} receipts",
            self.requests,
            self.receipts
        );
        Ok(())
    }
}

/// `after - before`, with a sign where it is negative.
fn difference(before: TokenAmount, after: TokenAmount) -> String {
    match after.checked_sub(before) {
        Some(gain) => gain.base_units().to_string(),
        None => format!("-{}", before.saturating_sub(after).base_units()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_has_a_sign() {
        let amount = TokenAmount::new;
        assert_eq!(difference(amount(3), amount(10)), "7");
        assert_eq!(difference(amount(10), amount(3)), "-7");
        assert_eq!(difference(amount(3), amount(3)), "0");
    }

    #[test]
    fn a_unit_lost_is_noticed() {
        let summary = |payee: &str, receipts| Summary {
            requests: 2,
            receipts,
            input_tokens: 1,
            output_tokens: 1,
            charged: "7".to_owned(),
            settled: "7".to_owned(),
            payee_balance_delta: payee.to_owned(),
            payer_balance_delta: "-7".to_owned(),
            channels: 1,
            claim_transactions: 1,
            claim_gas: 1,
        };
        summary("7", 2).check().unwrap();
        assert!(summary("6", 2).check().is_err());
        assert!(summary("7", 1).check().is_err());
    }
}
