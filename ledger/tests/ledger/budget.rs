use std::time::Duration;

use lloom_ledger::{Budget, BudgetLimit, BuyError, Ledger, OwnRequest};
use lloom_receipts::{ReceiptHead, TokenAmount, UnixSeconds};

use crate::{
    buying::{MAXIMUM, buying, hash_of, own},
    world::{Backend, Home, NOW, Pair, amount, key},
};

const NO_LIMIT: u128 = u128::MAX;
const TOMORROW: UnixSeconds = UnixSeconds::new(NOW.get() + 25 * 3_600);

fn budget(per_request: u128, per_day: u128, per_executor_per_day: u128) -> Budget {
    Budget {
        per_request: amount(per_request),
        per_day: amount(per_day),
        per_executor_per_day: amount(per_executor_per_day),
    }
}

fn per_day(per_day: u128) -> Budget {
    budget(NO_LIMIT, per_day, NO_LIMIT)
}

/// Which limit refused it, what would have been needed, and what was left of that.
type Refused = (BudgetLimit, u128, u128);

fn refusal<T>(outcome: Result<T, BuyError>) -> Option<Refused> {
    match outcome {
        Ok(_) => None,
        Err(BuyError::OverBudget { limit, required, left }) => Some((limit, required.base_units(), left.base_units())),
        Err(error) => panic!("{error}"),
    }
}

async fn begin(ledger: &Ledger, request: OwnRequest, budget: Budget, now: UnixSeconds) -> Option<Refused> {
    refusal(ledger.begin_request(OwnRequest { budget, now, ..request }).await)
}

/// Links the channel's first bill, which is over `billed`.
async fn pay(ledger: &Ledger, pair: &Pair, nonce: u64, billed: u32, budget: Budget) -> Option<Refused> {
    let head = ledger.head(pair.channel()).await.unwrap();
    let receipt = pair.link(&head, pair.bill(nonce, billed));
    refusal(ledger.link(receipt, None, budget, NOW).await)
}

async fn signed(ledger: &Ledger, pair: &Pair, since: UnixSeconds) -> u128 {
    ledger.signed_since(pair.token, since).await.unwrap().base_units()
}

/// A client with two channels, the second with another operator.
async fn buying_on_two(on: Backend) -> (Home, Ledger, Pair, Pair) {
    let here = Pair::new(1, 1);
    let there = Pair {
        operator: key(201),
        ..Pair::new(1, 2)
    };
    let (home, ledger) = buying(on, &here, 50_000).await;
    ledger.record_channel(there.new_channel(50_000)).await.unwrap();
    (home, ledger, here, there)
}

async fn requests_are_begun_where_all_may_cost_their_maximum(on: Backend) {
    let (_home, ledger, here, there) = buying_on_two(on).await;
    let request = |pair: &Pair, nonce| own(pair, nonce, None, 0);
    assert_eq!(
        begin(&ledger, request(&here, 1), budget(1_999, NO_LIMIT, NO_LIMIT), NOW).await,
        Some((BudgetLimit::Request, MAXIMUM, 1_999))
    );
    let tight = budget(2_000, 4_500, 3_000);
    assert_eq!(begin(&ledger, request(&here, 1), tight, NOW).await, None);
    assert_eq!(
        begin(&ledger, request(&here, 2), tight, NOW).await,
        Some((BudgetLimit::ExecutorDay, MAXIMUM, 1_000))
    );
    assert_eq!(begin(&ledger, request(&there, 1), tight, NOW).await, None);
    assert_eq!(
        begin(&ledger, request(&there, 2), budget(2_000, 4_500, NO_LIMIT), NOW).await,
        Some((BudgetLimit::Day, MAXIMUM, 500))
    );
    // A bill of less than the maximum makes room again.
    assert_eq!(pay(&ledger, &here, 1, 600, tight).await, None);
    assert_eq!(signed(&ledger, &here, NOW).await, 600);
    assert_eq!(
        begin(&ledger, request(&here, 2), budget(2_000, 4_599, 3_000), NOW).await,
        Some((BudgetLimit::Day, MAXIMUM, 1_999))
    );
    assert_eq!(
        begin(&ledger, request(&here, 2), budget(2_000, 4_600, 3_000), NOW).await,
        None
    );
    // So does a request that is given up.
    ledger.abandon(hash_of(&there, 1), "refused".into()).await.unwrap();
    assert_eq!(
        begin(&ledger, request(&there, 2), tight, NOW)
            .await
            .map(|(limit, ..)| limit),
        Some(BudgetLimit::Day)
    );
    assert_eq!(
        begin(&ledger, request(&there, 2), budget(2_000, 4_600, 3_000), NOW).await,
        None
    );
}

