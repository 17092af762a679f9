//! An executor's side of towers: what is to be handed to them, and what they have signed.

use std::time::Duration;

use alloy::primitives::Address;
use lloom_ledger::{AuthorizationRef, ChainEventKind, Ledger, StandingRefusal, TOWER_SILENCE, TowerRecord};
use lloom_receipts::{Signed, TowerAppointment, UnixSeconds, Verified};

use crate::{
    beside::{beside, no_signature},
    world::{Backend, Home, NOW, Pair, amount, domain, key, mine, serving},
};

const SOON: UnixSeconds = NOW;

pub fn appointment(tower: u8, pair: &Pair, claim: u128) -> TowerAppointment {
    TowerAppointment {
        channel: pair.channel(),
        tower: key(tower).address(),
        operator: pair.operator.address(),
        ceiling: amount(claim),
        claim: amount(claim),
        minimum_value: amount(10),
        max_fee_per_gas: 1,
        taken_at: NOW,
        expires_at: NOW.plus(Duration::from_secs(1_000)),
    }
}

fn signed(tower: u8, appointment: TowerAppointment) -> Signed<TowerAppointment, Verified> {
    key(tower).sign(&domain(), appointment)
}

pub async fn record(ledger: &Ledger, tower: u8, appointment: TowerAppointment) {
    ledger
        .record_appointments(key(tower).address(), vec![signed(tower, appointment)], NOW)
        .await
        .unwrap();
}

pub fn refusal(pair: &Pair) -> StandingRefusal {
    StandingRefusal {
        channel: pair.channel(),
        claim: amount(80),
        reason: "it is full".to_owned(),
        since: NOW,
    }
}

async fn claims_for(ledger: &Ledger, tower: u8, pair: &Pair) -> Vec<u128> {
    let undelegated = ledger
        .undelegated(key(tower).address(), pair.payee, SOON, None, 10)
        .await
        .unwrap();
    let claims = undelegated.iter().map(|found| found.delegation.claim.base_units());
    claims.collect()
}

/// A store that has billed 80 of a voucher over 100.
async fn billed(on: Backend, pair: &Pair) -> (Home, Ledger) {
    let (home, ledger) = serving(on, pair, 1_000).await;
    ledger.accept_request(pair.accept(1, Some(100), 100)).await.unwrap();
    ledger.commit_bill(pair.bill(1, 80)).await.unwrap();
    (home, ledger)
}

async fn what_each_tower_lacks_is_what_was_billed_and_it_has_not_signed(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = billed(on, &pair).await;
    assert_eq!(claims_for(&ledger, 71, &pair).await, [80]);
    record(&ledger, 71, appointment(71, &pair, 80)).await;
    assert!(claims_for(&ledger, 71, &pair).await.is_empty());
    assert_eq!(
        claims_for(&ledger, 72, &pair).await,
        [80],
        "another tower's word is its own"
    );

    ledger.accept_request(pair.accept(2, Some(200), 100)).await.unwrap();
    assert!(
        claims_for(&ledger, 71, &pair).await.is_empty(),
        "slack is not to be claimed"
    );
    ledger.commit_bill(pair.bill(2, 50)).await.unwrap();
    let lacking = ledger
        .undelegated(key(71).address(), pair.payee, SOON, None, 10)
        .await
        .unwrap();
    assert_eq!(lacking[0].delegation.claim, amount(130));
    assert_eq!(lacking[0].delegation.voucher, pair.voucher(200));
    assert_eq!(lacking[0].channel.parameters, pair.parameters);

    // Somebody claimed it: nothing is to be defended.
    let settled = ChainEventKind::Settled {
        channel: pair.channel(),
        settled: amount(130),
    };
    mine(&ledger, vec![settled]).await;
    assert!(claims_for(&ledger, 72, &pair).await.is_empty());
}

async fn never_hands_over_a_voucher_the_chain_refused(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = billed(on, &pair).await;
    ledger.accept_request(pair.accept(2, Some(150), 60)).await.unwrap();
    let newest = AuthorizationRef::Voucher { amount: amount(150) };
    ledger
        .set_unusable(pair.channel(), newest, "refused".into())
        .await
        .unwrap();
    let lacking = ledger
        .undelegated(key(71).address(), pair.payee, SOON, None, 10)
        .await
        .unwrap();
    assert_eq!(lacking[0].delegation.voucher, pair.voucher(100));
}

