use sqlx::{Executor as _, SqliteConnection};

/// "LLOM": marks a file as one of these stores (`PRAGMA application_id`).
pub(crate) const APPLICATION_ID: i64 = 0x4c4c_4f4d;

/// What brings a store of schema `n` to `n + 1`, for each `n`. A landed one never changes.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001_initial.sql")];

/// The schema this program works on (`PRAGMA user_version`).
pub(crate) const SUPPORTED: u32 = MIGRATIONS.len() as u32;

/// Brings the store to [`SUPPORTED`], each step in a transaction of its own. The caller has refused newer ones.
pub(crate) async fn run(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let script = format!(
            "BEGIN IMMEDIATE; {migration}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}; COMMIT;",
            index + 1
        );
        // The text is this program's own, put together from constants.
        let script = sqlx::AssertSqlSafe(script);
        if let Err(error) = connection.execute(sqlx::raw_sql(script)).await {
            let _ = connection.execute(sqlx::raw_sql("ROLLBACK")).await;
            return Err(error);
        }
    }
    Ok(())
}

/// Brings what the write-ahead log holds into the store itself.
pub(crate) async fn empty_log(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let statement = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)");
    connection.execute(statement).await.map(drop)
}
