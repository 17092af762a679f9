//! SQLite on the thread that asks.
//!
//! A store with a [`Disk`](crate::Disk) has these connections in place of sqlx's. Each of those has a thread of its own,
//! to which every statement goes and from which every row comes back: a simulation would spend its time on waking threads.
//! The library below is the same one, and it is given the same texts.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{
    OpenFlags, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use sqlx::Connection as _;

use crate::{
    OpenError,
    column::{Form, Row, sql},
    environment::Environment,
    migration,
    session::SqliteLink,
    sqlite::{self, BUSY_TIMEOUT, Inspected, STATEMENT_CACHE, WRITER_PRAGMAS},
    statement::{Statement, Value},
};

/// The connection of the one process that writes, to a store that is brought to this program's schema. `existing` is what
/// is there.
pub(crate) async fn open_writer(
    path: &Path,
    existing: Option<Inspected>,
    environment: &Environment,
) -> Result<SqliteLink, OpenError> {
    let sql_failed = |source| sqlite::failed(path, source);
    if existing.is_none_or(|existing| existing.version != migration::SUPPORTED) {
        let migrated = sqlite::open_writer(path, migration::SUPPORTED, environment).await?;
        environment.run(migrated.close()).await.map_err(sql_failed)?;
    }
    let mut connection = InlineConnection::open_writer(path).map_err(sql_failed)?;
    // Whoever copies such a store copies its log too: it shall not hold all that earlier lives have written.
    connection
        .script("PRAGMA wal_checkpoint(TRUNCATE)")
        .map_err(sql_failed)?;
    Ok(SqliteLink::InlineWriter(connection))
}

/// Looks at the file without changing it. `None` when there is nothing in it yet.
pub(crate) async fn inspect(path: &Path) -> Result<Option<Inspected>, OpenError> {
    let Some(size) = sqlite::size_of_database(path)? else {
        return Ok(None);
    };
    let connection = InlineConnection::open_reader(path).map_err(|source| sqlite::failed(path, source))?;
    sqlite::inspect_through(&mut SqliteLink::InlineWriter(connection), path, size).await
}

/// A connection.
pub(crate) struct InlineConnection(rusqlite::Connection);

impl InlineConnection {
    fn open_writer(path: &Path) -> Result<Self, sqlx::Error> {
        let mut connection = Self::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let always = [("synchronous", "FULL"), ("foreign_keys", "ON")];
        for (pragma, value) in always.into_iter().chain(WRITER_PRAGMAS) {
            connection.script(&format!("PRAGMA {pragma} = {value}"))?;
        }
        Ok(connection)
    }

    fn open_reader(path: &Path) -> Result<Self, sqlx::Error> {
        Self::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn open(path: &Path, access: OpenFlags) -> Result<Self, sqlx::Error> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        Ok(Self(connection))
    }

    /// Runs a statement whose rows are of no interest and tells how many it changed.
    pub(crate) fn execute(&mut self, statement: &Statement) -> Result<u64, sqlx::Error> {
        self.run(statement, |_| Ok(())).map_err(failed)
    }

    /// Runs statements without parameters, whatever they say.
    pub(crate) fn script(&mut self, text: &str) -> Result<(), sqlx::Error> {
        self.0.execute_batch(text).map_err(failed)
    }