async fn what_bills_come_to_is_held_too(on: Backend) {
    let (_home, ledger, here, _) = buying_on_two(on).await;
    let yesterday = UnixSeconds::new(NOW.get() - 25 * 3_600);
    let all = own(&here, 1, Some(2 * MAXIMUM), MAXIMUM);
    assert_eq!(begin(&ledger, all, Budget::UNLIMITED, yesterday).await, None);
    // All of it is signed since yesterday: today's answers take nothing that isn't, and are paid all the same.
    ledger.abandon(hash_of(&here, 1), "refused".into()).await.unwrap();
    assert_eq!(
        begin(&ledger, own(&here, 2, None, 0), per_day(MAXIMUM), NOW).await,
        None
    );
    assert_eq!(signed(&ledger, &here, NOW).await, 0);
    assert_eq!(
        begin(&ledger, own(&here, 3, None, 0), per_day(2 * MAXIMUM - 1), NOW).await,
        Some((BudgetLimit::Day, MAXIMUM, MAXIMUM - 1))
    );
}

async fn a_day_later_there_is_room_again(on: Backend) {
    let (_home, ledger, here, there) = buying_on_two(on).await;
    let tight = per_day(MAXIMUM);
    assert_eq!(
        begin(&ledger, own(&here, 1, Some(MAXIMUM), MAXIMUM), tight, NOW).await,
        None
    );
    // Nobody ever bills the second one.
    assert_eq!(
        begin(&ledger, own(&there, 1, None, 0), per_day(2 * MAXIMUM), NOW).await,
        None
    );
    let same_day = NOW.plus(Duration::from_secs(23 * 3_600));
    assert_eq!(
        begin(&ledger, own(&there, 2, None, 0), tight, same_day).await,
        Some((BudgetLimit::Day, MAXIMUM, 0))
    );
    assert_eq!(begin(&ledger, own(&there, 2, None, 0), tight, TOMORROW).await, None);
    assert_eq!(
        (
            signed(&ledger, &here, NOW).await,
            signed(&ledger, &here, TOMORROW).await
        ),
        (MAXIMUM, 0)
    );
}

async fn what_a_voucher_leaves_over_counts_and_pays_for_the_next_answer(on: Backend) {
    let (_home, ledger, here, there) = buying_on_two(on).await;
    let tight = per_day(3_000);
    assert_eq!(
        begin(&ledger, own(&here, 1, Some(MAXIMUM), MAXIMUM), tight, NOW).await,
        None
    );
    assert_eq!(pay(&ledger, &here, 1, 100, tight).await, None);
    // The executor holds a voucher over 2,000 for an answer of 100, and might take it all.
    assert_eq!(signed(&ledger, &here, NOW).await, MAXIMUM);
    assert_eq!(
        begin(&ledger, own(&there, 1, None, 0), tight, NOW).await,
        Some((BudgetLimit::Day, MAXIMUM, 1_000))
    );
    // With the same executor 1,900 of it are there to be used.
    let next = own(&here, 2, Some(MAXIMUM + 100), MAXIMUM);
    assert_eq!(begin(&ledger, next, tight, NOW).await, None);
    assert_eq!(signed(&ledger, &here, NOW).await, MAXIMUM + 100);
}

async fn vouchers_that_grow_are_counted_as_they_grow(on: Backend) {
    let (home, ledger, here, there) = buying_on_two(on).await;
    let tight = per_day(MAXIMUM + 500);
    assert_eq!(begin(&ledger, own(&here, 1, Some(100), 100), tight, NOW).await, None);
    let request = hash_of(&here, 1);
    for cumulative in [400, 400, 900] {
        ledger
            .authorize(here.voucher(cumulative), request, amount(cumulative), tight, NOW)
            .await
            .unwrap();
    }
    assert_eq!(signed(&ledger, &here, NOW).await, 900);
    // What is signed is part of what the request may cost: no more is held for it than before.
    assert_eq!(
        begin(&ledger, own(&there, 1, None, 0), tight, NOW).await,
        Some((BudgetLimit::Day, MAXIMUM, 500))
    );
    ledger.close().await;

    // Whatever else is asked for, nothing is signed beyond the day.
    let ledger = home.open().await;
    let authorized = ledger.authorize(here.voucher(1_000), request, amount(1_000), per_day(999), NOW);
    assert_eq!(refusal(authorized.await), Some((BudgetLimit::Day, 100, 99)));
    assert_eq!(ledger.purchases(here.channel()).await.unwrap().authorized, amount(900));
}

