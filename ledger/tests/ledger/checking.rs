//! What is wrong with a store is found, and nothing else is.

use lloom_ledger::{Checked, Finding, Ledger};

use crate::{
    beside::beside,
    fixtures::live,
    world::{Backend, Home, NOW},
};

/// What `check` finds, as it says it.
pub async fn findings(ledger: &Ledger, home: &Home) -> (Checked, Vec<String>) {
    let mut found: Vec<Finding> = Vec::new();
    let archive = home.directory.path().join("archive");
    let checked = ledger
        .check(&archive, &mut |finding| found.push(finding))
        .await
        .unwrap();
    assert_eq!(checked.findings, found.len() as u64);
    (checked, found.iter().map(ToString::to_string).collect())
}

async fn lived(on: Backend) -> Home {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    live(&ledger).await;
    ledger.close().await;
    home.resign();
    home
}

/// The transactions of that story are made up.
const MADE_UP: [&str; 2] = [
    "transaction 1: its hash is not that of its bytes",
    "transaction 2: its hash is not that of its bytes",
];

async fn look(home: &Home) -> (Checked, Vec<String>) {
    let ledger = Ledger::open_read_only(home.url()).await.unwrap();
    let (checked, mut found) = findings(&ledger, home).await;
    ledger.close().await;
    found.retain(|finding| !MADE_UP.contains(&finding.as_str()));
    (checked, found)
}

async fn nothing_is_found_in_a_sound_store(on: Backend) {
    let home = lived(on).await;
    let ledger = Ledger::open_read_only(home.url()).await.unwrap();
    let (checked, found) = findings(&ledger, &home).await;
    ledger.close().await;
    assert_eq!(found, MADE_UP);
    assert_eq!(
        (checked.channels, checked.receipts, checked.bills, checked.requests),
        (3, 4, 4, 7),
        "{checked:?}"
    );
    assert!(
        checked.vouchers > 6 && checked.appointments == 1 && checked.transactions == 2,
        "{checked:?}"
    );
    assert!(checked.signatures > 20, "{checked:?}");

    // A copy of it, and one that was restored, are sound as well.
    let copy = Home::at("lloom.db".into());
    Ledger::back_up(&home.url(), &copy.path(), NOW).await.unwrap();
    assert_eq!(look(&copy).await.1, [""; 0]);
    copy.open().await.close().await;
    assert_eq!(look(&copy).await.1, [""; 0]);
}

async fn whatever_is_wrong_is_found(on: Backend) {
    // Each does one thing to a sound store, and is told in these words.
    let wrongs: [(&str, &[&str]); 20] = [
        ("DELETE FROM open_requests", &["is open, and not listed"]),
        ("DELETE FROM unbilled_requests", &["is unbilled, and not listed"]),
        (
            "UPDATE receipts SET payer_signature = bill_signature WHERE sequence = (SELECT min(sequence) FROM receipts)",
            &["payer signature is wrong"],
        ),
        (
            "UPDATE receipts SET bill_signature = payer_signature WHERE sequence = (SELECT min(sequence) FROM receipts)",
            &["receipt 1", "is no operator of the payee"],
        ),
        (
            "UPDATE receipts SET cumulative_amount = (SELECT max(cumulative_amount) FROM receipts)
             WHERE sequence = (SELECT min(sequence) FROM receipts)",
            &["receipt 1 does not go on from receipt 0", "another hash"],
        ),
        (
            "DELETE FROM receipts WHERE sequence = (SELECT max(sequence) FROM receipts)",
            &["ends with receipt 3, its receipts with 2"],
        ),
        (
            "UPDATE receipts SET hash = previous WHERE sequence = (SELECT max(sequence) FROM receipts)",
            &["receipt 3 is stored under another hash"],
        ),
        (
            "UPDATE bills SET response_hash = request WHERE id = (SELECT max(id) FROM bills)",
            &["the bill of the request", "another hash"],
        ),
        (
            "UPDATE bills SET output = output + 2000 WHERE id = (SELECT min(id) FROM bills)",
            &["above the request's limits"],
        ),
        (
            "UPDATE accounts SET billed = spent WHERE side = 'serving'",
            &["are billed, its rows"],
        ),
        (
            "UPDATE accounts SET spent = authorized WHERE side = 'buying'",
            &["are spent, its rows"],
        ),
        (
            "UPDATE accounts SET authorized = billed WHERE side = 'serving' AND billed < authorized",
            &["are authorized, its rows"],
        ),
        (
            "UPDATE accounts SET head_hash = channel WHERE side = 'buying'",
            &["its head is receipt 1, and not as the account says"],
        ),
        (
            "UPDATE vouchers SET signature = (SELECT signature FROM vouchers WHERE id = (SELECT max(id) FROM vouchers))",
            &["the voucher over", "signed by"],
        ),
        (
            "UPDATE requests SET max_output = max_output + 1",
            &["the request", "stored under another hash", "signed by"],
        ),
        ("DELETE FROM obligations", &["no obligation says until when to claim"]),
        (
            "UPDATE channels SET latest_settled = latest_deposit WHERE latest_deposit IS NOT NULL",
            &["its state at the newest block is not what the events say"],
        ),
        (
            "UPDATE channels SET token = payer WHERE planned_deposit IS NOT NULL",
            &[
                "its id is not the hash of its parameters",
                "opened with other parameters",
            ],
        ),
        (
            "UPDATE held_vouchers SET ceiling = (SELECT max(latest_deposit) FROM channels)",
            &["that is held for another"],
        ),
        (
            "UPDATE appointments SET minimum_value = claim",
            &["the promise of the tower"],
        ),
    ];
    let sound = lived(on).await;
    for (wrong, words) in wrongs {
        let home = match on {
            Backend::Sqlite => {
                let copy = Home::at("lloom.db".into());
                std::fs::copy(sound.path(), copy.path()).unwrap();
                copy
            }
            Backend::Postgres => lived(on).await,
        };
        beside(&home).await.run(wrong).await;
        let (_, found) = look(&home).await;
        for word in words {
            assert!(
                found.iter().any(|finding| finding.contains(word)),
                "{wrong}: {word}: {found:#?}"
            );
        }
    }
}

#[tokio::test]
async fn values_that_can_not_be_read_are_told_and_the_rest_is_looked_at() {
    let home = lived(Backend::Sqlite).await;
    let damage = "PRAGMA ignore_check_constraints = ON;
                  UPDATE receipts SET payer_signature = zeroblob(65) WHERE sequence = (SELECT max(sequence) FROM receipts);
                  UPDATE accounts SET billed = spent WHERE side = 'buying'";
    beside(&home).await.run(damage).await;
    let (_, found) = look(&home).await;
    assert!(
        found
            .iter()
            .any(|finding| finding.contains("'payer_signature' can't be read")),
        "{found:?}"
    );
    assert!(found.iter().any(|finding| finding.contains("are billed")), "{found:?}");
}

#[tokio::test]
async fn rows_that_refer_to_missing_ones_are_found() {
    let home = lived(Backend::Sqlite).await;
    beside(&home)
        .await
        .run("PRAGMA foreign_keys = OFF; DELETE FROM bills WHERE id = (SELECT min(id) FROM bills)")
        .await;
    let (_, found) = look(&home).await;
    assert!(
        found
            .iter()
            .any(|finding| finding.contains("'receipts' refers to one that is missing")),
        "{found:?}"
    );
}

on_both_stores!(nothing_is_found_in_a_sound_store, whatever_is_wrong_is_found);
