use alloy::primitives::{Address, B256, U256};

use super::{Effect, Model, Terms};
use crate::{
    abi::IChannelEscrow::{
        ChannelSettled, ChannelsSettled, RowSkipped, SettledChannel, SkipReason, claimContractVouchersCall,
        claimVouchersCall,
    },
    flaw::Flaw,
    signer::Parts,
};

/// What a claim has settled so far.
#[derive(Default)]
pub(super) struct Claim {
    /// The rows that settled something: which, and up to where.
    pub settled: Vec<(usize, SettledChannel)>,
    /// What the payee is owed for them.
    pub owed: U256,
    has_bad_row: bool,
}

impl Model {
    pub(super) fn claim_vouchers(&mut self, call: &claimVouchersCall) -> Effect<U256> {
        let mut claim = Claim::default();
        for (index, row) in call.rows.iter().enumerate() {
            let terms = Terms {
                payer: row.payer,
                payee: call.payee,
                token: call.token,
                salt: row.salt,
                authorized_signer: row.authorizedSigner,
            };
            let id = terms.id(self.world.escrow);
            let (ceiling, amount) = self.amounts(row.amounts);
            let signed = self.key_signed_voucher(&terms, id, ceiling, Parts::from_compact(row.r, row.vs));
            self.claim_row(&mut claim, (index, id), amount, ceiling, signed);
        }
        self.pay_claim(call.payee, call.token, claim)
    }

    pub(super) fn claim_contract_vouchers(&mut self, call: &claimContractVouchersCall) -> Effect<U256> {
        let mut claim = Claim::default();
        for (index, row) in call.rows.iter().enumerate() {
            let terms = Terms {
                payer: row.payer,
                payee: call.payee,
                token: call.token,
                salt: row.salt,
                authorized_signer: row.authorizedSigner,
            };
            let id = terms.id(self.world.escrow);
            let (ceiling, amount) = self.amounts(row.amounts);
            let signed = self.has_signed_voucher(&terms, id, ceiling, &row.signature);
            self.claim_row(&mut claim, (index, id), amount, ceiling, signed);
        }
        self.pay_claim(call.payee, call.token, claim)
    }

    /// Settles a row, or says why not.
    pub(super) fn claim_row(
        &mut self,
        claim: &mut Claim,
        (index, id): (usize, B256),
        amount: u128,
        ceiling: u128,
        signed: bool,
    ) {
        if let Some(reason) = self.reason_to_skip(claim, id, amount, ceiling, signed) {
            claim.has_bad_row = true;
            self.emit_from_escrow(RowSkipped {
                channelId: id,
                index: U256::from(index),
                reason,
            });
            return;
        }
        if self.has(Flaw::BadRowSinksBatch) && claim.has_bad_row {
            return;
        }
        let (_, owed) = self.advance(id, amount);
        claim.owed += if self.has(Flaw::ClaimPaysWholeAmount) {
            U256::from(amount)
        } else {
            owed
        };
        claim.settled.push((
            index,
            SettledChannel {
                channelId: id,
                settled: amount,
            },
        ));
    }

    fn reason_to_skip(&self, claim: &Claim, id: B256, amount: u128, ceiling: u128, signed: bool) -> Option<SkipReason> {
        if self.has(Flaw::SignatureIsLookedAtFirst) && !signed {
            return Some(SkipReason::InvalidSignature);
        }
        let Some(channel) = self.channels.get(&id) else {
            return Some(SkipReason::ChannelNotFound);
        };
        let is_second = claim.settled.iter().any(|(_, settled)| settled.channelId == id);
        if channel.finalized {
            Some(SkipReason::ChannelFinalized)
        } else if amount <= channel.settled || is_second && self.has(Flaw::BatchForgetsItsOwnRows) {
            Some(SkipReason::AmountNotIncreasing)
        } else if amount > channel.deposit {
            Some(SkipReason::AmountExceedsDeposit)
        } else if amount > ceiling {
            Some(SkipReason::AmountExceedsVoucher)
        } else if !signed {
            Some(SkipReason::InvalidSignature)
        } else {
            None
        }
    }

    fn pay_claim(&mut self, payee: Address, token: Address, claim: Claim) -> Effect<U256> {
        let mut channels: Vec<_> = claim.settled.into_iter().map(|(_, channel)| channel).collect();
        match channels.len() {
            0 => {}
            1 => {
                let SettledChannel { channelId, settled } = channels.remove(0);
                self.emit_from_escrow(ChannelSettled { channelId, settled });
            }
            _ => self.emit_from_escrow(ChannelsSettled { channels }),
        }
        self.pay_or_credit(payee, token, claim.owed)?;
        Ok(claim.owed)
    }

    /// What a row's voucher signs, and what the row settles of it.
    pub(super) fn amounts(&self, word: U256) -> (u128, u128) {
        let ceiling = (word >> 128_u32).saturating_to();
        let amount = (word & U256::from(u128::MAX)).saturating_to();
        (
            ceiling,
            if self.has(Flaw::VoucherIsNoCeiling) {
                ceiling
            } else {
                amount
            },
        )
    }
}
