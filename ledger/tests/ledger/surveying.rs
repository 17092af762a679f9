use lloom_ledger::{ChainEventKind, LedgerError};
use lloom_receipts::UnixSeconds;
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::world::{Backend, NOW, Pair, amount, mine, serving};

async fn a_survey_says_what_each_channel_is_owed(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    assert_eq!(ledger.survey().await.unwrap(), Vec::new(), "nothing was served yet");

    ledger.accept_request(pair.accept(1, Some(100), 100)).await.unwrap();
    ledger.commit_bill(pair.bill(1, 80)).await.unwrap();
    mine(
        &ledger,
        vec![ChainEventKind::Settled {
            channel,
            settled: amount(30),
        }],
    )
    .await;
    let [surveyed] = ledger.survey().await.unwrap()[..] else {
        panic!("one channel");
    };
    assert_eq!((surveyed.id, surveyed.payer), (channel, pair.payer.address()));
    assert_eq!((surveyed.payee, surveyed.token), (pair.payee, pair.token));
    assert_eq!((surveyed.billed, surveyed.settled), (amount(80), amount(30)));
    assert_eq!(
        surveyed.unclaimed(),
        amount(50),
        "billed and authorized, less what is settled"
    );
    assert_eq!(surveyed.exposure(), amount(0), "the voucher covers it");
    assert_eq!((surveyed.close_requested_at, surveyed.finalized), (None, false));

    mine(
        &ledger,
        vec![ChainEventKind::CloseRequested {
            channel,
            requested_at: NOW,
        }],
    )
    .await;
    assert_eq!(ledger.survey().await.unwrap()[0].close_requested_at, Some(NOW));

    mine(
        &ledger,
        vec![ChainEventKind::Closed {
            channel,
            settled: amount(30),
            refunded: amount(970),
        }],
    )
    .await;
    let over = ledger.survey().await.unwrap()[0];
    assert!(over.finalized);
    assert_eq!(
        (over.unclaimed(), over.settled),
        (amount(0), amount(30)),
        "nothing of it can be claimed any more"
    );
}

async fn a_proof_of_writing_commits_and_is_counted(on: Backend) {
    let (_home, ledger) = serving(on, &Pair::new(1, 1), 1_000).await;
    let mut registry = Registry::with_prefix("lloom");
    ledger.metrics().register(&mut registry);
    let commits = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("lloom_store_commit_operations_count "))
            .unwrap();
        line.parse::<u64>().unwrap()
    };
    let before = commits();
    ledger.prove_writable().await.unwrap();
    assert_eq!(commits(), before + 1);
    assert!(ledger.metrics().last_commit() > Some(UnixSeconds::new(0)));

    let other = ledger.clone();
    assert!(other.has_writer());
    ledger.close().await;
    assert!(!other.has_writer());
    assert!(matches!(other.prove_writable().await, Err(LedgerError::Closed)));
}

async fn a_reader_proves_nothing(on: Backend) {
    let (home, ledger) = serving(on, &Pair::new(1, 1), 1_000).await;
    let reader = lloom_ledger::Ledger::open_read_only(home.url()).await.unwrap();
    assert!(matches!(reader.prove_writable().await, Err(LedgerError::ReadOnly)));
    assert!(!reader.has_writer());
    assert_eq!(reader.generation().await.unwrap(), ledger.generation().await.unwrap());
    assert_eq!(reader.restored_at().await.unwrap(), None);
    ledger.close().await;
}

on_both_stores!(
    a_survey_says_what_each_channel_is_owed,
    a_proof_of_writing_commits_and_is_counted,
    a_reader_proves_nothing
);
