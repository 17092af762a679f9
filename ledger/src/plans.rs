//! That SQLite finds what is asked of large tables, and does not read them.
//!
//! It knows nothing of how many rows a table has, and guesses. A guess that was right among ten rows shows among a million,
//! in the seconds that a start takes, or each block.

use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::{billing, claim, environment::Environment, follow, migration, reorg, restored, sqlite, tally};

/// The steps in which SQLite runs `text`.
async fn steps(text: &'static str) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("lloom.db");
    let environment = Environment::default();
    let mut connection = sqlite::open_writer(&path, migration::SUPPORTED, &environment)
        .await
        .unwrap();
    let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
    let rows = explained.fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}

#[tokio::test]
async fn what_large_tables_are_asked_is_found_by_an_index() {
    for (what, text, scanned) in [
        ("open requests", billing::SELECT_INTERRUPTED, &["SCAN o"][..]),
        ("newly confirmed events", follow::SELECT_NEWLY_CONFIRMED, &[]),
        (
            "payments that are not on record",
            restored::SELECT_UNKNOWN_PAYMENTS,
            &[],
        ),
        ("a payee's channels", tally::SELECT_ON_CHAIN, &[]),
        (
            "other payees",
            claim::SELECT_OTHER_PAYEES,
            &["SCAN c USING COVERING INDEX channels_to_claim"],
        ),
        (
            "accounts",
            tally::SELECT_SERVED,
            &[
                "SCAN vouchers USING INDEX vouchers_unusable",
                "SCAN receipts USING INDEX receipts_unusable",
            ],
        ),
    ] {
        let steps = steps(text).await;
        let found: Vec<&str> = steps
            .iter()
            .map(String::as_str)
            .filter(|step| step.starts_with("SCAN"))
            .collect();
        assert_eq!(found, scanned, "{what}: {steps:#?}");
    }
    let bounds = steps(follow::SELECT_NEWLY_CONFIRMED).await;
    assert!(bounds[0].contains("block>? AND block<?"), "{bounds:?}");
    let fork = steps(reorg::SELECT_CHANNELS_SINCE).await;
    assert!(fork[0].contains("block>?"), "{fork:?}");
    let covered = steps(tally::SELECT_ON_CHAIN).await;
    assert!(
        covered[0].contains("USING COVERING INDEX channels_to_claim"),
        "{covered:?}"
    );
}
