//! SQLite: one file, one process that writes.

use std::{
    io::{self, Read as _},
    path::Path,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    LedgerError, OpenError, StoreDeployment, StoreUrl,
    column::{Read as _, sql},
    environment::Environment,
    migration::{self, APPLICATION_ID},
    session::SqliteLink,
};

/// Connections for reading beside the writer.
pub(crate) const READERS: u32 = 4;
/// How long SQLite waits for another process (a reader that checkpoints, `sqlite3` on the command line).
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept on a connection; this crate has fewer.
pub(crate) const STATEMENT_CACHE: usize = 256;
/// Rows that SQLite's thread may read ahead for the writer: as many as a batch reads, so that it never waits in between.
const ROWS_AHEAD: usize = 1_024;
/// What the writer keeps of the store in memory, in pages, or in KiB where it is negative: enough that the newest part of
/// each open channel is read once.
const CACHE_SIZE: &str = "-262144";
/// Pages that the write-ahead log gathers before they go into the store itself (64 MiB): many commits touch the same. The
/// log is read through when the store is opened after a crash, which takes a tenth of a second for so many.
const CHECKPOINT_AFTER: &str = "16384";
/// What is said to the writer's connection about all this. Statements over many rows keep a journal of their own, which
/// needs no disk.
pub(crate) const WRITER_PRAGMAS: [(&str, &str); 3] = [
    ("cache_size", CACHE_SIZE),
    ("wal_autocheckpoint", CHECKPOINT_AFTER),
    ("temp_store", "MEMORY"),
];
/// A store up to this size, in bytes, has all its pages checked when it is opened (about a second for the largest);
/// beyond it, a start would take too long and damage shows when the page is read.
const CHECKED_SIZE: u64 = 256 << 20;

/// The connection of the one process that writes, to a store that is brought to the schema `version`.
pub(crate) async fn open_writer(
    path: &Path,
    version: u32,
    environment: &Environment,
) -> Result<SqliteConnection, OpenError> {
    let mut options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENT_CACHE)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging();
    for (pragma, value) in WRITER_PRAGMAS {
        options = options.pragma(pragma, value);
    }
    let connecting = environment.run(options.connect());
    let mut connection = connecting.await.map_err(|source| failed(path, source))?;
    let migrating = environment.run(migration::run_sqlite(&mut connection, version));
    migrating.await.map_err(|source| failed(path, source))?;
    if environment.disk().is_some() {
        // Whoever copies such a store copies its log too: it shall not hold all that earlier lives have written.
        let emptying = environment.run(migration::empty_log(&mut connection));
        emptying.await.map_err(|source| failed(path, source))?;
    }
    Ok(connection)
}

/// A connection that reads.
pub(crate) async fn connect_to_read(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    reader_options(path).connect().await
}

/// A connection to a store that this process alone may touch: it brings the log into the file when it is closed.
pub(crate) async fn open_alone(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
        .connect()
        .await
}

/// Writes what can still be read of the log of the store at `path` into the store itself, and closes it, also where it is
/// damaged: SQLite takes the log away by its name as it closes, so a thread of its own that does so later could take
/// another store's.
pub(crate) async fn fold_log(path: &Path) -> Result<(), sqlx::Error> {
    // Nothing that reads the file before the connection is known: one that can't be opened closes when it likes.
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
        .connect()
        .await?;
    let read = sqlx::query("SELECT count(*) FROM sqlite_schema")
        .execute(&mut connection)
        .await;
    connection.close().await?;
    read.map(drop)
}

pub(crate) async fn open_readers(path: &Path) -> Result<SqlitePool, OpenError> {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        // A file does not hang up.
        .test_before_acquire(false)
        .connect_with(reader_options(path))
        .await
        .map_err(|source| failed(path, source))
}

fn reader_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging()
}

/// What a file says of itself.
pub(crate) struct Inspected {
    pub(crate) version: u32,
    pub(crate) deployment: Option<StoreDeployment>,
}

/// Looks at the file without changing it. `None` when there is nothing in it yet.
pub(crate) async fn inspect(path: &Path) -> Result<Option<Inspected>, OpenError> {
    let Some(size) = size_of_database(path)? else {
        return Ok(None);
    };
    let sql_failed = |source| failed(path, source);
    let connection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(sql_failed)?;
    let mut link = SqliteLink::Writer(connection);
    let inspected = inspect_through(&mut link, path, size).await?;
    link.close().await.map_err(sql_failed)?;
    Ok(inspected)
}