async fn a_voucher_that_the_disk_has_changed_keeps_no_other_from_towers(on: Backend) {
    let pairs: Vec<Pair> = (1..=5).map(|payer| Pair::new(payer, 1)).collect();
    let (home, ledger) = serving(on, &pairs[0], 1_000).await;
    mine(&ledger, pairs[1..].iter().map(|pair| pair.opened(1_000)).collect()).await;
    // The greatest amounts are what is damaged: of the first channel all it has, of the second its best, of the third two.
    for (pair, vouchers) in pairs
        .iter()
        .zip([&[900][..], &[70, 800], &[60, 700, 710], &[50], &[40]])
    {
        for (voucher, nonce) in vouchers.iter().zip(1..) {
            ledger
                .accept_request(pair.accept(nonce, Some(*voucher), 10))
                .await
                .unwrap();
        }
        for nonce in 1..=vouchers.len() as u64 {
            ledger.commit_bill(pair.bill(nonce, 10)).await.unwrap();
        }
    }
    beside(&home)
        .await
        .run(&format!(
            "UPDATE vouchers SET signature = {} WHERE amount IN (SELECT amount FROM vouchers ORDER BY amount DESC LIMIT 4)",
            no_signature(on)
        ))
        .await;

    let mut expected = vec![
        (pairs[1].channel(), pairs[1].voucher(70)),
        (pairs[2].channel(), pairs[2].voucher(60)),
        (pairs[3].channel(), pairs[3].voucher(50)),
        (pairs[4].channel(), pairs[4].voucher(40)),
    ];
    expected.sort_by_key(|(channel, _)| *channel);
    // Whoever asks for a page takes a short one for the last.
    for limit in 1..=5 {
        let mut found = Vec::new();
        loop {
            let after = found.last().map(|(channel, _)| *channel);
            let page = ledger
                .undelegated(key(71).address(), pairs[0].payee, SOON, after, limit)
                .await
                .unwrap();
            let vouchers = page
                .iter()
                .map(|found| (found.channel.id, found.delegation.voucher.clone()));
            found.extend(vouchers);
            if page.len() < limit as usize {
                break;
            }
        }
        assert_eq!(found, expected, "{limit} at a time");
    }

    // What the tower has of a channel is not handed over again.
    let mut known = appointment(71, &pairs[1], 20);
    known.ceiling = amount(800);
    record(&ledger, 71, known).await;
    let lacking = ledger
        .undelegated(key(71).address(), pairs[0].payee, SOON, None, 10)
        .await
        .unwrap();
    assert_eq!(lacking.len(), 3);
    assert!(lacking.iter().all(|found| found.channel.id != pairs[1].channel()));
}

async fn an_appointment_that_the_disk_has_changed_is_passed_over(on: Backend) {
    let pairs: Vec<Pair> = (1..=3).map(|payer| Pair::new(payer, 1)).collect();
    let (home, ledger) = serving(on, &pairs[0], 1_000).await;
    mine(&ledger, pairs[1..].iter().map(|pair| pair.opened(1_000)).collect()).await;
    for (pair, claim) in pairs.iter().zip([50, 60, 900]) {
        record(&ledger, 71, appointment(71, pair, claim)).await;
    }
    beside(&home)
        .await
        .run(&format!(
            "UPDATE appointments SET signature = {} WHERE claim = (SELECT max(claim) FROM appointments)",
            no_signature(on)
        ))
        .await;
    let mut expected = vec![pairs[0].channel(), pairs[1].channel()];
    expected.sort();
    for limit in [1, 2, 3] {
        let mut found = Vec::new();
        loop {
            let page = ledger.appointments(key(71).address(), found.last().copied(), limit);
            let page = page.await.unwrap();
            found.extend(page.iter().map(|record| record.appointment.document().channel));
            if page.len() < limit as usize {
                break;
            }
        }
        assert_eq!(found, expected, "{limit} at a time");
    }
}

