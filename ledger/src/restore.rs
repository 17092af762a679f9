//! Putting a backup in a store's place.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use alloy::primitives::Address;
use lloom_receipts::{BlockNumber, UnixSeconds};

use crate::{
    Ledger, LedgerError, MoveError, OpenError, StoreDeployment, StoreUrl,
    backup::{copy_file, find_damage, open_copy},
    column::{Read as _, sql},
    lock::StoreLock,
    migration,
    new_file::{NewFile, sync_directory_of, with_suffix},
    postgres::Committed,
    restored::{are_of_one_life, find_copied_at, mark_restored},
    session::{Connection, Session, SqliteLink},
    sqlite,
    url::Place,
};

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredStore {
    /// When the backup was made, where it says so.
    pub copied_at: Option<UnixSeconds>,
    /// The newest block it knows.
    pub cursor: Option<BlockNumber>,
    /// Counts its commits, from a higher number on after each restore.
    pub generation: i64,
    /// How many commits more were made to the store it is put in the place of, where that is known: not where one of the two
    /// was restored since.
    pub lost_commits: Option<i64>,
    /// Requests that it holds without a bill, and that will never be billed.
    pub waived_requests: u64,
    /// Where the store now lies that was there before, if one was.
    pub kept: Option<PathBuf>,
}

/// Why nothing was restored. What was there is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The backup, or the store in whose place it is to be put, can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backup is not sound.
    #[error("the backup {} is damaged: {detail}", path.display())]
    Unsound {
        /// The backup.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// It holds somebody else's money.
    #[error("the backup {} is of {}", path.display(), listed(owners))]
    Foreign {
        /// The backup.
        path: PathBuf,
        /// Who served and bought by it.
        owners: Vec<Address>,
    },
    /// It can't be moved into the database.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The file system failed.
    #[error("the file {} can't be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The marked copy can't be made.
    #[error("the backup {} can't be prepared", path.display())]
    Prepare {
        /// The backup.
        path: PathBuf,
        /// Why.
        #[source]
        source: LedgerError,
    },
}

impl Ledger {
    /// Puts a copy of the backup at `from` in the place of `store`. The backup is checked first, and stays as it is. What
    /// was in its place is kept beside it, as `<path>.replaced-<now>`; a database has to be empty.
    ///
    /// It has to be of one of `owners`, where they are given: an operator of what it served, a payee that was earned for, or
    /// a payer that bought. One in which nothing happened is anybody's.
    ///
    /// The store knows from then on that it was restored: requests that were open in the backup are never billed, and for
    /// [`MAX_DEADLINE_AHEAD`](lloom_receipts::MAX_DEADLINE_AHEAD) requests are refused that may have been billed after it
    /// was made.
    ///
    /// # Errors
    /// [`RestoreError`]; a process that has the store open among them.
    pub async fn restore(
        from: &Path,
        store: &StoreUrl,
        deployment: &StoreDeployment,
        owners: Option<&[Address]>,
        now: UnixSeconds,
    ) -> Result<RestoredStore, RestoreError> {
        let backup = StoreUrl::file(from);
        let missing = || OpenError::Missing { store: backup.clone() };
        let existing = sqlite::inspect(from).await?.ok_or_else(missing)?;
        deployment.check(&backup, existing.deployment.ok_or_else(missing)?)?;
        let (mut lock, known) = StoreLock::acquire(store)?;

        // A database's backup waits in the home until it is moved there.
        let place = match &store.0 {
            Place::Sqlite(path) => path.clone(),
            Place::Postgres(place) => with_suffix(&place.witness, ".restoring"),
        };
        let failed = |source| RestoreError::Io {
            path: place.clone(),
            source,
        };
        let file = NewFile::beside(&place).map_err(failed)?;
        let restored = prepare(from, file.temporary(), owners, known.generation, now).await?;
        match &store.0 {
            Place::Sqlite(path) => {
                let kept = set_aside(path, now).await.map_err(failed)?;
                file.replace().map_err(failed)?;
                lock.recognize(restored.generation);
                lock.release();
                Ok(RestoredStore { kept, ..restored })
            }
            Place::Postgres(_) => {
                // Moving takes the lock itself.
                lock.release();
                let waiting = StoreUrl::file(file.temporary());
                // What follows from its being a copy is done.
                let (mut beside, _) = StoreLock::acquire(&waiting)?;
                beside.recognize(restored.generation);
                beside.release();
                let moved = Self::move_store(&waiting, store).await;
                for beside in [".lock", ".moved"] {
                    let _ = fs::remove_file(with_suffix(file.temporary(), beside));
                }
                moved?;
                Ok(restored)
            }
        }
    }
}