fn damaged(path: &Path, detail: &str) -> OpenError {
    OpenError::Damaged {
        store: StoreUrl::file(path),
        detail: detail.to_owned(),
    }
}

/// How many bytes the file has, where it is a database. `None` when there is nothing in it yet.
pub(crate) fn size_of_database(path: &Path) -> Result<Option<u64>, OpenError> {
    let io_failed = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_failed(source)),
    };
    let size = file.metadata().map_err(io_failed)?.len();
    if size == 0 {
        return Ok(None);
    }
    let mut magic = [0; 16];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *b"SQLite format 3\0" => Ok(Some(size)),
        Ok(()) => Err(damaged(path, "it is no SQLite database")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged(path, "it is no SQLite database")),
        Err(source) => Err(io_failed(source)),
    }
}

/// Looks at what a connection to a database of `size` bytes shows.
pub(crate) async fn inspect_through(
    link: &mut SqliteLink,
    path: &Path,
    size: u64,
) -> Result<Option<Inspected>, OpenError> {
    let sql_failed = |source| failed(path, source);
    let number = async |link: &mut SqliteLink, statement: &'static str, column: &str| {
        let row = link.row(sql(statement)).await.map_err(sql_failed)?;
        let number = row.map(|row| row.form::<i64>(column)).transpose().map_err(sql_failed)?;
        Ok(number.flatten().unwrap_or_default())
    };
    let version = number(link, "PRAGMA user_version", "user_version").await?;
    let application = number(link, "PRAGMA application_id", "application_id").await?;
    let tables = number(link, "SELECT count(*) AS tables FROM sqlite_schema", "tables").await?;
    if tables == 0 && version == 0 {
        // Created by a process that died before its first migration was committed.
        return Ok(None);
    }
    if application != APPLICATION_ID {
        return Err(damaged(path, "it is another program's database"));
    }
    let version = u32::try_from(version).map_err(|_| damaged(path, "its version is negative"))?;
    if version > migration::SUPPORTED {
        return Err(OpenError::NewerSchema {
            store: StoreUrl::file(path),
            found: version,
            supported: migration::SUPPORTED,
        });
    }
    if size <= CHECKED_SIZE {
        let row = link.row(sql("PRAGMA quick_check(1)")).await.map_err(sql_failed)?;
        let verdict = row
            .map(|row| row.form::<String>("quick_check"))
            .transpose()
            .map_err(sql_failed)?;
        let verdict = verdict.flatten().unwrap_or_default();
        if verdict != "ok" {
            return Err(damaged(path, &verdict));
        }
    }
    let row = link
        .row(sql("SELECT chain_id, escrow, settlement FROM store"))
        .await
        .map_err(sql_failed)?;
    let unreadable = |error: LedgerError| damaged(path, &error.to_string());
    let deployment = match row {
        None => None,
        Some(row) => Some(StoreDeployment {
            chain_id: row.read("chain_id").map_err(unreadable)?,
            escrow: row.read("escrow").map_err(unreadable)?,
            settlement: row.read("settlement").map_err(unreadable)?,
        }),
    };
    Ok(Some(Inspected { version, deployment }))
}

pub(crate) fn failed(path: &Path, source: sqlx::Error) -> OpenError {
    // SQLITE_CORRUPT and SQLITE_NOTADB, in the low byte of the extended codes.
    let damaged = source
        .as_database_error()
        .and_then(|error| error.code()?.parse::<u32>().ok())
        .is_some_and(|code| matches!(code & 0xff, 11 | 26));
    let store = StoreUrl::file(path);
    if damaged {
        OpenError::Damaged {
            store,
            detail: source.to_string(),
        }
    } else {
        OpenError::Sql { store, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was answered as committed must outlast a power cut, and `NORMAL`, as many set it beside a write-ahead log, lets
    /// the last commits go.
    #[tokio::test]
    async fn a_commit_of_the_writer_is_on_the_disk_before_it_is_answered() {
        const FULL: i64 = 2;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lloom.db");
        // Also of a store that is there already.
        for _ in 0..2 {
            let mut writer = open_writer(&path, migration::SUPPORTED, &Environment::default())
                .await
                .unwrap();
            let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
                .fetch_one(&mut writer)
                .await
                .unwrap();
            let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
                .fetch_one(&mut writer)
                .await
                .unwrap();
            assert_eq!((synchronous, &journal[..]), (FULL, "wal"));
            writer.close().await.unwrap();
        }
    }
}
