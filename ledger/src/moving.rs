//! Moving a store from one place to another.

use std::path::Path;

use alloy::primitives::{U256, keccak256};
use futures::TryStreamExt as _;
use lloom_receipts::UnixSeconds;
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection,
    postgres::PgArguments, sqlite::SqliteArguments,
};

use crate::{
    Ledger, LedgerError, OpenError, StoreUrl,
    backup::open_copy,
    column::{Form, Row},
    environment::Environment,
    lock::{Known, StoreLock},
    migration,
    restored::{Evidence, mark_restored},
    server,
    session::{Connection, PostgresLink, Session, SqliteLink},
    sqlite,
    statement::Value,
    url::Place,
};

/// The tables, each after those it refers to. What one kind of store has and the other lacks is about its processes, and
/// stays behind.
const TABLES: [&str; 21] = [
    "store",
    "blocks",
    "events",
    "channels",
    "accounts",
    "requests",
    "open_requests",
    "unbilled_requests",
    "bills",
    "vouchers",
    "receipts",
    "withdrawn_receipts",
    "spending",
    "signatures",
    "observations",
    "transactions",
    "obligations",
    "held_vouchers",
    "appointments",
    "towers",
    "tower_refusals",
];

/// What was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MovedStore {
    /// Each table, and how many rows it has.
    pub rows: Vec<(&'static str, u64)>,
}

/// Why a store was not moved. It is where it was, and still the one to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// One of the two can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is a store already.
    #[error("there is a store at {store} already")]
    Occupied {
        /// Where.
        store: StoreUrl,
    },
    /// What arrived is not what was sent.
    #[error("the table '{table}' is not in {store} what it was; nothing was given up")]
    Differs {
        /// The table.
        table: &'static str,
        /// Where it was moved to.
        store: StoreUrl,
    },
}

impl Ledger {
    /// Moves everything to a store that is not there yet, reads it again and compares it, and only then retires the old
    /// one: a file is renamed to `<path>.moved`, the tables of a database that say what it is to `moved_…`. Both stay
    /// where they are, but no program takes them for a store any more, because one that was used beside its copy would
    /// sign twice.
    ///
    /// One that is a copy which was put back, as its lock file or this home's witness tells, is a restored one from then on:
    /// where it goes, nothing tells any more.
    ///
    /// No process may be using the old store.
    ///
    /// # Errors
    /// [`MoveError`]. Should it end between the last two steps, both are whole, and the new one is the one to retire by
    /// hand.
    pub async fn move_store(from: &StoreUrl, to: &StoreUrl) -> Result<MovedStore, MoveError> {
        let (mut from_lock, known) = StoreLock::acquire(from)?;
        let mut source = End::of(from).await?;
        let (mut to_lock, known_there) = StoreLock::acquire(to)?;
        let mut target = End::made(to).await?;

        source.begin().await.map_err(|error| from.failed(error))?;
        let evidence = source
            .evidence(known, known_there.generation)
            .await
            .map_err(|error| from.failed(error))?;
        if evidence.tells_of_a_copy() {
            source = source
                .mark_restored(evidence.newest(), Environment::default().now())
                .await
                .map_err(|error| server::refused(from, error))?;
        }
        target.begin().await.map_err(|error| to.failed(error))?;
        if let End::Postgres(connection) = &mut target {
            server::make_schema(to, connection).await?;
        }
        let (moved, digests) = transfer((&mut source, from), (&mut target, to)).await?;
        let generation = target.generation().await.map_err(|error| to.failed(error))?;
        if let End::Postgres(connection) = &mut target {
            let writer = server::adopt(connection, generation)
                .await
                .map_err(|error| to.failed(error))?;
            to_lock.name(writer, generation)?;
        }
        target.run("COMMIT").await.map_err(|error| to.failed(error))?;
        for (table, columns, sent) in digests {
            let arrived = digest(&mut target, table, &columns)
                .await
                .map_err(|error| to.failed(error))?;
            if arrived != sent {
                return Err(MoveError::Differs {
                    table,
                    store: to.clone(),
                });
            }
        }
        to_lock.recognize(generation);
        target.close().await.map_err(|error| to.failed(error))?;
        to_lock.release();
        source.retire(from).await?;
        from_lock.recognize(generation);
        from_lock.release();
        Ok(moved)
    }
}

