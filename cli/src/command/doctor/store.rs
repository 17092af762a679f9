//! The store, the disk under it, and who has it open.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use lloom_ledger::{Ledger, LockState, OpenError, StoreUrl};
use lloom_receipts::UnixSeconds;

use super::diagnosis::Checks;
use crate::{
    date::utc,
    disk,
    failure::{Failure, Kind, OrFail as _, Result},
    session::{Session, store_failure},
};

/// Less than this and a busy node soon stops.
const LITTLE_SPACE: u64 = 1_000_000_000;
/// Less than this and the next commit may fail.
const NO_SPACE: u64 = 50_000_000;
/// For how long a restored store refuses requests.
const RESTORE_SHOWS: Duration = lloom_receipts::MAX_DEADLINE_AHEAD;

/// Looks at it. `node_runs`: a process of this home takes orders. Gives the store, open for reading.
pub async fn check(session: &Session, node_runs: bool, checks: &mut Checks) -> Option<Ledger> {
    let url = match session.store_url() {
        Ok(url) => url,
        Err(failure) => {
            checks.bad("store", &failure);
            return None;
        }
    };
    check_disk(session, &url, checks);
    let name = if url.is_shared() {
        format!("{url}, shared with other homes")
    } else {
        url.to_string()
    };
    let lock = match LockState::of(&url).or_fail(Kind::Store, || "cannot read the store's lock file".to_owned()) {
        Ok(lock) => lock,
        Err(failure) => {
            checks.bad("store", &failure);
            return None;
        }
    };
    if lock.is_held && !node_runs {
        let holder = lock
            .holder
            .map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
        checks.warn(
            "store",
            format!("{holder} has it open and takes no orders"),
            format!(
                "a `lloomctl chat` or a node that is still starting; one that hangs has to be stopped before {}",
                next(session)
            ),
        );
    }
    let ledger = match Ledger::open_read_only(&url).await {
        Ok(ledger) => ledger,
        Err(OpenError::Missing { .. }) => {
            checks.good("store", format!("nothing is recorded yet in {name}"));
            return None;
        }
        Err(error @ OpenError::OlderSchema { .. }) => {
            let finding = Failure::of(Kind::Store, error).one_line();
            checks.warn(
                "store",
                finding,
                format!("{} does so; back up the home first", next(session)),
            );
            return None;
        }
        Err(error) => {
            checks.bad("store", &store_failure(error));
            return None;
        }
    };
    match look(session, &ledger, lock, &name).await {
        Ok(Found::Whole(finding)) => checks.good("store", finding),
        Ok(Found::Restored(finding)) => checks.warn(
            "store",
            finding,
            format!(
                "if you put it there: nothing to do, {} hand back what it lacks; if you did not, find out who did before {}",
                others(session),
                next(session)
            ),
        ),
        Err(failure) => {
            checks.bad("store", &failure);
            ledger.close().await;
            return None;
        }
    }
    Some(ledger)
}

/// What opens this home's store next.
fn next(session: &Session) -> &'static str {
    match session.config() {
        Ok(config) if config.is_tower() => "`lloomctl watch --tower`",
        Ok(config) if config.executor.is_some() => "`lloomctl node run`",
        _ => "any command that writes",
    }
}

/// Who has what a restored store of this home lacks.
fn others(session: &Session) -> &'static str {
    match session.config() {
        Ok(config) if config.executor.is_some() => "clients",
        _ => "executors",
    }
}

enum Found {
    Whole(String),
    Restored(String),
}

async fn look(session: &Session, ledger: &Ledger, lock: LockState, name: &str) -> Result<Found> {
    let failed = || "cannot read the store".to_owned();
    if *ledger.deployment() != session.store_deployment() {
        return Err(
            Failure::new(Kind::Store, "the store belongs to another deployment or chain")
                .hint("use another --home for this network"),
        );
    }
    let cursor = ledger.cursor().await.or_fail(Kind::Store, failed)?;
    let generation = ledger.generation().await.or_fail(Kind::Store, failed)?;
    if let (Some(known), Some(found)) = (lock.generation, generation)
        && found < known
        && !lock.is_held
    {
        return Ok(Found::Restored(
            "it is an older copy that was put back: its lock file knows of later commits".to_owned(),
        ));
    }
    if let Some(made) = ledger.copied_at().await.or_fail(Kind::Store, failed)? {
        return Ok(Found::Restored(format!(
            "it is the backup of {}, put in its place",
            utc(made)
        )));
    }
    if lock.is_copied && !lock.is_held {
        return Ok(Found::Restored(
            "its directory is a copy of another one, or was put back".to_owned(),
        ));
    }
    if lock.is_unrecognized && !lock.is_held && lacks_witness(session, ledger).await? {
        return Ok(Found::Restored(
            if ledger.url().is_shared() {
                "this home lost its lloom.witness, and the store knows what its operator served: it may have been put back"
            } else {
                "it was put here without its lock file, as a copy is"
            }
            .to_owned(),
        ));
    }
    let now = UnixSeconds::from(SystemTime::now());
    let restored = ledger.restored_at().await.or_fail(Kind::Store, failed)?;
    if let Some(restored) = restored.filter(|at| now.since(*at) < RESTORE_SHOWS) {
        return Ok(Found::Restored(format!(
            "it was restored {} s ago, and refuses requests for {} s more",
            now.since(restored).as_secs(),
            RESTORE_SHOWS.saturating_sub(now.since(restored)).as_secs()
        )));
    }
    // A store that follows no chain knows the first block only.
    Ok(Found::Whole(cursor.filter(|block| block.number.get() > 0).map_or_else(
        || name.to_owned(),
        |block| format!("{name}, up to block {}", block.number),
    )))
}

/// Whether a store that its lock does not know is one that was there before. A home may also join a database.
async fn lacks_witness(session: &Session, ledger: &Ledger) -> Result<bool> {
    if !ledger.url().is_shared() {
        return Ok(true);
    }
    // Without a key it bills nothing.
    let Ok(operator) = session.address() else {
        return Ok(false);
    };
    ledger
        .has_served(operator)
        .await
        .or_fail(Kind::Store, || "cannot read the store".to_owned())
}

/// A database's disk is its server's to watch; the home still bears witness on its own.
fn check_disk(session: &Session, url: &StoreUrl, checks: &mut Checks) {
    let home = session.home.store();
    let Some(free) = disk::free_bytes(url.path().unwrap_or(&home)) else {
        return;
    };
    judge_space(free, session.home.root(), checks);
}

fn judge_space(free: u64, home: &Path, checks: &mut Checks) {
    let shown = format!("{:.2} GB left for {}", free as f64 / 1e9, home.display());
    let advice = "make room, or move the home to a larger disk while nothing runs in it";
    if free < NO_SPACE {
        checks.bad("disk", &Failure::new(Kind::Store, shown).hint(advice));
    } else if free < LITTLE_SPACE {
        checks.warn("disk", shown, advice);
    } else {
        checks.good("disk", shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_up_is_told_before_it_is_full() {
        let told = |free| {
            let mut checks = Checks::default();
            judge_space(free, Path::new("/home"), &mut checks);
            let (diagnosis, result) = checks.conclude();
            let text = serde_json::to_string(&diagnosis).unwrap();
            (result.is_ok(), text.contains("warning"))
        };
        assert_eq!(told(NO_SPACE - 1), (false, false));
        assert_eq!(told(LITTLE_SPACE - 1), (true, true));
        assert_eq!(told(LITTLE_SPACE), (true, false));
    }
}
