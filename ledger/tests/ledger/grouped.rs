//! What is done together comes to what it comes to one by one: requests that are begun, and requests that are taken on.

use lloom_ledger::{AcceptRequest, Budget, ExposurePolicy, Ledger, OwnRequest};

use crate::{
    beside::{contents, together},
    world::{Backend, Home, NOW, Pair, amount, mine, mine_with, salt, serving},
};

fn said<T: std::fmt::Debug>(answers: &[T]) -> Vec<String> {
    answers.iter().map(|answer| format!("{answer:?}")).collect()
}

/// Two channels of one payer and one of another, open; one more whose opening is not confirmed.
fn pairs() -> [Pair; 4] {
    [Pair::new(1, 1), Pair::new(1, 2), Pair::new(2, 3), Pair::new(3, 4)]
}

async fn requests_are_taken_on_together_as_one_by_one(on: Backend) {
    let [left, sibling, right, unconfirmed] = pairs();
    let credit = ExposurePolicy {
        start: amount(100),
        per_mille_of_settled: 0,
        maximum: amount(100),
    };
    let on_credit = |pair: &Pair, nonce, voucher, reserve| AcceptRequest {
        exposure: credit,
        ..pair.accept(nonce, voucher, reserve)
    };
    let stranger = Pair::new(8, 8);
    let asked = [
        (left.accept(1, Some(100), 100), "Ok(Recorded)"),
        (left.accept(1, Some(100), 100), "Ok(AlreadyKnown)"),
        (left.accept(2, Some(300), 100), "Ok(Recorded)"),
        // Covered by the voucher before it, which has overtaken its own.
        (left.accept(3, Some(200), 100), "Ok(Recorded)"),
        (
            left.accept(4, Some(250), 100),
            "Err(VoucherNotIncreasing { best: TokenAmount(300) })",
        ),
        (
            left.accept(5, None, 1),
            "Err(Uncovered { required: TokenAmount(301), authorized: TokenAmount(300), deposit: TokenAmount(1000) })",
        ),
        (
            left.accept(6, Some(1_001), 1),
            "Err(VoucherOverDeposit { deposit: TokenAmount(1000) })",
        ),
        // 60 on trust here, so 40 are left for the payer's other channel.
        (on_credit(&left, 7, None, 60), "Ok(Recorded)"),
        (
            on_credit(&sibling, 1, None, 41),
            "Err(Uncovered { required: TokenAmount(1), authorized: TokenAmount(0), deposit: TokenAmount(1000) })",
        ),
        (on_credit(&sibling, 2, None, 40), "Ok(Recorded)"),
        (
            on_credit(&left, 8, None, 1),
            "Err(Uncovered { required: TokenAmount(301), authorized: TokenAmount(300), deposit: TokenAmount(1000) })",
        ),
        (right.accept(1, Some(50), 50), "Ok(Recorded)"),
        (right.accept(2, Some(100), 50), "Ok(Recorded)"),
        (unconfirmed.accept(1, Some(50), 50), "Err(Unconfirmed)"),
        (stranger.accept(1, Some(50), 50), "Err(UnknownChannel)"),
        (left.accept(9, Some(460), 100), "Ok(Recorded)"),
    ];
    let mut stores = Vec::new();
    for _ in 0..2 {
        let (home, ledger) = serving(on, &left, 1_000).await;
        mine(&ledger, vec![sibling.opened(1_000), right.opened(1_000)]).await;
        mine_with(&ledger, vec![unconfirmed.opened(1_000)], false).await;
        stores.push((home, ledger));
    }
    let requests: Vec<_> = asked.iter().map(|(request, _)| request.clone()).collect();
    let calls = requests
        .clone()
        .into_iter()
        .map(|request| stores[0].1.accept_request(request));
    let (at_once, commits) = together(&stores[0].0, calls).await;
    let mut singly = Vec::new();
    for request in requests {
        singly.push(stores[1].1.accept_request(request).await);
    }
    assert!(commits <= 2, "{commits} commits");
    assert_eq!(said(&at_once), asked.map(|(_, expected)| expected));
    assert_eq!(said(&at_once), said(&singly));
    assert_eq!(contents(&stores[0].0).await, contents(&stores[1].0).await);
}

async fn requests_are_begun_together_as_one_by_one(on: Backend) {
    let [left, sibling, right, _] = pairs();
    let own = |pair: &Pair, nonce, voucher: Option<u128>, authorized, per_day| OwnRequest {
        request: pair.request(nonce),
        content_salt: salt(),
        voucher: voucher.map(|cumulative| pair.voucher(cumulative)),
        authorized: amount(authorized),
        budget: Budget {
            per_day: amount(per_day),
            ..Budget::UNLIMITED
        },
        now: NOW,
    };
    // A request costs 2,000 at most.
    let asked = [
        (own(&left, 1, Some(100), 100, 9_000), "Ok(())"),
        (own(&left, 1, Some(200), 100, 9_000), "Err(NonceUsed)"),
        (own(&left, 2, Some(300), 200, 9_000), "Ok(())"),
        (
            own(&left, 3, Some(300), 2_001, 9_000),
            "Err(OverMaximum { maximum: TokenAmount(2000) })",
        ),
        (
            own(&left, 4, Some(1_001), 100, 9_000),
            "Err(VoucherOverDeposit { deposit: TokenAmount(1000) })",
        ),
        (own(&sibling, 1, Some(100), 100, 9_000), "Ok(())"),
        (own(&right, 1, Some(100), 100, 9_000), "Ok(())"),
        (
            own(&left, 5, Some(400), 100, 9_000),
            "Err(OverBudget { limit: Day, required: TokenAmount(2000), left: TokenAmount(1000) })",
        ),
        (own(&left, 6, None, 0, 10_000), "Ok(())"),
        (own(&Pair::new(8, 8), 1, None, 0, 20_000), "Err(UnknownChannel)"),
    ];
    let mut stores = Vec::new();
    for _ in 0..2 {
        let home = Home::new(on).await;
        let ledger: Ledger = home.open().await;
        for pair in [&left, &sibling, &right] {
            ledger.record_channel(pair.new_channel(1_000)).await.unwrap();
        }
        stores.push((home, ledger));
    }
    let requests: Vec<_> = asked.iter().map(|(request, _)| request.clone()).collect();
    let calls = requests
        .clone()
        .into_iter()
        .map(|request| stores[0].1.begin_request(request));
    let (at_once, commits) = together(&stores[0].0, calls).await;
    let mut singly = Vec::new();
    for request in requests {
        singly.push(stores[1].1.begin_request(request).await);
    }
    assert!(commits <= 2, "{commits} commits");
    assert_eq!(said(&at_once), asked.map(|(_, expected)| expected));
    assert_eq!(said(&at_once), said(&singly));
    assert_eq!(contents(&stores[0].0).await, contents(&stores[1].0).await);
}

on_both_stores!(
    requests_are_taken_on_together_as_one_by_one,
    requests_are_begun_together_as_one_by_one
);
