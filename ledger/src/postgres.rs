//! PostgreSQL: how it is connected to, and how one process writes to it while others do.
//!
//! A transaction that writes begins by locking the one row of `store`, so the writers of all processes take turns, as
//! the callers of one process do in SQLite: what an operation has read can't change before it commits, and `READ
//! COMMITTED` suffices. Group commit pays for the round trips.
//!
//! With the row it reads the schema's version: a process of another version that was started meanwhile may have brought the
//! schema up, and what this one would write on it means something else there. Whoever changes the schema locks the row, too.
//!
//! A connection may be lost at any moment. Before the commit, nothing is recorded, and the batch runs again. While the
//! commit is under way its outcome is unknown, and is found out: each commit leaves its generation in this home's row of
//! `writers`, which is read once the row of `store` can be locked again, after the lost connection has let go of it.

use std::{io, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::time::Instant;

use crate::{LedgerError, lock::WriterId, migration::SUPPORTED};

/// Prepared statements kept on a connection; this crate has fewer.
pub(crate) const STATEMENT_CACHE: usize = 256;
/// How long is tried to connect before the store counts as out of reach.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The pause between two tries.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How long the server may take to answer one statement. A connection through which nothing comes any more looks alike.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What each connection is set to: a process that stands still in a transaction, and one that is gone without a word,
/// must not keep the others waiting.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '45s';
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
    SET client_min_messages = 'warning'";

/// How a server can be one that no store may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// `synchronous_commit` is off: a commit is answered before it is on disk.
    AsynchronousCommit,
    /// `fsync` is off: nothing is ever known to be on disk.
    NoSync,
    /// It is a replica that follows another server.
    Replica,
}

impl Unfit {
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::AsynchronousCommit => {
                "its synchronous_commit is off: what it has acknowledged may be lost (ALTER DATABASE … SET synchronous_commit = on)"
            }
            Self::NoSync => "its fsync is off: what it has acknowledged may be lost (postgresql.conf: fsync = on)",
            Self::Replica => "it is a replica, which only follows another server",
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Unfit(Unfit),
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for ConnectError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

pub(crate) fn options(options: &PgConnectOptions) -> PgConnectOptions {
    options
        .clone()
        .application_name("lloom")
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging()
}

/// A connection that may write. Refuses a server that would acknowledge what it can lose.
pub(crate) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, ConnectError> {
    let mut connection = answered(options.connect()).await?;
    settle(&mut connection).await?;
    let row = answered(
        sqlx::query(
            "SELECT current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
                    pg_is_in_recovery() AS replica",
        )
        .fetch_one(&mut connection),
    )
    .await?;
    let synchronous: String = row.try_get("synchronous_commit")?;
    let fsync: String = row.try_get("fsync")?;
    let unfit = match (row.try_get("replica")?, synchronous.as_str(), fsync.as_str()) {
        (true, ..) => Some(Unfit::Replica),
        (_, "off", _) => Some(Unfit::AsynchronousCommit),
        (.., "off") => Some(Unfit::NoSync),
        _ => None,
    };
    if let Some(unfit) = unfit {
        return Err(ConnectError::Unfit(unfit));
    }
    // As it is: whoever changes the server's configuration later does not change this connection's.
    let pinned = AssertSqlSafe(format!("SET synchronous_commit = '{synchronous}'"));
    answered(connection.execute(sqlx::raw_sql(pinned))).await?;
    Ok(connection)
}

/// Makes the settings of a connection that every one has.
pub(crate) async fn settle(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    answered(connection.execute(sqlx::raw_sql(SETTINGS))).await.map(drop)
}

/// Waits for the server, not for ever.
pub(crate) async fn answered<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())),
    }
}

/// Whether the connection is gone, and not the statement wrong.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connection exceptions; too many connections; shut down, crashed or not up yet; sessions ended for standing
            // still; a server that has become a replica.
            code.starts_with("08")
                || ["53300", "57P01", "57P02", "57P03", "57P05", "25P03", "25006"].contains(&code.as_ref())
        }),
        _ => false,
    }
}

