//! A backup that is put back must not lead to a second bill for one request.

use std::{path::Path, time::Duration};

use alloy::primitives::B256;
use lloom_ledger::{AcceptRequest, ChainEventKind, Ledger, OpenError, Outcome, ServeError, StoreDeployment};
use lloom_receipts::{BlockNumber, MAX_DEADLINE_AHEAD, UnixSeconds, commitment_salt};

use crate::{
    beside::run_at,
    world::{Backend, Home, NOW, Pair, amount, deployment, key, mine, progress, server, serving},
};

const RESTORE: UnixSeconds = UnixSeconds::new(NOW.get() + 30);

/// Copies the store without its lock file, as a backup does.
fn copy_store(from: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let name = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            name
        };
        match std::fs::copy(name(from), name(to)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let _ = std::fs::remove_file(name(to));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A copy of the store, made while it runs where that is possible.
async fn back_up(home: &Home, ledger: Ledger) -> Ledger {
    let Some(database) = home.database() else {
        copy_store(&home.path(), &home.directory.path().join("backup.db"));
        return ledger;
    };
    close(home, ledger).await;
    let copy = format!("CREATE DATABASE {database}_backup TEMPLATE {database}");
    run_at(&server().url("postgres"), &copy).await;
    home.open().await
}

/// Puts the copy in the store's place. The store is closed.
async fn restore(home: &Home) {
    match home.database() {
        None => copy_store(&home.directory.path().join("backup.db"), &home.path()),
        Some(database) => {
            drop_store(home).await;
            let renamed = format!("ALTER DATABASE {database}_backup RENAME TO {database}");
            run_at(&server().url("postgres"), &renamed).await;
        }
    }
}

async fn drop_store(home: &Home) {
    match home.database() {
        None => std::fs::remove_file(home.path()).unwrap(),
        Some(database) => {
            let dropped = format!("DROP DATABASE {database} WITH (FORCE)");
            run_at(&server().url("postgres"), &dropped).await;
        }
    }
}

async fn close(home: &Home, ledger: Ledger) {
    ledger.close().await;
    home.resign();
    if let Some(database) = home.database() {
        // Connections that were closed may still be on their way out, and a copy needs them gone.
        let ended =
            format!("SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '{database}'");
        run_at(&server().url("postgres"), &ended).await;
    }
}

async fn serving_alone(on: Backend, pair: &Pair) -> (Home, Ledger) {
    let home = Home::in_database(on).await;
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    (home, ledger)
}

async fn assert_sound(ledger: &Ledger) {
    let directory = tempfile::tempdir().unwrap();
    let mut findings = Vec::new();
    ledger
        .check(directory.path(), &mut |finding| findings.push(finding))
        .await
        .unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

fn late(pair: &Pair, nonce: u64, deadline: UnixSeconds) -> AcceptRequest {
    AcceptRequest {
        request: pair.request_until(nonce, deadline),
        ..pair.accept(nonce, Some(600), 10)
    }
}

async fn a_restored_backup_bills_nothing_that_may_be_billed_already(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving_alone(on, &pair).await;
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    ledger.acknowledge(progress(&pair, 1, 20), None).await.unwrap();
    // A copy, then one bill more.
    let ledger = back_up(&home, ledger).await;
    ledger.commit_bill(pair.bill(1, 100)).await.unwrap();
    close(&home, ledger).await;

    restore(&home).await;
    let ledger = home.open_at(RESTORE).await;
    assert!(ledger.interrupted_requests().await.unwrap().is_empty());
    let refused = ledger.commit_bill(pair.bill(1, 20)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Waived { .. }), "{refused}");
    // What was set aside for it is free, or it would be owed for ever, and the channel never closed.
    assert_eq!(ledger.account(pair.channel()).await.unwrap().spent, amount(0));
    assert_sound(&ledger).await;

    let safe = RESTORE.plus(MAX_DEADLINE_AHEAD);
    let refused = ledger.accept_request(late(&pair, 2, safe)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::RestoredTooRecently { until } if until == safe),
        "{refused}"
    );
    let accepted = late(&pair, 3, safe.plus(Duration::from_secs(1)));
    assert_eq!(ledger.accept_request(accepted).await.unwrap(), Outcome::Recorded);

    // It is no older copy any more, and still remembers.
    ledger.close().await;
    let ledger = home.open_at(RESTORE.plus(Duration::from_secs(500))).await;
    let refused = ledger.accept_request(late(&pair, 4, safe)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::RestoredTooRecently { until } if until == safe),
        "{refused}"
    );
    ledger.commit_bill(pair.bill(3, 1)).await.unwrap_err();
}

