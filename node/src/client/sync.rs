use lloom_ledger::{BuyError, ObservedOutcome, OwnRequestRecord};
use lloom_receipts::{ChannelId, RequestHash, Signed, TokenAmount, TokenCount, Usage, UsageBill, Verified};

use super::{
    ChatError, Shared, abandoned,
    link::{Desk, Line, Turn},
    treasurer::TreasurerError,
};
use crate::wire::{ClientFrame, ExecutorFrame, MAX_OVERSHOOT, State};

/// How long after its deadline a request without a bill is given up. An executor that took it on has billed it by then:
/// its stream is gone.
const GIVEN_UP_AFTER: std::time::Duration = std::time::Duration::from_secs(600);

/// What bringing a channel up to date came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Receipts the executor lacked.
    pub resent: usize,
    /// Whether a newer head was adopted.
    pub adopted: bool,
    /// Bills linked that were left of answers that broke off.
    pub linked: usize,
    /// Bills that can't be justified from what this client authorized, or that the budget has no room for. They stay
    /// unpaid.
    pub unjustified: usize,
    /// What the executor says is billed and reserved, base units.
    pub spent: TokenAmount,
    /// What the executor says is authorized, base units.
    pub authorized: TokenAmount,
}

/// Brings a channel up to date over `line`. The turn at the desk keeps others from linking meanwhile.
pub(super) async fn run(
    shared: &Shared,
    desk: &Desk,
    turn: &mut Turn,
    line: &mut Line,
) -> Result<SyncReport, ChatError> {
    let channel = desk.channel;
    let (mut state, agreed) = agree(shared, desk, line).await?;
    if agreed.resent > 0 {
        // Bills that these have linked were listed before as without a receipt.
        let head = shared.ledger.head(channel).await?;
        state = ask(line, channel, head.sequence).await?;
    }
    let mut report = SyncReport {
        resent: agreed.resent,
        adopted: agreed.adopted,
        spent: state.spent,
        authorized: state.authorized,
        ..SyncReport::default()
    };
    let head = state.head.as_ref();
    let linked = head.map_or(TokenAmount::ZERO, |head| head.receipt().cumulative_amount);
    if let Some(voucher) = voucher_within(state.authorized, linked) {
        desk.treasurer.held(voucher).await;
    }
    turn.needs_sync = false;
    for bill in state.unlinked {
        match justify(shared, desk, bill).await? {
            Justified::Linkable(bill) => {
                let linked = match shared.link(desk, turn, line, *bill).await {
                    // The budget of another day may have room for it; others need none.
                    Err(ChatError::Treasurer(TreasurerError::Buy(error @ BuyError::OverBudget { .. }))) => {
                        tracing::warn!(%channel, %error, "a late bill is not paid now");
                        report.unjustified += 1;
                        continue;
                    }
                    linked => linked,
                };
                let (receipt, recorded) = linked?;
                tracing::info!(%channel, sequence = receipt.receipt().sequence, amount = %receipt.receipt().bill.amount, "linked the bill of an answer that broke off");
                report.linked += 1;
                if !recorded {
                    return Ok(report);
                }
            }
            Justified::NotYet => {}
            Justified::No => report.unjustified += 1,
        }
    }
    give_up_old_requests(shared, desk).await?;
    Ok(report)
}

/// The voucher that an executor holds which says that this is authorized. Only a voucher authorizes more than is linked; up
/// to there receipts may do so alone.
fn voucher_within(authorized: TokenAmount, linked: TokenAmount) -> Option<TokenAmount> {
    (authorized > linked).then_some(authorized)
}

/// What it took to agree.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Agreed {
    pub(super) adopted: bool,
    pub(super) resent: usize,
}

/// Makes both chains of receipts the same: adopts what this client lacks, and sends what the executor lacks. Gives what
/// the executor said last.
pub(super) async fn agree(shared: &Shared, desk: &Desk, line: &mut Line) -> Result<(Box<State>, Agreed), ChatError> {
    let channel = desk.channel;
    let mut agreed = Agreed::default();
    loop {
        let unconfirmed = shared.ledger.unconfirmed_receipts(channel).await?;
        let own = shared.ledger.head(channel).await?.sequence;
        let after = unconfirmed.first().map_or(own, |first| first.receipt().sequence - 1);
        let state = ask(line, channel, after).await?;
        let Some(head) = state.head.clone().map(|head| shared.believe(desk, head)).transpose()? else {
            agreed.resent = shared.resend(desk, line, 0).await?;
            return Ok((state, agreed));
        };
        let theirs = head.receipt().sequence;
        if theirs <= after {
            // It lost some that it had, or has no more than it is known to have.
            let known = shared.ledger.receipts(channel, theirs, 1).await?;
            if known.first().is_none_or(|known| known.receipt() != head.receipt()) {
                return Err(ChatError::FalseHead { channel });
            }
            agreed.resent = shared.resend(desk, line, theirs).await?;
            return Ok((state, agreed));
        }
        let mut listed = Vec::with_capacity(state.receipts.len());
        for receipt in &state.receipts {
            listed.push(shared.believe(desk, receipt.clone())?);
        }
        let same = listed
            .iter()
            .zip(&unconfirmed)
            .take_while(|(theirs, own)| theirs.receipt() == own.receipt())
            .count();
        if same > 0 {
            confirm(shared, channel, after + same as u64).await?;
        }
        let news = listed.split_off(same);
        if !news.is_empty() {
            tracing::warn!(%channel, theirs, own, "the executor holds other receipts with our signature, going on from them");
            desk.treasurer.adopt(news).await?;
            agreed.adopted = true;
        } else if same == 0 {
            // It names a head and doesn't show what leads to it.
            return Err(ChatError::FalseHead { channel });
        }
        if after + state.receipts.len() as u64 >= theirs {
            agreed.resent = shared.resend(desk, line, theirs).await?;
            return Ok((state, agreed));
        }
    }
}

