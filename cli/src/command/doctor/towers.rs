use std::time::SystemTime;

use lloom_ledger::{TowerRecord, ValueAtRisk};
use lloom_receipts::UnixSeconds;

use super::diagnosis::Checks;
use crate::{
    config::Config,
    delegating::configured_towers,
    failure::{Kind, OrFail as _, Result},
    session::Session,
    watching::payee,
};

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
    let read = async {
        let payee = payee(session)?;
        let Some(ledger) = session.read_store().await? else {
            return Ok((ValueAtRisk::default(), Vec::new()));
        };
        let now = UnixSeconds::from(SystemTime::now());
        let failed = || "cannot read what towers have signed".to_owned();
        let token = session.network.token.address;
        let risk = ledger
            .value_at_risk(payee, token, now)
            .await
            .or_fail(Kind::Store, failed)?;
        let towers = ledger.towers().await.or_fail(Kind::Store, failed)?;
        ledger.close().await;
        Ok((risk, towers))
    };
    let read: Result<(ValueAtRisk, Vec<TowerRecord>)> = read.await;
    match read {
        Err(failure) => checks.bad("towers", &failure),
        Ok((risk, towers)) => {
            let hint = "`lloomctl tower status` and `lloomctl tower ping` say more";
            if let Some(liar) = towers.iter().find(|tower| tower.fault.is_some()) {
                checks.warn("towers", format!("{} has lied", liar.address), hint);
            } else if let Some((tower, problem)) = towers.iter().find_map(|tower| {
                let is_configured = configured.iter().any(|known| known.tower == tower.address);
                let problem = tower.problem.as_ref().filter(|_| is_configured)?;
                Some((tower.address, problem))
            }) {
                checks.warn(
                    "towers",
                    format!("{tower} is in trouble: {problem}"),
                    "`lloomctl tower ping` asks it now; what it has promised, it may not be there to keep",
                );
            } else if risk.uncovered().is_zero() {
                let covered = session.network.token.show(risk.covered);
                checks.good("towers", format!("{covered} covered"));
            } else {
                let uncovered = session.network.token.show(risk.uncovered());
                checks.warn(
                    "towers",
                    format!("{uncovered} that no tower has promised to claim"),
                    hint,
                );
            }
        }
    }
}
