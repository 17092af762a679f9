use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Domain, UnixSeconds};
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    LedgerError,
    column::{Put as _, Read as _, Row, sql},
    group::{Group, Grouped},
    lock::StoreLock,
    metrics::LedgerMetrics,
    migration::{self, APPLICATION_ID},
    session::Session,
    writer::{Job, Operation, Order, Pending, QUEUE_LIMIT, Writer},
};

/// Connections for reading beside the writer.
const READERS: u32 = 4;
/// How long SQLite waits for another process (a reader that checkpoints, `sqlite3` on the command line).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept on a connection; this crate has fewer.
const STATEMENT_CACHE: usize = 256;
/// Rows that SQLite's thread may read ahead for the writer: as many as a batch reads, so that it never waits in between.
const ROWS_AHEAD: usize = 1_024;
/// What the writer keeps of the store in memory, in pages, or in KiB where it is negative: enough that the newest part of
/// each open channel is read once.
const CACHE_SIZE: &str = "-262144";
/// Pages that the write-ahead log gathers before they go into the store itself (32 MiB): many commits touch the same.
const CHECKPOINT_AFTER: &str = "8192";
/// Closings that a listener may be behind before it loses some.
const CLOSINGS_KEPT: usize = 1_024;
/// A store up to this size, in bytes, has all its pages checked when it is opened (about a second for the largest);
/// beyond it, a start would take too long and damage shows when the page is read.
const CHECKED_SIZE: u64 = 256 << 20;

/// The deployment a store belongs to. A store never mixes two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreDeployment {
    /// The chain's id.
    pub chain_id: u64,
    /// The escrow contract.
    pub escrow: Address,
    /// The settlement contract.
    pub settlement: Address,
}

impl StoreDeployment {
    /// The domain its documents are signed in.
    pub fn domain(&self) -> Domain {
        Domain::new(self.chain_id, self.escrow, self.settlement)
    }
}

impl From<&Domain> for StoreDeployment {
    fn from(domain: &Domain) -> Self {
        Self {
            chain_id: domain.chain_id(),
            escrow: domain.escrow(),
            settlement: domain.settlement(),
        }
    }
}

/// A handle on the store. Clones share it.
///
/// Every write answers after its commit is on disk. A call that is cancelled (its future dropped) may still be
/// recorded; asking again says [`Outcome::AlreadyKnown`](crate::Outcome::AlreadyKnown) then.
#[derive(Clone)]
pub struct Ledger {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    readers: SqlitePool,
    /// `None` when open for reading only.
    queue: Option<mpsc::Sender<Order>>,
    deployment: StoreDeployment,
    domain: Domain,
    pub(crate) closing: broadcast::Sender<ChannelId>,
    metrics: LedgerMetrics,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ledger")
            .field("deployment", &self.inner.deployment)
            .field("read_only", &self.inner.queue.is_none())
            .finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the store at `path` for this process alone, and creates it when there is none.
    ///
    /// The file stays untouched when it is refused. Beside it, `<path>.lock` holds the lock.
    ///
    /// # Errors
    /// [`OpenError`] says why it is refused.
    pub async fn open(path: &Path, deployment: &StoreDeployment) -> Result<Self, OpenError> {
        Self::open_at(path, deployment, SystemTime::now().into()).await
    }

