//! Receipts that are taken in together come to what they come to one by one.

use lloom_ledger::{AuthorizationRef, Ledger, LedgerError, Outcome, ServeError};
use lloom_receipts::{Receipt, ReceiptHead, Signed, Verified, Voucher};

use crate::{
    beside::{beside, contents, together},
    world::{Backend, Home, Pair, amount, mine, mine_with, serving},
};

type Handed = (Receipt<Verified>, Option<Signed<Voucher, Verified>>);

async fn hand_in_together(home: &Home, ledger: &Ledger, handed: &[Handed]) -> (Vec<Result<Outcome, ServeError>>, i64) {
    let calls = handed
        .iter()
        .map(|(receipt, voucher)| ledger.accept_receipt(receipt.clone(), voucher.clone()));
    together(home, calls).await
}

async fn hand_in_singly(ledger: &Ledger, handed: &[Handed]) -> Vec<Result<Outcome, ServeError>> {
    let mut answers = Vec::new();
    for (receipt, voucher) in handed {
        answers.push(ledger.accept_receipt(receipt.clone(), voucher.clone()).await);
    }
    answers
}

/// Serves `pairs`, with bills over 50 each for the nonces 1 to 6, and one receipt of the first pair.
async fn prepared(on: Backend, pairs: &[Pair]) -> (Home, Ledger) {
    let (home, ledger) = serving(on, &pairs[0], 1_000).await;
    mine(&ledger, pairs[1..].iter().map(|pair| pair.opened(1_000)).collect()).await;
    for pair in pairs {
        for nonce in 1..=6 {
            ledger
                .accept_request(pair.accept(nonce, Some(u128::from(nonce) * 50), 50))
                .await
                .unwrap();
            ledger.commit_bill(pair.bill(nonce, 50)).await.unwrap();
        }
    }
    let first = pairs[0].link(&ReceiptHead::empty(pairs[0].channel()), pairs[0].bill(1, 50));
    ledger.accept_receipt(first, Some(pairs[0].voucher(310))).await.unwrap();
    let unusable = AuthorizationRef::Voucher { amount: amount(310) };
    ledger
        .set_unusable(pairs[0].channel(), unusable, "a test".into())
        .await
        .unwrap();
    (home, ledger)
}

/// The receipts that link the bills with these nonces, each to the one before.
fn chain(pair: &Pair, nonces: &[u64]) -> Vec<Receipt<Verified>> {
    let mut head = ReceiptHead::empty(pair.channel());
    let mut chain = Vec::new();
    for nonce in nonces {
        let receipt = pair.link(&head, pair.bill(*nonce, 50));
        head = ReceiptHead::at(receipt.receipt());
        chain.push(receipt);
    }
    chain
}

