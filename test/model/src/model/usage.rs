use alloy::primitives::{Address, B256, U256};

use super::{Effect, Model, OperatorStatus, Terms, check, claims::Claim};
use crate::{
    abi::{
        IChannelEscrow::{AmountExceedsDeposit, RowSkipped, SkipReason},
        IUsageSettlement::{
            AmountExceedsVoucher, InvalidSignature, NotOperator, ReceiptRow, Usage, UsageSettled, UsagesSettled,
            claimReceiptsCall, closeWithReceiptCall, closeWithVoucherCall,
        },
    },
    flaw::Flaw,
    signer::Parts,
    typed_data,
};

impl Model {
    pub(super) fn claim_receipts(&mut self, caller: Address, call: &claimReceiptsCall) -> Effect {
        check(self.speaks_for(call.payee, caller), NotOperator {})?;
        let rows = call.rows.iter().enumerate().map(|(index, row)| {
            let terms = receipt_terms(call.payee, call.token, row);
            (
                index,
                row,
                terms.id(self.world.escrow),
                self.has_both_signatures(&terms, row),
            )
        });
        let rows: Vec<_> = rows.collect();
        for &(index, _, id, signed) in &rows {
            if !signed {
                let reason = SkipReason::InvalidSignature;
                self.emit(
                    self.world.settlement,
                    RowSkipped {
                        channelId: id,
                        index: U256::from(index),
                        reason,
                    },
                );
            }
        }
        let mut claim = Claim::default();
        for &(index, row, id, signed) in &rows {
            if signed {
                let amount = row.cumulativeAmount;
                self.claim_row(&mut claim, (index, id), amount, amount, true);
            }
        }
        self.pay_or_credit(call.payee, call.token, claim.owed)?;
        let mut usages: Vec<_> = claim
            .settled
            .iter()
            .map(|&(index, _)| usage(rows[index].2, rows[index].1))
            .collect();
        match usages.len() {
            0 => {}
            1 => self.publish(call.payee, usages.remove(0)),
            _ => self.emit(
                self.world.settlement,
                UsagesSettled {
                    payee: call.payee,
                    usages,
                },
            ),
        }
        Ok(())
    }

    pub(super) fn close_with_receipt(&mut self, caller: Address, call: &closeWithReceiptCall) -> Effect {
        check(self.speaks_for(call.payee, caller), NotOperator {})?;
        let terms = receipt_terms(call.payee, call.token, &call.row);
        check(self.has_both_signatures(&terms, &call.row), InvalidSignature {})?;
        let id = terms.id(self.world.escrow);
        self.check_close(id, call.row.cumulativeAmount)?;
        self.publish(call.payee, usage(id, &call.row));
        self.finalize(id, call.row.cumulativeAmount)
    }

    pub(super) fn close_with_voucher(&mut self, caller: Address, call: &closeWithVoucherCall) -> Effect {
        check(self.speaks_for(call.payee, caller), NotOperator {})?;
        let row = &call.row;
        let terms = Terms {
            payer: row.payer,
            payee: call.payee,
            token: call.token,
            salt: row.salt,
            authorized_signer: row.authorizedSigner,
        };
        let id = terms.id(self.world.escrow);
        let (ceiling, amount) = self.amounts(row.amounts);
        let settled = self.channels.get(&id).map_or(0, |channel| channel.settled);
        let forfeits = amount <= settled && !self.has(Flaw::ForfeitNeedsVoucher);
        check(forfeits || amount <= ceiling, AmountExceedsVoucher {})?;
        let signed = || self.key_signed_voucher(&terms, id, ceiling, Parts::from_compact(row.r, row.vs));
        check(forfeits || signed(), InvalidSignature {})?;
        self.check_close(id, amount)?;
        self.finalize(id, amount)
    }

    // --- Parts ---

    fn check_close(&self, id: B256, amount: u128) -> Effect {
        let channel = self.open_channel(id)?;
        check(amount <= channel.deposit, AmountExceedsDeposit {})
    }

    /// Whether an account may claim and close for a payee.
    fn speaks_for(&self, payee: Address, account: Address) -> bool {
        let status = self.operators.get(&(payee, account));
        let retired_too = status == Some(&OperatorStatus::Retired) && self.has(Flaw::RetiredOperatorsClaim);
        account == payee || status == Some(&OperatorStatus::Active) || retired_too
    }

    /// Whether an account may have signed bills for a payee.
    fn signs_bills_for(&self, payee: Address, account: Address) -> bool {
        match self.operators.get(&(payee, account)) {
            Some(OperatorStatus::Active) => true,
            Some(OperatorStatus::Retired) => account == payee || !self.has(Flaw::RetiredOperatorsBillsLapse),
            None => account == payee,
        }
    }

    fn has_both_signatures(&self, terms: &Terms, row: &ReceiptRow) -> bool {
        let domain = &self.world.settlement_domain;
        let receipt = typed_data::digest(domain, typed_data::receipt_hash(terms.id(self.world.escrow), row));
        let payer_side = self.key_signer(receipt, Parts::from_compact(row.payerR, row.payerVs));
        let bill = typed_data::digest(domain, row.billHash);
        let executor_side = self.key_signer(bill, Parts::from_compact(row.operatorR, row.operatorVs));
        payer_side == Some(terms.signer())
            && executor_side.is_some_and(|signer| self.signs_bills_for(terms.payee, signer))
    }

    fn publish(&mut self, payee: Address, usage: Usage) {
        let event = UsageSettled {
            channelId: usage.channelId,
            payer: usage.payer,
            payee,
            sequence: usage.sequence,
            cumulativeInputTokens: usage.cumulativeInputTokens,
            cumulativeOutputTokens: usage.cumulativeOutputTokens,
            cumulativeAmount: usage.cumulativeAmount,
        };
        self.emit(self.world.settlement, event);
    }
}

fn receipt_terms(payee: Address, token: Address, row: &ReceiptRow) -> Terms {
    Terms {
        payer: row.payer,
        payee,
        token,
        salt: row.salt,
        authorized_signer: row.authorizedSigner,
    }
}

fn usage(id: B256, row: &ReceiptRow) -> Usage {
    Usage {
        channelId: id,
        payer: row.payer,
        sequence: row.sequence,
        cumulativeInputTokens: row.cumulativeInputTokens,
        cumulativeOutputTokens: row.cumulativeOutputTokens,
        cumulativeAmount: row.cumulativeAmount,
    }
}