    /// Runs a statement and gives its rows.
    pub(crate) fn rows(&mut self, statement: &Statement) -> Result<Vec<Row>, sqlx::Error> {
        let mut found = Vec::new();
        let mut names: Option<Arc<[String]>> = None;
        let take = |row: &rusqlite::Row<'_>| {
            let names =
                names.get_or_insert_with(|| row.as_ref().column_names().into_iter().map(str::to_owned).collect());
            let mut values = Vec::with_capacity(names.len());
            for column in 0..names.len() {
                values.push(value_of(row.get_ref(column)?));
            }
            found.push(Row::Inline(InlineRow {
                names: Arc::clone(names),
                values,
            }));
            Ok(())
        };
        self.run(statement, take).map_err(failed)?;
        Ok(found)
    }

    pub(crate) fn close(self) -> Result<(), sqlx::Error> {
        self.0.close().map_err(|(_, error)| failed(error))
    }

    fn run(
        &mut self,
        statement: &Statement,
        mut take: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<u64> {
        let mut changed = 0;
        for part in statement.sqlite_parts() {
            let mut prepared = self.0.prepare_cached(part)?;
            for place in 1..=prepared.parameter_count() {
                let number: Option<usize> = prepared
                    .parameter_name(place)
                    .and_then(|name| name.strip_prefix('$')?.parse().ok());
                if let Some(value) = number.and_then(|number| statement.values().get(number - 1)) {
                    prepared.raw_bind_parameter(place, value)?;
                }
            }
            let mut rows = prepared.raw_query();
            while let Some(row) = rows.next()? {
                take(row)?;
            }
            drop(rows);
            drop(prepared);
            changed += self.0.changes();
        }
        Ok(changed)
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Integer(Some(integer)) => ValueRef::Integer(*integer),
            Self::Real(Some(real)) => ValueRef::Real(*real),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Bool(Some(bool)) => ValueRef::Integer(i64::from(*bool)),
            Self::Bytes(None) | Self::Integer(None) | Self::Real(None) | Self::Text(None) | Self::Bool(None) => {
                ValueRef::Null
            }
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

fn value_of(value: ValueRef<'_>) -> Option<Value> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(integer) => Some(Value::Integer(Some(integer))),
        ValueRef::Real(real) => Some(Value::Real(Some(real))),
        // What is no text is found out when it is read as one.
        ValueRef::Text(text) => Some(match String::from_utf8(text.to_vec()) {
            Ok(text) => Value::Text(Some(text)),
            Err(error) => Value::Bytes(Some(error.into_bytes())),
        }),
        ValueRef::Blob(bytes) => Some(Value::Bytes(Some(bytes.to_vec()))),
    }
}

/// What such a connection answers with.
pub(crate) struct InlineRow {
    names: Arc<[String]>,
    /// `None` where there is no value.
    values: Vec<Option<Value>>,
}

impl InlineRow {
    /// The value in `column`, `None` where it has none.
    pub(crate) fn form<F: Form>(&self, column: &str) -> Result<Option<F>, sqlx::Error> {
        let place = self.names.iter().position(|name| name == column);
        let value = place.and_then(|place| self.values.get(place));
        let Some(value) = value.ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()))? else {
            return Ok(None);
        };
        let form = F::of(value.clone());
        let form = form.ok_or_else(|| sqlx::Error::Decode(format!("{column} is of another kind").into()))?;
        Ok(Some(form))
    }
}

/// Opens connections for reading, and keeps those that nobody uses.
pub(crate) struct InlineReaders {
    path: Box<Path>,
    idle: Arc<Idle>,
}

type Idle = Mutex<Vec<InlineConnection>>;

/// A connection for reading that goes back when it is dropped.
pub(crate) struct InlineReader {
    /// `None` only while it is dropped.
    connection: Option<InlineConnection>,
    in_transaction: bool,
    idle: Arc<Idle>,
}

impl InlineReaders {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            idle: Arc::default(),
        }
    }

    /// A connection for one statement.
    pub(crate) fn take(&self) -> Result<InlineReader, sqlx::Error> {
        let known = lock(&self.idle).pop();
        let connection = match known {
            Some(connection) => connection,
            None => InlineConnection::open_reader(&self.path)?,
        };
        Ok(InlineReader {
            connection: Some(connection),
            in_transaction: false,
            idle: Arc::clone(&self.idle),
        })
    }

    /// A connection for several statements, which all see what was committed when it began.
    pub(crate) fn begin(&self) -> Result<InlineReader, sqlx::Error> {
        let mut reader = self.take()?;
        if let Some(connection) = &mut reader.connection {
            connection.execute(&sql("BEGIN"))?;
        }
        reader.in_transaction = true;
        Ok(reader)
    }

    pub(crate) fn close(&self) {
        // They only read: there is nothing to lose.
        lock(&self.idle).clear();
    }
}

impl InlineReader {
    pub(crate) fn connection(&mut self) -> Result<&mut InlineConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }
}

impl Drop for InlineReader {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if self.in_transaction && connection.execute(&sql("ROLLBACK")).is_err() {
            return;
        }
        lock(&self.idle).push(connection);
    }
}

fn lock(idle: &Idle) -> MutexGuard<'_, Vec<InlineConnection>> {
    // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// sqlx's error for what rusqlite says: so that one kind of error is enough.
fn failed(error: rusqlite::Error) -> sqlx::Error {
    sqlx::Error::AnyDriverError(error.into())
}