async fn ask(line: &mut Line, channel: ChannelId, after: u64) -> Result<Box<State>, ChatError> {
    line.send(&ClientFrame::Sync { channel, after }).await?;
    line.reply("state", |frame| match frame {
        ExecutorFrame::State(state) if state.channel == channel => Some(state),
        _ => None,
    })
    .await
}

async fn confirm(shared: &Shared, channel: ChannelId, sequence: u64) -> Result<(), ChatError> {
    let confirmed = shared.ledger.confirm_receipt(channel, sequence).await;
    confirmed.map(drop).map_err(|error| TreasurerError::from(error).into())
}

enum Justified {
    Linkable(Box<Signed<UsageBill, Verified>>),
    /// Its stream is still there: the bill comes on it.
    NotYet,
    No,
}

/// Whether a bill can be paid without having its answer: it is for an own request, within its limits and prices, and
/// not above what was durably authorized for it and one event may overshoot; nothing, if the request was given up.
async fn justify(shared: &Shared, desk: &Desk, bill: Signed<UsageBill>) -> Result<Justified, ChatError> {
    let document = *bill.document();
    if desk.is_active(document.request) {
        return Ok(Justified::NotYet);
    }
    let refuse = |why: &'static str| {
        tracing::warn!(channel = %desk.channel, request = %document.request, amount = %document.amount, signature = %bill.signature(), why, "a bill is not paid");
        Ok(Justified::No)
    };
    let Some(own) = shared.ledger.own_request(document.request).await? else {
        return refuse("the request was never made");
    };
    let request = *own.request.document();
    let Ok(verified) = bill.clone().verify(&shared.domain, &shared.verifier, request.operator) else {
        return refuse("it is not signed by the operator that was asked");
    };
    let observed = match judge(&own, &document) {
        Ok(()) => return Ok(Justified::Linkable(Box::new(verified))),
        Err(why) => refuse(why),
    };
    shared
        .observe(request.operator, ObservedOutcome::Overbilled, None, None)
        .await;
    observed
}

fn judge(own: &OwnRequestRecord, bill: &UsageBill) -> Result<(), &'static str> {
    if own.billed {
        return Err("another bill of the request is linked");
    }
    // What was heard on its stream was judged by the answer itself, and this can't be.
    if own.abandoned.as_deref().is_some_and(abandoned::is_for_overbilling) {
        return Err("the request was abandoned for what was billed before");
    }
    let request = own.request.document();
    if bill.check(request).is_err() {
        return Err("it is beyond the request's limits or prices");
    }
    if own.abandoned.is_some() {
        // Its executor refused it, or had long enough to bill it. One that could not tell whether it had taken it on says
        // so with a bill over nothing.
        return match bill.amount {
            TokenAmount::ZERO => Ok(()),
            _ => Err("the request was abandoned"),
        };
    }
    // The last event may have come without being paid ahead. A bill over it that nobody links would stand in the way of
    // every further request on the channel.
    let overshoot = request.prices.charge(Usage {
        input: TokenCount::default(),
        output: TokenCount::new(MAX_OVERSHOOT),
    });
    let justified = own.authorized.saturating_add(overshoot.unwrap_or_default());
    if bill.amount > justified {
        return Err("it is above what was authorized for the request");
    }
    Ok(())
}

async fn give_up_old_requests(shared: &Shared, desk: &Desk) -> Result<(), ChatError> {
    let now = shared.ledger.now();
    for record in shared.ledger.unbilled_requests(desk.channel).await? {
        let hash: RequestHash = record.request.document().hash();
        let over = record.request.document().deadline.plus(GIVEN_UP_AFTER) < now;
        if over && !desk.is_active(hash) {
            desk.treasurer.abandon(hash, "never billed".to_owned()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receipt_may_cover_alone_is_taken_for_no_voucher() {
        let amount = TokenAmount::new;
        assert_eq!(voucher_within(amount(0), amount(0)), None);
        assert_eq!(voucher_within(amount(70), amount(70)), None);
        assert_eq!(
            voucher_within(amount(60), amount(70)),
            None,
            "the deposit is below the receipt"
        );
        assert_eq!(voucher_within(amount(71), amount(70)), Some(amount(71)));
    }
}