async fn receipts_taken_in_together_come_to_what_they_come_to_one_by_one(on: Backend) {
    let (left, right) = (Pair::new(1, 1), Pair::new(2, 2));
    let (bought, unconfirmed, stranger) = (Pair::new(3, 3), Pair::new(4, 4), Pair::new(5, 5));
    let pairs = [left.clone(), right.clone()];
    let (l, r) = (chain(&left, &[1, 2, 3, 4, 5]), chain(&right, &[6, 5, 4]));
    let after = |receipt: &Receipt<Verified>| ReceiptHead::at(receipt.receipt());
    let first_of = |pair: &Pair| pair.link(&ReceiptHead::empty(pair.channel()), pair.bill(1, 50));
    let handed: Vec<Handed> = vec![
        // Refused while the head is a stored one, then several that go on from it and from each other.
        (left.link(&ReceiptHead::empty(left.channel()), left.bill(2, 50)), None),
        (l[1].clone(), Some(left.voucher(400))),
        (r[0].clone(), None),
        (l[2].clone(), Some(left.voucher(60))),
        (l[2].clone(), Some(left.voucher(410))),
        (l[0].clone(), None),
        (l[1].clone(), Some(left.voucher(400))),
        // The head it is refused with is one that was taken in just before.
        (left.link(&after(&l[1]), left.bill(6, 50)), Some(left.voucher(900))),
        (l[3].clone(), Some(left.voucher(1_001))),
        (l[4].clone(), None),
        (l[3].clone(), Some(left.voucher(410))),
        (l[4].clone(), Some(left.voucher(310))),
        (right.link(&after(&r[0]), right.bill(5, 49)), Some(right.voucher(800))),
        (right.link(&after(&r[0]), right.bill(6, 50)), None),
        (left.link(&after(&l[4]), left.bill(1, 50)), None),
        (r[1].clone(), Some(left.voucher(500))),
        (r[1].clone(), Some(right.voucher(300))),
        (first_of(&stranger), None),
        (first_of(&bought), None),
        (first_of(&unconfirmed), Some(unconfirmed.voucher(1))),
        (r[2].clone(), Some(right.voucher(1_000))),
    ];
    let mut stores = Vec::new();
    for _ in 0..2 {
        let (home, ledger) = prepared(on, &pairs).await;
        mine(&ledger, vec![bought.opened(1_000)]).await;
        ledger.record_channel(bought.new_channel(1_000)).await.unwrap();
        mine_with(&ledger, vec![unconfirmed.opened(1_000)], false).await;
        stores.push((home, ledger));
    }
    assert_eq!(contents(&stores[0].0).await, contents(&stores[1].0).await);

    let (together, commits) = hand_in_together(&stores[0].0, &stores[0].1, &handed).await;
    // The writer may have begun with some of them before the others were queued.
    assert!(commits <= 2, "{commits} commits");
    let singly = hand_in_singly(&stores[1].1, &handed).await;
    assert_eq!(format!("{together:#?}"), format!("{singly:#?}"));
    assert_eq!(contents(&stores[0].0).await, contents(&stores[1].0).await);

    let said: Vec<&str> = together.iter().map(describe).collect();
    let expected = [
        "extends nothing",
        "recorded",
        "recorded",
        "recorded",
        "known",
        "known",
        "known",
        "extends nothing",
        "over the deposit",
        "extends nothing",
        "recorded",
        "recorded",
        "no bill",
        "linked",
        "linked",
        "other channel",
        "recorded",
        "unknown",
        "other side",
        "unconfirmed",
        "recorded",
    ];
    assert_eq!(said, expected);
    let ServeError::DoesNotExtend { head: Some(head) } = together[7].as_ref().unwrap_err() else {
        panic!("no head");
    };
    assert_eq!(**head, l[2]);
    for (_, ledger) in &stores {
        let account = ledger.account(left.channel()).await.unwrap();
        assert_eq!((account.authorized, account.linked), (amount(410), amount(250)));
        let account = ledger.account(right.channel()).await.unwrap();
        assert_eq!((account.authorized, account.linked), (amount(1_000), amount(150)));
        assert_eq!(ledger.receipts(left.channel(), 0, 10).await.unwrap(), l);
        assert_eq!(ledger.receipts(right.channel(), 0, 10).await.unwrap(), r);
    }
}

fn describe(answer: &Result<Outcome, ServeError>) -> &'static str {
    match answer {
        Ok(Outcome::Recorded) => "recorded",
        Ok(Outcome::AlreadyKnown) => "known",
        Err(ServeError::DoesNotExtend { .. }) => "extends nothing",
        Err(ServeError::BillNotCommitted) => "no bill",
        Err(ServeError::BillAlreadyLinked) => "linked",
        Err(ServeError::VoucherOverDeposit { .. }) => "over the deposit",
        Err(ServeError::OtherChannel { .. }) => "other channel",
        Err(ServeError::UnknownChannel) => "unknown",
        Err(ServeError::Unconfirmed) => "unconfirmed",
        Err(ServeError::Ledger(LedgerError::OtherSide { .. })) => "other side",
        Err(ServeError::Ledger(LedgerError::Sql { .. })) => "failed",
        Err(_) => "something else",
    }
}

async fn a_receipt_that_the_store_fails_on_takes_no_other_with_it(on: Backend) {
    let pairs = [Pair::new(1, 1), Pair::new(2, 2)];
    let (left, right) = (chain(&pairs[0], &[1, 2, 3]), chain(&pairs[1], &[1, 2, 3]));
    let (home, ledger) = prepared(on, &pairs).await;
    let hash = right[1].receipt().hash().hash();
    let failing = match on {
        Backend::Sqlite => format!(
            "CREATE TRIGGER failing BEFORE INSERT ON receipts WHEN new.hash = x'{hash:x}'
             BEGIN SELECT raise(ABORT, 'the disk is on fire'); END"
        ),
        Backend::Postgres => format!("ALTER TABLE receipts ADD CHECK (hash <> '\\x{hash:x}')"),
    };
    beside(&home).await.run(&failing).await;
    let handed: Vec<Handed> = [&left[1], &right[0], &right[1], &right[2], &left[2]]
        .into_iter()
        .map(|receipt| (receipt.clone(), None))
        .collect();
    let (answers, _) = hand_in_together(&home, &ledger, &handed).await;
    let said: Vec<&str> = answers.iter().map(describe).collect();
    assert_eq!(said, ["recorded", "recorded", "failed", "extends nothing", "recorded"]);
    assert_eq!(ledger.receipts(pairs[0].channel(), 0, 10).await.unwrap(), left);
    assert_eq!(ledger.receipts(pairs[1].channel(), 0, 10).await.unwrap(), right[..1]);
}

on_both_stores!(
    receipts_taken_in_together_come_to_what_they_come_to_one_by_one,
    a_receipt_that_the_store_fails_on_takes_no_other_with_it
);
