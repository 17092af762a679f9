use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;
use lloom_ledger::{BackupError, Ledger, OpenError};
use lloom_receipts::{BlockNumber, UnixSeconds};
use serde::Serialize;

use crate::{
    disk::size,
    failure::{Failure, Kind, Result},
    output::{Report, write_pairs},
    progress::Progress,
    session::{Session, store_failure},
};

/// Copy the store into a file, also while a node works on it
///
/// The file holds the store as it is at one moment, is checked and on disk before it gets its name, and is never written
/// over another one. `ledger restore` puts it back. It holds the records and nothing else: keep config.toml and keystore/
/// in a safe place of their own, once; they don't change.
///
/// A backup is older than the store as soon as the next request is served. What was recorded after it, the other sides
/// still hold, signed by both, and hand back; for the ten minutes after a restore a node is careful about what it can't know.
///
/// A store in PostgreSQL is copied into such a file as well. For a database of some size, have the server do it (pg_dump,
/// or continuous archiving): nodes notice by their lloom.witness when it is put back.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to make
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Made {
    store: String,
    file: PathBuf,
    bytes: u64,
    commits: i64,
    /// The newest block it knows.
    block: Option<BlockNumber>,
    made_at: UnixSeconds,
}

impl Report for Made {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Backed up {} to {}.\n", self.store, self.file.display())?;
        write_pairs(
            out,
            &[
                ("Size", size(self.bytes)),
                ("Commits", self.commits.to_string()),
                (
                    "Newest block",
                    self.block.map_or_else(|| "none".to_owned(), |block| block.to_string()),
                ),
            ],
        )?;
        writeln!(
            out,
            "\nThe copy was read again, and its file is whole; `lloomctl ledger check` is what verifies a store's signatures \
             and totals.\nKeys and configuration are not in it. To put it back:\n\n  lloomctl ledger restore {}",
            self.file.display()
        )
    }
}

/// Makes one.
///
/// # Errors
/// When there is no backup then.
pub async fn run(session: &Session, BackupArgs { file }: BackupArgs) -> Result {
    let url = session.store_url()?;
    let now = UnixSeconds::from(SystemTime::now());
    let progress = Progress::spinner(session.output, "Copying the store");
    let made = Ledger::back_up(&url, &file, now).await.map_err(backup_failure)?;
    drop(progress);
    session.output.print(&Made {
        store: url.to_string(),
        file: made.path,
        bytes: made.bytes,
        commits: made.generation,
        block: made.cursor,
        made_at: now,
    })
}

fn backup_failure(error: BackupError) -> Failure {
    let directory = |path: &Path| {
        path.parent()
            .filter(|parent| *parent != Path::new(""))
            .unwrap_or_else(|| Path::new("."))
            .display()
            .to_string()
    };
    match error {
        BackupError::Store(error @ OpenError::Missing { .. }) => {
            Failure::of(Kind::Store, error).hint("nothing was recorded yet, so there is nothing to back up")
        }
        BackupError::Store(error) => store_failure(error),
        error @ BackupError::Occupied { .. } => Failure::of(Kind::Failed, error)
            .hint("a backup is never written over a file: give it a name of its own, such as one with the date"),
        BackupError::Io { ref path, .. } | BackupError::Sql { ref path, .. } => {
            let hint = format!(
                "is {} there, may you write to it, and is there room for the whole store?",
                directory(path)
            );
            Failure::of(Kind::Failed, error).hint(hint)
        }
        error => Failure::of(Kind::Store, error)
            .hint("`lloomctl ledger check` says more; keep older backups until you know what it is"),
    }
}
