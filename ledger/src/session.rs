use std::sync::Arc;

use sqlx::{Sqlite, SqliteConnection, Transaction, pool::PoolConnection};

use crate::{
    LedgerError,
    column::Row,
    environment::{Disk, run},
    inline::InlineReader,
    statement::Statement,
};

/// Statements run for one operation after the other, and what they are run for.
pub(crate) struct Session {
    connection: Connection,
    operation: &'static str,
    wrote: bool,
    /// `None` where SQLite's own thread runs the statements.
    disk: Option<Arc<dyn Disk>>,
}

enum Connection {
    /// The writer's own.
    Writer(SqliteConnection),
    /// One of the readers', for one statement.
    Reader(PoolConnection<Sqlite>),
    /// One of the readers', in a transaction: everything read is of one moment.
    Snapshot(Transaction<'static, Sqlite>),
    /// One for reading, of a store with a disk.
    Inline(InlineReader),
}

impl Session {
    pub(crate) fn writer(connection: SqliteConnection, disk: Option<Arc<dyn Disk>>) -> Self {
        Self {
            disk,
            ..Self::new(Connection::Writer(connection), "open")
        }
    }

    pub(crate) fn reader(connection: PoolConnection<Sqlite>, operation: &'static str) -> Self {
        Self::new(Connection::Reader(connection), operation)
    }

    pub(crate) fn snapshot(transaction: Transaction<'static, Sqlite>, operation: &'static str) -> Self {
        Self::new(Connection::Snapshot(transaction), operation)
    }

    pub(crate) fn inline(connection: InlineReader, operation: &'static str, disk: Option<Arc<dyn Disk>>) -> Self {
        Self {
            disk,
            ..Self::new(Connection::Inline(connection), operation)
        }
    }

    fn new(connection: Connection, operation: &'static str) -> Self {
        Self {
            connection,
            operation,
            wrote: false,
            disk: None,
        }
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

    /// Runs a statement that begins or ends a transaction.
    pub(crate) async fn control(&mut self, statement: Statement) -> Result<u64, LedgerError> {
        let disk = self.begin_statement().await;
        let result = async {
            let done = statement.for_sqlite()?.execute(self.connection()?).await?;
            Ok(done.rows_affected())
        };
        run(disk.as_ref(), result).await.map_err(|source| self.failed(source))
    }

    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        let disk = self.begin_statement().await;
        let result = async {
            let row = statement.for_sqlite()?.fetch_optional(self.connection()?).await?;
            Ok(row.map(Row::from))
        };
        run(disk.as_ref(), result).await.map_err(|source| self.failed(source))
    }

    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        let disk = self.begin_statement().await;
        let result = async {
            let rows = statement.for_sqlite()?.fetch_all(self.connection()?).await?;
            Ok(rows.into_iter().map(Row::from).collect())
        };
        run(disk.as_ref(), result).await.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: sqlx::Error) -> LedgerError {
        let operation = self.operation;
        LedgerError::Sql { operation, source }
    }

    /// The writer has committed `generation`.
    pub(crate) async fn committed(&self, generation: i64) {
        if let Some(disk) = &self.disk {
            disk.committed(generation).await;
        }
    }

    /// Ends the writer's connection, if this is the writer's.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self.connection {
            Connection::Writer(connection) => run(self.disk.as_ref(), sqlx::Connection::close(connection)).await,
            Connection::Reader(connection) => connection.close().await,
            Connection::Snapshot(transaction) => transaction.rollback().await,
            Connection::Inline(_) => Ok(()),
        }
    }

    /// The disk that runs the next statement, once it lets it.
    async fn begin_statement(&self) -> Option<Arc<dyn Disk>> {
        let disk = self.disk.clone()?;
        disk.before(self.operation).await;
        Some(disk)
    }

    fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        Ok(match &mut self.connection {
            Connection::Writer(connection) => connection,
            Connection::Reader(connection) => connection,
            Connection::Snapshot(transaction) => transaction,
            Connection::Inline(reader) => reader.connection().ok_or(sqlx::Error::PoolClosed)?,
        })
    }
}
