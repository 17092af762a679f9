//! A store that moves to another place is the same there, and none any more where it was.

use lloom_ledger::{Ledger, MoveError, OpenError, ServeError};
use lloom_receipts::MAX_DEADLINE_AHEAD;

use crate::{
    beside::{beside, contents},
    fixtures::{assert_lived, live},
    world::{Backend, Home, NOW, Pair, deployment},
};

#[tokio::test]
async fn a_store_moves_to_a_database_and_back_and_is_the_same() {
    let (file, database, file_again) = (
        Home::new(Backend::Sqlite).await,
        Home::new(Backend::Postgres).await,
        Home::new(Backend::Sqlite).await,
    );
    let ledger = file.open().await;
    live(&ledger).await;
    let refused = Ledger::move_store(&file.url(), &database.url()).await.unwrap_err();
    assert!(
        matches!(refused, MoveError::Open(OpenError::Locked { .. })),
        "{refused}"
    );
    ledger.close().await;
    let before = contents(&file).await;

    let moved = Ledger::move_store(&file.url(), &database.url()).await.unwrap();
    let tables: u64 = moved.rows.iter().map(|(_, rows)| rows).sum();
    // The row of `store` is none of the contents.
    assert_eq!(tables, before.len() as u64 + 1);
    assert!(moved.rows.iter().all(|(_, rows)| *rows > 0), "{moved:?}");
    let ledger = database.open().await;
    assert_lived(&ledger).await;
    // It is the same store, not one put back: nothing is refused because of the move.
    let pair = Pair::new(1, 1);
    ledger.accept_request(pair.accept(5, None, 0)).await.unwrap();
    ledger
        .waive(pair.request(5).document().hash(), "a test".into())
        .await
        .unwrap();
    ledger.close().await;
    database.resign();
    beside(&database)
        .await
        .run("DELETE FROM requests WHERE dropped = 'a test'")
        .await;

    Ledger::move_store(&database.url(), &file_again.url()).await.unwrap();
    assert_eq!(contents(&file_again).await, before);
    let ledger = file_again.open().await;
    assert_lived(&ledger).await;
    ledger.close().await;
    // Where they were, there are none any more; whoever begins one there anew is careful for a while.
    let refused = Ledger::open_read_only(file.url()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
    let refused = Ledger::open(database.url(), &deployment()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    let ledger = file.open_at(NOW).await;
    crate::world::mine(&ledger, vec![pair.opened(1_000)]).await;
    let refused = ledger.accept_request(pair.accept(1, None, 0)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::RestoredTooRecently { until } if until == NOW.plus(MAX_DEADLINE_AHEAD)),
        "{refused}"
    );
}

async fn a_store_is_not_moved_onto_another(on: Backend) {
    let (home, occupied) = (Home::new(Backend::Sqlite).await, Home::new(on).await);
    home.open().await.close().await;
    occupied.open().await.close().await;
    occupied.resign();
    let refused = Ledger::move_store(&home.url(), &occupied.url()).await.unwrap_err();
    assert!(matches!(refused, MoveError::Occupied { .. }), "{refused}");
    home.open().await.close().await;
    let nothing = Home::new(on).await;
    let refused = Ledger::move_store(&nothing.url(), &Home::new(Backend::Sqlite).await.url())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, MoveError::Open(OpenError::Missing { .. })),
        "{refused}"
    );
}

on_both_stores!(a_store_is_not_moved_onto_another);
