use alloy::primitives::Address;
use lloom_ledger::{Ledger, LedgerError, OpenError, ServeError, StoreDeployment};

use crate::{
    beside::{beside, contents},
    world::{Backend, Home, Pair, amount, deployment, mine, serving},
};

async fn a_second_writer_is_told_who_holds_the_store(on: Backend) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    let refused = Ledger::open(home.url(), &deployment()).await.unwrap_err();
    let OpenError::Locked { store, holder } = refused else {
        panic!("{refused}");
    };
    assert_eq!(store.to_string(), home.url().to_string());
    assert_eq!(holder, Some(std::process::id()));
    ledger.close().await;
    home.open().await.close().await;
}

#[tokio::test]
async fn dropping_the_last_handle_frees_the_store() {
    let home = Home::new(Backend::Sqlite).await;
    drop(home.open().await);
    loop {
        match Ledger::open(&home.path(), &deployment()).await {
            Ok(ledger) => return ledger.close().await,
            Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn a_newer_store_is_refused_untouched(on: Backend) {
    let home = Home::new(on).await;
    home.open().await.close().await;
    let newer = match on {
        Backend::Sqlite => "PRAGMA user_version = 999",
        Backend::Postgres => "UPDATE store_schema SET version = 999",
    };
    beside(&home).await.run(newer).await;
    let before = contents(&home).await;
    let refused = Ledger::open(home.url(), &deployment()).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::NewerSchema { found: 999, .. }),
        "{refused}"
    );
    let refused = Ledger::open_read_only(home.url()).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::NewerSchema { found: 999, .. }),
        "{refused}"
    );
    assert_eq!(contents(&home).await, before);
}

#[tokio::test]
async fn damage_is_named_and_left_alone() {
    let home = Home::new(Backend::Sqlite).await;
    let pair = Pair::new(1, 1);
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    ledger.close().await;
    let sound = std::fs::read(home.path()).unwrap();

    let mut overwritten = sound.clone();
    overwritten[4_096..8_192].fill(0x5a);
    let mut headless = sound.clone();
    headless[..16].fill(0);
    let truncated = sound[..sound.len() / 2].to_vec();
    let short = sound[..7].to_vec();
    for damage in [
        overwritten,
        headless,
        truncated,
        short,
        b"not a database at all".to_vec(),
    ] {
        std::fs::write(home.path(), &damage).unwrap();
        let refused = Ledger::open(&home.path(), &deployment()).await.unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
        assert_eq!(std::fs::read(home.path()).unwrap(), damage);
    }
    std::fs::write(home.path(), sound).unwrap();
    let ledger = home.open().await;
    assert!(ledger.channel(pair.channel()).await.unwrap().is_some());
}

async fn another_programs_database_is_refused(on: Backend) {
    let home = Home::new(on).await;
    if on == Backend::Sqlite {
        std::fs::File::create(home.path()).unwrap();
    }
    beside(&home).await.run("CREATE TABLE notes (text TEXT)").await;
    let refused = Ledger::open(home.url(), &deployment()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    // Its tables are all it has.
    let refused = Ledger::open_read_only(home.url()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
}

async fn another_deployments_store_is_refused(on: Backend) {
    let home = Home::new(on).await;
    home.open().await.close().await;
    for other in [
        StoreDeployment {
            chain_id: 1,
            ..deployment()
        },
        StoreDeployment {
            escrow: Address::ZERO,
            ..deployment()
        },
        StoreDeployment {
            settlement: Address::ZERO,
            ..deployment()
        },
    ] {
        let refused = Ledger::open(home.url(), &other).await.unwrap_err();
        let OpenError::OtherDeployment { found, wanted, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!((found, wanted), (deployment(), other));
    }
}

#[tokio::test]
async fn a_missing_store_or_directory_is_named() {
    let home = Home::new(Backend::Sqlite).await;
    let refused = Ledger::open_read_only(&home.path()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
    assert!(!home.path().exists());
    let nowhere = home.directory.path().join("no/such/place/lloom.db");
    let refused = Ledger::open(&nowhere, &deployment()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused}");
}

async fn a_reader_works_beside_the_writer(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving(on, &pair, 1_000).await;
    let reader = Ledger::open_read_only(home.url()).await.unwrap();
    assert_eq!(reader.deployment(), &deployment());
    assert_eq!(reader.account(pair.channel()).await.unwrap().authorized, amount(0));
    ledger.accept_voucher(pair.voucher(700)).await.unwrap();
    assert_eq!(reader.account(pair.channel()).await.unwrap().authorized, amount(700));
    let refused = reader.accept_voucher(pair.voucher(800)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Ledger(LedgerError::ReadOnly)),
        "{refused}"
    );
    ledger.close().await;
    assert_eq!(reader.account(pair.channel()).await.unwrap().authorized, amount(700));
}

async fn a_closed_store_answers_so(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving(on, &pair, 1_000).await;
    let other = ledger.clone();
    ledger.close().await;
    let refused = other.accept_voucher(pair.voucher(800)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Ledger(LedgerError::Closed)), "{refused}");
    assert!(matches!(other.cursor().await.unwrap_err(), LedgerError::Closed));
    home.open().await.close().await;
}

on_both_stores!(
    a_second_writer_is_told_who_holds_the_store,
    a_newer_store_is_refused_untouched,
    another_programs_database_is_refused,
    another_deployments_store_is_refused,
    a_reader_works_beside_the_writer,
    a_closed_store_answers_so
);