/// What was sent of each table: its columns, and what its rows came to.
type Sent = Vec<(&'static str, Columns, Digest)>;

/// Copies every table from one end to the other, within their transactions.
pub(crate) async fn transfer(
    (source, from): (&mut End, &StoreUrl),
    (target, to): (&mut End, &StoreUrl),
) -> Result<(MovedStore, Sent), OpenError> {
    let mut moved = MovedStore::default();
    let mut sent = Vec::new();
    for table in TABLES {
        let columns = columns(source, target, table)
            .await
            .map_err(|error| from.failed(error))?;
        let digest = copy(source, target, table, &columns)
            .await
            .map_err(|error| to.failed(error))?;
        moved.rows.push((table, digest.rows));
        sent.push((table, columns, digest));
    }
    Ok((moved, sent))
}

impl StoreUrl {
    fn failed(&self, source: sqlx::Error) -> OpenError {
        OpenError::Sql {
            store: self.clone(),
            source,
        }
    }
}

/// A column, and what it holds.
pub(crate) type Columns = Vec<(String, Value)>;

/// The rows of a table, in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    rows: u64,
    sum: U256,
}

impl Digest {
    fn count(&mut self, values: &[Value]) {
        let mut bytes = Vec::new();
        for value in values {
            let part = match value {
                Value::Bytes(bytes) => bytes.clone(),
                Value::Integer(integer) => integer.map(|integer| integer.to_be_bytes().to_vec()),
                Value::Real(real) => real.map(|real| real.to_bits().to_be_bytes().to_vec()),
                Value::Text(text) => text.clone().map(String::into_bytes),
                Value::Bool(bool) => bool.map(|bool| vec![u8::from(bool)]),
            };
            let length = part.as_ref().map_or(u64::MAX, |part| part.len() as u64);
            bytes.extend(length.to_be_bytes());
            bytes.extend(part.unwrap_or_default());
        }
        self.rows += 1;
        self.sum = self.sum.wrapping_add(U256::from_be_bytes(keccak256(bytes).0));
    }
}

/// One end of a move.
pub(crate) enum End {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl End {
    /// A store that is there, of this program's schema.
    pub(crate) async fn of(url: &StoreUrl) -> Result<Self, OpenError> {
        let missing = || OpenError::Missing { store: url.clone() };
        let (end, existing) = match &url.0 {
            Place::Sqlite(path) => {
                let existing = sqlite::inspect(path).await?.ok_or_else(missing)?;
                let connection = sqlite::open_writer(path, existing.version, &Environment::default()).await?;
                (Self::Sqlite(connection), existing)
            }
            Place::Postgres(place) => {
                let mut connection = server::connect_to_place(url, place).await?;
                let existing = server::inspect(url, &mut connection).await?.ok_or_else(missing)?;
                (Self::Postgres(connection), existing)
            }
        };
        if existing.deployment.is_none() {
            return Err(missing());
        }
        if existing.version < migration::SUPPORTED {
            return Err(OpenError::OlderSchema {
                store: url.clone(),
                found: existing.version,
                supported: migration::SUPPORTED,
            });
        }
        Ok(end)
    }

    /// A place where there is no store yet.
    async fn made(url: &StoreUrl) -> Result<Self, MoveError> {
        let occupied = || MoveError::Occupied { store: url.clone() };
        match &url.0 {
            Place::Sqlite(path) => {
                if sqlite::inspect(path).await?.is_some() {
                    return Err(occupied());
                }
                Ok(Self::Sqlite(
                    sqlite::open_writer(path, migration::SUPPORTED, &Environment::default()).await?,
                ))
            }
            Place::Postgres(place) => {
                let mut connection = server::connect_to_place(url, place).await?;
                if server::inspect(url, &mut connection).await?.is_some() {
                    return Err(occupied());
                }
                Ok(Self::Postgres(connection))
            }
        }
    }

    /// The empty file at `path`, which nobody else knows of.
    pub(crate) async fn file(path: &Path) -> Result<Self, OpenError> {
        let made = async {
            let mut connection = open_copy(path).await?;
            migration::run_sqlite(&mut connection, migration::SUPPORTED).await?;
            Ok(Self::Sqlite(connection))
        };
        made.await.map_err(|source| sqlite::failed(path, source))
    }

    /// Begins a transaction that sees the store as it is now, and keeps nobody from writing.
    pub(crate) async fn begin_to_read(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.run("BEGIN").await,
            Self::Postgres(_) => self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await,
        }
    }

