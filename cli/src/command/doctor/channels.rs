//! What is owed and not claimed, and until when it has to be.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use alloy::primitives::Address;
use lloom_ledger::{Ledger, SurveyedChannel};
use lloom_receipts::{TokenAmount, UnixSeconds};

use super::diagnosis::Checks;
use crate::{
    date::minutes,
    failure::{Failure, Kind, OrFail as _, Result},
    onchain::OnChain,
    output::{counted, shortened},
    session::Session,
    watching::claims_token,
};

/// Channels whose state on the chain is looked up at least.
const LOOKED_UP: usize = 50;
/// A claim should have been mined by this long before a deadline.
const DEADLINE_NEAR: Duration = Duration::from_secs(30 * 60);

/// Looks at the channels served here. With a chain, also for close requests that no node has seen.
pub async fn check(
    session: &Session,
    ledger: &Ledger,
    on_chain: Option<&OnChain>,
    node_runs: bool,
    checks: &mut Checks,
) -> Result {
    let mut owing = ledger
        .survey()
        .await
        .or_fail(Kind::Store, || "cannot survey the channels".to_owned())?;
    owing.retain(|channel| !channel.unclaimed().is_zero());
    sort(&mut owing);
    if owing.is_empty() {
        checks.good("claims", "everything that was earned is claimed");
        return Ok(());
    }
    let own = &session.network.token;
    for (token, (total, channels)) in sums(&owing) {
        let channels = counted(channels, "channel");
        let shown = format!("{} in {channels} can be claimed", own.show_of(token, total));
        if !claims_token(session, token)? {
            checks.warn(
                "claims",
                format!("{shown}, and this home claims nothing in that token"),
                to_claim(token),
            );
        } else if node_runs {
            checks.good("claims", format!("{shown}; the node does so when it is worth the fee"));
        } else {
            checks.warn(
                "claims",
                format!("{shown}, and nothing runs that would"),
                "`lloomctl claim`",
            );
        }
    }
    check_deadlines(session, ledger, &owing, on_chain, node_runs, checks).await
}

async fn check_deadlines(
    session: &Session,
    ledger: &Ledger,
    owing: &[SurveyedChannel],
    on_chain: Option<&OnChain>,
    node_runs: bool,
    checks: &mut Checks,
) -> Result {
    let mut leaving = match on_chain {
        Some(on_chain) => leaving_on_chain(owing, on_chain).await?,
        None => leaving_by_store(owing, ledger).await?,
    };
    let mut now = UnixSeconds::from(SystemTime::now());
    if let Some(on_chain) = on_chain {
        now = now.max(on_chain.head_time().await?);
    }
    leaving.sort_by_key(|leaving| (leaving.deadline, leaving.payer));
    for leaving in leaving {
        let amount = session.network.token.show_of(leaving.token, leaving.unclaimed);
        let payer = shortened(&leaving.payer.to_string());
        let left = leaving.deadline.since(now);
        let finding = if left.is_zero() {
            format!("the payer {payer} may take {amount} of yours away at any moment")
        } else {
            format!("the payer {payer} may take {amount} of yours away in {}", minutes(left))
        };
        let is_claimed = claims_token(session, leaving.token)?;
        if node_runs && is_claimed && left > DEADLINE_NEAR {
            checks.warn(
                "deadline",
                finding,
                "the node claims it in time; `lloomctl claim` does so now",
            );
        } else {
            let failure = Failure::new(Kind::Refused, finding);
            let failure = match is_claimed {
                true => failure,
                false => failure.hint(to_claim(leaving.token)),
            };
            checks.bad("deadline", &failure.hint("`lloomctl claim` now"));
        }
    }
    Ok(())
}

/// What has channels in another token than the network's claimed.
fn to_claim(token: Address) -> String {
    format!("name the token in config.toml, as [watcher.tokens.\"{token}\"]")
}

/// Those whose payers are known to leave first, then those that owe the most.
fn sort(owing: &mut [SurveyedChannel]) {
    owing.sort_by_key(|channel| {
        let stays = channel.close_requested_at.is_none();
        (stays, Reverse(channel.unclaimed()), channel.id)
    });
}

/// A payer that has asked for the rest.
struct Leaving {
    deadline: UnixSeconds,
    payer: Address,
    token: Address,
    unclaimed: TokenAmount,
}

/// As the chain says it: what the store knows is as old as its last watcher.
async fn leaving_on_chain(owing: &[SurveyedChannel], on_chain: &OnChain) -> Result<Vec<Leaving>> {
    let grace = on_chain.grace_period().await?;
    let mut leaving = Vec::new();
    let known = owing.iter().filter(|channel| channel.close_requested_at.is_some());
    let looked_up = known.count().max(LOOKED_UP);
    for channel in owing.iter().take(looked_up) {
        let Some(state) = on_chain.channel(channel.id).await? else {
            continue;
        };
        let unclaimed = channel.billed.min(channel.authorized).saturating_sub(state.settled);
        if let (false, Some(requested_at)) = (state.finalized || unclaimed.is_zero(), state.close_requested_at) {
            leaving.push(Leaving {
                deadline: requested_at.plus(grace),
                payer: channel.payer,
                token: channel.token,
                unclaimed,
            });
        }
    }
    Ok(leaving)
}

/// As far as the store knows it, while the chain is out of reach.
async fn leaving_by_store(owing: &[SurveyedChannel], ledger: &Ledger) -> Result<Vec<Leaving>> {
    let obligations = ledger
        .obligations()
        .await
        .or_fail(Kind::Store, || "cannot list the deadlines".to_owned())?;
    let leaving = obligations.into_iter().filter_map(|obligation| {
        let channel = owing.iter().find(|channel| channel.id == obligation.channel)?;
        Some(Leaving {
            deadline: obligation.deadline,
            payer: channel.payer,
            token: channel.token,
            unclaimed: channel.unclaimed(),
        })
    });
    Ok(leaving.collect())
}

/// What is unclaimed in each token, and in how many channels: units of several make no sum.
fn sums(channels: &[SurveyedChannel]) -> BTreeMap<Address, (TokenAmount, u64)> {
    let mut sums = BTreeMap::new();
    for channel in channels {
        let (sum, count) = sums.entry(channel.token).or_insert((TokenAmount::ZERO, 0));
        *sum = sum.saturating_add(channel.unclaimed());
        *count += 1;
    }
    sums
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use lloom_receipts::ChannelId;

    use super::*;

    fn channel(number: u8, owed: u128, is_leaving: bool) -> SurveyedChannel {
        SurveyedChannel {
            id: ChannelId::new(B256::repeat_byte(number)),
            payer: Address::ZERO,
            payee: Address::ZERO,
            token: Address::ZERO,
            authorized: TokenAmount::new(owed),
            spent: TokenAmount::new(owed),
            billed: TokenAmount::new(owed),
            settled: TokenAmount::ZERO,
            close_requested_at: is_leaving.then(|| UnixSeconds::new(1)),
            finalized: false,
        }
    }

    #[test]
    fn a_small_channel_that_is_left_comes_before_large_ones_that_are_not() {
        let mut owing = [
            channel(1, 9, false),
            channel(2, 1, true),
            channel(3, 10, false),
            channel(4, 2, true),
        ];
        sort(&mut owing);
        assert_eq!(owing.map(|channel| channel.billed.base_units()), [2, 1, 10, 9]);
    }
}
