//! What a tower has promised to claim, of channels whose payers are leaving.

use std::time::SystemTime;

use lloom_ledger::Ledger;
use lloom_receipts::{TokenAmount, UnixSeconds};

use super::diagnosis::Checks;
use crate::{
    date::minutes,
    failure::{Failure, Kind, OrFail as _, Result},
    onchain::OnChain,
    output::{counted, shortened},
    session::Session,
};

/// Looks at each of them.
pub async fn check(
    session: &Session,
    ledger: &Ledger,
    on_chain: Option<&OnChain>,
    node_runs: bool,
    checks: &mut Checks,
) -> Result {
    let failed = || "cannot list what is held".to_owned();
    let totals = ledger.held_totals().await.or_fail(Kind::Store, failed)?;
    let channels = counted(totals.channels, "channel");
    let closing = ledger.held_closing().await.or_fail(Kind::Store, failed)?;
    if closing.is_empty() {
        checks.good("held", format!("{channels}, and no payer of theirs is leaving"));
        return Ok(());
    }
    // Without the chain, its grace period is not known, nor what was settled since.
    let Some(on_chain) = on_chain else {
        checks.warn(
            "held",
            format!(
                "{channels} held, and of {} the payer is leaving",
                counted(closing.len() as u64, "channel")
            ),
            "mend the chain's endpoint first: what is promised has to be claimed in time",
        );
        return Ok(());
    };
    let grace = on_chain.grace_period().await?;
    let now = UnixSeconds::from(SystemTime::now()).max(on_chain.head_time().await?);
    let mut is_due = false;
    for held in closing {
        let id = held.claimable.channel.id;
        let Some(state) = on_chain.channel(id).await? else {
            continue;
        };
        let value = held.claimable.amount().saturating_sub(state.settled);
        let (false, Some(requested_at)) = (state.finalized, state.close_requested_at) else {
            continue;
        };
        if value == TokenAmount::ZERO || value < held.terms.minimum_value {
            continue;
        }
        is_due = true;
        let finding = format!(
            "the payer of {} may take {} away in {}, which this tower has promised to claim unless the executor does",
            shortened(&id.to_string()),
            session.network.token.show(value),
            minutes(requested_at.plus(grace).since(now))
        );
        if node_runs {
            checks.warn(
                "held",
                finding,
                "nothing: the tower goes out in time; `lloomctl claim --explain` says when",
            );
        } else {
            let failure = Failure::new(Kind::Refused, finding);
            checks.bad("held", &failure.hint("`lloomctl watch --tower` now"));
        }
    }
    if !is_due {
        checks.good("held", "whatever was promised of payers that are leaving is settled");
    }
    Ok(())
}
