//! A backup holds what the store held at one moment, and whatever is put back knows that it is a copy.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use alloy::primitives::Address;
use lloom_ledger::{BackupError, Ledger, MoveError, OpenError, RestoreError, ServeError, StoreDeployment, StoreUrl};
use lloom_receipts::{MAX_DEADLINE_AHEAD, UnixSeconds};

use crate::{
    beside::{beside, beside_file, contents},
    fixtures::{assert_lived, live},
    world::{Backend, Home, NOW, Pair, deployment},
};

const LATER: UnixSeconds = UnixSeconds::new(NOW.get() + 30);

/// A home whose store is a copy of the file at `backup`.
fn with_copy_of(backup: &Path) -> Home {
    let home = Home::at("lloom.db".into());
    fs::copy(backup, home.path()).unwrap();
    home
}

/// The names in the directory of `path`, sorted.
fn names_beside(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

async fn lived(on: Backend) -> (Home, Ledger) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    live(&ledger).await;
    (home, ledger)
}

/// Whether the store refuses what may have been served before, and bills nothing that was open.
async fn assert_restored(ledger: &Ledger, at: UnixSeconds) {
    let pair = Pair::new(1, 1);
    assert!(ledger.interrupted_requests().await.unwrap().is_empty());
    let refused = ledger.commit_bill(pair.bill(4, 20)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Waived { .. }), "{refused}");
    let refused = ledger.accept_request(pair.accept(9, None, 0)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::RestoredTooRecently { until } if until == at.plus(MAX_DEADLINE_AHEAD)),
        "{refused}"
    );
    assert_eq!(ledger.restored_at().await.unwrap(), Some(at));
    assert_eq!(ledger.copied_at().await.unwrap(), None);
}