/// Whether somebody else was in the way, and the same statement may do later: a lock that did not come in time, a deadlock or a
/// conflict, a statement that was cancelled.
fn is_contended(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["55P03", "40P01", "40001", "57014"].contains(&code.as_ref()))
}

/// A failed statement, as whoever asked is told of it.
pub(crate) fn failed(operation: &'static str, source: sqlx::Error) -> LedgerError {
    if is_lost(&source) || is_contended(&source) {
        LedgerError::unavailable(operation, source)
    } else {
        LedgerError::Sql { operation, source }
    }
}

/// The connection a process writes through.
pub(crate) struct PostgresWriter {
    options: PgConnectOptions,
    id: WriterId,
    connection: Option<PgConnection>,
    /// The newest commit of this home, as far as it is known; 0 where there is none.
    committed: i64,
    /// A commit whose answer was lost.
    unanswered: Option<i64>,
    /// What the store's row says while it is locked.
    locked: Locked,
}

/// What a transaction finds in the row it locks.
#[derive(Clone, Copy, Debug, Default)]
struct Locked {
    generation: i64,
    epoch: i64,
}

/// Why a transaction was not begun.
enum BeginError {
    Connect(ConnectError),
    /// The store does not know what was committed to it.
    Replaced,
    /// The store is on another schema than this program's.
    OtherSchema {
        found: i64,
    },
}

impl From<sqlx::Error> for BeginError {
    fn from(error: sqlx::Error) -> Self {
        Self::Connect(error.into())
    }
}

/// What became of a commit.
pub(crate) enum Committed {
    /// It is durable, under this generation.
    Yes(i64),
    /// The connection was lost before it took effect.
    No(sqlx::Error),
}

impl PostgresWriter {
    pub(crate) fn new(options: PgConnectOptions, id: WriterId, connection: PgConnection, committed: i64) -> Self {
        Self {
            options,
            id,
            connection: Some(connection),
            committed,
            unanswered: None,
            locked: Locked::default(),
        }
    }

    pub(crate) const fn id(&self) -> WriterId {
        self.id
    }

    /// The epoch of the newest election, in a transaction.
    pub(crate) const fn epoch(&self) -> i64 {
        self.locked.epoch
    }

    pub(crate) const fn committed(&self) -> i64 {
        self.committed
    }

    pub(crate) fn pass_generation(&mut self, generation: i64) {
        self.locked.generation = self.locked.generation.max(generation);
    }

    pub(crate) const fn is_lost(&self) -> bool {
        self.connection.is_none()
    }

