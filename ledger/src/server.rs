//! Opening a store in a database of PostgreSQL.

use lloom_receipts::UnixSeconds;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    LedgerError, OpenError, StoreDeployment, StoreUrl,
    column::{Column, Read as _, Row},
    lock::{Known, StoreLock, WriterId},
    migration::{self, APPLICATION_ID},
    postgres::{self, Committed, ConnectError, PostgresWriter, answered, connect, settle},
    restored::{Evidence, find_copied_at, mark_restored},
    session::Session,
    sqlite::Inspected,
    url::PostgresPlace,
};

/// Connections for reading beside the writer, at most; they are made as they are needed.
const READERS: u32 = 8;

/// The connection a home writes through, to a database of the schema [`migration::SUPPORTED`] and the right deployment.
pub(crate) async fn open_writer(
    url: &StoreUrl,
    place: &PostgresPlace,
    deployment: &StoreDeployment,
    lock: &mut StoreLock,
    known: Known,
) -> Result<PostgresWriter, OpenError> {
    let failed = |source| OpenError::Sql {
        store: url.clone(),
        source,
    };
    let options = postgres::options(&place.options);
    let mut connection = connect_to(url, &options).await?;
    prepare(url, &mut connection, deployment).await?;
    let id = match known.writer {
        Some(id) => id,
        None => {
            let id = new_id(&mut connection).await.map_err(failed)?;
            lock.name(id, 0)?;
            id
        }
    };
    let own = sqlx::query_scalar("SELECT generation FROM writers WHERE id = $1").bind(id.to_vec());
    let committed: Option<i64> = answered(own.fetch_optional(&mut connection)).await.map_err(failed)?;
    Ok(PostgresWriter::new(
        options,
        id,
        connection,
        committed.unwrap_or_default(),
    ))
}

async fn connect_to(url: &StoreUrl, options: &PgConnectOptions) -> Result<PgConnection, OpenError> {
    connect(options).await.map_err(|error| match error {
        ConnectError::Unfit(unfit) => OpenError::Unfit {
            store: url.clone(),
            reason: unfit.reason(),
        },
        ConnectError::Sql(source) => OpenError::Sql {
            store: url.clone(),
            source,
        },
    })
}

/// A connection to look at a database, or to move it.
pub(crate) async fn connect_to_place(url: &StoreUrl, place: &PostgresPlace) -> Result<PgConnection, OpenError> {
    connect_to(url, &postgres::options(&place.options)).await
}

/// Makes the newest schema where there is none, in the caller's transaction.
pub(crate) async fn make_schema(url: &StoreUrl, connection: &mut PgConnection) -> Result<(), OpenError> {
    let failed = |source| OpenError::Sql {
        store: url.clone(),
        source,
    };
    migration::take_turn(connection).await.map_err(failed)?;
    migration::run_postgres(connection, 0, migration::SUPPORTED)
        .await
        .map_err(failed)
}

/// Makes a home known to a store that was moved here at `generation`.
pub(crate) async fn adopt(connection: &mut PgConnection, generation: i64) -> Result<WriterId, sqlx::Error> {
    let id = new_id(connection).await?;
    sqlx::query("INSERT INTO writers (id, generation) VALUES ($1, $2)")
        .bind(id.to_vec())
        .bind(generation)
        .execute(connection)
        .await?;
    Ok(id)
}

/// Brings a database to the schema `to`.
pub(crate) async fn migrate(url: &StoreUrl, place: &PostgresPlace, to: u32) -> Result<(), OpenError> {
    let failed = |source| OpenError::Sql {
        store: url.clone(),
        source,
    };
    let mut connection = connect_to_place(url, place).await?;
    let mut transaction = connection.begin().await.map_err(failed)?;
    migration::take_turn(&mut transaction).await.map_err(failed)?;
    let existing = inspect(url, &mut transaction).await?;
    let existing = existing.ok_or_else(|| OpenError::Missing { store: url.clone() })?;
    migration::run_postgres(&mut transaction, existing.version, to)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    connection.close().await.map_err(failed)
}

async fn new_id(connection: &mut PgConnection) -> Result<WriterId, sqlx::Error> {
    let random = sqlx::query_scalar("SELECT uuid_send(gen_random_uuid())");
    let random: Vec<u8> = answered(random.fetch_one(connection)).await?;
    WriterId::from_bytes(&random).ok_or_else(|| sqlx::Error::Decode("a UUID has 16 bytes".into()))
}

