use std::io::{self, Write};

use clap::Args;
use lloom_ledger::{Ledger, MoveError};
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, Result},
    home::begin_store,
    output::{Report, counted},
    progress::Progress,
    session::{Session, parse_store_url, store_failure},
};

/// Move the store into a database of PostgreSQL, or out of one
///
/// Copies everything, reads it again and compares it, and then retires the old store, so that nothing can use both: a file
/// is renamed to <path>.moved, a database's own tables to moved_…. Stop every node, watcher and client that uses it first;
/// afterwards name the new store in config.toml.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// Where to: postgres://<user>@<host>/<database>, without a password (PGPASSWORD, PGPASSFILE), or a path
    #[arg(long, value_name = "URL")]
    to: String,
}

#[derive(Serialize)]
struct Moved {
    from: String,
    to: String,
    rows: u64,
}

impl Report for Moved {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "Moved {} from {} to {}, and compared them.",
            counted(self.rows, "row"),
            self.from,
            self.to
        )?;
        writeln!(out, "Now name it in config.toml:\n\n  store = \"{}\"", self.to)
    }
}

/// Moves it.
///
/// # Errors
/// When the store can't be moved; it is where it was then.
pub async fn run(session: &Session, MoveArgs { to }: MoveArgs) -> Result {
    let from = session.store_url()?;
    let to = parse_store_url(&to, &session.home).map_err(|failure| failure.while_("--to names no store"))?;
    if let Some(path) = to.path()
        && !path.exists()
    {
        begin_store(path)?;
    }
    let progress = Progress::spinner(session.output, "Moving the store");
    let moved = Ledger::move_store(&from, &to).await.map_err(move_failure)?;
    drop(progress);
    session.output.print(&Moved {
        from: from.to_string(),
        to: to.to_string(),
        rows: moved.rows.iter().map(|(_, rows)| rows).sum(),
    })
}

pub(super) fn move_failure(error: MoveError) -> Failure {
    match error {
        MoveError::Open(error) => store_failure(error),
        MoveError::Occupied { .. } => Failure::of(Kind::Store, error)
            .hint("a store is moved to where none is: name an empty database or another path"),
        other => {
            Failure::of(Kind::Store, other).hint("go on with the old store, and empty the new one before the next try")
        }
    }
}
