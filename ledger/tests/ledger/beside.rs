//! The store as another program sees it.

use std::{path::Path, str::FromStr as _};

use futures::future::{join, join_all};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};

use crate::world::{Backend, Home};

/// All tables but those that count openings.
const TABLES: [&str; 20] = [
    "channels",
    "accounts",
    "requests",
    "open_requests",
    "unbilled_requests",
    "bills",
    "vouchers",
    "receipts",
    "spending",
    "signatures",
    "blocks",
    "events",
    "withdrawn_receipts",
    "observations",
    "transactions",
    "obligations",
    "held_vouchers",
    "appointments",
    "towers",
    "tower_refusals",
];

/// A connection of another program's.
pub enum Beside {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

pub async fn beside(home: &Home) -> Beside {
    match home.url().path() {
        Some(path) => beside_file(path).await,
        None => Beside::Postgres(postgres(home.text()).await),
    }
}

/// In SQL, as many bytes as a signature has, and none: no signature ends like this.
pub const fn no_signature(on: Backend) -> &'static str {
    match on {
        Backend::Sqlite => "zeroblob(65)",
        Backend::Postgres => "decode(repeat('00', 65), 'hex')",
    }
}

/// A connection to a file of SQLite, which may not be there yet.
pub async fn beside_file(path: &Path) -> Beside {
    let connecting = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    Beside::Sqlite(connecting.connect().await.unwrap())
}

async fn postgres(url: &str) -> PgConnection {
    PgConnectOptions::from_str(url).unwrap().connect().await.unwrap()
}

/// A connection to a database of PostgreSQL.
pub async fn at(url: &str) -> Beside {
    Beside::Postgres(postgres(url).await)
}

/// Runs statements in a database of PostgreSQL.
pub async fn run_at(url: &str, statements: &str) {
    at(url).await.run(statements).await;
}

impl Beside {
    pub async fn run(&mut self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        match self {
            Self::Sqlite(connection) => connection.execute(statements).await.map(drop),
            Self::Postgres(connection) => connection.execute(statements).await.map(drop),
        }
        .unwrap();
    }

    pub async fn numbers(&mut self, query: &str) -> Vec<i64> {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
        }
        .unwrap()
    }

    pub async fn texts(&mut self, query: &str) -> Vec<String> {
        let query = AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
        }
        .unwrap()
    }

    /// How many transactions were committed.
    pub async fn generation(&mut self) -> i64 {
        self.numbers("SELECT generation FROM store").await[0]
    }

    /// Keeps others from writing.
    pub async fn lock(&mut self) {
        self.run(match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN; SELECT 1 FROM store FOR UPDATE",
        })
        .await;
    }

    pub async fn unlock(&mut self) {
        self.run("ROLLBACK").await;
    }
}

/// Makes all calls while the store is locked, so that they queue up, and gives the answers and how many commits there
/// were.
pub async fn together<F: Future>(home: &Home, calls: impl IntoIterator<Item = F>) -> (Vec<F::Output>, i64) {
    let mut beside = beside(home).await;
    let before = beside.generation().await;
    beside.lock().await;
    let answers = join_all(calls);
    // The answers are asked for first: all is queued before the store is unlocked.
    let (answers, ()) = join(answers, beside.unlock()).await;
    let commits = beside.generation().await - before;
    (answers, commits)
}

/// What a column tells: a number that the store gave a row is only a name, and stands for the row.
fn telling(table: &str, column: &str) -> Option<String> {
    match (table, column) {
        ("accounts" | "bills" | "vouchers", "id") => None,
        ("bills" | "vouchers" | "receipts", "account") => {
            Some(format!("(SELECT channel FROM accounts WHERE id = {table}.account)"))
        }
        ("receipts", "bill") => Some("(SELECT request FROM bills WHERE id = receipts.bill)".to_owned()),
        _ => Some(column.to_owned()),
    }
}

/// Every row of every table but those that count openings. An older schema lacks some of them.
pub async fn contents(home: &Home) -> Vec<String> {
    let mut beside = beside(home).await;
    let mut contents = Vec::new();
    for table in TABLES {
        let present = match &beside {
            Beside::Sqlite(_) => format!("SELECT count(*) FROM sqlite_schema WHERE name = '{table}'"),
            Beside::Postgres(_) => format!("SELECT count(to_regclass('{table}'))"),
        };
        if beside.numbers(&present).await == [0] {
            continue;
        }
        let (columns, quote) = match &beside {
            Beside::Sqlite(_) => (format!("SELECT name FROM pragma_table_info('{table}')"), "quote"),
            Beside::Postgres(_) => (
                format!(
                    "SELECT attname::text FROM pg_attribute
                     WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
                ),
                "quote_nullable",
            ),
        };
        let mut row = Vec::new();
        for column in beside.texts(&columns).await {
            row.extend(telling(table, &column).map(|value| format!("'{column} ' || {quote}({value})")));
        }
        row.sort();
        let query = format!(
            "SELECT '{table} ' || {} FROM {table} ORDER BY 1",
            row.join(" || ' ' || ")
        );
        contents.extend(beside.texts(&query).await);
    }
    contents
}
