use std::time::SystemTime;

use alloy::primitives::Address;
use lloom_ledger::{Ledger, LedgerError, StandingRefusal, TowerRecord, ValueAtRisk};
use lloom_receipts::UnixSeconds;

use super::diagnosis::Checks;
use crate::{
    answer::printable,
    config::Config,
    date::minutes,
    delegating::{ConfiguredTower, configured_towers},
    failure::{Kind, OrFail as _, Result},
    output::{counted, shortened},
    session::Session,
    watching::payee,
};

/// Refused channels of one tower that are counted.
const MAX_REFUSALS: u32 = 1_000;

/// Whether anybody claims while an executor's node is off.
pub(super) async fn check(session: &Session, config: &Config, checks: &mut Checks) {
    if config.executor.is_none() {
        return;
    }
    let configured = match configured_towers(session) {
        Err(failure) => return checks.bad("towers", &failure),
        Ok(towers) if towers.is_empty() => {
            return checks.warn(
                "towers",
                "none: while this node is off, nobody claims for it",
                "config.toml's [towers] names them; `lloomctl watch --tower` on another machine is one",
            );
        }
        Ok(towers) => towers,
    };
    let now = UnixSeconds::from(SystemTime::now());
    let read = async {
        let payee = payee(session)?;
        let Some(ledger) = session.read_store().await? else {
            return Ok(Known::default());
        };
        let token = session.network.token.address;
        let known = read(&ledger, payee, token, &configured, now).await;
        ledger.close().await;
        known.or_fail(Kind::Store, || "cannot read what towers have signed".to_owned())
    };
    let read: Result<Known> = read.await;
    let known = match read {
        Err(failure) => return checks.bad("towers", &failure),
        Ok(known) => known,
    };
    let is_fine = known.towers.is_empty();
    for tower in &known.towers {
        report(tower, now, checks);
    }
    let show = |amount| session.network.token.show(amount);
    if !known.risk.uncovered().is_zero() {
        checks.warn(
            "towers",
            format!(
                "{} that no tower has promised to claim which was heard lately",
                show(known.risk.uncovered())
            ),
            "`lloomctl tower status` and `lloomctl tower ping` say more",
        );
    } else if is_fine {
        checks.good("towers", format!("{} covered", show(known.risk.covered)));
    }
}

/// What the store says.
#[derive(Default)]
struct Known {
    risk: ValueAtRisk,
    /// The towers of which there is something to say.
    towers: Vec<Troubled>,
}

struct Troubled {
    record: TowerRecord,
    /// The first channels that it refuses.
    refusals: Vec<StandingRefusal>,
}

async fn read(
    ledger: &Ledger,
    payee: Address,
    token: Address,
    configured: &[ConfiguredTower],
    now: UnixSeconds,
) -> std::result::Result<Known, LedgerError> {
    let mut towers = Vec::new();
    for record in ledger.towers().await? {
        let is_configured = configured.iter().any(|known| known.tower == record.address);
        let refusals = match is_configured {
            true => ledger.refusals(record.address, None, MAX_REFUSALS).await?,
            false => Vec::new(),
        };
        let is_silent = record.heard_at.is_some() && !record.is_heard(now);
        let is_away = record.problem.is_some() || is_silent;
        if record.fault.is_some() || (is_configured && (is_away || !refusals.is_empty())) {
            towers.push(Troubled { record, refusals });
        }
    }
    Ok(Known {
        risk: ledger.value_at_risk(payee, token, now).await?,
        towers,
    })
}

/// Says what is the matter with one tower: the worst of it, and what it refuses.
fn report(tower: &Troubled, now: UnixSeconds, checks: &mut Checks) {
    let Troubled { record, refusals } = tower;
    let address = record.address;
    if record.fault.is_some() {
        checks.warn(
            "towers",
            format!("{address} has lied"),
            "`lloomctl tower status` says about what; name another in config.toml's [towers]",
        );
    } else if let Some(problem) = &record.problem {
        checks.warn(
            "towers",
            format!("{address} is in trouble: {}", printable(problem)),
            "`lloomctl tower ping` asks it now; what it has promised, it may not be there to keep",
        );
    } else if let (Some(at), false) = (record.heard_at, record.is_heard(now)) {
        checks.warn(
            "towers",
            format!(
                "{address} was not heard for {}: what it has signed is not counted on",
                minutes(now.since(at))
            ),
            "`lloomctl tower ping` asks it now; a node that runs asks it every minute",
        );
    }
    let Some(first) = refusals.first() else {
        return;
    };
    let channels = match refusals.len() {
        some if some == MAX_REFUSALS as usize => format!("{some} channels or more"),
        some => counted(some as u64, "channel"),
    };
    checks.warn(
        "towers",
        format!(
            "{address} refuses {channels}; {} because {}",
            shortened(&first.channel.to_string()),
            printable(&first.reason)
        ),
        "`lloomctl tower status` lists them; another tower in config.toml's [towers] may take them",
    );
}
