//! What can be said of a channel at any time: how it stands, a receipt, a voucher.

use alloy::primitives::Address;
use lloom_ledger::{Outcome, ServeError};
use lloom_receipts::{ChannelId, ChannelParameters, Receipt, ReceiptError, Signed, Unverified, Verified, Voucher};

use super::{
    Shared,
    admission::accept_voucher,
    metrics::Accepted,
    refuse::{failed, refusal},
};
use crate::wire::{Document, ExecutorFrame, Refusal, State};

/// Bills that one `State` lists at most, so that it fits a frame. Who has more to link asks again.
const MAX_LISTED_BILLS: u32 = 512;

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
        let unlinked = ledger
            .unlinked_bills_by(self.operator(), channel, MAX_LISTED_BILLS)
            .await;
        let unlinked = unlinked.map_err(failed)?;
        let unlinked = unlinked.iter().filter_map(|bill| self.sign(bill));
        Ok(ExecutorFrame::State(Box::new(State {
            channel,
            head: head.map(Receipt::into_unverified),
            receipts: receipts.into_iter().map(Receipt::into_unverified).collect(),
            unlinked: unlinked.map(Signed::into_unverified).collect(),
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
        let (receipt, voucher, biller) = self.check_receipt(receipt, voucher, &parameters).await?;
        let ledger = &self.ledger;
        let bill = receipt.receipt().bill;
        let was_lost = biller == self.operator() && self.was_lost(&bill).await.map_err(failed)?;
        let mut recorded = ledger.accept_receipt(receipt.clone(), voucher).await;
        if let Err(ServeError::VoucherOverDeposit { .. }) = recorded {
            // The receipt is an authorization of its own.
            recorded = ledger.accept_receipt(receipt, None).await;
        }
        if recorded.map_err(refusal)? == Outcome::Recorded {
            self.metrics.accepted(Accepted::Receipt);
            self.learn(&bill, was_lost).await.map_err(failed)?;
        }
        self.channels.changed(channel);
        Ok(ExecutorFrame::Recorded { sequence })
    }

    async fn check_receipt(
        &self,
        receipt: Receipt<Unverified>,
        voucher: Option<Signed<Voucher>>,
        parameters: &ChannelParameters,
    ) -> Result<(Receipt<Verified>, Option<Signed<Voucher, Verified>>, Address), Refusal> {
        let payer_side = parameters.payer_side();
        let channel = receipt.receipt().channel;
        let by = |biller| receipt.clone().by(payer_side, biller);
        let voucher = voucher.map(|voucher| voucher.by(payer_side));
        let (checked, voucher) = self.inspection.receipt(by(self.operator()), voucher).await?;
        let mut signed_by = self.operator();
        let checked = match checked {
            // A bill of an operator this node had before.
            Err(ReceiptError::NotExecutorSide { biller }) if self.was_operator(parameters, biller).await? => {
                signed_by = biller;
                self.inspection.receipt(by(biller), None).await?.0
            }
            other => other,
        };
        let receipt = checked.map_err(|error| match error {
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
        })?;
        Ok((receipt, accept_voucher(voucher, channel, payer_side)?, signed_by))
    }

    async fn was_operator(&self, parameters: &ChannelParameters, biller: Address) -> Result<bool, Refusal> {
        let operators = self.ledger.operators(parameters.payee).await.map_err(failed)?;
        Ok(operators.iter().any(|(operator, _)| *operator == biller))
    }

    pub(super) async fn take_voucher(&self, voucher: Option<Signed<Voucher>>) -> Result<(), Refusal> {
        let Some(voucher) = voucher else {
            return Ok(());
        };
        let channel = voucher.document().channel;
        let parameters = self.parameters(channel).await?;
        let payer_side = parameters.payer_side();
        let checked = self.inspection.voucher(voucher.by(payer_side)).await?;
        if let Some(voucher) = accept_voucher(Some(checked), channel, payer_side)? {
            if self.ledger.accept_voucher(voucher).await.map_err(refusal)? == Outcome::Recorded {
                self.metrics.accepted(Accepted::Voucher);
            }
            self.channels.changed(channel);
        }
        Ok(())
    }

    pub(super) async fn parameters(&self, channel: ChannelId) -> Result<ChannelParameters, Refusal> {
        let record = self.ledger.channel(channel).await.map_err(failed)?;
        record.map(|record| record.parameters).ok_or(Refusal::ChannelUnknown)
    }
}
