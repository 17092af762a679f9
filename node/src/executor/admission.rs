//! What a request has to be before any money is looked at: pure, in a fixed order, cheapest lies first.

use alloy::primitives::Address;
use lloom_receipts::{
    ChannelId, ChannelParameters, ContentHash, InferenceRequest, RequestError, Signed, TokenAmount, TokenCount,
    UnixSeconds, Verified, VerifyError, Voucher, commitment_salt,
};
use serde_json::Value;

use super::{body::ChatBody, inspection::Checked};
use crate::{
    Offer,
    backend::MAX_BYTES_PER_TOKEN,
    wire::{Document, Infer, Refusal},
};

/// What a request is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission<'a> {
    pub(super) operator: Address,
    pub(super) offer: &'a Offer,
    pub(super) channel: &'a ChannelParameters,
    /// Confirmed on the chain, if any.
    pub(super) deposit: Option<TokenAmount>,
    pub(super) now: UnixSeconds,
}

/// A request that breaks no rule that can be told without the ledger.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) request: Signed<InferenceRequest, Verified>,
    pub(super) voucher: Option<Signed<Voucher, Verified>>,
    /// What the backend is asked.
    pub(super) body: Value,
    /// What the prompt counts where the backend never says it.
    pub(super) input_estimate: TokenCount,
}

impl Admission<'_> {
    /// What is looked at before its signatures, which cost far more.
    pub(super) fn screen(&self, infer: &Infer) -> Result<(), Refusal> {
        let request = infer.request.document();
        if self.channel.salt != commitment_salt(self.operator, infer.client_random) {
            return Err(Refusal::NotCommitted {
                operator: self.operator,
            });
        }
        if request.operator != self.operator {
            return Err(Refusal::OtherOperator {
                operator: self.operator,
            });
        }
        if (self.channel.payee, self.channel.token) != (self.offer.payee, self.offer.token) {
            return Err(Refusal::OtherPayment {
                payee: self.channel.payee,
                token: self.channel.token,
            });
        }
        Ok(())
    }

    /// Judges `infer`, which was [screened](Self::screen), and whose signatures were checked. The ledger judges the rest in
    /// one transaction: nonce, deposit, close, voucher, coverage.
    pub(super) fn judge(
        &self,
        infer: &Infer,
        (signed, voucher): Checked<Signed<InferenceRequest, Verified>, VerifyError>,
    ) -> Result<Admitted, Refusal> {
        let payer_side = self.channel.payer_side();
        let signed = signed.map_err(|_| Refusal::WrongSigner {
            document: Document::Request,
            expected: payer_side,
        })?;
        let request = *signed.document();
        request.check(self.now).map_err(|error| match error {
            RequestError::Expired { deadline, now } => Refusal::Expired { deadline, now },
            RequestError::DeadlineTooFar { deadline, now } => Refusal::DeadlineTooFar { deadline, now },
            RequestError::Price(_) => Refusal::AmountOverflow,
        })?;
        let model = self
            .offer
            .model(request.model)
            .ok_or(Refusal::UnknownModel { model: request.model })?;
        if !model.prices.within(&request.prices) {
            return Err(Refusal::PriceUnderAsk { ask: model.prices });
        }
        let outside = |count: TokenCount, limit: TokenCount| count == TokenCount::new(0) || count > limit;
        if outside(request.max_input, model.max_input) || outside(request.max_output, model.max_output) {
            return Err(Refusal::LimitsOutsideOffer {
                max_input: model.max_input,
                max_output: model.max_output,
            });
        }
        if request.prompt_hash != ContentHash::of(infer.salt, &infer.body) {
            return Err(Refusal::PromptHashMismatch);
        }
        let minimum = least_input(&infer.body).min(model.max_input);
        if request.max_input < minimum {
            return Err(Refusal::InputLimitTooLow { minimum });
        }
        let body = ChatBody::parse(&infer.body)?;
        body.check_model(&model.id)?;
        body.check_limit(request.max_output)?;
        if let Some(deposit) = self.deposit.filter(|deposit| *deposit < self.offer.min_deposit) {
            return Err(Refusal::DepositTooSmall {
                deposit,
                minimum: self.offer.min_deposit,
            });
        }
        let voucher = accept_voucher(voucher, request.channel, payer_side)?;
        Ok(Admitted {
            request: signed,
            voucher,
            input_estimate: body.prompt_estimate(),
            body: body.prepare(request.max_output)?,
        })
    }
}

/// A voucher whose signature was checked, if it is the payer side's and over this channel.
pub(super) fn accept_voucher(
    voucher: Option<Result<Signed<Voucher, Verified>, VerifyError>>,
    channel: ChannelId,
    payer_side: Address,
) -> Result<Option<Signed<Voucher, Verified>>, Refusal> {
    let Some(voucher) = voucher else {
        return Ok(None);
    };
    let voucher = voucher.map_err(|_| Refusal::WrongSigner {
        document: Document::Voucher,
        expected: payer_side,
    })?;
    if voucher.document().channel != channel {
        return Err(Refusal::OtherChannel {
            document: Document::Voucher,
        });
    }
    Ok(Some(voucher))
}

fn least_input(body: &[u8]) -> TokenCount {
    TokenCount::new(u32::try_from(body.len() / MAX_BYTES_PER_TOKEN).unwrap_or(u32::MAX))
}