async fn pages_and_renewals(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = billed(on, &pair).await;
    let tower = key(71).address();
    let page = |after| ledger.undelegated(tower, pair.payee, SOON, after, 10);
    assert_eq!(page(None).await.unwrap().len(), 1);
    assert!(page(Some(pair.channel())).await.unwrap().is_empty());

    record(&ledger, 71, appointment(71, &pair, 80)).await;
    let expires_at = appointment(71, &pair, 80).expires_at;
    let expiring = |by| ledger.undelegated(tower, pair.payee, by, None, 10);
    assert!(expiring(expires_at).await.unwrap().is_empty());
    let after = expires_at.plus(Duration::from_secs(1));
    assert_eq!(expiring(after).await.unwrap().len(), 1);
    let mut renewed = appointment(71, &pair, 80);
    renewed.taken_at = NOW.plus(Duration::from_secs(500));
    renewed.expires_at = NOW.plus(Duration::from_secs(9_000));
    record(&ledger, 71, renewed).await;
    assert!(expiring(after).await.unwrap().is_empty());
    // One that comes late takes nothing back.
    record(&ledger, 71, appointment(71, &pair, 80)).await;
    record(&ledger, 71, appointment(71, &pair, 70)).await;
    let kept = ledger.appointments_of(pair.channel()).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].appointment, signed(71, renewed));
    assert_eq!(ledger.appointments(tower, None, 10).await.unwrap(), kept);
    assert!(
        ledger
            .appointments(tower, Some(pair.channel()), 10)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn value_at_risk_counts_the_best_promise_that_stands(on: Backend) {
    let (pair, other) = (Pair::new(1, 1), Pair::new(1, 2));
    let (_home, ledger) = billed(on, &pair).await;
    mine(&ledger, vec![other.opened(1_000)]).await;
    ledger.accept_request(other.accept(7, Some(40), 40)).await.unwrap();
    ledger.commit_bill(other.bill(7, 40)).await.unwrap();
    let risk = async |now| ledger.value_at_risk(pair.payee, pair.token, now).await.unwrap();
    let before = risk(NOW).await;
    assert_eq!((before.claimable, before.uncovered()), (amount(120), amount(120)));
    assert_eq!((before.channels, before.uncovered_channels), (2, 2));

    record(&ledger, 71, appointment(71, &pair, 60)).await;
    record(&ledger, 72, appointment(72, &pair, 80)).await;
    record(&ledger, 72, appointment(72, &other, 30)).await;
    let some = risk(NOW).await;
    assert_eq!((some.covered, some.uncovered()), (amount(110), amount(10)));
    assert_eq!(some.uncovered_channels, 1);
    let expires_at = appointment(72, &pair, 80).expires_at;
    for tower in [71, 72] {
        let heard = ledger.record_appointments(key(tower).address(), Vec::new(), expires_at);
        heard.await.unwrap();
    }
    assert_eq!(
        risk(expires_at).await.covered,
        amount(0),
        "nothing is promised for later"
    );
    // A promise below the tower's own minimum is none.
    let settled = ChainEventKind::Settled {
        channel: other.channel(),
        settled: amount(21),
    };
    mine(&ledger, vec![settled]).await;
    let left = risk(NOW).await;
    assert_eq!((left.claimable, left.covered), (amount(99), amount(80)));
    assert_eq!(
        ledger.value_at_risk(Address::ZERO, pair.token, NOW).await.unwrap(),
        Default::default()
    );
}

async fn what_a_tower_lost_is_handed_over_again_and_counts_as_uncovered(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = billed(on, &pair).await;
    let tower = key(71).address();
    record(&ledger, 71, appointment(71, &pair, 80)).await;
    ledger
        .mark_appointments_lost(tower, pair.operator.address(), vec![pair.channel()], NOW)
        .await
        .unwrap();
    assert_eq!(claims_for(&ledger, 71, &pair).await, [80]);
    let risk = ledger.value_at_risk(pair.payee, pair.token, NOW).await.unwrap();
    assert_eq!(risk.uncovered(), amount(80));
    let kept = ledger.appointments_of(pair.channel()).await.unwrap();
    assert_eq!(kept[0].lost_at, Some(NOW), "the proof stays");
    record(&ledger, 71, appointment(71, &pair, 80)).await;
    assert!(claims_for(&ledger, 71, &pair).await.is_empty());
}

async fn what_a_tower_has_signed_for_another_operator_since_is_not_lost(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = billed(on, &pair).await;
    let tower = key(71).address();
    record(&ledger, 71, appointment(71, &pair, 80)).await;
    let others = TowerAppointment {
        operator: key(72).address(),
        ..appointment(71, &pair, 80)
    };
    record(&ledger, 71, others).await;
    ledger
        .mark_appointments_lost(tower, pair.operator.address(), vec![pair.channel()], NOW)
        .await
        .unwrap();
    assert_eq!(ledger.appointments_of(pair.channel()).await.unwrap()[0].lost_at, None);
    assert!(claims_for(&ledger, 71, &pair).await.is_empty());
}

async fn a_tower_that_was_not_heard_for_a_while_covers_nothing(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = billed(on, &pair).await;
    let tower = key(71).address();
    record(&ledger, 71, appointment(71, &pair, 80)).await;
    let covered = async |now| {
        let risk = ledger.value_at_risk(pair.payee, pair.token, now).await.unwrap();
        let record = ledger.towers().await.unwrap().remove(0);
        assert_eq!(record.is_heard(now), !risk.covered.is_zero());
        risk.covered
    };
    let last = NOW.plus(TOWER_SILENCE);
    let silent = last.plus(Duration::from_secs(1));
    assert_eq!(covered(last).await, amount(80));
    assert_eq!(covered(silent).await, amount(0));
    // That it does not answer is no answer.
    ledger.record_tower_problem(tower, "no answer".into()).await.unwrap();
    assert_eq!(covered(silent).await, amount(0));
    ledger.record_appointments(tower, Vec::new(), silent).await.unwrap();
    assert_eq!(covered(silent).await, amount(80));
}

async fn a_refusal_stands_until_its_channel_is_taken_on_or_has_nothing_left_to_defend(on: Backend) {
    let (pair, other) = (Pair::new(1, 1), Pair::new(1, 2));
    let (_home, ledger) = billed(on, &pair).await;
    mine(&ledger, vec![other.opened(1_000)]).await;
    ledger.accept_request(other.accept(7, Some(80), 80)).await.unwrap();
    ledger.commit_bill(other.bill(7, 80)).await.unwrap();
    let tower = key(71).address();
    let standing = async || ledger.refusals(tower, None, 10).await.unwrap();
    let refuse = async |refusals: Vec<StandingRefusal>| ledger.record_refusals(tower, refusals).await.unwrap();
    let both = || {
        let mut both = vec![refusal(&pair), refusal(&other)];
        both.sort_by_key(|refusal| refusal.channel);
        both
    };
    refuse(both()).await;
    assert_eq!(standing().await, both());
    let after = ledger.refusals(tower, Some(both()[0].channel), 10).await.unwrap();
    assert_eq!(after, both()[1..]);
    assert!(ledger.refusals(key(72).address(), None, 10).await.unwrap().is_empty());

    // Neither a good answer about something else ends it, nor does another reason make it a new one.
    ledger.record_appointments(tower, Vec::new(), NOW).await.unwrap();
    record(&ledger, 71, appointment(71, &other, 80)).await;
    assert_eq!(standing().await, [refusal(&pair)]);
    let again = StandingRefusal {
        reason: "it is too late".to_owned(),
        since: NOW.plus(Duration::from_secs(9)),
        ..refusal(&pair)
    };
    refuse(vec![again.clone()]).await;
    assert_eq!(standing().await, [StandingRefusal { since: NOW, ..again }]);

    let settled = ChainEventKind::Settled {
        channel: pair.channel(),
        settled: amount(80),
    };
    mine(&ledger, vec![settled]).await;
    assert!(standing().await.is_empty());
    // As long as there is more to defend, it is not moot.
    ledger.accept_request(pair.accept(2, Some(200), 100)).await.unwrap();
    ledger.commit_bill(pair.bill(2, 50)).await.unwrap();
    assert_eq!(standing().await.len(), 1);
    let closed = ChainEventKind::Closed {
        channel: pair.channel(),
        settled: amount(80),
        refunded: amount(920),
    };
    mine(&ledger, vec![closed]).await;
    assert!(standing().await.is_empty());
}

async fn how_towers_did_is_remembered(on: Backend) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    let address = key(71).address();
    ledger.record_tower_problem(address, "no answer".into()).await.unwrap();
    let later = NOW.plus(Duration::from_secs(9));
    ledger.record_tower_fault(address, "it lied".into(), NOW).await.unwrap();
    let noted = |heard_at, problem: Option<&str>| TowerRecord {
        address,
        heard_at,
        problem: problem.map(str::to_owned),
        fault: Some(("it lied".into(), NOW)),
    };
    assert_eq!(ledger.towers().await.unwrap(), [noted(None, Some("no answer"))]);
    // An answer ends a problem; a lie was told for ever.
    ledger.record_appointments(address, Vec::new(), later).await.unwrap();
    assert_eq!(ledger.towers().await.unwrap(), [noted(Some(later), None)]);
}

on_both_stores!(
    what_each_tower_lacks_is_what_was_billed_and_it_has_not_signed,
    never_hands_over_a_voucher_the_chain_refused,
    a_voucher_that_the_disk_has_changed_keeps_no_other_from_towers,
    an_appointment_that_the_disk_has_changed_is_passed_over,
    pages_and_renewals,
    value_at_risk_counts_the_best_promise_that_stands,
    what_a_tower_lost_is_handed_over_again_and_counts_as_uncovered,
    what_a_tower_has_signed_for_another_operator_since_is_not_lost,
    a_tower_that_was_not_heard_for_a_while_covers_nothing,
    a_refusal_stands_until_its_channel_is_taken_on_or_has_nothing_left_to_defend,
    how_towers_did_is_remembered
);
