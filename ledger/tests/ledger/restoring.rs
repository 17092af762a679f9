//! A backup that is put back must not lead to a second bill for one request.

use std::{path::Path, time::Duration};

use lloom_ledger::{AcceptRequest, Outcome, ServeError};
use lloom_receipts::{MAX_DEADLINE_AHEAD, UnixSeconds};

use crate::world::{NOW, Pair, amount, mine, progress, serving};

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

fn late(pair: &Pair, nonce: u64, deadline: UnixSeconds) -> AcceptRequest {
    AcceptRequest {
        request: pair.request_until(nonce, deadline),
        ..pair.accept(nonce, Some(600), 10)
    }
}

#[tokio::test]
async fn a_restored_backup_bills_nothing_that_may_be_billed_already() {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving(&pair, 1_000).await;
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    ledger.acknowledge(progress(&pair, 1, 20), None).await.unwrap();
    // A hot copy of the running store, then one bill more.
    let backup = home.directory.path().join("backup.db");
    copy_store(&home.path(), &backup);
    ledger.commit_bill(pair.bill(1, 100)).await.unwrap();
    ledger.close().await;

    copy_store(&backup, &home.path());
    let ledger = home.open_at(RESTORE).await;
    assert!(ledger.interrupted_requests().await.unwrap().is_empty());
    let refused = ledger.commit_bill(pair.bill(1, 20)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Waived { .. }), "{refused}");

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

#[tokio::test]
async fn a_store_that_vanished_is_noticed_too() {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving(&pair, 1_000).await;
    ledger.close().await;
    std::fs::remove_file(home.path()).unwrap();
    let ledger = home.open_at(RESTORE).await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    let refused = ledger.accept_request(pair.accept(1, Some(1), 1)).await.unwrap_err();
    assert!(matches!(refused, ServeError::RestoredTooRecently { .. }), "{refused}");
}

#[tokio::test]
async fn a_restart_is_no_restore() {
    let pair = Pair::new(1, 1);
    let (home, mut ledger) = serving(&pair, 1_000).await;
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