    /// The connection, while there is one.
    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection
            .as_mut()
            .ok_or_else(|| sqlx::Error::Io(io::ErrorKind::NotConnected.into()))
    }

    /// Gives the connection up where `error` says that it is gone.
    pub(crate) fn note(&mut self, error: &sqlx::Error) {
        if is_lost(error) {
            self.connection = None;
        }
    }

    /// Begins a transaction and takes the turn to write, connecting again first where that is needed.
    pub(crate) async fn begin(&mut self) -> Result<(), LedgerError> {
        const OPERATION: &str = "begin a transaction";
        let deadline = Instant::now() + CONNECT_WITHIN;
        loop {
            let error = match self.try_begin().await {
                Ok(()) => return Ok(()),
                Err(BeginError::Replaced) => return Err(LedgerError::Replaced),
                Err(BeginError::OtherSchema { found }) => {
                    return Err(LedgerError::OtherSchema {
                        found,
                        supported: SUPPORTED,
                    });
                }
                Err(BeginError::Connect(ConnectError::Unfit(unfit))) => {
                    sqlx::Error::Configuration(unfit.reason().into())
                }
                Err(BeginError::Connect(ConnectError::Sql(error))) if is_lost(&error) => error,
                Err(BeginError::Connect(ConnectError::Sql(source))) => return Err(failed(OPERATION, source)),
            };
            self.connection = None;
            if Instant::now() >= deadline {
                return Err(LedgerError::unavailable(OPERATION, error));
            }
            tracing::debug!(%error, "the store can't be reached; trying again");
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }

    async fn try_begin(&mut self) -> Result<(), BeginError> {
        let anew = self.connection.is_none();
        if anew {
            let connecting = tokio::time::timeout(CONNECT_WITHIN, connect(&self.options));
            let connected = connecting.await.unwrap_or_else(|_| {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                Err(sqlx::Error::Io(late).into())
            });
            self.connection = Some(connected.map_err(BeginError::Connect)?);
        }
        // One round trip. The version is read by a statement of its own: one that waited for the lock would still see what
        // the other tables held before.
        let lock = sqlx::raw_sql(
            "BEGIN; SELECT FROM store FOR UPDATE;
             SELECT generation, epoch, version FROM store CROSS JOIN store_schema",
        );
        let rows = answered(lock.fetch_all(self.connection()?)).await?;
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        let found: i64 = row.try_get("version")?;
        if found != i64::from(SUPPORTED) {
            // Lets go of the lock.
            self.connection = None;
            return Err(BeginError::OtherSchema { found });
        }
        self.locked = Locked {
            generation: row.try_get("generation")?,
            epoch: row.try_get("epoch")?,
        };
        if anew { self.compare().await } else { Ok(()) }
    }

    /// Compares the store with what this home has committed to it, on a new connection, in a transaction. Whatever the
    /// lost connection had begun is over: the row of `store` is locked.
    async fn compare(&mut self) -> Result<(), BeginError> {
        let own = self.read_own().await?;
        if self.unanswered == Some(own) {
            self.committed = own;
        }
        if own != self.committed {
            self.connection = None;
            return Err(BeginError::Replaced);
        }
        self.unanswered = None;
        Ok(())
    }

    async fn read_own(&mut self) -> Result<i64, sqlx::Error> {
        let own = sqlx::query("SELECT generation FROM writers WHERE id = $1").bind(self.id.to_vec());
        let row: Option<PgRow> = answered(own.fetch_optional(self.connection()?)).await?;
        row.map_or(Ok(0), |row| row.try_get("generation"))
    }

    /// Commits, and finds out whether it did where the answer is lost.
    pub(crate) async fn commit(&mut self) -> Result<Committed, LedgerError> {
        let generation = self.locked.generation + 1;
        self.unanswered = Some(generation);
        // One round trip. The text is this program's own: a number and hexadecimal digits.
        let text = AssertSqlSafe(format!(
            "UPDATE store SET generation = {generation};
             INSERT INTO writers (id, generation) VALUES ('\\x{}', {generation})
             ON CONFLICT (id) DO UPDATE SET generation = excluded.generation; COMMIT",
            self.id.to_hex(),
        ));
        let error = match self.connection() {
            Ok(connection) => answered(connection.execute(sqlx::raw_sql(text))).await.err(),
            Err(error) => Some(error),
        };
        match error {
            None => {
                self.committed = generation;
                self.unanswered = None;
                Ok(Committed::Yes(generation))
            }
            Some(source) if !is_lost(&source) => {
                self.unanswered = None;
                Err(LedgerError::Sql {
                    operation: "commit a transaction",
                    source,
                })
            }
            Some(lost) => {
                tracing::warn!(error = %lost, "the connection was lost during a commit; finding out what became of it");
                self.connection = None;
                match self.begin().await {
                    Ok(()) => {}
                    Err(LedgerError::Replaced) => return Err(LedgerError::Replaced),
                    Err(_) => return Err(LedgerError::OutcomeUnknown),
                }
                self.roll_back().await;
                if self.committed == generation {
                    Ok(Committed::Yes(generation))
                } else {
                    Ok(Committed::No(lost))
                }
            }
        }
    }

    /// Ends the transaction, if one is open, without a trace.
    pub(crate) async fn roll_back(&mut self) {
        let Ok(connection) = self.connection() else {
            return;
        };
        if let Err(error) = answered(connection.execute(sqlx::raw_sql("ROLLBACK"))).await {
            self.note(&error);
        }
    }

    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self.connection {
            Some(connection) => connection.close().await,
            None => Ok(()),
        }
    }
}
