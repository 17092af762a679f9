//! Many callers at once.

use futures::future::join_all;
use lloom_ledger::{AcceptRequest, ExposurePolicy, Outcome, ServeError};
use lloom_receipts::{ReceiptHead, TokenAmount};

use crate::world::{Backend, Pair, amount, serving};

const WRITERS: u64 = 10;

async fn ten_writers_racing_for_one_bill_get_the_same(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    let tasks = (1..=WRITERS).map(|writer| {
        let (ledger, bill) = (ledger.clone(), pair.bill(1, writer as u32));
        tokio::spawn(async move { ledger.commit_bill(bill).await.unwrap() })
    });
    let bills: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert!(bills.iter().all(|bill| *bill == bills[0]), "{bills:?}");
    assert_eq!(
        ledger.account(pair.channel()).await.unwrap().billed,
        bills[0].bill().amount
    );
}

async fn ten_writers_racing_for_the_next_receipt_leave_one_chain(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 100_000).await;
    for nonce in 1..=WRITERS {
        ledger
            .accept_request(pair.accept(nonce, Some(u128::from(nonce) * 10), 10))
            .await
            .unwrap();
        ledger.commit_bill(pair.bill(nonce, 10)).await.unwrap();
    }
    let tasks = (1..=WRITERS).map(|nonce| {
        let (ledger, pair) = (ledger.clone(), pair.clone());
        tokio::spawn(async move {
            let mut head = ReceiptHead::empty(channel);
            let mut refusals = 0;
            loop {
                match ledger
                    .accept_receipt(pair.link(&head, pair.bill(nonce, 10)), None)
                    .await
                {
                    Ok(outcome) => {
                        assert_eq!(outcome, Outcome::Recorded);
                        return refusals;
                    }
                    Err(ServeError::DoesNotExtend { head: Some(newest) }) => {
                        head = ReceiptHead::at(newest.receipt());
                        refusals += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    let refusals: u32 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    assert!(refusals > 0, "nobody raced");
    let receipts = ledger.receipts(channel, 0, 100).await.unwrap();
    let mut head = ReceiptHead::empty(channel);
    for receipt in &receipts {
        head.check_extends(receipt.receipt()).unwrap();
        head = ReceiptHead::at(receipt.receipt());
    }
    assert_eq!((receipts.len() as u64, head.amount), (WRITERS, amount(100)));
    assert!(ledger.unlinked_bills(channel).await.unwrap().is_empty());
}

async fn streams_never_reserve_more_than_is_covered(on: Backend) {
    let pairs: Vec<Pair> = (1..=3).map(|number| Pair::new(1, number)).collect();
    let (_home, ledger) = serving(on, &pairs[0], 10_000).await;
    crate::world::mine(&ledger, vec![pairs[1].opened(10_000), pairs[2].opened(10_000)]).await;
    let exposure = ExposurePolicy {
        start: amount(50),
        per_mille_of_settled: 0,
        maximum: amount(50),
    };
    let mut requests = Vec::new();
    for pair in &pairs {
        ledger.accept_voucher(pair.voucher(100)).await.unwrap();
        for nonce in 1..=WRITERS {
            let request = AcceptRequest {
                exposure,
                ..pair.accept(nonce, None, 0)
            };
            ledger.accept_request(request).await.unwrap();
            requests.push(pair.request(nonce).document().hash());
        }
    }
    // Each stream takes one unit after the other until it is told to stop.
    let tasks = requests.into_iter().map(|request| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let mut total = TokenAmount::ZERO;
            loop {
                let next = amount(total.base_units() + 1);
                match ledger.reserve(request, next, exposure).await {
                    Ok(()) => total = next,
                    Err(ServeError::Uncovered { .. }) => return total.base_units(),
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    let delivered: u128 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(delivered, 3 * 100 + 50);
    let mut spent = 0;
    for pair in &pairs {
        spent += ledger.account(pair.channel()).await.unwrap().spent.base_units();
    }
    assert_eq!(spent, delivered);
}

async fn a_refused_caller_does_not_disturb_those_it_shares_a_batch_with(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let answers = join_all((1..=200_u64).map(|nonce| {
        // Every other one is refused: its nonce is taken.
        let request = pair.accept(nonce / 2, Some(1_000), 1);
        let request = AcceptRequest {
            request: pair.request_until(nonce / 2, lloom_receipts::UnixSeconds::new(1_800_000_000 + nonce)),
            ..request
        };
        ledger.accept_request(request)
    }))
    .await;
    let recorded = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(Outcome::Recorded)))
        .count();
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(ServeError::NonceUsed)))
        .count();
    assert_eq!((recorded, refused), (101, 99));
    assert_eq!(ledger.account(pair.channel()).await.unwrap().spent, amount(101));
}

on_both_stores!(;
    racing: ten_writers_racing_for_one_bill_get_the_same,
    ten_writers_racing_for_the_next_receipt_leave_one_chain,
    streams_never_reserve_more_than_is_covered,
    a_refused_caller_does_not_disturb_those_it_shares_a_batch_with
);