/// Brings the schema up to date, one process at a time, and writes down what the store is for when it is new.
async fn prepare(url: &StoreUrl, connection: &mut PgConnection, deployment: &StoreDeployment) -> Result<(), OpenError> {
    let failed = |source| OpenError::Sql {
        store: url.clone(),
        source,
    };
    let mut transaction = connection.begin().await.map_err(failed)?;
    migration::take_turn(&mut transaction).await.map_err(failed)?;
    let existing = inspect(url, &mut transaction).await?;
    if let Some(found) = existing.as_ref().and_then(|store| store.deployment) {
        deployment.check(url, found)?;
    }
    let version = existing.map_or(0, |store| store.version);
    migration::run_postgres(&mut transaction, version, migration::SUPPORTED)
        .await
        .map_err(failed)?;
    sqlx::query(
        "INSERT INTO store (id, chain_id, escrow, settlement, generation) VALUES (1, $1, $2, $3, 0)
         ON CONFLICT DO NOTHING",
    )
    .bind(deployment.chain_id.store())
    .bind(deployment.escrow.store())
    .bind(deployment.settlement.store())
    .execute(&mut *transaction)
    .await
    .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Looks at a database without changing it. `None` when there is nothing in it yet.
pub(crate) async fn inspect(url: &StoreUrl, connection: &mut PgConnection) -> Result<Option<Inspected>, OpenError> {
    let failed = |source| OpenError::Sql {
        store: url.clone(),
        source,
    };
    let damaged = |detail: &str| OpenError::Damaged {
        store: url.clone(),
        detail: detail.to_owned(),
    };
    let looked = sqlx::query(
        "SELECT to_regclass('store_schema') IS NOT NULL AS marked,
                EXISTS (SELECT 1 FROM pg_class
                        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')) AS used",
    );
    let row = looked.fetch_one(&mut *connection).await.map_err(failed)?;
    if !row.try_get::<bool, _>("marked").map_err(failed)? {
        return match row.try_get("used").map_err(failed)? {
            true => Err(damaged("it is another program's database")),
            false => Ok(None),
        };
    }
    let row = sqlx::query("SELECT application, version FROM store_schema")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?
        .ok_or_else(|| damaged("it has no version"))?;
    if row.try_get::<i64, _>("application").map_err(failed)? != APPLICATION_ID {
        return Err(damaged("it is another program's database"));
    }
    let version: i64 = row.try_get("version").map_err(failed)?;
    let version = u32::try_from(version).map_err(|_| damaged("its version is negative"))?;
    if version > migration::SUPPORTED {
        return Err(OpenError::NewerSchema {
            store: url.clone(),
            found: version,
            supported: migration::SUPPORTED,
        });
    }
    let row = sqlx::query("SELECT chain_id, escrow, settlement FROM store")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let unreadable = |error: LedgerError| damaged(&error.to_string());
    let deployment = match row.map(Row::from) {
        None => None,
        Some(row) => Some(StoreDeployment {
            chain_id: row.read("chain_id").map_err(unreadable)?,
            escrow: row.read("escrow").map_err(unreadable)?,
            settlement: row.read("settlement").map_err(unreadable)?,
        }),
    };
    Ok(Some(Inspected { version, deployment }))
}

/// [`inspect`] on a reader's connection.
pub(crate) async fn inspect_through(url: &StoreUrl, readers: &PgPool) -> Result<Option<Inspected>, OpenError> {
    let mut connection = readers.acquire().await.map_err(|source| OpenError::Sql {
        store: url.clone(),
        source,
    })?;
    inspect(url, &mut connection).await
}

/// Notices when the store does not know this home's newest commit, and counts the opening. Gives the generation.
pub(crate) async fn introduce(
    session: &mut Session,
    witnessed: Option<i64>,
    now: UnixSeconds,
) -> Result<i64, LedgerError> {
    session.start("open");
    session.begin().await?;
    let evidence = Evidence {
        committed: session.committed(),
        witnessed,
        copied_at: find_copied_at(session).await?,
        // A home that moves takes no database with it.
        lies_elsewhere: false,
        // Another home may have joined: `Ledger::recognize` finds out.
        is_unwitnessed: false,
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

/// Connections that read. None is made yet.
pub(crate) fn open_readers(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(postgres::CONNECT_WITHIN)
        .after_connect(|connection, _| {
            Box::pin(async move {
                settle(connection).await?;
                let read_only = AssertSqlSafe("SET default_transaction_read_only = on");
                connection.execute(sqlx::raw_sql(read_only)).await.map(drop)
            })
        })
        .connect_lazy_with(options.clone())
}

/// Why a store was not opened, as [`OpenError`].
pub(crate) fn refused(url: &StoreUrl, error: LedgerError) -> OpenError {
    match error {
        LedgerError::Sql { source, .. } => OpenError::Sql {
            store: url.clone(),
            source,
        },
        other => OpenError::Damaged {
            store: url.clone(),
            detail: other.to_string(),
        },
    }
}