async fn a_backup_of_a_store_in_use_is_whole_and_knows_what_it_is(on: Backend) {
    let (home, ledger) = lived(on).await;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("backup.db");
    let before = contents(&home).await;
    let made = Ledger::back_up(&home.url(), &path, NOW).await.unwrap();
    assert_eq!(Some(made.generation), ledger.generation().await.unwrap());
    assert_eq!(made.cursor, ledger.cursor().await.unwrap().map(|block| block.number));
    assert_eq!(
        (made.bytes, made.deployment),
        (fs::metadata(&path).unwrap().len(), deployment())
    );
    assert_eq!(names_beside(&path), ["backup.db"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // The store goes on as if nothing had been.
    let pair = Pair::new(1, 1);
    ledger.commit_bill(pair.bill(4, 20)).await.unwrap();
    ledger.close().await;

    // Put in a store's place by hand, where no lock file tells anything.
    let restored = with_copy_of(&path);
    let copy = Ledger::open_read_only(restored.url()).await.unwrap();
    assert_eq!(copy.copied_at().await.unwrap(), Some(NOW));
    assert_lived(&copy).await;
    copy.close().await;
    let copied = contents(&restored).await;
    assert_eq!(copied.len(), before.len());
    if on == Backend::Sqlite {
        // The two kinds of stores write values differently.
        assert_eq!(copied, before);
    }
    let copy = restored.open_at(LATER).await;
    assert_restored(&copy, LATER).await;
    // It is a store like any other from then on, with one restore in its past.
    copy.close().await;
    let copy = restored.open_at(LATER.plus(Duration::from_secs(500))).await;
    assert_restored(&copy, LATER).await;
}

async fn a_backup_is_never_written_over_anything(on: Backend) {
    let (home, ledger) = lived(on).await;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("backup.db");
    fs::write(&path, "mine").unwrap();
    let refused = Ledger::back_up(&home.url(), &path, NOW).await.unwrap_err();
    assert!(matches!(refused, BackupError::Occupied { .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    let nowhere = place.path().join("no/such/place.db");
    let refused = Ledger::back_up(&home.url(), &nowhere, NOW).await.unwrap_err();
    assert!(matches!(refused, BackupError::Io { .. }), "{refused}");
    let nothing = Home::new(on).await;
    let other = place.path().join("other.db");
    let refused = Ledger::back_up(&nothing.url(), &other, NOW).await.unwrap_err();
    assert!(
        matches!(refused, BackupError::Store(OpenError::Missing { .. })),
        "{refused}"
    );
    assert_eq!(names_beside(&path), ["backup.db"], "what was begun is gone");
    ledger.close().await;
}

async fn a_backup_is_restored(on: Backend) {
    let (home, ledger) = lived(Backend::Sqlite).await;
    let path = home.directory.path().join("backup.db");
    Ledger::back_up(&home.url(), &path, NOW).await.unwrap();
    let sound = fs::read(&path).unwrap();
    let pair = Pair::new(1, 1);
    ledger.commit_bill(pair.bill(4, 20)).await.unwrap();
    ledger.close().await;

    // Onto a database that is empty, or beside the file that is there.
    let target = match on {
        Backend::Sqlite => home,
        Backend::Postgres => Home::new(on).await,
    };
    let replaced = target.url().path().map(|path| fs::read(path).unwrap());
    let restored = Ledger::restore(&path, &target.url(), &deployment(), None, LATER)
        .await
        .unwrap();
    assert_eq!((restored.copied_at, restored.waived_requests), (Some(NOW), 1));
    assert_eq!(fs::read(&path).unwrap(), sound);
    let kept: Option<PathBuf> = target.url().path().map(|path| {
        let mut kept = path.as_os_str().to_owned();
        kept.push(format!(".replaced-{LATER}"));
        kept.into()
    });
    assert_eq!(restored.kept, kept);
    if let (Some(kept), Some(replaced)) = (&kept, replaced) {
        assert_eq!(fs::read(kept).unwrap(), replaced);
        assert_eq!(restored.lost_commits, Some(1));
    }
    let ledger = target.open_at(LATER.plus(Duration::from_secs(5))).await;
    assert_restored(&ledger, LATER).await;
    assert_eq!(ledger.head(pair.channel()).await.unwrap().sequence, 3);
    ledger.close().await;
    target.resign();
    // Nothing is noticed a second time.
    let ledger = target.open_at(LATER.plus(Duration::from_secs(50))).await;
    assert_restored(&ledger, LATER).await;
    ledger.close().await;
    target.resign();

    if on == Backend::Postgres {
        let refused = Ledger::restore(&path, &target.url(), &deployment(), None, LATER)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, RestoreError::Move(MoveError::Occupied { .. })),
            "{refused}"
        );
        assert_eq!(names_beside(&target.directory.path().join("x")), ["lloom.witness"]);
    }
}

async fn what_can_not_be_restored_leaves_everything_as_it_is(on: Backend) {
    let (home, ledger) = lived(on).await;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("backup.db");
    Ledger::back_up(&home.url(), &path, NOW).await.unwrap();
    let refused = Ledger::restore(&path, &home.url(), &deployment(), None, NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, RestoreError::Open(OpenError::Locked { .. })),
        "{refused}"
    );
    ledger.close().await;
    home.resign();
    let before = contents(&home).await;

    let elsewhere = StoreDeployment {
        escrow: Address::ZERO,
        ..deployment()
    };
    let refused = Ledger::restore(&path, &home.url(), &elsewhere, None, NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, RestoreError::Open(OpenError::OtherDeployment { .. })),
        "{refused}"
    );
    let stranger = Address::repeat_byte(9);
    let refused = Ledger::restore(&path, &home.url(), &deployment(), Some(&[stranger]), NOW)
        .await
        .unwrap_err();
    let pair = Pair::new(1, 1);
    assert!(
        matches!(&refused, RestoreError::Foreign { owners, .. } if owners.contains(&pair.payee) && owners.contains(&pair.operator.address())),
        "{refused}"
    );
    let nothing = place.path().join("nothing.db");
    let refused = Ledger::restore(&nothing, &home.url(), &deployment(), None, NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, RestoreError::Open(OpenError::Missing { .. })),
        "{refused}"
    );
    let sound = fs::read(&path).unwrap();
    let mut damaged = sound.clone();
    damaged[8_192..16_384].fill(0x5a);
    for damaged in [damaged, sound[..sound.len() / 2].to_vec(), b"a letter".to_vec()] {
        fs::write(&path, &damaged).unwrap();
        let refused = Ledger::restore(&path, &home.url(), &deployment(), None, NOW)
            .await
            .unwrap_err();
        assert!(
            matches!(
                refused,
                RestoreError::Unsound { .. } | RestoreError::Open(OpenError::Damaged { .. })
            ),
            "{refused:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    assert_eq!(contents(&home).await, before);
    assert_eq!(names_beside(&path), ["backup.db"]);
    let ledger = home.open().await;
    assert_eq!(ledger.restored_at().await.unwrap(), None);
    assert_lived(&ledger).await;
}

/// What a process that dies now leaves of its store: what it wrote last is in the log.
fn as_it_would_die(home: &Home) -> Home {
    let dead = Home::at("lloom.db".into());
    for name in ["lloom.db", "lloom.db-wal", "lloom.db.lock"] {
        fs::copy(home.directory.path().join(name), dead.directory.path().join(name)).unwrap();
    }
    dead
}

#[tokio::test]
async fn a_store_is_kept_with_what_its_log_held() {
    let (home, ledger) = lived(Backend::Sqlite).await;
    let path = home.directory.path().join("backup.db");
    Ledger::back_up(&home.url(), &path, NOW).await.unwrap();
    let pair = Pair::new(1, 1);
    ledger.commit_bill(pair.bill(4, 20)).await.unwrap();
    let dead = as_it_would_die(&home);
    assert!(
        fs::metadata(dead.directory.path().join("lloom.db-wal")).unwrap().len() > 0,
        "the bill is in the log"
    );
    ledger.close().await;

    let restored = Ledger::restore(&path, &dead.url(), &deployment(), None, LATER)
        .await
        .unwrap();
    let kept = restored.kept.unwrap();
    let mut kept_log = kept.clone().into_os_string();
    kept_log.push("-wal");
    assert!(!fs::exists(kept_log).unwrap(), "the log is in the store itself");
    let count = "SELECT count(*) FROM bills";
    let in_kept = beside_file(&kept).await.numbers(count).await;
    let in_restored = beside(&dead).await.numbers(count).await;
    assert_eq!(in_kept[0], in_restored[0] + 1);
}

/// SQLite brings a log into the store only when nobody reads it any more, and says nothing of it.
#[tokio::test]
async fn a_store_that_somebody_reads_is_kept_with_its_log() {
    let (home, ledger) = lived(Backend::Sqlite).await;
    let path = home.directory.path().join("backup.db");
    Ledger::back_up(&home.url(), &path, NOW).await.unwrap();
    ledger.commit_bill(Pair::new(1, 1).bill(4, 20)).await.unwrap();
    let dead = as_it_would_die(&home);
    ledger.close().await;
    let count = "SELECT count(*) FROM bills";
    let mut reader = beside(&dead).await;
    reader.run("BEGIN").await;
    let before = reader.numbers(count).await;

    let restored = Ledger::restore(&path, &dead.url(), &deployment(), None, LATER)
        .await
        .unwrap();
    let kept = restored.kept.unwrap();
    let mut kept_log = kept.clone().into_os_string();
    kept_log.push("-wal");
    assert!(fs::exists(kept_log).unwrap(), "the bill is nowhere else");
    assert_eq!(beside_file(&kept).await.numbers(count).await, before);
    reader.run("COMMIT").await;
}

#[tokio::test]
async fn a_damaged_store_is_replaced_and_kept() {
    let (home, ledger) = lived(Backend::Sqlite).await;
    let path = home.directory.path().join("backup.db");
    Ledger::back_up(&home.url(), &path, NOW).await.unwrap();
    ledger.close().await;
    let garbage = b"SQLite format 3\0 and then nothing good".to_vec();
    let log = b"what a dead process had written".to_vec();
    let wal = home.directory.path().join("lloom.db-wal");
    fs::write(home.path(), &garbage).unwrap();
    fs::write(&wal, &log).unwrap();

    let restored = Ledger::restore(&path, &home.url(), &deployment(), None, LATER)
        .await
        .unwrap();
    let kept = restored.kept.unwrap();
    assert_eq!(fs::read(&kept).unwrap(), garbage);
    let mut kept_log = kept.into_os_string();
    kept_log.push("-wal");
    assert_eq!(fs::read(kept_log).unwrap(), log, "the log went with its store");
    let ledger = home.open_at(LATER).await;
    assert_restored(&ledger, LATER).await;
}

#[tokio::test]
async fn a_directory_that_is_put_back_is_noticed() {
    let (home, ledger) = lived(Backend::Sqlite).await;
    ledger.close().await;
    let copy = Home::at("lloom.db".into());
    for name in ["lloom.db", "lloom.db.lock"] {
        fs::copy(home.directory.path().join(name), copy.directory.path().join(name)).unwrap();
    }
    // A directory that is only opened again, or renamed, is the same.
    let ledger = home.open_at(LATER).await;
    assert_eq!(ledger.restored_at().await.unwrap(), None);
    ledger.close().await;
    if fs::metadata(home.path()).unwrap().created().is_err() {
        eprintln!("this file system doesn't say when files came into being; skipped");
        return;
    }
    let ledger = copy.open_at(LATER).await;
    assert_restored(&ledger, LATER).await;
    ledger.close().await;
    let ledger = copy.open_at(LATER.plus(Duration::from_secs(60))).await;
    assert_restored(&ledger, LATER).await;
}

#[tokio::test]
async fn a_store_of_an_older_schema_is_backed_up_too() {
    let home = Home::new(Backend::Sqlite).await;
    let ledger = home.open().await;
    live(&ledger).await;
    ledger.close().await;
    Ledger::migrate(home.url(), 2).await.unwrap();
    let path = home.directory.path().join("backup.db");
    Ledger::back_up(&home.url(), &path, NOW).await.unwrap();
    let refused = Ledger::open_read_only(home.url()).await.unwrap_err();
    assert!(matches!(refused, OpenError::OlderSchema { found: 2, .. }), "{refused}");
    let copy = Ledger::open_read_only(StoreUrl::file(&path)).await.unwrap();
    assert_lived(&copy).await;
}

#[tokio::test]
async fn what_is_replaced_is_kept_however_often_that_happens_in_a_second() {
    let (home, ledger) = lived(Backend::Sqlite).await;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("backup.db");
    Ledger::back_up(&home.url(), &path, NOW).await.unwrap();
    let pair = Pair::new(1, 1);
    ledger.accept_voucher(pair.voucher(999)).await.unwrap();
    let newest = ledger.account(pair.channel()).await.unwrap();
    ledger.close().await;

    let mut kept = Vec::new();
    for _ in 0..3 {
        let restored = Ledger::restore(&path, &home.url(), &deployment(), None, LATER)
            .await
            .unwrap();
        kept.push(restored.kept.unwrap());
    }
    kept.dedup();
    assert_eq!(kept.len(), 3, "{kept:?}");
    let first = Ledger::open_read_only(&kept[0]).await.unwrap();
    assert_eq!(first.account(pair.channel()).await.unwrap(), newest);
    assert!(kept.iter().all(|path| fs::metadata(path).unwrap().len() > 0));
}

on_both_stores!(
    a_backup_of_a_store_in_use_is_whole_and_knows_what_it_is,
    a_backup_is_never_written_over_anything,
    a_backup_is_restored,
    what_can_not_be_restored_leaves_everything_as_it_is
);