    /// Begins a transaction in which nobody else writes.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.run("BEGIN IMMEDIATE").await,
            Self::Postgres(connection) => {
                connection.execute(sqlx::raw_sql("BEGIN")).await?;
                let kept = "SELECT 1 FROM pg_class WHERE oid = to_regclass('store')";
                if connection.fetch_optional(kept).await?.is_some() {
                    connection.execute("LOCK TABLE store IN ACCESS EXCLUSIVE MODE").await?;
                }
                Ok(())
            }
        }
    }

    pub(crate) async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => connection.execute(statement).await.map(drop),
            Self::Postgres(connection) => connection.execute(statement).await.map(drop),
        }
    }

    async fn generation(&mut self) -> Result<i64, sqlx::Error> {
        let query = "SELECT generation FROM store";
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_one(connection).await,
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_one(connection).await,
        }
    }

    /// What is known of how old the store is, by what its own lock `known` of it, and the one where it goes. In a
    /// transaction.
    async fn evidence(&mut self, known: Known, known_there: Option<i64>) -> Result<Evidence, sqlx::Error> {
        let generation = self.generation().await?;
        let (committed, is_unwitnessed) = match self {
            Self::Sqlite(_) => (generation, known.is_unrecognized),
            Self::Postgres(connection) => {
                let writer = known.writer.map(|writer| writer.to_vec());
                let own = sqlx::query_scalar("SELECT generation FROM writers WHERE id = $1").bind(writer);
                let own: Option<i64> = own.fetch_optional(&mut *connection).await?;
                let served = "SELECT EXISTS (SELECT 1 FROM accounts WHERE side = 'serving')";
                let has_served: bool = sqlx::query_scalar(served).fetch_one(connection).await?;
                let has_witness = known.writer.is_some() && !known.is_unrecognized;
                (own.unwrap_or_default(), has_served && !has_witness)
            }
        };
        Ok(Evidence {
            committed,
            witnessed: known.generation.max(known_there.filter(|known| *known > generation)),
            // A backup says so where it goes as well.
            copied_at: None,
            lies_elsewhere: known.lies_elsewhere,
            is_unwitnessed,
        })
    }

    /// Makes it one that was restored and counts on from `newest`, in the transaction that it is in: that is what is moved
    /// then, and nothing happened where the move fails.
    async fn mark_restored(self, newest: i64, now: UnixSeconds) -> Result<Self, LedgerError> {
        let connection = match self {
            Self::Sqlite(connection) => Connection::Sqlite(SqliteLink::Writer(connection)),
            Self::Postgres(connection) => Connection::Postgres(PostgresLink::Mover(connection)),
        };
        let mut session = Session::new(connection, "mark a store as restored");
        mark_restored(&mut session, None, now).await?;
        session.pass_generation(newest).await?;
        match session.into_connection() {
            Connection::Sqlite(SqliteLink::Writer(connection)) => Ok(Self::Sqlite(connection)),
            Connection::Postgres(PostgresLink::Mover(connection)) => Ok(Self::Postgres(connection)),
            _ => unreachable!("it is the connection that the session was made of"),
        }
    }

    /// The columns of a table, and the kinds of their values.
    async fn columns(&mut self, table: &'static str) -> Result<Columns, sqlx::Error> {
        let names: Vec<(String, String)> = match self {
            Self::Sqlite(connection) => {
                sqlx::query_as("SELECT name, type FROM pragma_table_info($1) ORDER BY cid")
                    .bind(table)
                    .fetch_all(connection)
                    .await?
            }
            Self::Postgres(connection) => {
                sqlx::query_as(
                    "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
                     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                )
                .bind(table)
                .fetch_all(connection)
                .await?
            }
        };
        names
            .into_iter()
            .map(|(name, kind)| {
                let value = match kind.to_ascii_lowercase().as_str() {
                    "blob" | "bytea" => Value::Bytes(None),
                    "integer" | "bigint" => Value::Integer(None),
                    "real" | "double precision" => Value::Real(None),
                    "text" => Value::Text(None),
                    "boolean" => Value::Bool(None),
                    other => return Err(sqlx::Error::Decode(format!("no kind '{other}' is known").into())),
                };
                Ok((name, value))
            })
            .collect()
    }

    async fn insert(&mut self, text: &str, values: Vec<Value>) -> Result<(), sqlx::Error> {
        let text = AssertSqlSafe(text.to_owned());
        match self {
            Self::Sqlite(connection) => {
                let mut arguments = SqliteArguments::default();
                arguments.reserve(values.len(), 0);
                values.into_iter().try_for_each(|value| value.add_to(&mut arguments))?;
                sqlx::query_with(text, arguments).execute(connection).await.map(drop)
            }
            Self::Postgres(connection) => {
                let mut arguments = PgArguments::default();
                values.into_iter().try_for_each(|value| value.add_to(&mut arguments))?;
                sqlx::query_with(text, arguments).execute(connection).await.map(drop)
            }
        }
    }

    /// Does something with each row, one at a time: a store need not fit into memory.
    async fn each(
        &mut self,
        query: String,
        mut done: impl AsyncFnMut(Row) -> Result<(), sqlx::Error>,
    ) -> Result<(), sqlx::Error> {
        let query = sqlx::AssertSqlSafe(query);
        match self {
            Self::Sqlite(connection) => {
                let mut rows = sqlx::query(query).fetch(connection);
                while let Some(row) = rows.try_next().await? {
                    done(row.into()).await?;
                }
            }
            Self::Postgres(connection) => {
                let mut rows = sqlx::query(query).fetch(connection);
                while let Some(row) = rows.try_next().await? {
                    done(row.into()).await?;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        }
    }

    /// Sees to it that nobody takes the store for one any more.
    async fn retire(mut self, url: &StoreUrl) -> Result<(), OpenError> {
        match (&mut self, &url.0) {
            (Self::Postgres(connection), _) => {
                let retired = "ALTER TABLE store RENAME TO moved_store;
                               ALTER TABLE store_schema RENAME TO moved_store_schema; COMMIT";
                connection
                    .execute(sqlx::raw_sql(retired))
                    .await
                    .map_err(|error| url.failed(error))?;
                self.close().await.map_err(|error| url.failed(error))
            }
            (Self::Sqlite(_), Place::Sqlite(path)) => {
                self.run("COMMIT").await.map_err(|error| url.failed(error))?;
                self.close().await.map_err(|error| url.failed(error))?;
                let mut retired = path.clone().into_os_string();
                retired.push(".moved");
                std::fs::rename(path, retired).map_err(|source| OpenError::Io {
                    path: path.clone(),
                    source,
                })
            }
            (Self::Sqlite(_), Place::Postgres(_)) => Ok(()),
        }
    }
}

/// The columns that both ends have of a table. Where one keeps yes and no as numbers, they are yes and no.
async fn columns(source: &mut End, target: &mut End, table: &'static str) -> Result<Columns, sqlx::Error> {
    let theirs = target.columns(table).await?;
    let mut columns = source.columns(table).await?;
    columns.retain(|(name, _)| theirs.iter().any(|(known, _)| known == name));
    for (name, value) in &mut columns {
        let yes_or_no = theirs
            .iter()
            .any(|(known, kind)| known == name && matches!(kind, Value::Bool(_)));
        if yes_or_no {
            *value = Value::Bool(None);
        }
    }
    Ok(columns)
}

/// Rows that others of their table refer to come first: they are older.
fn select(table: &str, columns: &Columns) -> String {
    let order = if is_numbered(columns) { " ORDER BY id" } else { "" };
    format!("SELECT {} FROM {table}{order}", names(columns))
}

/// Whether the store numbers the table's rows.
fn is_numbered(columns: &Columns) -> bool {
    columns
        .iter()
        .any(|(name, kind)| name == "id" && matches!(kind, Value::Integer(_)))
}

fn names(columns: &Columns) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}

