use std::sync::Arc;

#[cfg(feature = "simulation")]
use crate::inline::{InlineConnection, InlineReader};
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction, pool::PoolConnection};

use crate::{
    LedgerError,
    column::{Put as _, Read as _, Row, sql},
    environment::Disk,
    leading::Epoch,
    lock::WriterId,
    postgres::{self, Committed, PostgresWriter, answered},
    statement::Statement,
};

/// Statements run for one operation after the other, and what they are run for.
pub(crate) struct Session {
    connection: Connection,
    operation: &'static str,
    wrote: bool,
    /// `None` where SQLite's own thread, or a server, runs the statements.
    disk: Option<Arc<dyn Disk>>,
}

pub(crate) enum Connection {
    Sqlite(SqliteLink),
    Postgres(PostgresLink),
}

pub(crate) enum SqliteLink {
    /// The writer's own.
    Writer(SqliteConnection),
    /// One of the readers', for one statement.
    Reader(PoolConnection<Sqlite>),
    /// One of the readers', in a transaction: everything read is of one moment.
    Snapshot(Transaction<'static, Sqlite>),
    /// The writer's own, of a store with a disk.
    #[cfg(feature = "simulation")]
    InlineWriter(InlineConnection),
    /// One of the readers', of a store with a disk.
    #[cfg(feature = "simulation")]
    InlineReader(InlineReader),
}

impl SqliteLink {
    /// Runs a statement whose rows are of no interest and tells how many it changed.
    async fn execute(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        #[cfg(feature = "simulation")]
        if let Some(inline) = self.inline()? {
            return inline.execute(&statement);
        }
        let done = statement.for_sqlite()?.execute(self.connection()?).await?;
        Ok(done.rows_affected())
    }

    /// Runs a statement that gives at most one row.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<Row>, sqlx::Error> {
        #[cfg(feature = "simulation")]
        if let Some(inline) = self.inline()? {
            return Ok(inline.rows(&statement)?.into_iter().next());
        }
        let row = statement.for_sqlite()?.fetch_optional(self.connection()?).await?;
        Ok(row.map(Row::from))
    }

    /// Runs a statement.
    async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        #[cfg(feature = "simulation")]
        if let Some(inline) = self.inline()? {
            return inline.rows(&statement);
        }
        let rows = statement.for_sqlite()?.fetch_all(self.connection()?).await?;
        Ok(rows.into_iter().map(Row::from).collect())
    }

    /// Ends the connection, or gives it back.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Writer(connection) => sqlx::Connection::close(connection).await,
            Self::Reader(connection) => connection.close().await,
            Self::Snapshot(transaction) => transaction.rollback().await,
            #[cfg(feature = "simulation")]
            Self::InlineWriter(connection) => connection.close(),
            #[cfg(feature = "simulation")]
            Self::InlineReader(_) => Ok(()),
        }
    }

    /// The connection that has a thread of its own.
    fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        match self {
            Self::Writer(connection) => Ok(connection),
            Self::Reader(connection) => Ok(connection),
            Self::Snapshot(transaction) => Ok(transaction),
            #[cfg(feature = "simulation")]
            Self::InlineWriter(_) | Self::InlineReader(_) => Err(sqlx::Error::PoolClosed),
        }
    }

    /// The connection that works on this thread, if it is one.
    #[cfg(feature = "simulation")]
    fn inline(&mut self) -> Result<Option<&mut InlineConnection>, sqlx::Error> {
        match self {
            Self::InlineWriter(connection) => Ok(Some(connection)),
            Self::InlineReader(reader) => reader.connection().map(Some),
            Self::Writer(_) | Self::Reader(_) | Self::Snapshot(_) => Ok(None),
        }
    }
}

pub(crate) enum PostgresLink {
    /// The writer's own.
    Writer(Box<PostgresWriter>),
    /// One of the readers', for one statement.
    Reader(PoolConnection<Postgres>),
    /// One of the readers', in a transaction: everything read is of one moment.
    Snapshot(Transaction<'static, Postgres>),
    /// That of a store nobody works on, in a transaction in which it is moved.
    Mover(PgConnection),
}

impl PostgresLink {
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match self {
            Self::Writer(writer) => writer.connection(),
            Self::Reader(connection) => Ok(connection),
            Self::Snapshot(transaction) => Ok(transaction),
            Self::Mover(connection) => Ok(connection),
        }
    }
}

impl Session {
    pub(crate) const fn new(connection: Connection, operation: &'static str) -> Self {
        Self {
            connection,
            operation,
            wrote: false,
            disk: None,
        }
    }

    /// Lets `disk`, if there is one, say when statements run.
    pub(crate) fn on(mut self, disk: Option<Arc<dyn Disk>>) -> Self {
        self.disk = disk;
        self
    }

    /// What follows is done for `operation`.
    pub(crate) fn start(&mut self, operation: &'static str) {
        self.operation = operation;
        self.wrote = false;
    }

    /// Whether anything was written since the last [`start`](Self::start).
    pub(crate) const fn wrote(&self) -> bool {
        self.wrote
    }

    /// Runs a statement that changes the store and tells how many rows it changed. Several in one text are one round
    /// trip to SQLite's thread.
    pub(crate) async fn write(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        self.wrote = true;
        self.control(statement).await
    }

    /// Runs a statement that changes the store and gives the row it made.
    pub(crate) async fn write_returning(&mut self, statement: Statement) -> Result<Row, LedgerError> {
        self.wrote = true;
        self.row(statement).await?.ok_or(LedgerError::Inconsistent {
            what: "a row that was written is missing",
        })
    }