/// Copies the backup into the empty file `to`, checks it, and marks it as restored.
async fn prepare(
    from: &Path,
    to: &Path,
    owners: Option<&[Address]>,
    known: Option<i64>,
    now: UnixSeconds,
) -> Result<RestoredStore, RestoreError> {
    let failed = |source| RestoreError::Prepare {
        path: from.to_owned(),
        source,
    };
    let sql_failed = |source| sqlite::failed(from, source);
    copy_file(from, to).await.map_err(sql_failed)?;
    let mut copy = open_copy(to).await.map_err(sql_failed)?;
    if let Some(detail) = find_damage(&mut copy).await.map_err(sql_failed)? {
        return Err(RestoreError::Unsound {
            path: from.to_owned(),
            detail,
        });
    }
    migration::run_sqlite(&mut copy, migration::SUPPORTED)
        .await
        .map_err(sql_failed)?;
    let mut session = Session::new(Connection::Sqlite(SqliteLink::Writer(copy)), "mark a store as restored");
    let found = find_owners(&mut session).await.map_err(failed)?;
    if let Some(owners) = owners
        && !found.is_empty()
        && !found.iter().any(|owner| owners.contains(owner))
    {
        return Err(RestoreError::Foreign {
            path: from.to_owned(),
            owners: found,
        });
    }
    let restored = mark(&mut session, known, now).await.map_err(failed)?;
    session.close().await.map_err(sql_failed)?;
    Ok(restored)
}

/// Who served and bought by a store.
async fn find_owners(session: &mut Session) -> Result<Vec<Address>, LedgerError> {
    let statement = sql(
        "SELECT r.operator AS owner FROM requests r JOIN accounts a ON a.channel = r.channel
         WHERE a.side = 'serving'
         UNION SELECT c.payee FROM accounts a JOIN channels c ON c.id = a.channel WHERE a.side = 'serving'
         UNION SELECT c.payer FROM accounts a JOIN channels c ON c.id = a.channel WHERE a.side = 'buying'",
    );
    let rows = session.rows(statement).await?;
    rows.iter().map(|row| row.read("owner")).collect()
}

fn listed(owners: &[Address]) -> String {
    let owners: Vec<String> = owners.iter().map(Address::to_string).collect();
    owners.join(", ")
}

async fn mark(session: &mut Session, known: Option<i64>, now: UnixSeconds) -> Result<RestoredStore, LedgerError> {
    session.begin().await?;
    let copied_at = find_copied_at(session).await?;
    let newest = sql("SELECT generation, (SELECT max(number) FROM blocks) AS cursor FROM store");
    let row = session.row(newest).await?.ok_or(LedgerError::Inconsistent {
        what: "it has no row that says what it is for",
    })?;
    let own: i64 = row.read("generation")?;
    let waived_requests = mark_restored(session, None, now).await?;
    session.pass_generation(own.max(known.unwrap_or(0))).await?;
    let generation = match session.commit().await? {
        Committed::Yes(generation) => generation,
        Committed::No(source) => return Err(LedgerError::unavailable("mark a store as restored", source)),
    };
    Ok(RestoredStore {
        copied_at,
        cursor: row.read_optional("cursor")?,
        generation,
        lost_commits: known
            .filter(|known| are_of_one_life(*known, own))
            .map(|known| known.saturating_sub(own).max(0)),
        waived_requests,
        kept: None,
    })
}

/// Gives what lies at `path` a second name, and takes the store's log away from there: a log belongs to the file that it
/// was written for, and would be read into any other. The store's own file stays until another one replaces it.
async fn set_aside(path: &Path, now: UnixSeconds) -> io::Result<Option<PathBuf>> {
    if !fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(None);
    }
    // With its log, before SQLite looks at it: of a damaged store, it takes a log away that it can't read.
    let kept = keep(path, now)?;
    sync_directory_of(path)?;
    let is_read = sqlite::fold_log(path).await.is_ok();
    // SQLite takes the log away once all of it is in the file itself: not where the disk is full, or somebody reads the store.
    // A file system without links has a copy of the file, as it was before.
    let is_folded = is_read && !with_suffix(path, "-wal").exists() && is_same_file(path, &kept)?;
    if is_folded {
        remove_if_there(&with_suffix(&kept, "-wal"))?;
    }
    for beside in ["-wal", "-shm"] {
        remove_if_there(&with_suffix(path, beside))?;
    }
    sync_directory_of(path)?;
    Ok(Some(kept))
}

fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives the store at `path` and its log second names that nothing has yet, and says which.
fn keep(path: &Path, now: UnixSeconds) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let again = if number > 0 {
            format!("-{number}")
        } else {
            String::new()
        };
        let kept = with_suffix(path, &format!(".replaced-{now}{again}"));
        number += 1;
        let taken = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        match link(path, &kept) {
            Err(error) if taken(&error) => continue,
            linked => linked?,
        }
        let log = with_suffix(path, "-wal");
        if log.exists() {
            match link(&log, &with_suffix(&kept, "-wal")) {
                // Of another store that had this name: this one's must not be read with it.
                Err(error) if taken(&error) => {
                    fs::remove_file(&kept)?;
                    continue;
                }
                linked => linked?,
            }
        }
        return Ok(kept);
    }
}

/// Gives a file a second name, or makes a copy under it. Nothing that has the name already is touched.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {}
        linked => return linked,
    }
    let mut source = fs::File::open(from)?;
    let mut copy = fs::OpenOptions::new().write(true).create_new(true).open(to)?;
    copy.set_permissions(source.metadata()?.permissions())?;
    io::copy(&mut source, &mut copy)?;
    copy.sync_all()
}
