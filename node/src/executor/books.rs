//! What can be said of a channel at any time: how it stands, a receipt, a voucher.

use alloy::primitives::Address;
use lloom_ledger::{CommittedBill, ServeError};
use lloom_receipts::{ChannelId, ChannelParameters, Receipt, ReceiptError, Signed, Unverified, Verified, Voucher};

use super::{
    Shared,
    admission::verify_voucher,
    refuse::{failed, refusal},
};
use crate::wire::{Document, ExecutorFrame, Refusal, State};

/// Bills that one `State` lists at most, so that it fits a frame. Who has more to link asks again.
const MAX_LISTED_BILLS: usize = 512;

/// Receipts that one `State` lists at most, likewise.
const MAX_LISTED_RECEIPTS: u32 = 512;

impl Shared {
    pub(super) async fn state(&self, channel: ChannelId, after: u64, peer: Address) -> Result<ExecutorFrame, Refusal> {
        let ledger = &self.ledger;
        let record = ledger.channel(channel).await.map_err(failed)?;
        let record = record.ok_or(Refusal::ChannelUnknown)?;
        if record.parameters.payer_side() != peer {
            return Err(Refusal::NotThePayer);
        }
        let head = ledger.head_receipt(channel).await.map_err(failed)?;
        let receipts = ledger
            .receipts(channel, after.saturating_add(1), MAX_LISTED_RECEIPTS)
            .await;
        let receipts = receipts.map_err(failed)?;
        let account = ledger.account(channel).await.map_err(failed)?;
        let unlinked = ledger.unlinked_bills(channel).await.map_err(failed)?;
        // Signing is deterministic: the same committed bill gets the same signature again.
        let sign = |bill: CommittedBill| self.keypair.sign(&self.domain, *bill.bill()).into_unverified();
        Ok(ExecutorFrame::State(Box::new(State {
            channel,
            head: head.map(Receipt::into_unverified),
            receipts: receipts.into_iter().map(Receipt::into_unverified).collect(),
            unlinked: unlinked.into_iter().take(MAX_LISTED_BILLS).map(sign).collect(),
            authorized: account.authorized,
            spent: account.spent,
            deposit: record.confirmed.map(|state| state.deposit).unwrap_or_default(),
        })))
    }

    pub(super) async fn link(
        &self,
        receipt: Receipt<Unverified>,
        voucher: Option<Signed<Voucher>>,
    ) -> Result<ExecutorFrame, Refusal> {
        let channel = receipt.receipt().channel;
        let sequence = receipt.receipt().sequence;
        let parameters = self.parameters(channel).await?;
        let receipt = self.verify_receipt(receipt, &parameters).await?;
        let voucher = self.verify_voucher(voucher, channel, &parameters)?;
        let ledger = &self.ledger;
        let mut recorded = ledger.accept_receipt(receipt.clone(), voucher).await;
        if let Err(ServeError::VoucherOverDeposit { .. }) = recorded {
            // The receipt is an authorization of its own.
            recorded = ledger.accept_receipt(receipt, None).await;
        }
        recorded.map_err(refusal)?;
        self.channels.changed(channel);
        Ok(ExecutorFrame::Recorded { sequence })
    }

    async fn verify_receipt(
        &self,
        receipt: Receipt<Unverified>,
        parameters: &ChannelParameters,
    ) -> Result<Receipt<Verified>, Refusal> {
        let payer_side = parameters.payer_side();
        let check = |receipt: Receipt<Unverified>, known: &[Address]| {
            receipt.verify(&self.domain, &self.verifier, payer_side, |biller| {
                known.contains(&biller)
            })
        };
        let verified = match check(receipt.clone(), &[self.operator()]) {
            // A bill of an operator this node had before.
            Err(ReceiptError::NotExecutorSide { .. }) => {
                let operators = self.ledger.operators(parameters.payee).await.map_err(failed)?;
                let known: Vec<Address> = operators.into_iter().map(|(operator, _)| operator).collect();
                check(receipt, &known)
            }
            other => other,
        };
        verified.map_err(|error| match error {
            ReceiptError::Payer(_) => Refusal::WrongSigner {
                document: Document::Receipt,
                expected: payer_side,
            },
            ReceiptError::Executor(_) | ReceiptError::NotExecutorSide { .. } => Refusal::WrongSigner {
                document: Document::Bill,
                expected: self.operator(),
            },
            ReceiptError::OtherChannel { .. } | ReceiptError::OtherBill => Refusal::OtherChannel {
                document: Document::Bill,
            },
        })
    }

    pub(super) async fn take_voucher(&self, voucher: Option<Signed<Voucher>>) -> Result<(), Refusal> {
        let Some(voucher) = voucher else {
            return Ok(());
        };
        let channel = voucher.document().channel;
        let parameters = self.parameters(channel).await?;
        if let Some(voucher) = self.verify_voucher(Some(voucher), channel, &parameters)? {
            self.ledger.accept_voucher(voucher).await.map_err(refusal)?;
            self.channels.changed(channel);
        }
        Ok(())
    }

    fn verify_voucher(
        &self,
        voucher: Option<Signed<Voucher>>,
        channel: ChannelId,
        parameters: &ChannelParameters,
    ) -> Result<Option<Signed<Voucher, Verified>>, Refusal> {
        let (domain, verifier) = (&self.domain, &self.verifier);
        voucher
            .map(|voucher| verify_voucher(voucher, channel, parameters.payer_side(), domain, verifier))
            .transpose()
    }

    pub(super) async fn parameters(&self, channel: ChannelId) -> Result<ChannelParameters, Refusal> {
        let record = self.ledger.channel(channel).await.map_err(failed)?;
        record.map(|record| record.parameters).ok_or(Refusal::ChannelUnknown)
    }
}