fn values(row: &Row, columns: &Columns) -> Result<Vec<Value>, sqlx::Error> {
    fn of<F: Form>(row: &Row, column: &str) -> Result<Value, sqlx::Error> {
        row.form::<F>(column).map(F::value)
    }
    let read = |(name, kind): &(String, Value)| match kind {
        Value::Bytes(_) => of::<Vec<u8>>(row, name),
        Value::Integer(_) => of::<i64>(row, name),
        Value::Real(_) => of::<f64>(row, name),
        Value::Text(_) => of::<String>(row, name),
        Value::Bool(_) => of::<bool>(row, name),
    };
    columns.iter().map(read).collect()
}

async fn copy(
    source: &mut End,
    target: &mut End,
    table: &'static str,
    columns: &Columns,
) -> Result<Digest, sqlx::Error> {
    let places: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
    let text = format!(
        "INSERT INTO {table} ({}) VALUES ({})",
        names(columns),
        places.join(", ")
    );
    let mut digest = Digest::default();
    source
        .each(select(table, columns), async |row| {
            let values = values(&row, columns)?;
            digest.count(&values);
            target.insert(&text, values).await
        })
        .await?;
    let counted = is_numbered(columns) && table != "store";
    if let (End::Postgres(connection), true) = (target, counted) {
        let next = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table} HAVING max(id) IS NOT NULL"
        );
        connection.execute(sqlx::raw_sql(AssertSqlSafe(next))).await?;
    }
    Ok(digest)
}

async fn digest(end: &mut End, table: &'static str, columns: &Columns) -> Result<Digest, sqlx::Error> {
    let mut digest = Digest::default();
    end.each(select(table, columns), async |row| {
        digest.count(&values(&row, columns)?);
        Ok(())
    })
    .await?;
    Ok(digest)
}
