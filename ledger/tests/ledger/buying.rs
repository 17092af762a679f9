use std::time::Duration;

use lloom_ledger::{
    Account, Budget, BuyError, Ledger, Observation, ObservedOutcome, Outcome, OwnRequest, Quality, WithdrawnReceipt,
};
use lloom_receipts::{Receipt, ReceiptHead, RequestHash, UnixSeconds, Verified};

use crate::world::{Backend, Home, NOW, Pair, amount, mine, salt};

/// What a request of [`Pair::request`] can cost.
pub const MAXIMUM: u128 = 2_000;

pub fn own(pair: &Pair, nonce: u64, voucher: Option<u128>, authorized: u128) -> OwnRequest {
    OwnRequest {
        request: pair.request(nonce),
        content_salt: salt(),
        voucher: voucher.map(|cumulative| pair.voucher(cumulative)),
        authorized: amount(authorized),
        budget: Budget::UNLIMITED,
        now: NOW,
    }
}

pub fn hash_of(pair: &Pair, nonce: u64) -> RequestHash {
    pair.request(nonce).document().hash()
}

pub async fn buying(on: Backend, pair: &Pair, deposit: u128) -> (Home, Ledger) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    assert_eq!(
        ledger.record_channel(pair.new_channel(deposit)).await.unwrap(),
        pair.channel()
    );
    (home, ledger)
}

async fn a_channel_is_known_before_it_is_opened(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, ledger) = buying(on, &pair, 500).await;
    let record = ledger.channel(pair.channel()).await.unwrap().unwrap();
    assert_eq!(record.operator, Some(pair.operator.address()));
    assert_eq!((record.opened_in, record.latest, record.is_open()), (None, None, false));
    ledger.close().await;

    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(600)]).await;
    let record = ledger.channel(pair.channel()).await.unwrap().unwrap();
    assert!(record.is_open() && record.client_random.is_some());
    ledger.begin_request(own(&pair, 1, Some(600), 600)).await.unwrap();

    let stranger = Pair::new(2, 2);
    let refused = ledger.begin_request(own(&stranger, 1, None, 0)).await.unwrap_err();
    assert!(matches!(refused, BuyError::UnknownChannel), "{refused}");
    // Followed, but not one of its own.
    mine(&ledger, vec![stranger.opened(600)]).await;
    let refused = ledger.begin_request(own(&stranger, 1, None, 0)).await.unwrap_err();
    assert!(matches!(refused, BuyError::UnknownChannel), "{refused}");
}

