use sqlx::{Sqlite, SqliteConnection, Transaction, pool::PoolConnection};

use crate::{LedgerError, column::Row, statement::Statement};

/// Statements run for one operation after the other, and what they are run for.
pub(crate) struct Session {
    connection: Connection,
    operation: &'static str,
    wrote: bool,
}

enum Connection {
    /// The writer's own.
    Writer(SqliteConnection),
    /// One of the readers', for one statement.
    Reader(PoolConnection<Sqlite>),
    /// One of the readers', in a transaction: everything read is of one moment.
    Snapshot(Transaction<'static, Sqlite>),
}

impl Session {
    pub(crate) fn writer(connection: SqliteConnection) -> Self {
        Self {
            connection: Connection::Writer(connection),
            operation: "open",
            wrote: false,
        }
    }

    pub(crate) fn reader(connection: PoolConnection<Sqlite>, operation: &'static str) -> Self {
        Self {
            connection: Connection::Reader(connection),
            operation,
            wrote: false,
        }
    }

    pub(crate) fn snapshot(transaction: Transaction<'static, Sqlite>, operation: &'static str) -> Self {
        Self {
            connection: Connection::Snapshot(transaction),
            operation,
            wrote: false,
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
        let result = async {
            let done = statement.for_sqlite()?.execute(self.connection()).await?;
            Ok(done.rows_affected())
        };
        result.await.map_err(|source| self.failed(source))
    }

    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<Row>, LedgerError> {
        let result = async {
            let row = statement.for_sqlite()?.fetch_optional(self.connection()).await?;
            Ok(row.map(Row::from))
        };
        result.await.map_err(|source| self.failed(source))
    }

    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, LedgerError> {
        let result = async {
            let rows = statement.for_sqlite()?.fetch_all(self.connection()).await?;
            Ok(rows.into_iter().map(Row::from).collect())
        };
        result.await.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: sqlx::Error) -> LedgerError {
        let operation = self.operation;
        LedgerError::Sql { operation, source }
    }

    /// Ends the writer's connection, if this is the writer's.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self.connection {
            Connection::Writer(connection) => sqlx::Connection::close(connection).await,
            Connection::Reader(connection) => connection.close().await,
            Connection::Snapshot(transaction) => transaction.rollback().await,
        }
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        match &mut self.connection {
            Connection::Writer(connection) => connection,
            Connection::Reader(connection) => connection,
            Connection::Snapshot(transaction) => transaction,
        }
    }
}
