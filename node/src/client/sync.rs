use lloom_ledger::{ObservedOutcome, OwnRequestRecord};
use lloom_receipts::{RequestHash, Signed, TokenAmount, UsageBill, Verified};

use super::{
    ChatError, Shared,
    link::{Desk, Line, Turn},
    now,
    treasurer::TreasurerError,
};
use crate::wire::{ClientFrame, ExecutorFrame, State};

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
    /// Bills that can't be justified from what this client authorized. They stay unpaid.
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
    line.send(&ClientFrame::Sync { channel }).await?;
    let state = line
        .reply("state", |frame| match frame {
            ExecutorFrame::State(state) if state.channel == channel => Some(state),
            _ => None,
        })
        .await?;
    let mut report = SyncReport {
        spent: state.spent,
        authorized: state.authorized,
        ..SyncReport::default()
    };
    (report.adopted, report.resent) = agree_on_head(shared, desk, line, &state).await?;
    desk.treasurer.held(state.authorized).await;
    turn.needs_sync = false;
    for bill in state.unlinked {
        match justify(shared, desk, bill).await? {
            Justified::Linkable(bill) => {
                let (receipt, recorded) = shared.link(desk, turn, line, *bill).await?;
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

/// Makes both heads the same: resends what the executor lacks, or adopts what this client lacks.
async fn agree_on_head(
    shared: &Shared,
    desk: &Desk,
    line: &mut Line,
    state: &State,
) -> Result<(bool, usize), ChatError> {
    let channel = desk.channel;
    let own = shared.ledger.head(channel).await?;
    let theirs = state.head.clone().map(|head| shared.believe(desk, head)).transpose()?;
    let sequence = theirs.as_ref().map_or(0, |head| head.receipt().sequence);
    if sequence > own.sequence {
        if let Some(head) = theirs {
            tracing::warn!(%channel, sequence, own = own.sequence, "the executor holds a newer head with our signature, going on from it");
            desk.treasurer.adopt(head, false).await?;
            shared
                .ledger
                .confirm_receipt(channel, sequence)
                .await
                .map_err(TreasurerError::from)?;
        }
        return Ok((true, 0));
    }
    if sequence > 0 {
        let known = shared.ledger.receipts(channel, sequence, 1).await?;
        let same = match (known.first(), &theirs) {
            (Some(known), Some(theirs)) if known.receipt().sequence == sequence => known.receipt() == theirs.receipt(),
            // Adopted heads come without what was before them.
            _ => true,
        };
        if !same {
            // It bears the own signature, so another copy of this client linked it. Only receipts that the executor
            // never confirmed can give way.
            let unconfirmed = shared.ledger.unconfirmed_receipts(channel).await?;
            let gives_way = unconfirmed
                .first()
                .is_some_and(|first| first.receipt().sequence <= sequence);
            let head = theirs.filter(|_| gives_way).ok_or(ChatError::FalseHead { channel })?;
            desk.treasurer.adopt(head, true).await?;
            return Ok((true, 0));
        }
        shared
            .ledger
            .confirm_receipt(channel, sequence)
            .await
            .map_err(TreasurerError::from)?;
    }
    Ok((false, shared.resend(desk, line, sequence).await?))
}

enum Justified {
    Linkable(Box<Signed<UsageBill, Verified>>),
    /// Its stream is still there: the bill comes on it.
    NotYet,
    No,
}

/// Whether a bill can be paid without having its answer: it is for an own request, within its limits and prices, and
/// not above what was durably authorized for it.
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
    if own.abandoned.is_some() && bill.amount > own.authorized {
        return Err("the request was abandoned");
    }
    if bill.check(own.request.document()).is_err() {
        return Err("it is beyond the request's limits or prices");
    }
    if bill.amount > own.authorized {
        return Err("it is above what was authorized for the request");
    }
    Ok(())
}

async fn give_up_old_requests(shared: &Shared, desk: &Desk) -> Result<(), ChatError> {
    let now = now();
    for record in shared.ledger.unbilled_requests(desk.channel).await? {
        let hash: RequestHash = record.request.document().hash();
        let over = record.request.document().deadline.plus(GIVEN_UP_AFTER) < now;
        if over && !desk.is_active(hash) {
            desk.treasurer.abandon(hash, "never billed".to_owned()).await?;
        }
    }
    Ok(())
}