    /// [`open`](Self::open) with the time given: what a restored backup remembers as the time of the restore.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_at(path: &Path, deployment: &StoreDeployment, now: UnixSeconds) -> Result<Self, OpenError> {
        let (lock, known_generation) = StoreLock::acquire(path)?;
        let existing = inspect(path).await?;
        if let Some(found) = existing.and_then(|store| store.deployment)
            && found != *deployment
        {
            return Err(OpenError::OtherDeployment {
                path: path.to_owned(),
                found,
                wanted: *deployment,
            });
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENT_CACHE)
            .row_buffer_size(ROWS_AHEAD)
            .pragma("cache_size", CACHE_SIZE)
            .pragma("wal_autocheckpoint", CHECKPOINT_AFTER)
            // Statements over many rows keep a journal of their own, which needs no disk.
            .pragma("temp_store", "MEMORY")
            .disable_statement_logging();
        let mut connection = options.connect().await.map_err(|source| failed(path, source))?;
        migration::run(&mut connection)
            .await
            .map_err(|source| failed(path, source))?;
        let mut session = Session::writer(connection);
        let generation = introduce(&mut session, deployment, known_generation, now)
            .await
            .map_err(|error| match error {
                LedgerError::Sql { source, .. } => failed(path, source),
                other => OpenError::Damaged {
                    path: path.to_owned(),
                    detail: other.to_string(),
                },
            })?;
        lock.record(generation);

        let readers = open_readers(path).await?;
        let (queue, orders) = mpsc::channel(QUEUE_LIMIT);
        let metrics = LedgerMetrics::default();
        tokio::spawn(Writer::new(session, orders, lock, metrics.clone()).run());
        Ok(Self::new(readers, Some(queue), *deployment, metrics))
    }

    /// Opens the store at `path` for reading, also beside a process that writes. Every write answers
    /// [`LedgerError::ReadOnly`].
    ///
    /// # Errors
    /// [`OpenError`] says why it is refused.
    pub async fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        let missing = || OpenError::Missing { path: path.to_owned() };
        let store = inspect(path).await?.ok_or_else(missing)?;
        if store.version < migration::SUPPORTED {
            return Err(OpenError::OlderSchema {
                path: path.to_owned(),
                found: store.version,
                supported: migration::SUPPORTED,
            });
        }
        let deployment = store.deployment.ok_or_else(missing)?;
        let readers = open_readers(path).await?;
        Ok(Self::new(readers, None, deployment, LedgerMetrics::default()))
    }

    /// Finishes what is queued, closes the store and lets go of its lock. Other handles answer
    /// [`LedgerError::Closed`] from then on.
    pub async fn close(self) {
        // Readers first: the last connection to go folds the write-ahead log into the file, and they can't.
        self.inner.readers.close().await;
        if let Some(queue) = &self.inner.queue {
            let (done, closed) = oneshot::channel();
            if queue.send(Order::Close(done)).await.is_ok() {
                // An error says that the writer is gone: closed all the same.
                let _ = closed.await;
            }
        }
    }

    /// The deployment whose records these are.
    pub fn deployment(&self) -> &StoreDeployment {
        &self.inner.deployment
    }

    /// Whether there is a writer to take what is to be recorded. Not in a store that is open for reading only, not after
    /// [`close`](Self::close), and not when the writer died.
    pub fn has_writer(&self) -> bool {
        self.inner.queue.as_ref().is_some_and(|queue| !queue.is_closed())
    }

    /// What its writer does.
    pub fn metrics(&self) -> &LedgerMetrics {
        &self.inner.metrics
    }

    fn new(
        readers: SqlitePool,
        queue: Option<mpsc::Sender<Order>>,
        deployment: StoreDeployment,
        metrics: LedgerMetrics,
    ) -> Self {
        let domain = deployment.domain();
        Self {
            inner: Arc::new(Inner {
                readers,
                queue,
                deployment,
                domain,
                closing: broadcast::Sender::new(CLOSINGS_KEPT),
                metrics,
            }),
        }
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.inner.domain
    }

    /// Hands an operation to the writer and waits until it is durable, or refused.
    pub(crate) async fn submit<O: Operation + Sync>(&self, operation: O) -> Result<O::Output, O::Error> {
        let (job, answer) = Pending::new(operation);
        self.enqueue(job).await?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// [`submit`](Self::submit) for operations that the writer does as a set with others of their kind.
    pub(crate) async fn submit_grouped<O: Grouped>(&self, operation: O) -> Result<O::Output, O::Error> {
        let (job, answer) = Group::new(operation);
        self.enqueue(job).await?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    async fn enqueue(&self, job: Box<dyn Job>) -> Result<(), LedgerError> {
        let queue = self.inner.queue.as_ref().ok_or(LedgerError::ReadOnly)?;
        queue.send(Order::Run(job)).await.map_err(|_| LedgerError::Closed)
    }

    /// A session for one statement, which sees what was committed when it ran.
    pub(crate) async fn reader(&self, operation: &'static str) -> Result<Session, LedgerError> {
        match self.inner.readers.acquire().await {
            Ok(connection) => Ok(Session::reader(connection, operation)),
            Err(sqlx::Error::PoolClosed) => Err(LedgerError::Closed),
            Err(source) => Err(LedgerError::Sql { operation, source }),
        }
    }

    /// A session for several statements, which all see what was committed when it began.
    pub(crate) async fn snapshot(&self, operation: &'static str) -> Result<Session, LedgerError> {
        match self.inner.readers.begin().await {
            Ok(transaction) => Ok(Session::snapshot(transaction, operation)),
            Err(sqlx::Error::PoolClosed) => Err(LedgerError::Closed),
            Err(source) => Err(LedgerError::Sql { operation, source }),
        }
    }
}

async fn open_readers(path: &Path) -> Result<SqlitePool, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging();
    SqlitePoolOptions::new()
        .max_connections(READERS)
        // A file does not hang up.
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|source| failed(path, source))
}