/// A store with a request that was open when a copy of it was made, and was billed after that. It is closed.
async fn billed_since_the_copy(on: Backend, pair: &Pair) -> Home {
    let (home, ledger) = serving_alone(on, pair).await;
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    ledger.acknowledge(progress(pair, 1, 20), None).await.unwrap();
    let ledger = back_up(&home, ledger).await;
    ledger.commit_bill(pair.bill(1, 100)).await.unwrap();
    close(&home, ledger).await;
    home
}

async fn assert_bills_nothing_again(ledger: &Ledger, pair: &Pair) {
    let refused = ledger.commit_bill(pair.bill(1, 20)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Waived { .. }), "{refused}");
    let restored_at = ledger.restored_at().await.unwrap().unwrap();
    let repeated = AcceptRequest {
        now: restored_at,
        ..late(pair, 2, restored_at.plus(Duration::from_secs(60)))
    };
    let refused = ledger.accept_request(repeated).await.unwrap_err();
    assert!(matches!(refused, ServeError::RestoredTooRecently { .. }), "{refused}");
    assert_sound(ledger).await;
}

#[tokio::test]
async fn a_copy_without_its_lock_file_is_noticed() {
    let pair = Pair::new(1, 1);
    let home = billed_since_the_copy(Backend::Sqlite, &pair).await;
    let fresh = Home::new(Backend::Sqlite).await;
    copy_store(&home.directory.path().join("backup.db"), &fresh.path());
    // Whoever has only looked, or was refused, has not made it another one.
    let other = StoreDeployment {
        chain_id: 1,
        ..deployment()
    };
    let refused = Ledger::open_at(fresh.url(), &other, RESTORE).await.unwrap_err();
    assert!(matches!(refused, OpenError::OtherDeployment { .. }), "{refused}");
    Ledger::give_back_space(&fresh.url()).await.unwrap();

    let ledger = fresh.open_at(RESTORE).await;
    assert_bills_nothing_again(&ledger, &pair).await;
    ledger.close().await;
    // It has a lock file now.
    let ledger = fresh.open_at(RESTORE.plus(Duration::from_secs(60))).await;
    assert_eq!(ledger.restored_at().await.unwrap(), Some(RESTORE));
}

/// Somebody puts back a copy that turns out to be too old, and then a newer one, which has more commits than the store has
/// seen since.
#[tokio::test]
async fn a_newer_copy_is_noticed_beside_the_lock_file_of_an_older_one() {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving_alone(Backend::Sqlite, &pair).await;
    ledger.close().await;
    let early = home.directory.path().join("early.db");
    copy_store(&home.path(), &early);
    let ledger = home.open().await;
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    ledger.acknowledge(progress(&pair, 1, 20), None).await.unwrap();
    let ledger = back_up(&home, ledger).await;
    ledger.commit_bill(pair.bill(1, 100)).await.unwrap();
    ledger.close().await;

    copy_store(&early, &home.path());
    std::fs::remove_file(home.path().with_extension("db.lock")).unwrap();
    let ledger = home.open_at(RESTORE).await;
    assert_eq!(ledger.restored_at().await.unwrap(), Some(RESTORE));
    ledger.close().await;

    restore(&home).await;
    let later = RESTORE.plus(Duration::from_secs(60));
    let ledger = home.open_at(later).await;
    assert_eq!(ledger.restored_at().await.unwrap(), Some(later));
    assert_bills_nothing_again(&ledger, &pair).await;
}

#[tokio::test]
async fn a_lock_file_that_a_power_cut_emptied_tells_of_no_copy() {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving_alone(Backend::Sqlite, &pair).await;
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    ledger.close().await;
    std::fs::write(home.path().with_extension("db.lock"), "").unwrap();
    let ledger = home.open_at(RESTORE).await;
    assert_eq!(ledger.restored_at().await.unwrap(), None);
    ledger.commit_bill(pair.bill(1, 20)).await.unwrap();
}