async fn a_purchase_is_counted_from_request_to_receipt(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (home, ledger) = buying(on, &pair, 5_000).await;
    ledger.begin_request(own(&pair, 1, Some(100), 100)).await.unwrap();
    ledger.begin_request(own(&pair, 2, Some(200), 100)).await.unwrap();
    let refused = ledger.begin_request(own(&pair, 2, None, 0)).await.unwrap_err();
    assert!(matches!(refused, BuyError::NonceUsed), "{refused}");
    let (first, second) = (hash_of(&pair, 1), hash_of(&pair, 2));
    assert_eq!(
        ledger
            .authorize(pair.voucher(300), first, amount(200), Budget::UNLIMITED, NOW)
            .await
            .unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger
            .authorize(pair.voucher(300), first, amount(200), Budget::UNLIMITED, NOW)
            .await
            .unwrap(),
        Outcome::AlreadyKnown
    );
    assert_eq!(
        ledger.purchases(channel).await.unwrap(),
        Account {
            authorized: amount(300),
            spent: amount(300),
            billed: amount(0),
            linked: amount(0),
        }
    );
    let refused = ledger
        .authorize(pair.voucher(301), first, amount(MAXIMUM + 1), Budget::UNLIMITED, NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, BuyError::OverMaximum { maximum } if maximum == amount(MAXIMUM)),
        "{refused}"
    );
    let refused = ledger
        .authorize(pair.voucher(5_001), first, amount(300), Budget::UNLIMITED, NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, BuyError::VoucherOverDeposit { deposit } if deposit == amount(5_000)),
        "{refused}"
    );
    let refused = ledger
        .authorize(
            pair.voucher(400),
            hash_of(&pair, 9),
            amount(300),
            Budget::UNLIMITED,
            NOW,
        )
        .await
        .unwrap_err();
    assert!(matches!(refused, BuyError::UnknownRequest), "{refused}");
    let refused = ledger
        .begin_request(own(&pair, 3, None, MAXIMUM + 1))
        .await
        .unwrap_err();
    assert!(matches!(refused, BuyError::OverMaximum { .. }), "{refused}");

    let receipt = pair.link(&ReceiptHead::empty(channel), pair.bill(2, 70));
    assert_eq!(
        ledger
            .link(receipt.clone(), Some(pair.voucher(310)), Budget::UNLIMITED, NOW)
            .await
            .unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger
            .link(receipt.clone(), None, Budget::UNLIMITED, NOW)
            .await
            .unwrap(),
        Outcome::AlreadyKnown
    );
    let beside = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 50));
    let BuyError::DoesNotExtend { head: Some(head) } =
        ledger.link(beside, None, Budget::UNLIMITED, NOW).await.unwrap_err()
    else {
        panic!("two chains");
    };
    assert_eq!(*head, receipt);
    let head = ledger.head(channel).await.unwrap();
    let refused = ledger
        .link(pair.link(&head, pair.bill(2, 71)), None, Budget::UNLIMITED, NOW)
        .await
        .unwrap_err();
    assert!(matches!(refused, BuyError::AlreadyLinked), "{refused}");
    let refused = ledger
        .link(pair.link(&head, pair.bill(8, 71)), None, Budget::UNLIMITED, NOW)
        .await
        .unwrap_err();
    assert!(matches!(refused, BuyError::UnknownRequest), "{refused}");
    let refused = ledger
        .authorize(pair.voucher(400), second, amount(300), Budget::UNLIMITED, NOW)
        .await
        .unwrap_err();
    assert!(matches!(refused, BuyError::AlreadyLinked), "{refused}");
    assert_eq!(
        ledger.purchases(channel).await.unwrap(),
        Account {
            authorized: amount(310),
            spent: amount(270),
            billed: amount(70),
            linked: amount(70),
        }
    );
    ledger.close().await;

    // What was signed is there after a restart, to be sent again.
    let ledger = home.open().await;
    assert_eq!(ledger.unconfirmed_receipts(channel).await.unwrap(), vec![receipt]);
    assert_eq!(ledger.confirm_receipt(channel, 99).await.unwrap(), Outcome::Recorded);
    assert_eq!(ledger.confirm_receipt(channel, 1).await.unwrap(), Outcome::AlreadyKnown);
    assert!(ledger.unconfirmed_receipts(channel).await.unwrap().is_empty());
    let unbilled = ledger.unbilled_requests(channel).await.unwrap();
    assert_eq!(unbilled.len(), 1);
    assert_eq!(
        (unbilled[0].request.clone(), unbilled[0].authorized),
        (pair.request(1), amount(200))
    );
    let linked = ledger.own_request(second).await.unwrap().unwrap();
    assert!(linked.billed && linked.abandoned.is_none());
    assert!(ledger.own_request(hash_of(&pair, 9)).await.unwrap().is_none());
}

async fn an_abandoned_request_frees_what_it_held(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = buying(on, &pair, 5_000).await;
    ledger.begin_request(own(&pair, 1, Some(100), 100)).await.unwrap();
    let request = hash_of(&pair, 1);
    assert_eq!(
        ledger.abandon(request, "refused".into()).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger.abandon(request, "refused".into()).await.unwrap(),
        Outcome::AlreadyKnown
    );
    assert_eq!(ledger.spent_since(pair.token, NOW).await.unwrap(), amount(0));
    // What is signed stays signed.
    assert_eq!(ledger.signed_since(pair.token, NOW).await.unwrap(), amount(100));
    let purchases = ledger.purchases(channel).await.unwrap();
    assert_eq!((purchases.authorized, purchases.spent), (amount(100), amount(0)));
    let refused = ledger
        .authorize(pair.voucher(200), request, amount(200), Budget::UNLIMITED, NOW)
        .await
        .unwrap_err();
    assert!(matches!(refused, BuyError::Abandoned { .. }), "{refused}");
    assert!(ledger.unbilled_requests(channel).await.unwrap().is_empty());
    let refused = ledger.abandon(hash_of(&pair, 9), "no".into()).await.unwrap_err();
    assert!(matches!(refused, BuyError::UnknownRequest), "{refused}");

    // It was served after all: paying for it is still possible, once.
    let receipt = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 60));
    assert_eq!(
        ledger.link(receipt, None, Budget::UNLIMITED, NOW).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(ledger.spent_since(pair.token, NOW).await.unwrap(), amount(60));
    assert_eq!(ledger.signed_since(pair.token, NOW).await.unwrap(), amount(100));
    assert_eq!(ledger.purchases(channel).await.unwrap().spent, amount(60));
    let refused = ledger.abandon(request, "no".into()).await.unwrap_err();
    assert!(matches!(refused, BuyError::AlreadyLinked), "{refused}");
}