/// What a file says of itself.
struct Inspected {
    version: u32,
    deployment: Option<StoreDeployment>,
}

/// Looks at the file without changing it. `None` when there is nothing in it yet.
async fn inspect(path: &Path) -> Result<Option<Inspected>, OpenError> {
    let damaged = |detail: &str| OpenError::Damaged {
        path: path.to_owned(),
        detail: detail.to_owned(),
    };
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
        Ok(()) if magic == *b"SQLite format 3\0" => {}
        Ok(()) => return Err(damaged("it is no SQLite database")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged("it is no SQLite database")),
        Err(source) => return Err(io_failed(source)),
    }
    drop(file);

    let sql_failed = |source| failed(path, source);
    let mut connection: SqliteConnection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(sql_failed)?;
    let number = async |connection: &mut SqliteConnection, pragma: &'static str| {
        sqlx::query_scalar::<_, i64>(pragma)
            .fetch_one(connection)
            .await
            .map_err(sql_failed)
    };
    let version = number(&mut connection, "PRAGMA user_version").await?;
    let application = number(&mut connection, "PRAGMA application_id").await?;
    let tables = number(&mut connection, "SELECT count(*) FROM sqlite_schema").await?;
    if tables == 0 && version == 0 {
        // Created by a process that died before its first migration was committed.
        return Ok(None);
    }
    if application != APPLICATION_ID {
        return Err(damaged("it is another program's database"));
    }
    let version = u32::try_from(version).map_err(|_| damaged("its version is negative"))?;
    if version > migration::SUPPORTED {
        return Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found: version,
            supported: migration::SUPPORTED,
        });
    }
    if size <= CHECKED_SIZE {
        let row = sqlx::query("PRAGMA quick_check(1)")
            .fetch_one(&mut connection)
            .await
            .map_err(sql_failed)?;
        let verdict: String = row.try_get(0).map_err(sql_failed)?;
        if verdict != "ok" {
            return Err(damaged(&verdict));
        }
    }
    let row = sqlx::query("SELECT chain_id, escrow, settlement FROM store")
        .fetch_optional(&mut connection)
        .await
        .map_err(sql_failed)?
        .map(Row::from);
    let unreadable = |error: LedgerError| damaged(&error.to_string());
    let deployment = match row {
        None => None,
        Some(row) => Some(StoreDeployment {
            chain_id: row.read("chain_id").map_err(unreadable)?,
            escrow: row.read("escrow").map_err(unreadable)?,
            settlement: row.read("settlement").map_err(unreadable)?,
        }),
    };
    connection.close().await.map_err(sql_failed)?;
    Ok(Some(Inspected { version, deployment }))
}

