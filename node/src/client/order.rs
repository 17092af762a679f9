//! From what a person asks to a request that can be signed.

use alloy::primitives::{B256, U256};
use lloom_ledger::{ChannelFilter, ChannelRecord};
use lloom_receipts::{
    ChannelId, ContentHash, ContentSalt, InferenceRequest, RequestNonce, TokenAmount, TokenCount, UnixSeconds,
};
use serde_json::Value;

use super::{ChatError, ChatRequest, Shared, Tolerance};
use crate::{ModelOffer, Offer, wire::MAX_FRAME};

/// What a frame holds besides the body, at most.
const FRAME_OVERHEAD: usize = 4 << 10;

/// The names under which a body may limit its output.
const LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// A request that is about to be signed, and what goes with it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) request: InferenceRequest,
    pub(super) client_random: B256,
    pub(super) salt: ContentSalt,
    pub(super) body: Vec<u8>,
}

/// What chance gives a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    pub(super) nonce: RequestNonce,
    pub(super) salt: ContentSalt,
}

impl Chance {
    pub(super) fn draw(random: &dyn Fn() -> [u8; 32]) -> Self {
        Self {
            nonce: RequestNonce::new(U256::from_be_bytes(random())),
            salt: ContentSalt::new(B256::new(random())),
        }
    }
}

/// Makes a request of what was asked. Pure.
pub(super) fn prepare(
    asked: ChatRequest,
    channel: &ChannelRecord,
    tolerance: &Tolerance,
    chance: Chance,
    deadline: UnixSeconds,
) -> Result<Prepared, ChatError> {
    let ChatRequest {
        offer,
        model,
        mut body,
        max_output,
        ..
    } = asked;
    let model = offer.model(model).ok_or(ChatError::UnknownModel { model })?;
    let client_random = channel
        .client_random
        .ok_or(ChatError::ForeignChannel { channel: channel.id })?;
    let max_output = limit_output(&mut body, model, max_output);
    body.insert("model".to_owned(), Value::String(model.id.clone()));
    let body = serde_json::to_vec(&body).map_err(|_| ChatError::Body("it is no JSON"))?;
    if body.len() > MAX_FRAME - FRAME_OVERHEAD {
        return Err(ChatError::Body("it is longer than a frame"));
    }
    Ok(Prepared {
        request: InferenceRequest {
            channel: channel.id,
            operator: offer.operator,
            nonce: chance.nonce,
            model: model.hash,
            prompt_hash: ContentHash::of(chance.salt, &body),
            max_input: tolerance.input_bound(body.len()).min(model.max_input),
            max_output,
            prices: model.prices,
            deadline,
        },
        client_random,
        salt: chance.salt,
        body,
    })
}

/// The output limit that all agree on; what the body says above it is lowered to it.
fn limit_output(
    body: &mut serde_json::Map<String, Value>,
    model: &ModelOffer,
    max_output: Option<TokenCount>,
) -> TokenCount {
    let allowed = max_output.map_or(model.max_output, |limit| limit.min(model.max_output));
    let said = LIMITS
        .iter()
        .filter_map(|name| body.get(*name).and_then(Value::as_u64))
        .min()
        .map(|said| TokenCount::new(u32::try_from(said).unwrap_or(u32::MAX)));
    let limit = said.map_or(allowed, |said| said.min(allowed));
    for name in LIMITS {
        if let Some(value) = body.get_mut(name).filter(|value| value.is_u64()) {
            *value = limit.get().into();
        }
    }
    limit
}

impl Shared {
    /// The channel to pay from: the one asked for, or of those committed to the executor the one with most left.
    pub(super) async fn choose_channel(
        &self,
        offer: &Offer,
        asked: Option<ChannelId>,
    ) -> Result<ChannelRecord, ChatError> {
        let operator = offer.operator;
        if let Some(channel) = asked {
            return self
                .ledger
                .channel(channel)
                .await?
                .ok_or(ChatError::NoChannel { operator });
        }
        let filter = ChannelFilter {
            operator: Some(operator),
            payee: Some(offer.payee),
            open_only: true,
            ..ChannelFilter::default()
        };
        let mut usable = self.ledger.channels(filter).await?;
        usable.retain(|record| {
            let closing = record.latest.is_some_and(|latest| latest.close_requested_at.is_some());
            let ours = record.parameters.payer_side() == self.keypair.address();
            !closing && ours && record.parameters.token == offer.token && record.client_random.is_some()
        });
        usable.retain(|record| record.confirmed.or(record.latest).is_some());
        if usable.len() == 1 {
            return usable.pop().ok_or(ChatError::NoChannel { operator });
        }
        let mut best: Option<(TokenAmount, ChannelRecord)> = None;
        for record in usable {
            let deposit = record.confirmed.or(record.latest).map(|state| state.deposit);
            let spent = self.ledger.purchases(record.id).await?.spent;
            let left = deposit.unwrap_or_default().saturating_sub(spent);
            if best.as_ref().is_none_or(|(most, _)| left > *most) {
                best = Some((left, record));
            }
        }
        best.map(|(_, record)| record).ok_or(ChatError::NoChannel { operator })
    }
}