async fn a_restored_client_adopts_the_receipts_it_lacks(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = buying(on, &pair, 50_000).await;
    ledger.begin_request(own(&pair, 1, Some(100), 100)).await.unwrap();
    ledger.begin_request(own(&pair, 3, Some(200), 100)).await.unwrap();
    // The executor holds two receipts; this store knows of none, and never heard of request 2.
    let first = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 60));
    let second = pair.link(&ReceiptHead::at(first.receipt()), pair.bill(2, 70));
    let adopt = async |receipts: &[&Receipt<Verified>]| {
        let receipts = receipts.iter().map(|&receipt| receipt.clone()).collect();
        ledger.adopt_receipts(channel, receipts, NOW).await
    };
    assert!(
        matches!(adopt(&[&second]).await, Err(BuyError::DoesNotExtend { head: None })),
        "without the one before it"
    );
    assert_eq!(adopt(&[&first, &second]).await.unwrap(), Outcome::Recorded);
    assert_eq!(adopt(&[&first, &second]).await.unwrap(), Outcome::AlreadyKnown);
    assert_eq!(adopt(&[]).await.unwrap(), Outcome::AlreadyKnown);
    let other = pair.link(&ReceiptHead::at(first.receipt()), pair.bill(3, 1));
    let BuyError::DoesNotExtend { head: Some(head) } = adopt(&[&other]).await.unwrap_err() else {
        panic!("went back");
    };
    assert_eq!(*head, second);
    assert_eq!(ledger.head(channel).await.unwrap(), ReceiptHead::at(second.receipt()));
    assert!(ledger.unconfirmed_receipts(channel).await.unwrap().is_empty());
    let third = pair.link(&ReceiptHead::at(second.receipt()), pair.bill(3, 80));
    ledger.link(third, None, Budget::UNLIMITED, NOW).await.unwrap();
    // The first request is paid, and is not paid again.
    let head = ledger.head(channel).await.unwrap();
    let again = ledger
        .link(pair.link(&head, pair.bill(1, 60)), None, Budget::UNLIMITED, NOW)
        .await;
    assert!(matches!(again, Err(BuyError::AlreadyLinked)));
    let purchases = ledger.purchases(channel).await.unwrap();
    assert_eq!((purchases.linked, purchases.billed), (amount(210), amount(210)));
}