/// Writes down what the store is for when it is new, and notices when it is an older copy. Gives its generation.
async fn introduce(
    session: &mut Session,
    deployment: &StoreDeployment,
    known_generation: Option<i64>,
    now: UnixSeconds,
) -> Result<i64, LedgerError> {
    session.start("open");
    session.control(sql("BEGIN IMMEDIATE")).await?;
    session
        .write(
            sql(
                "INSERT INTO store (id, chain_id, escrow, settlement, generation) VALUES (1, $1, $2, $3, 0)
                 ON CONFLICT DO NOTHING",
            )
            .put(deployment.chain_id)
            .put(deployment.escrow)
            .put(deployment.settlement),
        )
        .await?;
    let missing = || LedgerError::Inconsistent {
        what: "it has no row that says what it is for",
    };
    let row = session.row(sql("SELECT generation FROM store")).await?;
    let generation: i64 = row.ok_or_else(missing)?.read("generation")?;
    if let Some(known) = known_generation.filter(|known| *known > generation) {
        tracing::warn!(
            generation,
            known,
            "the store is an older copy that was put back; requests it can't know of are refused for a while"
        );
        // Any of these may have been billed after the copy was made. A second, different bill for one request is a
        // fault that anybody can prove (design, section 3.3), so they are never billed again.
        session
            .write(
                sql("UPDATE store SET restored_at = $1, generation = $2;
                     UPDATE requests SET dropped = 'accepted before the store was restored from a copy'
                     WHERE dropped IS NULL
                       AND channel IN (SELECT channel FROM accounts WHERE side = 'serving')
                       AND hash NOT IN (SELECT request FROM bills)")
                .put(now)
                .put(known),
            )
            .await?;
    }
    let row = session
        .row(sql("UPDATE store SET generation = generation + 1 RETURNING generation"))
        .await?;
    let generation = row.ok_or_else(missing)?.read("generation")?;
    session.control(sql("COMMIT")).await?;
    Ok(generation)
}

fn failed(path: &Path, source: sqlx::Error) -> OpenError {
    // SQLITE_CORRUPT and SQLITE_NOTADB, in the low byte of the extended codes.
    let damaged = source
        .as_database_error()
        .and_then(|error| error.code()?.parse::<u32>().ok())
        .is_some_and(|code| matches!(code & 0xff, 11 | 26));
    let path = path.to_owned();
    if damaged {
        OpenError::Damaged {
            path,
            detail: source.to_string(),
        }
    } else {
        OpenError::Sql { path, source }
    }
}

/// Why a store was not opened. It is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open for writing.
    #[error("the store {} is in use by {}", path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The store.
        path: PathBuf,
        /// The other process's id, where its lock file tells.
        holder: Option<u32>,
    },
    /// A newer version of the program wrote it.
    #[error("the store {} has schema {found}, and this program knows schemas up to {supported}", path.display())]
    NewerSchema {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        supported: u32,
    },
    /// It has to be opened for writing first, which brings its schema up to date.
    #[error("the store {} still has schema {found}; opening it for writing brings it to {supported}", path.display())]
    OlderSchema {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        supported: u32,
    },
    /// It can't be read as a store.
    #[error("the store {} is damaged: {detail}", path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// It holds the records of another deployment.
    #[error("the store {} belongs to the escrow {} on chain {}, not to {} on chain {}", path.display(), found.escrow, found.chain_id, wanted.escrow, wanted.chain_id)]
    OtherDeployment {
        /// The store.
        path: PathBuf,
        /// Whose records it holds.
        found: StoreDeployment,
        /// Whose were asked for.
        wanted: StoreDeployment,
    },
    /// There is none.
    #[error("there is no store at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("the file {} can't be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// SQLite failed.
    #[error("the store {} can't be opened", path.display())]
    Sql {
        /// The store.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
}
