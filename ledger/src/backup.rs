//! Backups: consistent copies of a store that is in use.

use std::{io, path::Path, path::PathBuf};

use lloom_receipts::{BlockNumber, UnixSeconds};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    Ledger, LedgerError, OpenError, StoreDeployment, StoreUrl,
    column::{Column as _, Read as _, Row},
    migration,
    moving::{End, transfer},
    new_file::NewFile,
    sqlite,
    url::Place,
};

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBackup {
    /// Its file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// How many commits of the store it holds.
    pub generation: i64,
    /// The newest block it knows.
    pub cursor: Option<BlockNumber>,
    /// Whose records it holds.
    pub deployment: StoreDeployment,
}

/// Why there is no backup. What was begun of it is gone, and the store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// There is a file of that name.
    #[error("there is a file at {} already", path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// The file can't be written.
    #[error("the backup {} can't be written", path.display())]
    Io {
        /// Where it was to lie.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// SQLite can't write the file.
    #[error("the backup {} can't be written", path.display())]
    Sql {
        /// Where it was to lie.
        path: PathBuf,
        /// What it says.
        #[source]
        source: sqlx::Error,
    },
    /// The copy is not sound, so neither may the store be.
    #[error("the copy that was made of the store is damaged: {detail}")]
    Unsound {
        /// What is wrong with it.
        detail: String,
    },
}

impl Ledger {
    /// Copies a store into a file of SQLite, as it is at one moment, also while processes write to it: the file lies at
    /// `to` once it is complete, checked and on disk, and nothing is ever written over. The copy knows that it is one, so
    /// that whoever opens it in the store's place, by whatever way it got there, does what a restored store has to do.
    ///
    /// It holds everything but keys and configuration, which lie in the home.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn back_up(store: &StoreUrl, to: &Path, now: UnixSeconds) -> Result<MadeBackup, BackupError> {
        let io_failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Occupied { path: to.to_owned() },
            _ => BackupError::Io {
                path: to.to_owned(),
                source,
            },
        };
        let sql_failed = |source| BackupError::Sql {
            path: to.to_owned(),
            source,
        };
        let file = NewFile::begin(to).map_err(io_failed)?;
        copy_into(store, file.temporary()).await?;
        let mut copy = open_copy(file.temporary()).await.map_err(sql_failed)?;
        migration::run_sqlite(&mut copy, migration::SUPPORTED)
            .await
            .map_err(sql_failed)?;
        sqlx::query("UPDATE store SET copied_at = $1")
            .bind(now.store())
            .execute(&mut copy)
            .await
            .map_err(sql_failed)?;
        if let Some(detail) = find_damage(&mut copy).await.map_err(sql_failed)? {
            return Err(BackupError::Unsound { detail });
        }
        let row = sqlx::query(
            "SELECT generation, chain_id, escrow, settlement, (SELECT max(number) FROM blocks) AS cursor FROM store",
        )
        .fetch_one(&mut copy)
        .await
        .map_err(sql_failed)?;
        let unsound = |error: LedgerError| BackupError::Unsound {
            detail: error.to_string(),
        };
        let row = Row::from(row);
        let generation = row.read("generation").map_err(unsound)?;
        let cursor = row.read_optional("cursor").map_err(unsound)?;
        let deployment = StoreDeployment {
            chain_id: row.read("chain_id").map_err(unsound)?,
            escrow: row.read("escrow").map_err(unsound)?,
            settlement: row.read("settlement").map_err(unsound)?,
        };
        copy.close().await.map_err(sql_failed)?;
        let bytes = std::fs::metadata(file.temporary()).map_err(io_failed)?.len();
        file.publish().map_err(io_failed)?;
        Ok(MadeBackup {
            path: to.to_owned(),
            bytes,
            generation,
            cursor,
            deployment,
        })
    }
}

/// Copies what a store holds at one moment into the empty file at `path`.
async fn copy_into(store: &StoreUrl, path: &Path) -> Result<(), BackupError> {
    let missing = || OpenError::Missing { store: store.clone() };
    match &store.0 {
        Place::Sqlite(from) => {
            let existing = sqlite::inspect(from).await?.ok_or_else(missing)?;
            existing.deployment.ok_or_else(missing)?;
            copy_file(from, path).await.map_err(|source| BackupError::Sql {
                path: path.to_owned(),
                source,
            })
        }
        Place::Postgres(_) => {
            let failed = |source| OpenError::Sql {
                store: store.clone(),
                source,
            };
            let copy = StoreUrl::file(path);
            let mut source = End::of(store).await?;
            let mut target = End::file(path).await?;
            source.begin_to_read().await.map_err(failed)?;
            target.begin().await.map_err(failed)?;
            transfer((&mut source, store), (&mut target, &copy)).await?;
            target.run("COMMIT").await.map_err(failed)?;
            source.run("ROLLBACK").await.map_err(failed)?;
            source.close().await.map_err(failed)?;
            target.close().await.map_err(failed)?;
            Ok(())
        }
    }
}

/// Copies the store in the file `from` into the empty file `to`, as it is at one moment.
pub(crate) async fn copy_file(from: &Path, to: &Path) -> Result<(), sqlx::Error> {
    let name = to
        .to_str()
        .ok_or_else(|| sqlx::Error::Configuration("the path is no text".into()))?;
    let mut source = sqlite::connect_to_read(from).await?;
    sqlx::query("VACUUM INTO $1").bind(name).execute(&mut source).await?;
    source.close().await
}

/// Opens a copy that nobody else knows of. It is one file, without a log beside it.
pub(crate) async fn open_copy(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Delete)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
        .disable_statement_logging()
        .connect()
        .await
}

/// What is wrong with the pages of a store in SQLite, or with what its rows refer to, in a line.
pub(crate) async fn find_damage(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(&mut *connection)
        .await?;
    let verdict: String = row.try_get(0)?;
    if verdict != "ok" {
        return Ok(Some(verdict));
    }
    let dangling: Option<String> = sqlx::query_scalar("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    Ok(dangling.map(|table| format!("a row of the table '{table}' refers to one that is missing")))
}