async fn a_copy_that_was_put_back_is_noticed_where_it_is_moved(on: Backend) {
    for to in [Backend::Sqlite, Backend::Postgres] {
        let pair = Pair::new(1, 1);
        let home = billed_since_the_copy(on, &pair).await;
        restore(&home).await;
        let there = Home::new(to).await;
        Ledger::move_store(&home.url(), &there.url()).await.unwrap();
        let ledger = there.open_at(RESTORE).await;
        assert_bills_nothing_again(&ledger, &pair).await;
    }
}

async fn a_copy_that_nothing_witnesses_is_noticed_where_it_is_moved(on: Backend) {
    let pair = Pair::new(1, 1);
    let home = billed_since_the_copy(on, &pair).await;
    restore(&home).await;
    // As on a new machine: neither lock file nor witness.
    let fresh = match on {
        Backend::Sqlite => Home::new(on).await,
        Backend::Postgres => home.neighbour(),
    };
    if on == Backend::Sqlite {
        copy_store(&home.path(), &fresh.path());
    }
    let there = Home::new(Backend::Sqlite).await;
    Ledger::move_store(&fresh.url(), &there.url()).await.unwrap();
    let ledger = there.open_at(RESTORE).await;
    assert_bills_nothing_again(&ledger, &pair).await;
}

/// The same as `pair`, served by another node.
fn served_by(operator: u8, pair: Pair) -> Pair {
    let mut pair = Pair {
        operator: key(operator),
        ..pair
    };
    pair.parameters.salt = commitment_salt(pair.operator.address(), B256::repeat_byte(operator));
    pair
}

#[tokio::test]
async fn a_home_that_lost_its_witness_bills_nothing_again_and_leaves_others_alone() {
    let (pair, other) = (Pair::new(1, 1), served_by(201, Pair::new(2, 2)));
    let (home, ledger) = serving_alone(Backend::Postgres, &pair).await;
    mine(&ledger, vec![other.opened(1_000)]).await;
    ledger.accept_request(other.accept(1, Some(500), 300)).await.unwrap();
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    ledger.acknowledge(progress(&pair, 1, 20), None).await.unwrap();
    let ledger = back_up(&home, ledger).await;
    ledger.commit_bill(pair.bill(1, 100)).await.unwrap();
    close(&home, ledger).await;
    restore(&home).await;

    // The machine is gone: configuration and keys were kept, and the database was.
    let fresh = home.neighbour();
    let ledger = fresh.open_at(RESTORE).await;
    // A process that dies before it says whose requests it bills leaves that to the next one.
    close(&fresh, ledger).await;
    let ledger = fresh.open_at(RESTORE).await;
    assert_eq!(ledger.recognize(pair.operator.address()).await.unwrap(), 1);
    assert_eq!(ledger.account(pair.channel()).await.unwrap().spent, amount(0));
    assert_bills_nothing_again(&ledger, &pair).await;
    ledger.commit_bill(other.bill(1, 20)).await.unwrap();
    let restored_at = ledger.restored_at().await.unwrap();

    // From then on it has a witness.
    assert_eq!(ledger.recognize(pair.operator.address()).await.unwrap(), 0);
    close(&fresh, ledger).await;
    let ledger = fresh.open_at(RESTORE.plus(Duration::from_secs(60))).await;
    assert_eq!(ledger.recognize(pair.operator.address()).await.unwrap(), 0);
    assert_eq!(ledger.restored_at().await.unwrap(), restored_at);
}

#[tokio::test]
async fn a_home_that_joins_a_database_or_starts_again_is_no_restored_one() {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving_alone(Backend::Postgres, &pair).await;
    assert_eq!(ledger.recognize(pair.operator.address()).await.unwrap(), 0);
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    close(&home, ledger).await;
    for (home, operator) in [(&home, &pair.operator), (&home.neighbour(), &key(201))] {
        let ledger = home.open_at(RESTORE).await;
        assert_eq!(ledger.recognize(operator.address()).await.unwrap(), 0);
        assert_eq!(ledger.restored_at().await.unwrap(), None);
        assert_eq!(ledger.interrupted_requests().await.unwrap().len(), 1);
        close(home, ledger).await;
    }
}

