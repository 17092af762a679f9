//! Schemas, one after the other, up and down.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::{Ledger, OpenError, StoreUrl, environment::Environment, lock::StoreLock, server, sqlite, url::Place};

/// "LLOM": marks a store as one of these (`PRAGMA application_id`, `store_schema.application`).
pub(crate) const APPLICATION_ID: i64 = 0x4c4c_4f4d;

/// What brings a store of schema `n` to `n + 1`, and back, for each `n`. A landed one never changes.
struct Migration {
    up: Script,
    down: Script,
}

struct Script {
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migration {
    ($name:literal) => {
        Migration {
            up: migration!($name, "up"),
            down: migration!($name, "down"),
        }
    };
    ($name:literal, $way:literal) => {
        Script {
            sqlite: include_str!(concat!("../migrations/sqlite/", $name, ".", $way, ".sql")),
            postgres: include_str!(concat!("../migrations/postgres/", $name, ".", $way, ".sql")),
        }
    };
}

const MIGRATIONS: &[Migration] = &[
    migration!("0001_initial"),
    migration!("0002_tower"),
    migration!("0003_append"),
    migration!("0004_open"),
    migration!("0005_care"),
    migration!("0006_budget"),
    migration!("0007_refusals"),
];

/// The schema this program works on (`PRAGMA user_version`, `store_schema.version`).
pub(crate) const SUPPORTED: u32 = MIGRATIONS.len() as u32;

/// The schema of the stores that this version of the program makes.
pub const SCHEMA_VERSION: u32 = SUPPORTED;

impl Ledger {
    /// Brings a store to the schema `to` without opening it: down, before an older version of the program is put in this
    /// one's place, or up again. Schema 0 is none: everything goes. Opening a store brings it up by itself.
    ///
    /// Of a database that several homes share, all of them have to be stopped first: a process of another version writes
    /// nothing more ([`LedgerError::OtherSchema`](crate::LedgerError::OtherSchema)).
    ///
    /// # Errors
    /// [`OpenError`]; then the store is as it was, or at one of the steps between.
    pub async fn migrate(store: impl Into<StoreUrl>, to: u32) -> Result<(), OpenError> {
        let url: StoreUrl = store.into();
        if to > SUPPORTED {
            return Err(OpenError::NewerSchema {
                store: url,
                found: to,
                supported: SUPPORTED,
            });
        }
        let (lock, _) = StoreLock::acquire(&url)?;
        let missing = || OpenError::Missing { store: url.clone() };
        match &url.0 {
            Place::Sqlite(path) => {
                sqlite::inspect(path).await?.ok_or_else(missing)?;
                let connection = sqlite::open_writer(path, to, &Environment::default()).await?;
                connection
                    .close()
                    .await
                    .map_err(|source| sqlite::failed(path, source))?;
            }
            Place::Postgres(place) => server::migrate(&url, place, to).await?,
        }
        lock.release();
        Ok(())
    }
}

/// The steps from one version to another: each script, and the version after it.
fn steps(from: u32, to: u32) -> Vec<(&'static Script, u32)> {
    let numbered = (1..).zip(MIGRATIONS);
    if from <= to {
        numbered
            .filter(|(number, _)| (from + 1..=to).contains(number))
            .map(|(number, migration)| (&migration.up, number))
            .collect()
    } else {
        let down = numbered.filter(|(number, _)| (to + 1..=from).contains(number));
        let mut down: Vec<_> = down.map(|(number, migration)| (&migration.down, number - 1)).collect();
        down.reverse();
        down
    }
}

/// Brings a store to the schema `to`, each step in a transaction of its own. The caller has refused newer ones than
/// [`SUPPORTED`].
pub(crate) async fn run_sqlite(connection: &mut SqliteConnection, to: u32) -> Result<(), sqlx::Error> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await?;
    let steps = steps(u32::try_from(version).unwrap_or(u32::MAX), to);
    if steps.is_empty() {
        return Ok(());
    }
    // A table that others refer to can be put in another's place only while nobody looks; what they refer to is checked
    // before the step is committed. The switch does nothing inside a transaction.
    connection.execute("PRAGMA foreign_keys = OFF").await?;
    let mut done = Ok(());
    for (script, version) in steps {
        done = step_sqlite(connection, script, version).await;
        if done.is_err() {
            let _ = connection.execute(sqlx::raw_sql("ROLLBACK")).await;
            break;
        }
    }
    connection.execute("PRAGMA foreign_keys = ON").await?;
    done
}

async fn step_sqlite(connection: &mut SqliteConnection, script: &Script, version: u32) -> Result<(), sqlx::Error> {
    let text = format!(
        "BEGIN IMMEDIATE; {}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};",
        script.sqlite
    );
    // The text is this program's own, put together from constants.
    connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
    let dangling = "SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1";
    if let Some(table) = sqlx::query_scalar::<_, String>(dangling)
        .fetch_optional(&mut *connection)
        .await?
    {
        let what = format!("in schema {version}, rows of the table '{table}' would refer to rows that are missing");
        return Err(sqlx::Error::Protocol(what));
    }
    connection.execute("COMMIT").await.map(drop)
}

/// Waits until no other process changes the schema. In a transaction, until it ends.
pub(crate) async fn take_turn(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(APPLICATION_ID)
        .execute(connection)
        .await
        .map(drop)
}

/// Brings a store from the schema `from` to `to`, in the caller's transaction.
pub(crate) async fn run_postgres(connection: &mut PgConnection, from: u32, to: u32) -> Result<(), sqlx::Error> {
    let steps = steps(from, to);
    if from > 0 && !steps.is_empty() {
        // Whoever writes meanwhile comes before the change, or learns of it when its turn comes.
        connection.execute("SELECT FROM store FOR UPDATE").await?;
    }
    for (script, version) in steps {
        connection.execute(sqlx::raw_sql(script.postgres)).await?;
        if version > 0 {
            let stamp = sqlx::query(
                "INSERT INTO store_schema (id, application, version) VALUES (1, $1, $2)
                 ON CONFLICT (id) DO UPDATE SET version = excluded.version",
            );
            stamp
                .bind(APPLICATION_ID)
                .bind(i64::from(version))
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// Brings what the write-ahead log holds into the store itself.
pub(crate) async fn empty_log(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let statement = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)");
    connection.execute(statement).await.map(drop)
}