async fn withdrawn_receipts_stay_on_record(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (home, ledger) = buying(on, &pair, 50_000).await;
    let mut head = ReceiptHead::empty(channel);
    let mut signed = Vec::new();
    for (nonce, billed) in [(1, 60), (2, 70), (3, 80)] {
        ledger
            .begin_request(own(&pair, nonce, Some(u128::from(nonce) * 100), 100))
            .await
            .unwrap();
        let receipt = pair.link(&head, pair.bill(nonce, billed));
        ledger
            .link(receipt.clone(), None, Budget::UNLIMITED, NOW)
            .await
            .unwrap();
        head = ReceiptHead::at(receipt.receipt());
        signed.push(receipt);
    }
    ledger.confirm_receipt(channel, 1).await.unwrap();
    assert_eq!(ledger.signed_since(pair.token, NOW).await.unwrap(), amount(300));
    assert!(ledger.withdrawn_receipts(channel).await.unwrap().is_empty());

    let withdraw = async || {
        let reason = "the executor holds others".to_owned();
        ledger.withdraw_receipts(channel, reason, NOW).await.unwrap()
    };
    assert_eq!(withdraw().await, Outcome::Recorded);
    assert_eq!(withdraw().await, Outcome::AlreadyKnown);
    let withdrawn = |receipt: &Receipt<Verified>| WithdrawnReceipt {
        receipt: receipt.clone(),
        withdrawn_at: NOW,
        reason: "the executor holds others".to_owned(),
    };
    let mut on_record = vec![withdrawn(&signed[1]), withdrawn(&signed[2])];
    assert_eq!(ledger.withdrawn_receipts(channel).await.unwrap(), on_record);
    assert_eq!(ledger.receipts(channel, 0, 10).await.unwrap(), signed[..1]);
    assert_eq!(
        ledger.head(channel).await.unwrap(),
        ReceiptHead::at(signed[0].receipt())
    );
    assert_eq!(ledger.signed_since(pair.token, NOW).await.unwrap(), amount(300));
    // Both requests may cost their maximum again.
    assert_eq!(
        ledger.spent_since(pair.token, NOW).await.unwrap(),
        amount(60 + 2 * MAXIMUM)
    );
    let open = Account {
        authorized: amount(300),
        spent: amount(60 + 2 * 100),
        billed: amount(60),
        linked: amount(60),
    };
    assert_eq!(ledger.purchases(channel).await.unwrap(), open);
    assert_eq!(ledger.unbilled_requests(channel).await.unwrap().len(), 2);

    // The executor's own continuation is adopted, and the requests are linked behind it, in another order.
    let theirs = pair.link(&ReceiptHead::at(signed[0].receipt()), pair.bill(9, 50));
    ledger.adopt_receipts(channel, vec![theirs.clone()], NOW).await.unwrap();
    let third = pair.link(&ReceiptHead::at(theirs.receipt()), pair.bill(3, 80));
    ledger.link(third.clone(), None, Budget::UNLIMITED, NOW).await.unwrap();
    let second = pair.link(&ReceiptHead::at(third.receipt()), pair.bill(2, 70));
    ledger.link(second.clone(), None, Budget::UNLIMITED, NOW).await.unwrap();
    assert_eq!(ledger.spent_since(pair.token, NOW).await.unwrap(), amount(210));
    assert_eq!(ledger.signed_since(pair.token, NOW).await.unwrap(), amount(300));
    let linked = ledger.purchases(channel).await.unwrap();
    assert_eq!(
        (linked.spent, linked.billed, linked.linked),
        (amount(260), amount(260), amount(260))
    );

    // One request can be withdrawn more than once.
    assert_eq!(withdraw().await, Outcome::Recorded);
    on_record.extend([withdrawn(&third), withdrawn(&second)]);
    ledger.close().await;
    let ledger = home.open().await;
    assert_eq!(ledger.withdrawn_receipts(channel).await.unwrap(), on_record);
    assert_eq!(
        ledger.receipts(channel, 0, 10).await.unwrap(),
        vec![signed[0].clone(), theirs]
    );
}

async fn quality_is_measured_over_the_newest_observations(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = buying(on, &pair, 1).await;
    let operator = pair.operator.address();
    assert_eq!(ledger.quality(operator).await.unwrap(), Quality::default());
    let observation = |outcome, millis, speed| Observation {
        at: UnixSeconds::new(1),
        outcome,
        time_to_first_token: Some(Duration::from_millis(millis)),
        tokens_per_second: Some(speed),
    };
    for millis in [30, 10, 20] {
        ledger
            .observe(operator, observation(ObservedOutcome::Completed, millis, millis as f64))
            .await
            .unwrap();
    }
    let failed = Observation {
        time_to_first_token: None,
        tokens_per_second: None,
        ..observation(ObservedOutcome::Failed, 0, 0.0)
    };
    ledger.observe(operator, failed).await.unwrap();
    let quality = ledger.quality(operator).await.unwrap();
    assert_eq!((quality.observations, quality.success_rate), (4, 0.75));
    assert_eq!(quality.time_to_first_token, Some(Duration::from_millis(20)));
    assert_eq!(quality.tokens_per_second, Some(20.0));

    let refusals = (0..lloom_ledger::QUALITY_WINDOW)
        .map(|_| ledger.observe(operator, observation(ObservedOutcome::Overbilled, 5, f64::NAN)));
    for result in futures::future::join_all(refusals).await {
        result.unwrap();
    }
    let quality = ledger.quality(operator).await.unwrap();
    assert_eq!(
        (quality.observations, quality.success_rate),
        (lloom_ledger::QUALITY_WINDOW, 0.0)
    );
    assert_eq!(quality.tokens_per_second, None);
}

on_both_stores!(
    a_channel_is_known_before_it_is_opened,
    a_purchase_is_counted_from_request_to_receipt,
    an_abandoned_request_frees_what_it_held,
    a_restored_client_adopts_the_receipts_it_lacks,
    withdrawn_receipts_stay_on_record,
    quality_is_measured_over_the_newest_observations
);
