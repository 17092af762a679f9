//! A store in surroundings that are not the machine's.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use futures::{FutureExt as _, future::BoxFuture};
use lloom_ledger::{ChannelFilter, Disk, Environment, Ledger};
use lloom_receipts::UnixSeconds;

use crate::world::{Backend, Home, Pair, deployment, mine};

/// A disk that counts what it lets through, and can be stopped.
#[derive(Clone, Default)]
struct Gate {
    statements: Arc<AtomicU64>,
    generation: Arc<AtomicI64>,
    stopped: Arc<AtomicBool>,
}

impl Disk for Gate {
    fn before(&self, _: &'static str) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.statements.fetch_add(1, Ordering::Relaxed);
            if self.stopped.load(Ordering::Relaxed) {
                pending().await
            }
        })
    }

    fn committed(&self, generation: i64) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.generation.store(generation, Ordering::Relaxed) })
    }
}

async fn open(home: &Home, gate: &Gate) -> Ledger {
    let environment = Environment::simulated(|| UnixSeconds::new(77), gate.clone());
    Ledger::open_in(&home.path(), &deployment(), environment).await.unwrap()
}

#[tokio::test]
async fn a_disk_lets_statements_run_and_hears_of_commits() {
    let (home, gate, pair) = (Home::new(Backend::Sqlite).await, Gate::default(), Pair::new(1, 1));
    let ledger = open(&home, &gate).await;
    assert_eq!(ledger.now(), UnixSeconds::new(77));
    let before = gate.statements.load(Ordering::Relaxed);
    mine(&ledger, vec![pair.opened(1_000)]).await;
    assert!(
        gate.statements.load(Ordering::Relaxed) > before + 2,
        "it begins, writes and commits"
    );
    let generation = gate.generation.load(Ordering::Relaxed);
    assert!(generation > 1);
    // Readers see what was committed, several at once, and each its own moment.
    let (one, other) = futures::join!(
        ledger.channels(ChannelFilter::default()),
        ledger.unlinked_bills(pair.channel())
    );
    assert_eq!((one.unwrap().len(), other.unwrap().len()), (1, 0));
    ledger.close().await;
    let ledger = home.open().await;
    assert_eq!(ledger.channels(ChannelFilter::default()).await.unwrap().len(), 1);
    ledger.close().await;
}

#[tokio::test]
async fn a_statement_that_the_disk_never_lets_run_changes_nothing() {
    let (home, gate, pair) = (Home::new(Backend::Sqlite).await, Gate::default(), Pair::new(1, 1));
    let ledger = open(&home, &gate).await;
    gate.stopped.store(true, Ordering::Relaxed);
    let writing = mine(&ledger, vec![pair.opened(1_000)]);
    let mut writing = Box::pin(writing);
    for _ in 0..50 {
        assert!((&mut writing).now_or_never().is_none(), "the process died there");
        tokio::task::yield_now().await;
    }
    drop(writing);
    // Beside the dead one, whose lock nobody lets go of: a copy of its files.
    let copy = Home::new(Backend::Sqlite).await;
    for end in ["", "-wal"] {
        let name = |home: &Home| format!("{}{end}", home.path().display());
        if std::fs::exists(name(&home)).unwrap() {
            std::fs::copy(name(&home), name(&copy)).unwrap();
        }
    }
    let left = copy.open().await;
    assert_eq!(left.channels(ChannelFilter::default()).await.unwrap(), []);
    left.close().await;
}
