use std::{
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI64},
    },
};

#[cfg(feature = "simulation")]
use crate::inline::{self, InlineReaders};
use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Domain, UnixSeconds};
use sqlx::{PgPool, SqlitePool};
use tokio::{
    sync::{Mutex, broadcast, mpsc, oneshot},
    task::AbortHandle,
};

use crate::{
    LedgerError, OpenError, StoreUrl, closings,
    column::{Put as _, Read as _, sql},
    environment::Environment,
    group::{Group, Grouped},
    leading::{Held, Led},
    lock::{Known, StoreLock},
    metrics::LedgerMetrics,
    migration,
    postgres::{self, Committed},
    restored::{Evidence, find_copied_at, mark_restored},
    server,
    session::{Connection, PostgresLink, Session, SqliteLink},
    sqlite,
    url::{Place, PostgresPlace},
    writer::{Job, Operation, Order, Pending, QUEUE_LIMIT, Writer},
};

/// Closings that a listener may be behind before it loses some.
const CLOSINGS_KEPT: usize = 1_024;

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

    /// Refuses a store that was `found` to be of another deployment.
    pub(crate) fn check(&self, store: &StoreUrl, found: Self) -> Result<(), OpenError> {
        if found == *self {
            return Ok(());
        }
        Err(OpenError::OtherDeployment {
            store: store.clone(),
            found,
            wanted: *self,
        })
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
    pub(crate) url: StoreUrl,
    readers: Readers,
    environment: Environment,
    /// `None` when open for reading only.
    queue: Option<mpsc::Sender<Order>>,
    deployment: StoreDeployment,
    domain: Domain,
    pub(crate) closing: broadcast::Sender<ChannelId>,
    /// The election that this process won last, where several share the store; 0 while it does not lead.
    pub(crate) epoch: Arc<AtomicI64>,
    /// What of it this process holds, wherever in it. Locked while it stands by.
    pub(crate) leading: Mutex<Weak<Held>>,
    /// Whether this home has a witness to what it committed, or has said since whose requests it bills.
    pub(crate) is_recognized: AtomicBool,
    /// The task that hears of what other processes record.
    listening: Option<AbortHandle>,
    metrics: LedgerMetrics,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

/// Connections for reading beside the writer.
enum Readers {
    /// Each has a thread of its own.
    Sqlite(SqlitePool),
    /// Those of a store with a disk of its own.
    #[cfg(feature = "simulation")]
    Inline(InlineReaders),
    Postgres(PgPool),
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Inner")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ledger")
            .field("url", &self.inner.url)
            .field("deployment", &self.inner.deployment)
            .field("read_only", &self.inner.queue.is_none())
            .finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens a store for writing, and creates it when there is none. A file is this process's alone; a database of
    /// PostgreSQL is shared with the processes of other homes.
    ///
    /// A store that is refused stays untouched. Beside a file, `<path>.lock` holds the lock; for a database, the home's
    /// witness file does.
    ///
    /// # Errors
    /// [`OpenError`] says why it is refused.
    pub async fn open(store: impl Into<StoreUrl>, deployment: &StoreDeployment) -> Result<Self, OpenError> {
        Self::open_in(store, deployment, Environment::default()).await
    }

    /// [`open`](Self::open) with the time given: what a restored backup remembers as the time of the restore.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_at(
        store: impl Into<StoreUrl>,
        deployment: &StoreDeployment,
        now: UnixSeconds,
    ) -> Result<Self, OpenError> {
        Self::open_with(store.into(), deployment, Environment::default(), now).await
    }

    /// [`open`](Self::open) in surroundings that are not the machine's. A database has a clock of them and no disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_in(
        store: impl Into<StoreUrl>,
        deployment: &StoreDeployment,
        environment: Environment,
    ) -> Result<Self, OpenError> {
        let now = environment.now();
        Self::open_with(store.into(), deployment, environment, now).await
    }

    async fn open_with(
        url: StoreUrl,
        deployment: &StoreDeployment,
        environment: Environment,
        now: UnixSeconds,
    ) -> Result<Self, OpenError> {
        match url.0.clone() {
            Place::Sqlite(path) => Self::open_file(url, &path, deployment, environment, now).await,
            Place::Postgres(place) => Self::open_database(url, &place, deployment, environment, now).await,
        }
    }

    async fn open_file(
        url: StoreUrl,
        path: &Path,
        deployment: &StoreDeployment,
        environment: Environment,
        now: UnixSeconds,
    ) -> Result<Self, OpenError> {
        let (mut lock, mut known) = StoreLock::acquire(&url)?;
        // A simulated process's files are copies from life to life.
        known.lies_elsewhere &= environment.disk().is_none();
        let existing = match environment.disk() {
            #[cfg(feature = "simulation")]
            Some(_) => inline::inspect(path).await?,
            _ => sqlite::inspect(path).await?,
        };
        match existing.as_ref().and_then(|store| store.deployment) {
            Some(found) => deployment.check(&url, found)?,
            // The lock file is new with its store, which nobody has put there without it.
            None if known.is_unrecognized => {
                lock.recognize(0);
                known.is_unrecognized = false;
            }
            None => {}
        }
        let link = match environment.disk() {
            #[cfg(feature = "simulation")]
            Some(_) => inline::open_writer(path, existing, &environment).await?,
            _ => SqliteLink::Writer(sqlite::open_writer(path, migration::SUPPORTED, &environment).await?),
        };
        let disk = environment.disk().cloned();
        let mut session = Session::new(Connection::Sqlite(link), "open").on(disk);
        let generation = introduce(&mut session, deployment, known, now)
            .await
            .map_err(|error| match error {
                LedgerError::Sql { source, .. } => sqlite::failed(path, source),
                other => OpenError::Damaged {
                    store: url.clone(),
                    detail: other.to_string(),
                },
            })?;
        lock.recognize(generation);

        let readers = match environment.disk() {
            #[cfg(feature = "simulation")]
            Some(_) => Readers::Inline(InlineReaders::new(path)),
            _ => Readers::Sqlite(sqlite::open_readers(path).await?),
        };
        let writer = Some((session, lock));
        Ok(Self::start(url, readers, environment, writer, *deployment, None))
    }

    async fn open_database(
        url: StoreUrl,
        place: &PostgresPlace,
        deployment: &StoreDeployment,
        environment: Environment,
        now: UnixSeconds,
    ) -> Result<Self, OpenError> {
        let (mut lock, known) = StoreLock::acquire(&url)?;
        let writer = server::open_writer(&url, place, deployment, &mut lock, known).await?;
        let id = writer.id();
        let mut session = Session::new(Connection::Postgres(PostgresLink::Writer(Box::new(writer))), "open");
        let generation = server::introduce(&mut session, known.generation, now)
            .await
            .map_err(|error| server::refused(&url, error))?;
        lock.record(generation);

        let options = postgres::options(&place.options);
        let readers = server::open_readers(&options);
        let closing = broadcast::Sender::new(CLOSINGS_KEPT);
        let listening = closings::listen(options, id, closing.clone())
            .await
            .map_err(|source| OpenError::Sql {
                store: url.clone(),
                source,
            })?;
        Ok(Self::start(
            url,
            Readers::Postgres(readers),
            environment,
            Some((session, lock)),
            *deployment,
            Some((closing, listening)),
        ))
    }

    /// Opens a store for reading, also beside processes that write. Every write answers [`LedgerError::ReadOnly`].
    ///
    /// # Errors
    /// [`OpenError`] says why it is refused.
    pub async fn open_read_only(store: impl Into<StoreUrl>) -> Result<Self, OpenError> {
        let url = store.into();
        let (existing, readers) = match &url.0 {
            Place::Sqlite(path) => {
                let existing = sqlite::inspect(path).await?;
                let readers = match existing {
                    Some(_) => Some(Readers::Sqlite(sqlite::open_readers(path).await?)),
                    None => None,
                };
                (existing, readers)
            }
            Place::Postgres(place) => {
                let readers = server::open_readers(&postgres::options(&place.options));
                let existing = server::inspect_through(&url, &readers).await?;
                (existing, Some(Readers::Postgres(readers)))
            }
        };
        let missing = || OpenError::Missing { store: url.clone() };
        let (existing, readers) = existing.zip(readers).ok_or_else(missing)?;
        if existing.version < migration::SUPPORTED {
            return Err(OpenError::OlderSchema {
                store: url,
                found: existing.version,
                supported: migration::SUPPORTED,
            });
        }
        let deployment = existing.deployment.ok_or_else(missing)?;
        Ok(Self::start(
            url,
            readers,
            Environment::default(),
            None,
            deployment,
            None,
        ))
    }

    fn start(
        url: StoreUrl,
        readers: Readers,
        environment: Environment,
        writer: Option<(Session, StoreLock)>,
        deployment: StoreDeployment,
        listening: Option<(broadcast::Sender<ChannelId>, AbortHandle)>,
    ) -> Self {
        let metrics = LedgerMetrics::default();
        // Whoever only reads bills nothing.
        let is_recognized = writer.as_ref().is_none_or(|(_, lock)| lock.is_recognized());
        let queue = writer.map(|(session, lock)| {
            let (queue, orders) = mpsc::channel(QUEUE_LIMIT);
            tokio::spawn(Writer::new(session, orders, lock, metrics.clone()).run());
            queue
        });
        let (closing, listening) = match listening {
            Some((closing, listening)) => (closing, Some(listening)),
            None => (broadcast::Sender::new(CLOSINGS_KEPT), None),
        };
        let inner = Inner {
            url,
            readers,
            environment,
            queue,
            deployment,
            domain: deployment.domain(),
            closing,
            epoch: Arc::default(),
            leading: Mutex::default(),
            is_recognized: AtomicBool::new(is_recognized),
            listening,
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Finishes what is queued, closes the store and lets go of its lock. Other handles answer
    /// [`LedgerError::Closed`] from then on.
    pub async fn close(self) {
        if let Some(listening) = &self.inner.listening {
            listening.abort();
        }
        // Readers first: in SQLite, the last connection to go folds the write-ahead log into the file, and they can't.
        match &self.inner.readers {
            Readers::Sqlite(pool) => pool.close().await,
            #[cfg(feature = "simulation")]
            Readers::Inline(readers) => readers.close(),
            Readers::Postgres(pool) => pool.close().await,
        }
        if let Some(queue) = &self.inner.queue {
            let (done, closed) = oneshot::channel();
            if queue.send(Order::Close(done)).await.is_ok() {
                // An error says that the writer is gone: closed all the same.
                let _ = closed.await;
            }
        }
    }

    /// Has the lock file say that this home is known to the store, and waits until it is on disk.
    pub(crate) async fn write_recognized(&self) -> Result<(), LedgerError> {
        let queue = self.inner.queue.as_ref().ok_or(LedgerError::ReadOnly)?;
        let (done, written) = oneshot::channel();
        queue
            .send(Order::Recognize(done))
            .await
            .map_err(|_| LedgerError::Closed)?;
        written.await.map_err(|_| LedgerError::Closed)
    }

    /// The deployment whose records these are.
    pub fn deployment(&self) -> &StoreDeployment {
        &self.inner.deployment
    }

    /// Now, as this store's surroundings say: who works on the store lives in the same time.
    pub fn now(&self) -> UnixSeconds {
        self.inner.environment.now()
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

    pub(crate) fn is_read_only(&self) -> bool {
        self.inner.queue.is_none()
    }

    /// Which store it is.
    pub fn url(&self) -> &StoreUrl {
        &self.inner.url
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

    /// [`submit`](Self::submit) for what only the leader may do.
    pub(crate) async fn submit_leading<O: Operation + Sync>(&self, operation: O) -> Result<O::Output, O::Error> {
        let epoch = self.inner.epoch();
        self.submit(Led { epoch, operation }).await
    }

    async fn enqueue(&self, job: Box<dyn Job>) -> Result<(), LedgerError> {
        let queue = self.inner.queue.as_ref().ok_or(LedgerError::ReadOnly)?;
        queue.send(Order::Run(job)).await.map_err(|_| LedgerError::Closed)
    }

    /// A session for one statement, which sees what was committed when it ran.
    pub(crate) async fn reader(&self, operation: &'static str) -> Result<Session, LedgerError> {
        let connection = match &self.inner.readers {
            Readers::Sqlite(pool) => pool.acquire().await.map(SqliteLink::Reader).map(Connection::Sqlite),
            #[cfg(feature = "simulation")]
            Readers::Inline(readers) => readers.take().map(SqliteLink::InlineReader).map(Connection::Sqlite),
            Readers::Postgres(pool) => pool.acquire().await.map(PostgresLink::Reader).map(Connection::Postgres),
        };
        let session = session(connection, operation)?;
        Ok(session.on(self.inner.environment.disk().cloned()))
    }

    /// A session for several statements, which all see what was committed when it began.
    pub(crate) async fn snapshot(&self, operation: &'static str) -> Result<Session, LedgerError> {
        let connection = match &self.inner.readers {
            Readers::Sqlite(pool) => pool.begin().await.map(SqliteLink::Snapshot).map(Connection::Sqlite),
            #[cfg(feature = "simulation")]
            Readers::Inline(readers) => readers.begin().map(SqliteLink::InlineReader).map(Connection::Sqlite),
            Readers::Postgres(pool) => pool
                .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await
                .map(PostgresLink::Snapshot)
                .map(Connection::Postgres),
        };
        let session = session(connection, operation)?;
        Ok(session.on(self.inner.environment.disk().cloned()))
    }
}

fn session(connection: Result<Connection, sqlx::Error>, operation: &'static str) -> Result<Session, LedgerError> {
    match connection {
        Ok(connection) => Ok(Session::new(connection, operation)),
        Err(sqlx::Error::PoolClosed) => Err(LedgerError::Closed),
        Err(source) if postgres::is_lost(&source) => Err(LedgerError::unavailable(operation, source)),
        Err(source) => Err(LedgerError::Sql { operation, source }),
    }
}

/// Writes down what the store is for when it is new, and notices when it is an older copy. Gives its generation.
async fn introduce(
    session: &mut Session,
    deployment: &StoreDeployment,
    known: Known,
    now: UnixSeconds,
) -> Result<i64, LedgerError> {
    session.start("open");
    session.begin().await?;
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
    let evidence = Evidence {
        committed: generation,
        witnessed: known.generation,
        copied_at: find_copied_at(session).await?,
        lies_elsewhere: known.lies_elsewhere,
        is_unwitnessed: known.is_unrecognized,
    };
    if evidence.tells_of_a_copy() {
        session.pass_generation(evidence.newest()).await?;
        mark_restored(session, None, now).await?;
    }
    match session.commit().await? {
        Committed::Yes(generation) => Ok(generation),
        Committed::No(source) => Err(LedgerError::unavailable("open", source)),
    }
}
