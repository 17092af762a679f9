use std::{
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::{Ledger, OpenError, RestoreError};
use lloom_receipts::{BlockNumber, MAX_DEADLINE_AHEAD, UnixSeconds};
use serde::Serialize;

use super::moving::move_failure;
use crate::{
    date::utc,
    failure::{Failure, Kind, Result},
    output::Report,
    progress::Progress,
    session::{Session, store_failure},
};

/// Put a backup in the store's place
///
/// The backup is checked first: that it is a whole store, of this network's contracts, of a version that this program
/// knows. It stays as it is; what is put in place is a copy. The store that is there now is kept beside it under a name
/// with the time. Stop the node, watcher or client of this home first.
///
/// It has to be this home's: what it served and bought has to be of this home's key, or of the payee in its config.toml.
///
/// A database of PostgreSQL has to be empty, and every node on it stopped.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// What `ledger backup` wrote, or any copy of a lloom.db
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Restore it though it is of another key: this home's was changed since
    #[arg(long)]
    foreign: bool,
}

#[derive(Serialize)]
struct Restored {
    store: String,
    file: PathBuf,
    /// When the backup was made, where it says so.
    made_at: Option<UnixSeconds>,
    /// The newest block it knows.
    block: Option<BlockNumber>,
    /// Commits of the store that are not in the backup, where it is known how many those are.
    lost_commits: Option<i64>,
    /// Requests that were open in the backup, and are never billed.
    waived_requests: u64,
    /// Until when requests are refused that may have been billed after the backup was made.
    careful_until: UnixSeconds,
    /// Where the store lies that was there before.
    kept: Option<PathBuf>,
}

impl Report for Restored {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let made_at = self.made_at.map_or_else(
            || "a backup of unknown age".to_owned(),
            |at| format!("the backup of {}", utc(at)),
        );
        writeln!(out, "Restored {} from {made_at}.", self.store)?;
        if let Some(kept) = &self.kept {
            writeln!(out, "The store that was there is kept as {}.", kept.display())?;
        }
        writeln!(out, "\nWhat follows from it:\n")?;
        if let Some(lost) = self.lost_commits.filter(|lost| *lost > 0) {
            writeln!(
                out,
                "- {lost} commits are not in it. Their receipts are not lost: clients and executors hold them,"
            )?;
            writeln!(
                out,
                "  signed by both sides, and hand them back when they meet this node again. Keep it running."
            )?;
        } else {
            writeln!(
                out,
                "- Receipts that are not in it are not lost: clients and executors hold them, signed by both"
            )?;
            writeln!(
                out,
                "  sides, and hand them back when they meet this node again. Keep it running."
            )?;
        }
        writeln!(
            out,
            "- Until {}, an executor refuses requests that may have been served before: a second, different",
            utc(self.careful_until)
        )?;
        writeln!(
            out,
            "  bill for one of them would cost it a part of its bond. After {} minutes all is as ever.",
            MAX_DEADLINE_AHEAD.as_secs() / 60
        )?;
        match self.waived_requests {
            0 => writeln!(out, "- No request was open in it."),
            1 => writeln!(
                out,
                "- 1 request was open in it. It is never billed, for the same reason."
            ),
            many => writeln!(
                out,
                "- {many} requests were open in it. They are never billed, for the same reason."
            ),
        }?;
        writeln!(
            out,
            "- A client adopts the newer receipts of its channels before it pays on them again."
        )?;
        let block = self
            .block
            .map_or_else(|| "the beginning".to_owned(), |block| format!("block {block}"));
        writeln!(out, "- The chain is followed anew from {block}.")?;
        writeln!(
            out,
            "- The file is whole. Its signatures and totals were not verified again: `lloomctl ledger check` does that."
        )
    }
}

/// Restores one.
///
/// # Errors
/// When nothing was restored then.
pub async fn run(session: &Session, RestoreArgs { file, foreign }: RestoreArgs) -> Result {
    let url = session.store_url()?;
    if let Some(path) = url.path() {
        session.home.create()?;
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            return Err(Failure::new(
                Kind::Configuration,
                format!("there is no directory {}", directory.display()),
            )
            .hint("config.toml's `store` says where the store lies: make the directory first"));
        }
    }
    let now = UnixSeconds::from(SystemTime::now());
    let owners = if foreign { None } else { own_addresses(session)? };
    let progress = Progress::spinner(session.output, "Checking and copying the backup");
    let restored = Ledger::restore(&file, &url, &session.store_deployment(), owners.as_deref(), now)
        .await
        .map_err(restore_failure)?;
    drop(progress);
    session.output.print(&Restored {
        store: url.to_string(),
        file,
        made_at: restored.copied_at,
        block: restored.cursor,
        lost_commits: restored.lost_commits,
        waived_requests: restored.waived_requests,
        careful_until: now.plus(MAX_DEADLINE_AHEAD),
        kept: restored.kept,
    })
}

/// Whom this home serves and buys for. `None` in one that has no key yet.
fn own_addresses(session: &Session) -> Result<Option<Vec<Address>>> {
    if !session.home.key(session.key_name()).exists() {
        return Ok(None);
    }
    let payee = session.config()?.executor.as_ref().and_then(|executor| executor.payee);
    Ok(Some([session.address()?].into_iter().chain(payee).collect()))
}

fn restore_failure(error: RestoreError) -> Failure {
    match error {
        RestoreError::Open(error @ (OpenError::Missing { .. } | OpenError::Damaged { .. })) => {
            Failure::of(Kind::Store, error)
                .while_("nothing was restored")
                .hint("give a file that `lloomctl ledger backup` wrote, or a copy of a lloom.db; try an older one")
        }
        RestoreError::Open(error) => store_failure(error).while_("nothing was restored"),
        RestoreError::Move(error) => move_failure(error).while_("nothing was restored"),
        error @ RestoreError::Foreign { .. } => Failure::of(Kind::Store, error)
            .while_("nothing was restored")
            .hint("restore it in the home that has this key, or `--home` names that one")
            .hint("where this home's key was changed since, `--foreign` restores it all the same"),
        error @ RestoreError::Unsound { .. } => Failure::of(Kind::Store, error)
            .while_("nothing was restored")
            .hint("try an older backup"),
        error => Failure::of(Kind::Store, error)
            .while_("nothing was restored")
            .hint("may you write to the home, and is there room for another copy of the store?"),
    }
}