    /// Begins a transaction that may write. What it reads can't change before it ends.
    pub(crate) async fn begin(&mut self) -> Result<(), LedgerError> {
        match &mut self.connection {
            Connection::Postgres(PostgresLink::Writer(writer)) => writer.begin().await,
            _ => self.control(sql("BEGIN IMMEDIATE")).await.map(drop),
        }
    }

    /// Counts the commit and commits.
    pub(crate) async fn commit(&mut self) -> Result<Committed, LedgerError> {
        if let Connection::Postgres(PostgresLink::Writer(writer)) = &mut self.connection {
            return writer.commit().await;
        }
        // One round trip, and `rows` runs the statements to their end.
        let counted = self
            .rows(sql(
                "UPDATE store SET generation = generation + 1 RETURNING generation; COMMIT",
            ))
            .await?;
        let row = counted.first().ok_or(LedgerError::Inconsistent {
            what: "it has no row that says what it is for",
        })?;
        let generation = row.read("generation")?;
        if let Some(disk) = &self.disk {
            disk.committed(generation).await;
        }
        Ok(Committed::Yes(generation))
    }

    /// Ends the transaction without a trace. It may be over already.
    pub(crate) async fn roll_back(&mut self) {
        match &mut self.connection {
            Connection::Postgres(PostgresLink::Writer(writer)) => writer.roll_back().await,
            _ => drop(self.control(sql("ROLLBACK")).await),
        }
    }

    /// Whether the connection is gone.
    pub(crate) const fn is_lost(&self) -> bool {
        match &self.connection {
            Connection::Postgres(PostgresLink::Writer(writer)) => writer.is_lost(),
            _ => false,
        }
    }

    /// Refuses what only the leader may do, unless `epoch` is that of the newest election. In a transaction.
    pub(crate) fn check_leads(&self, epoch: Option<Epoch>) -> Result<(), LedgerError> {
        match &self.connection {
            Connection::Postgres(PostgresLink::Writer(writer)) if epoch != Some(Epoch(writer.epoch())) => {
                Err(LedgerError::NotLeading)
            }
            _ => Ok(()),
        }
    }

    /// The newest commit of this home, where several homes write; 0 where there is none.
    pub(crate) const fn committed(&self) -> i64 {
        match &self.connection {
            Connection::Postgres(PostgresLink::Writer(writer)) => writer.committed(),
            _ => 0,
        }
    }

    /// Counts on from `generation`, where that is more than the store's. In a transaction.
    pub(crate) async fn pass_generation(&mut self, generation: i64) -> Result<(), LedgerError> {
        if let Connection::Postgres(PostgresLink::Writer(writer)) = &mut self.connection {
            writer.pass_generation(generation);
            return Ok(());
        }
        let counted = sql("UPDATE store SET generation = $1 WHERE generation < $1");
        self.write(counted.put(generation)).await.map(drop)
    }

    /// In whose name is written, where several processes write.
    pub(crate) fn writer_id(&self) -> Option<WriterId> {
        match &self.connection {
            Connection::Postgres(PostgresLink::Writer(writer)) => Some(writer.id()),
            _ => None,
        }
    }

    /// Runs a statement whose rows are of no interest and tells how many it changed.
    async fn control(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        self.begin_statement().await;
        let result = match &mut self.connection {
            Connection::Sqlite(link) => link.execute(statement).await,
            Connection::Postgres(link) => execute(link, statement).await,
        };
        result.map_err(|source| self.failed(source))
    }

    /// Runs one statement that gives at most one row.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        self.begin_statement().await;
        let result = match &mut self.connection {
            Connection::Sqlite(link) => link.row(statement).await,
            Connection::Postgres(link) => {
                let rows = fetch(link, statement).await;
                rows.map(|rows| rows.into_iter().next())
            }
        };
        result.map_err(|source| self.failed(source))
    }

    /// Runs one statement.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        self.begin_statement().await;
        let result = match &mut self.connection {
            Connection::Sqlite(link) => link.rows(statement).await,
            Connection::Postgres(link) => fetch(link, statement).await,
        };
        result.map_err(|source| self.failed(source))
    }

    /// Waits until the disk, if there is one, lets the next statement run.
    async fn begin_statement(&mut self) {
        if let Some(disk) = &self.disk {
            disk.before(self.operation).await;
        }
    }

    fn failed(&mut self, source: sqlx::Error) -> LedgerError {
        let operation = self.operation;
        let Connection::Postgres(link) = &mut self.connection else {
            return LedgerError::Sql { operation, source };
        };
        if let PostgresLink::Writer(writer) = link {
            writer.note(&source);
        }
        postgres::failed(operation, source)
    }

    /// Ends the connection, or gives it back.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self.connection {
            Connection::Sqlite(link) => link.close().await,
            Connection::Postgres(PostgresLink::Writer(writer)) => writer.close().await,
            Connection::Postgres(PostgresLink::Reader(connection)) => connection.close().await,
            Connection::Postgres(PostgresLink::Snapshot(transaction)) => transaction.rollback().await,
            Connection::Postgres(PostgresLink::Mover(connection)) => sqlx::Connection::close(connection).await,
        }
    }

    /// The connection, in whatever state it is.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }
}

async fn execute(link: &mut PostgresLink, statement: Statement) -> Result<u64, sqlx::Error> {
    let mut changed = 0;
    for query in statement.for_postgres()? {
        changed += answered(query.execute(link.connection()?)).await?.rows_affected();
    }
    Ok(changed)
}

async fn fetch(link: &mut PostgresLink, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
    let mut found = Vec::new();
    for query in statement.for_postgres()? {
        let rows = answered(query.fetch_all(link.connection()?)).await?;
        found.extend(rows.into_iter().map(Row::from));
    }
    Ok(found)
}