async fn a_clock_that_was_ahead_ends_no_care_early(on: Backend) {
    const AHEAD: UnixSeconds = UnixSeconds::new(4_000_000_000);
    let pair = Pair::new(1, 1);
    let home = billed_since_the_copy(on, &pair).await;
    restore(&home).await;
    let ledger = home.open_at(AHEAD).await;
    // That more is lost is noticed by today's clock.
    ledger.remember_loss().await.unwrap();
    assert_eq!(ledger.restored_at().await.unwrap(), Some(AHEAD));
}

async fn a_store_that_vanished_is_noticed_too(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving_alone(on, &pair).await;
    close(&home, ledger).await;
    drop_store(&home).await;
    if let Some(database) = home.database() {
        run_at(&server().url("postgres"), &format!("CREATE DATABASE {database}")).await;
    }
    let ledger = home.open_at(RESTORE).await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    let refused = ledger.accept_request(pair.accept(1, Some(1), 1)).await.unwrap_err();
    assert!(matches!(refused, ServeError::RestoredTooRecently { .. }), "{refused}");
}

async fn a_restart_is_no_restore(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, mut ledger) = serving(on, &pair, 1_000).await;
    for nonce in 1..4 {
        ledger
            .accept_request(pair.accept(nonce, Some(u128::from(nonce) * 10), 10))
            .await
            .unwrap();
        ledger.close().await;
        ledger = home.open().await;
    }
    assert_eq!(ledger.interrupted_requests().await.unwrap().len(), 3);
    assert_eq!(ledger.account(pair.channel()).await.unwrap().spent, amount(30));
}

async fn a_payment_beyond_every_record_tells_of_a_loss(on: Backend) {
    let (served, other) = (Pair::new(1, 1), Pair::new(2, 2));
    let (_home, ledger) = serving(on, &served, 1_000).await;
    mine(&ledger, vec![other.opened(1_000)]).await;
    ledger.accept_request(served.accept(1, Some(300), 50)).await.unwrap();
    let settled = |pair: &Pair, settled: u128| ChainEventKind::Settled {
        channel: pair.channel(),
        settled: amount(settled),
    };
    // What a voucher allows, and what is paid to others, tells nothing.
    mine(&ledger, vec![settled(&served, 300), settled(&other, 900)]).await;
    let everything = BlockNumber::default();
    assert_eq!(ledger.unknown_payments(everything).await.unwrap(), []);

    let before = ledger.cursor().await.unwrap().unwrap().number;
    mine(&ledger, vec![settled(&other, 950), settled(&served, 301)]).await;
    let unknown = ledger.unknown_payments(before).await.unwrap();
    assert_eq!(unknown.len(), 1);
    assert_eq!(
        (unknown[0].channel, unknown[0].payee, unknown[0].settled),
        (served.channel(), served.payee, amount(301))
    );
    let cursor = ledger.cursor().await.unwrap().unwrap().number;
    assert_eq!(ledger.unknown_payments(cursor).await.unwrap(), []);

    assert_eq!(ledger.remember_loss().await.unwrap(), 1);
    assert!(ledger.restored_at().await.unwrap().is_some());
    let refused = ledger.commit_bill(served.bill(1, 20)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Waived { .. }), "{refused}");
    // The payer's voucher turns up: it is explained.
    ledger.accept_voucher(served.voucher(400)).await.unwrap();
    assert_eq!(ledger.unknown_payments(everything).await.unwrap(), []);
}

on_both_stores!(
    a_payment_beyond_every_record_tells_of_a_loss,
    a_restored_backup_bills_nothing_that_may_be_billed_already,
    a_copy_that_was_put_back_is_noticed_where_it_is_moved,
    a_copy_that_nothing_witnesses_is_noticed_where_it_is_moved,
    a_clock_that_was_ahead_ends_no_care_early,
    a_store_that_vanished_is_noticed_too,
    a_restart_is_no_restore
);