async fn a_late_bill_is_paid_only_from_what_the_day_has_left(on: Backend) {
    let (_home, ledger, here, _) = buying_on_two(on).await;
    let tight = per_day(MAXIMUM);
    let begun = |nonce| own(&here, nonce, Some(600), 600);
    assert_eq!(begin(&ledger, begun(1), tight, NOW).await, None);
    ledger
        .abandon(hash_of(&here, 1), "nobody answered".into())
        .await
        .unwrap();
    // What was signed for it pays for the next one.
    assert_eq!(begin(&ledger, begun(2), tight, NOW).await, None);
    assert_eq!(pay(&ledger, &here, 2, 550, tight).await, None);
    assert_eq!(signed(&ledger, &here, NOW).await, 600);
    assert_eq!(
        pay(&ledger, &here, 1, 51, per_day(600)).await,
        Some((BudgetLimit::Day, 1, 0))
    );
    assert_eq!(pay(&ledger, &here, 1, 50, per_day(600)).await, None);
    assert_eq!(signed(&ledger, &here, NOW).await, 600);
}

async fn a_late_bill_takes_nothing_from_an_open_request(on: Backend) {
    let (_home, ledger, here, there) = buying_on_two(on).await;
    let tight = per_day(MAXIMUM + 60);
    assert_eq!(begin(&ledger, own(&here, 1, None, 0), tight, NOW).await, None);
    ledger
        .abandon(hash_of(&here, 1), "nobody answered".into())
        .await
        .unwrap();
    assert_eq!(begin(&ledger, own(&there, 1, Some(100), 100), tight, NOW).await, None);
    assert_eq!(
        pay(&ledger, &here, 1, 61, tight).await,
        Some((BudgetLimit::Day, 61, 60))
    );
    assert_eq!(pay(&ledger, &here, 1, 60, tight).await, None);
    // All that the other may cost can still be signed.
    let grown = ledger.authorize(there.voucher(MAXIMUM), hash_of(&there, 1), amount(MAXIMUM), tight, NOW);
    assert_eq!(refusal(grown.await), None);
}

async fn what_a_lost_copy_signed_counts_when_it_is_learned(on: Backend) {
    let (_home, ledger, here, there) = buying_on_two(on).await;
    let theirs = here.link(&ReceiptHead::empty(here.channel()), here.bill(1, 700));
    ledger.adopt_receipts(here.channel(), vec![theirs], NOW).await.unwrap();
    assert_eq!(signed(&ledger, &here, NOW).await, 700);
    assert_eq!(
        begin(&ledger, own(&there, 1, None, 0), per_day(MAXIMUM + 699), NOW).await,
        Some((BudgetLimit::Day, MAXIMUM, 1_999))
    );
}

async fn ten_requests_at_once_do_not_overrun_the_budget(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = buying(on, &pair, 50_000).await;
    let begun = futures::future::join_all((1..=10).map(|nonce| {
        ledger.begin_request(OwnRequest {
            budget: per_day(3 * MAXIMUM + 1),
            ..own(&pair, nonce, None, 0)
        })
    }))
    .await;
    assert_eq!(begun.iter().filter(|result| result.is_ok()).count(), 3);
    assert_eq!(ledger.signed_since(pair.token, NOW).await.unwrap(), TokenAmount::ZERO);
}

on_both_stores!(
    requests_are_begun_where_all_may_cost_their_maximum,
    what_bills_come_to_is_held_too,
    a_day_later_there_is_room_again,
    what_a_voucher_leaves_over_counts_and_pays_for_the_next_answer,
    vouchers_that_grow_are_counted_as_they_grow,
    a_late_bill_is_paid_only_from_what_the_day_has_left,
    a_late_bill_takes_nothing_from_an_open_request,
    what_a_lost_copy_signed_counts_when_it_is_learned;
    racing: ten_requests_at_once_do_not_overrun_the_budget
);
