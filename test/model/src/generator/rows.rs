//! Batches of vouchers and receipts, and the closes that the settlement makes.

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::SolStruct,
};

use super::draw::Draw;
use crate::{
    abi::{
        IChannelEscrow::{
            Advance, ContractVoucherRow, VoucherRow, advanceChannelsCall, claimContractVouchersCall, claimVouchersCall,
            closeChannelCall,
        },
        IUsageSettlement::{ReceiptRow, claimReceiptsCall, closeWithReceiptCall, closeWithVoucherCall},
    },
    action::Action,
    model::{Channel, Terms},
    typed_data::{UsageBill, UsageReceipt, Voucher},
};

impl Draw<'_> {
    pub fn claim_vouchers(&mut self) -> Action {
        let channels = self.batch();
        let (payee, token) = (channels[0].1.terms.payee, channels[0].1.terms.token);
        let rows = channels
            .iter()
            .map(|(id, channel)| self.voucher_row(*id, channel))
            .collect();
        let caller = self.account();
        self.escrow_call(caller, claimVouchersCall { payee, token, rows })
    }

    pub fn claim_contract_vouchers(&mut self) -> Action {
        let channels = self.batch();
        let (payee, token) = (channels[0].1.terms.payee, channels[0].1.terms.token);
        let rows = channels
            .iter()
            .map(|(id, channel)| self.contract_voucher_row(*id, channel))
            .collect();
        let caller = self.account();
        self.escrow_call(caller, claimContractVouchersCall { payee, token, rows })
    }

    pub fn claim_receipts(&mut self) -> Action {
        let channels = self.batch();
        let (payee, token) = (channels[0].1.terms.payee, channels[0].1.terms.token);
        let rows = channels
            .iter()
            .map(|(id, channel)| self.receipt_row(*id, channel))
            .collect();
        let caller = self.speaker(payee);
        super::call(
            caller,
            self.model.world.settlement,
            claimReceiptsCall { payee, token, rows },
        )
    }

    pub fn close_with_receipt(&mut self) -> Action {
        let (id, channel) = self.channel();
        let Terms { payee, token, .. } = channel.terms;
        let call = closeWithReceiptCall {
            payee,
            token,
            row: self.receipt_row(id, &channel),
        };
        let caller = self.speaker(payee);
        super::call(caller, self.model.world.settlement, call)
    }

    pub fn close_with_voucher(&mut self) -> Action {
        let (id, channel) = self.channel();
        let Terms { payee, token, .. } = channel.terms;
        let row = self.voucher_row(id, &channel);
        let caller = self.speaker(payee);
        super::call(
            caller,
            self.model.world.settlement,
            closeWithVoucherCall { payee, token, row },
        )
    }

    pub fn advance_channels(&mut self) -> Action {
        let (id, channel) = self.channel();
        let Terms { payee, token, .. } = channel.terms;
        let rows = vec![Advance {
            channelId: id,
            amount: self.cumulative_amount(&channel),
        }];
        let caller = self.account();
        self.escrow_call(caller, advanceChannelsCall { payee, token, rows })
    }

    pub fn close_channel(&mut self) -> Action {
        let (id, channel) = self.channel();
        let amount = self.cumulative_amount(&channel);
        let caller = self.account();
        self.escrow_call(caller, closeChannelCall { channelId: id, amount })
    }

    // --- Parts ---

    /// Some channels of one payee in one token, one of them twice now and then, and one of another payee.
    fn batch(&mut self) -> Vec<(B256, Channel)> {
        let first = self.channel();
        let terms = first.1.terms;
        let mut batch = vec![first];
        for _ in 0..self.below(5) {
            let channel = if self.chance(15) {
                self.pick(&batch)
            } else {
                self.channel_where(|channel| channel.terms.payee == terms.payee && channel.terms.token == terms.token)
            };
            batch.push(channel);
        }
        batch
    }

    fn voucher_row(&mut self, id: B256, channel: &Channel) -> VoucherRow {
        let (ceiling, amounts) = self.amounts(channel);
        let voucher = Voucher {
            channelId: id,
            cumulativeAmount: ceiling,
        };
        let digest = voucher.eip712_signing_hash(&self.model.world.escrow_domain);
        let parts = self.parts(channel.terms.signer(), digest);
        VoucherRow {
            payer: channel.terms.payer,
            salt: channel.terms.salt,
            authorizedSigner: channel.terms.authorized_signer,
            r: parts.r,
            vs: parts.vs(),
            amounts,
        }
    }

    fn contract_voucher_row(&mut self, id: B256, channel: &Channel) -> ContractVoucherRow {
        let (ceiling, amounts) = self.amounts(channel);
        let voucher = Voucher {
            channelId: id,
            cumulativeAmount: ceiling,
        };
        ContractVoucherRow {
            payer: channel.terms.payer,
            salt: channel.terms.salt,
            authorizedSigner: channel.terms.authorized_signer,
            signature: self.escrow_signature(channel.terms.signer(), &voucher),
            amounts,
        }
    }

    /// What a voucher signs, and that beside what is settled of it in one word.
    fn amounts(&mut self, channel: &Channel) -> (u128, U256) {
        let amount = self.cumulative_amount(channel);
        let ceiling = match self.below(100) {
            0..50 => amount,
            50..90 => amount.saturating_add(u128::from(self.below(100))),
            _ => amount.saturating_sub(1),
        };
        (ceiling, (U256::from(ceiling) << 128_u32) | U256::from(amount))
    }

    fn receipt_row(&mut self, id: B256, channel: &Channel) -> ReceiptRow {
        let amount = self.cumulative_amount(channel);
        let (input, output) = (self.below(100_000), self.below(10_000));
        let bill = UsageBill {
            channelId: id,
            requestHash: keccak256(input.to_be_bytes()),
            responseHash: keccak256(output.to_be_bytes()),
            inputTokens: input,
            outputTokens: output,
            amount: amount.min(100),
            completedAt: self.model.now,
        };
        let receipt = UsageReceipt {
            channelId: id,
            sequence: u64::from(self.below(50)),
            cumulativeInputTokens: u64::from(input) * 3,
            cumulativeOutputTokens: u64::from(output) * 3,
            cumulativeAmount: amount,
            previousReceipt: keccak256("the receipt before"),
            bill: bill.clone(),
        };
        let domain = self.model.world.settlement_domain.clone();
        let by_payer = self.parts(channel.terms.signer(), receipt.eip712_signing_hash(&domain));
        let bill_signer = self.speaker(channel.terms.payee);
        let by_operator = self.parts(bill_signer, bill.eip712_signing_hash(&domain));
        ReceiptRow {
            payer: channel.terms.payer,
            authorizedSigner: channel.terms.authorized_signer,
            salt: channel.terms.salt,
            sequence: receipt.sequence,
            cumulativeInputTokens: receipt.cumulativeInputTokens,
            cumulativeOutputTokens: receipt.cumulativeOutputTokens,
            cumulativeAmount: amount,
            previousReceipt: receipt.previousReceipt,
            billHash: bill.eip712_hash_struct(),
            payerR: by_payer.r,
            payerVs: by_payer.vs(),
            operatorR: by_operator.r,
            operatorVs: by_operator.vs(),
        }
    }

    /// The payee, an operator of its, active or retired, or somebody else.
    fn speaker(&mut self, payee: Address) -> Address {
        let operators = self.model.operators.keys().filter(|(of, _)| *of == payee);
        let operators: Vec<_> = operators.map(|(_, operator)| *operator).collect();
        if !operators.is_empty() && self.chance(55) {
            let operator = self.pick(&operators);
            return if self.model.world.key(operator).is_some() {
                operator
            } else {
                payee
            };
        }
        self.caller(payee)
    }
}
