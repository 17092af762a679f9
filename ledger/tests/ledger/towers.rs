//! A tower's side: what it takes on, what it refuses, and what it lets go of.

use std::time::Duration;

use alloy::primitives::Address;
use lloom_ledger::{
    CLAIM_TAKES, ChainEventKind, CommittedAppointment, Delegation, DelegationRefusal, HELD_VOUCHER_BYTES,
    HELD_VOUCHERS_PER_CHANNEL, Ledger, ObligationPolicy, Outcome, SettleError, TakeOn, TowerQuotas, TowerTerms,
};
use lloom_receipts::{BlockNumber, TokenAmount};

use crate::{
    beside::{beside, no_signature},
    world::{Backend, Home, NOW, Pair, amount, block, event, key, mine, mine_with},
};

const GRACE: Duration = Duration::from_secs(3_600);
const TERM: Duration = Duration::from_secs(1_000_000);

fn tower() -> Address {
    key(77).address()
}

pub fn named(pair: &Pair) -> ChainEventKind {
    ChainEventKind::OperatorAdded {
        payee: pair.payee,
        operator: pair.operator.address(),
    }
}

fn delegation(pair: &Pair, ceiling: u128, claim: u128) -> Delegation {
    Delegation {
        voucher: pair.voucher(ceiling),
        claim: amount(claim),
    }
}

fn asked(pair: &Pair, delegations: Vec<Delegation>) -> TakeOn {
    TakeOn {
        tower: tower(),
        operator: pair.operator.address(),
        delegations,
        terms: TowerTerms {
            token: pair.token,
            minimum_value: amount(10),
            max_fee_per_gas: 500,
            term: TERM,
        },
        quotas: TowerQuotas {
            operators: 8,
            channels_per_operator: 8,
            bytes: 1 << 20,
        },
        grace: GRACE,
        now: NOW,
    }
}

async fn take(ledger: &Ledger, take_on: TakeOn) -> Result<CommittedAppointment, DelegationRefusal> {
    let mut answers = ledger.take_on(take_on).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub async fn hand_over(
    ledger: &Ledger,
    pair: &Pair,
    ceiling: u128,
    claim: u128,
) -> Result<CommittedAppointment, DelegationRefusal> {
    take(ledger, asked(pair, vec![delegation(pair, ceiling, claim)])).await
}

/// A tower's store that has followed the chain of `pairs`, each channel with a deposit of 1,000.
async fn following(on: Backend, pairs: &[&Pair]) -> (Home, Ledger) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    let mut kinds = vec![named(pairs[0])];
    kinds.extend(pairs.iter().map(|pair| pair.opened(1_000)));
    mine(&ledger, kinds).await;
    (home, ledger)
}

async fn held_claim(ledger: &Ledger, pair: &Pair) -> Option<TokenAmount> {
    let held = ledger.held_channel(pair.channel()).await.unwrap();
    held.map(|held| held.claimable.amount())
}

async fn what_was_taken_on_is_there_after_a_crash_and_is_answered_with_the_same_appointment(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, ledger) = following(on, &[&pair]).await;
    let first = hand_over(&ledger, &pair, 120, 100).await.unwrap();
    assert_eq!(first.outcome(), Outcome::Recorded);
    assert_eq!(first.voucher(), &pair.voucher(120));
    let appointment = first.appointment();
    assert_eq!((appointment.ceiling, appointment.claim), (amount(120), amount(100)));
    assert_eq!(
        (appointment.tower, appointment.operator),
        (tower(), pair.operator.address())
    );
    assert_eq!(appointment.expires_at, NOW.plus(TERM));

    // Killed between storing and signing: the executor never heard of it, and asks again, later.
    ledger.close().await;
    let ledger = home.open().await;
    let mut again = asked(&pair, vec![delegation(&pair, 120, 100)]);
    again.now = NOW.plus(Duration::from_secs(60));
    let again = take(&ledger, again).await.unwrap();
    assert_eq!(
        (again.appointment(), again.outcome()),
        (appointment, Outcome::AlreadyKnown)
    );
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(100)));
    let key = key(77);
    assert_eq!(
        key.sign(&crate::world::domain(), *again.appointment()),
        key.sign(&crate::world::domain(), *appointment)
    );
}

async fn a_lower_amount_is_passed_over_and_a_higher_one_taken(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = following(on, &[&pair]).await;
    hand_over(&ledger, &pair, 200, 150).await.unwrap();
    let older = hand_over(&ledger, &pair, 300, 149).await.unwrap();
    assert_eq!(
        (older.appointment().claim, older.outcome()),
        (amount(150), Outcome::AlreadyKnown)
    );
    // One voucher may cover more than was billed when it was first brought.
    let newer = hand_over(&ledger, &pair, 200, 180).await.unwrap();
    assert_eq!(
        (newer.appointment().claim, newer.outcome()),
        (amount(180), Outcome::Recorded)
    );
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(180)));
}

async fn every_rule_of_a_delegation_has_its_refusal(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let home = Home::new(on).await;
    let ledger = home.open().await;
    assert_eq!(
        hand_over(&ledger, &pair, 100, 100).await,
        Err(DelegationRefusal::UnknownChannel)
    );
    mine_with(&ledger, vec![pair.opened(1_000)], false).await;
    let not_operator = DelegationRefusal::NotOperator {
        payee: pair.payee,
        operator: pair.operator.address(),
    };
    assert_eq!(hand_over(&ledger, &pair, 100, 100).await, Err(not_operator.clone()));
    mine_with(&ledger, vec![named(&pair)], false).await;
    assert_eq!(
        hand_over(&ledger, &pair, 100, 100).await,
        Err(DelegationRefusal::NotConfirmed)
    );
    mine(&ledger, vec![]).await;
    for (ceiling, claim, refusal) in [
        (99, 100, DelegationRefusal::AboveCeiling { ceiling: amount(99) }),
        (2_000, 1_001, DelegationRefusal::AboveDeposit { deposit: amount(1_000) }),
        (
            9,
            9,
            DelegationRefusal::BelowMinimum {
                minimum: amount(10),
                value: amount(9),
            },
        ),
    ] {
        assert_eq!(hand_over(&ledger, &pair, ceiling, claim).await, Err(refusal));
    }
    // A million of a token that anybody may have made is worth nothing.
    let mut made_up = asked(&pair, vec![delegation(&pair, 1_000, 1_000)]);
    made_up.terms.token = Address::repeat_byte(0x71);
    let token = made_up.terms.token;
    assert_eq!(
        take(&ledger, made_up).await,
        Err(DelegationRefusal::OtherToken { token })
    );
    assert_eq!(
        ledger.held_totals().await.unwrap().channels,
        0,
        "nothing refused is kept"
    );

    let settled = amount(300);
    mine(&ledger, vec![ChainEventKind::Settled { channel, settled }]).await;
    assert_eq!(
        hand_over(&ledger, &pair, 400, 300).await,
        Err(DelegationRefusal::Settled { settled })
    );
    assert!(
        hand_over(&ledger, &pair, 400, 310).await.is_ok(),
        "a voucher may be above what it is claimed for"
    );

    // A payee may bring its own; an operator that was retired may not.
    let retired = ChainEventKind::OperatorRetired {
        payee: pair.payee,
        operator: pair.operator.address(),
    };
    mine(&ledger, vec![retired]).await;
    assert_eq!(hand_over(&ledger, &pair, 400, 350).await, Err(not_operator));
    let mut by_payee = asked(&pair, vec![delegation(&pair, 400, 350)]);
    by_payee.operator = pair.payee;
    assert!(take(&ledger, by_payee.clone()).await.is_ok());

    let voucher = pair.voucher(500);
    by_payee.delegations = vec![delegation(&pair, 500, 500)];
    take(&ledger, by_payee.clone()).await.unwrap();
    ledger
        .set_held_unusable(channel, voucher.document().amount, "refused".into())
        .await
        .unwrap();
    assert_eq!(take(&ledger, by_payee.clone()).await, Err(DelegationRefusal::Unusable));
    mine(
        &ledger,
        vec![ChainEventKind::Closed {
            channel,
            settled,
            refunded: amount(700),
        }],
    )
    .await;
    assert_eq!(take(&ledger, by_payee).await, Err(DelegationRefusal::Finalized));
}

async fn a_refused_delegation_keeps_none_of_its_message_out(on: Backend) {
    let (pair, other) = (Pair::new(1, 1), Pair::new(1, 2));
    let (_home, ledger) = following(on, &[&pair, &other]).await;
    let message = vec![
        delegation(&pair, 2_000, 1_500),
        delegation(&other, 50, 50),
        delegation(&pair, 60, 60),
    ];
    let answers = ledger.take_on(asked(&pair, message)).await.unwrap();
    assert_eq!(
        answers.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [false, true, true]
    );
    let held = ledger.held_for(pair.operator.address(), None, 10).await.unwrap();
    assert_eq!(held.len(), 2);
    let all = ledger.held(None, 10).await.unwrap();
    let expected: Vec<_> = held.iter().map(|held| (pair.operator.address(), *held)).collect();
    assert_eq!(all, expected);
    assert_eq!(ledger.held(Some(held[0].channel), 10).await.unwrap(), expected[1..]);
    let after_first = ledger
        .held_for(pair.operator.address(), Some(held[0].channel), 10)
        .await
        .unwrap();
    assert_eq!(after_first, held[1..]);
    assert!(ledger.held_for(pair.payee, None, 10).await.unwrap().is_empty());
    assert_eq!(ledger.held_channels_of(pair.operator.address()).await.unwrap(), 2);
}

async fn quotas_hold_within_one_message_and_over_several(on: Backend) {
    let pairs: Vec<Pair> = (1..=4).map(|number| Pair::new(1, number)).collect();
    let (_home, ledger) = following(on, &pairs.iter().collect::<Vec<_>>()).await;
    let all = || pairs.iter().map(|pair| delegation(pair, 100, 100)).collect::<Vec<_>>();
    let mut narrow = asked(&pairs[0], all());
    narrow.quotas.channels_per_operator = 2;
    let refused = Err(DelegationRefusal::TooManyChannels { limit: 2 });
    let answers = ledger.take_on(narrow.clone()).await.unwrap();
    assert!(answers[..2].iter().all(Result::is_ok));
    assert_eq!(answers[2..], [refused.clone(), refused.clone()]);
    narrow.delegations = vec![delegation(&pairs[3], 100, 100), delegation(&pairs[0], 200, 200)];
    let answers = ledger.take_on(narrow).await.unwrap();
    assert_eq!(answers[0], refused, "a channel beyond the quota");
    assert!(answers[1].is_ok(), "a channel that is held is not a new one");

    let mut full = asked(&pairs[0], all());
    full.quotas.bytes = 4 * HELD_VOUCHER_BYTES;
    let answers = ledger.take_on(full).await.unwrap();
    assert!(answers[..3].iter().all(Result::is_ok));
    assert_eq!(answers[3], Err(DelegationRefusal::Full { limit: 2_048 }));

    let mut second = asked(&pairs[0], vec![delegation(&pairs[3], 100, 100)]);
    second.operator = pairs[0].payee;
    second.quotas.operators = 1;
    let refused = take(&ledger, second.clone()).await;
    assert_eq!(refused, Err(DelegationRefusal::TooManyOperators { limit: 1 }));
    second.quotas.operators = 2;
    assert!(take(&ledger, second).await.is_ok());
    let totals = ledger.held_totals().await.unwrap();
    assert_eq!((totals.operators, totals.channels), (2, 4));
}

async fn an_unusable_voucher_falls_back_to_the_best_that_is_left(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = following(on, &[&pair]).await;
    for claim in [100, 200, 300] {
        hand_over(&ledger, &pair, claim + 5, claim).await.unwrap();
    }
    let unusable = |ceiling| ledger.set_held_unusable(channel, amount(ceiling), "refused".into());
    assert_eq!(unusable(305).await.unwrap(), Outcome::Recorded);
    assert_eq!(unusable(305).await.unwrap(), Outcome::AlreadyKnown);
    assert!(matches!(unusable(306).await, Err(SettleError::UnknownAuthorization)));
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(200)));
    // Another voucher over the same amount is as good as any.
    hand_over(&ledger, &pair, 310, 300).await.unwrap();
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(300)));
}

async fn a_deposit_that_a_fork_took_back_falls_back_to_what_is_left(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = following(on, &[&pair]).await;
    hand_over(&ledger, &pair, 900, 900).await.unwrap();
    let topped_up = ChainEventKind::ToppedUp {
        channel,
        deposit: amount(2_000),
        close_cancelled: false,
    };
    mine(&ledger, vec![topped_up]).await;
    hand_over(&ledger, &pair, 1_500, 1_500).await.unwrap();
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(1_500)));
    ledger.roll_back(BlockNumber::new(1)).await.unwrap();
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(900)));
    // Even the opening may go; what is held is kept for when it comes back.
    ledger.roll_back(BlockNumber::new(0)).await.unwrap();
    assert_eq!(held_claim(&ledger, &pair).await, None);
    mine(&ledger, vec![pair.opened(1_000)]).await;
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(900)));
}

async fn a_channel_keeps_its_best_vouchers_and_no_more(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = following(on, &[&pair]).await;
    for claim in 1..=20 {
        hand_over(&ledger, &pair, claim * 10 + 1, claim * 10).await.unwrap();
    }
    let totals = ledger.held_totals().await.unwrap();
    assert_eq!(totals.bytes, u64::from(HELD_VOUCHERS_PER_CHANNEL) * HELD_VOUCHER_BYTES);
    for fallen in (17..=20).rev() {
        assert_eq!(held_claim(&ledger, &pair).await, Some(amount(fallen * 10)));
        ledger
            .set_held_unusable(pair.channel(), amount(fallen * 10 + 1), "refused".into())
            .await
            .unwrap();
    }
    assert_eq!(held_claim(&ledger, &pair).await, None);
    // Unusable ones take no usable one's place.
    hand_over(&ledger, &pair, 50, 50).await.unwrap();
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(50)));
}

async fn an_appointment_is_renewed_when_half_of_its_term_is_over_and_nothing_promised_is_taken_back(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = following(on, &[&pair]).await;
    let first = *hand_over(&ledger, &pair, 100, 100).await.unwrap().appointment();
    let mut later = asked(&pair, vec![delegation(&pair, 100, 100)]);
    later.now = NOW.plus(TERM / 2);
    let early = take(&ledger, later.clone()).await.unwrap();
    assert_eq!(*early.appointment(), first);
    later.now = NOW.plus(TERM / 2 + Duration::from_secs(1));
    later.terms.minimum_value = amount(50);
    later.terms.max_fee_per_gas = 1;
    let renewed = *take(&ledger, later.clone()).await.unwrap().appointment();
    assert_eq!(renewed.expires_at, later.now.plus(TERM));
    assert_eq!((renewed.minimum_value, renewed.max_fee_per_gas), (amount(10), 500));
    let held = ledger.held_channel(pair.channel()).await.unwrap().unwrap();
    assert_eq!(held.terms.max_fee_per_gas, 500);
    assert_eq!(ledger.highest_fee_promised().await.unwrap(), Some(500));
    // Better terms hold at once.
    later.terms.minimum_value = amount(5);
    let better = *take(&ledger, later).await.unwrap().appointment();
    assert_eq!((better.minimum_value, better.max_fee_per_gas), (amount(5), 500));
}

async fn a_close_of_a_held_channel_is_an_obligation_whenever_it_was_seen(on: Backend) {
    let (early, late, strange) = (Pair::new(1, 1), Pair::new(1, 2), Pair::new(1, 3));
    let (_home, ledger) = following(on, &[&early, &late, &strange]).await;
    hand_over(&ledger, &early, 100, 100).await.unwrap();
    assert!(ledger.held_closing().await.unwrap().is_empty());
    let nobodys = ObligationPolicy {
        payees: Vec::new(),
        grace: GRACE,
    };
    let requests = [&early, &late, &strange].into_iter().zip(0..).map(|(pair, log)| {
        let kind = ChainEventKind::CloseRequested {
            channel: pair.channel(),
            requested_at: NOW,
        };
        event(2, 0, log, kind)
    });
    ledger
        .apply_blocks(vec![block(2, 0, 0)], requests.collect(), BlockNumber::new(1), nobodys)
        .await
        .unwrap();
    hand_over(&ledger, &late, 70, 70).await.unwrap();

    let mut obliged: Vec<_> = ledger.obligations().await.unwrap();
    obliged.sort_by_key(|obligation| obligation.id);
    let channels: Vec<_> = obliged.iter().map(|obligation| obligation.channel).collect();
    assert_eq!(channels, [early.channel(), late.channel()], "and not the stranger's");
    assert!(obliged.iter().all(|obligation| obligation.deadline == NOW.plus(GRACE)));
    let mut closing: Vec<_> = ledger.held_closing().await.unwrap();
    closing.sort_by_key(|held| held.claimable.billed);
    let claims: Vec<_> = closing.iter().map(|held| held.claimable.amount()).collect();
    assert_eq!(claims, [amount(70), amount(100)]);
    assert_eq!(closing[1].claimable.voucher, Some(early.voucher(100)));
}

async fn what_the_disk_has_changed_keeps_no_other_from_being_defended(on: Backend) {
    let pairs: Vec<Pair> = (1..=3).map(|number| Pair::new(1, number)).collect();
    let (home, ledger) = following(on, &pairs.iter().collect::<Vec<_>>()).await;
    // The greatest amounts are what is damaged: all that is held of the first channel, and the best of the second.
    hand_over(&ledger, &pairs[0], 900, 900).await.unwrap();
    hand_over(&ledger, &pairs[1], 70, 70).await.unwrap();
    hand_over(&ledger, &pairs[1], 800, 800).await.unwrap();
    hand_over(&ledger, &pairs[2], 60, 60).await.unwrap();
    let request = |pair: &Pair| ChainEventKind::CloseRequested {
        channel: pair.channel(),
        requested_at: NOW,
    };
    mine(&ledger, pairs.iter().map(request).collect()).await;
    assert!(ledger.unreadable_held().await.unwrap().is_empty());
    beside(&home)
        .await
        .run(&format!(
            "UPDATE held_vouchers SET signature = {}
             WHERE claim IN (SELECT claim FROM held_vouchers ORDER BY claim DESC LIMIT 2)",
            no_signature(on)
        ))
        .await;

    let claims = async || {
        let mut claims: Vec<_> = ledger.held_closing().await.unwrap();
        claims.sort_by_key(|held| held.claimable.billed);
        claims.iter().map(|held| held.claimable.amount()).collect::<Vec<_>>()
    };
    assert_eq!(claims().await, [amount(60), amount(70)]);
    assert_eq!(held_claim(&ledger, &pairs[0]).await, None);
    assert_eq!(held_claim(&ledger, &pairs[1]).await, Some(amount(70)));
    let mut damaged = ledger.unreadable_held().await.unwrap();
    damaged.sort_by_key(|(_, claim)| *claim);
    let expected = [(pairs[1].channel(), amount(800)), (pairs[0].channel(), amount(900))];
    assert_eq!(damaged, expected);
    for (channel, claim) in damaged {
        let outcome = ledger.let_damaged_held_go(channel, claim).await;
        assert_eq!(outcome.unwrap(), Outcome::Recorded);
    }
    assert!(ledger.unreadable_held().await.unwrap().is_empty());

    // Its executor has it still, and hands it over again.
    hand_over(&ledger, &pairs[0], 900, 900).await.unwrap();
    assert_eq!(claims().await, [amount(60), amount(70), amount(900)]);
}

async fn one_damaged_copy_of_a_voucher_takes_no_other_with_it(on: Backend) {
    // Which of the two claims the disk changes, and what is left to defend.
    for (changed, left) in [("ASC", 120), ("DESC", 100)] {
        let pair = Pair::new(1, 1);
        let (home, ledger) = following(on, &[&pair]).await;
        hand_over(&ledger, &pair, 150, 100).await.unwrap();
        hand_over(&ledger, &pair, 150, 120).await.unwrap();
        let requested = ChainEventKind::CloseRequested {
            channel: pair.channel(),
            requested_at: NOW,
        };
        mine(&ledger, vec![requested]).await;
        beside(&home)
            .await
            .run(&format!(
                "UPDATE held_vouchers SET signature = {}
                 WHERE claim IN (SELECT claim FROM held_vouchers ORDER BY claim {changed} LIMIT 1)",
                no_signature(on)
            ))
            .await;
        assert_eq!(held_claim(&ledger, &pair).await, Some(amount(left)));
        for (channel, claim) in ledger.unreadable_held().await.unwrap() {
            ledger.let_damaged_held_go(channel, claim).await.unwrap();
        }
        assert_eq!(held_claim(&ledger, &pair).await, Some(amount(left)));
        hand_over(&ledger, &pair, 150, 120).await.unwrap();
        assert_eq!(held_claim(&ledger, &pair).await, Some(amount(120)));
        ledger.close().await;
    }
}

async fn takes_nothing_on_that_can_not_be_claimed_in_time(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = following(on, &[&pair]).await;
    let requested = ChainEventKind::CloseRequested {
        channel: pair.channel(),
        requested_at: NOW,
    };
    mine(&ledger, vec![requested]).await;
    let deadline = NOW.plus(GRACE);
    let at = |now| TakeOn {
        now,
        ..asked(&pair, vec![delegation(&pair, 200, 200)])
    };
    let too_late = Err(DelegationRefusal::TooLate { deadline });
    let last = deadline.minus(CLAIM_TAKES);
    for late in [last.plus(Duration::from_secs(1)), deadline, deadline.plus(GRACE)] {
        assert_eq!(take(&ledger, at(late)).await, too_late);
    }
    assert_eq!(ledger.held_totals().await.unwrap().channels, 0);
    let held = take(&ledger, at(last)).await.unwrap();
    assert_eq!(held.outcome(), Outcome::Recorded);

    // Nor is it renewed then; what was promised stands.
    assert_eq!(take(&ledger, at(deadline)).await, too_late);
    assert_eq!(held_claim(&ledger, &pair).await, Some(amount(200)));

    // The chain's time counts where the own clock is behind.
    let late = block(GRACE.as_secs(), 0, 0);
    ledger
        .apply_blocks(vec![late], vec![], BlockNumber::new(1), ObligationPolicy::default())
        .await
        .unwrap();
    assert_eq!(take(&ledger, at(NOW)).await, too_late);
}

async fn lets_go_of_what_is_settled_over_or_expired_once_that_is_confirmed(on: Backend) {
    let pairs: Vec<Pair> = (1..=4).map(|number| Pair::new(1, number)).collect();
    let (_home, ledger) = following(on, &pairs.iter().collect::<Vec<_>>()).await;
    for pair in &pairs {
        hand_over(&ledger, pair, 100, 100).await.unwrap();
        hand_over(&ledger, pair, 200, 200).await.unwrap();
    }
    let kinds = vec![
        ChainEventKind::Settled {
            channel: pairs[0].channel(),
            settled: amount(150),
        },
        ChainEventKind::Closed {
            channel: pairs[1].channel(),
            settled: amount(0),
            refunded: amount(1_000),
        },
        ChainEventKind::CloseRequested {
            channel: pairs[2].channel(),
            requested_at: NOW,
        },
    ];
    mine_with(&ledger, kinds, false).await;
    assert_eq!(ledger.prune_held(NOW).await.unwrap(), 0, "not confirmed");
    mine(&ledger, vec![]).await;
    assert_eq!(ledger.prune_held(NOW).await.unwrap(), 3);
    assert_eq!(held_claim(&ledger, &pairs[0]).await, Some(amount(200)));
    assert_eq!(held_claim(&ledger, &pairs[1]).await, None);
    // The term is over; a close that was requested in time is defended to its end.
    let expired = NOW.plus(TERM + Duration::from_secs(1));
    assert_eq!(ledger.prune_held(expired).await.unwrap(), 3);
    assert_eq!(held_claim(&ledger, &pairs[2]).await, Some(amount(200)));
    assert_eq!(ledger.held_totals().await.unwrap().channels, 1);
}

on_both_stores!(
    what_was_taken_on_is_there_after_a_crash_and_is_answered_with_the_same_appointment,
    a_lower_amount_is_passed_over_and_a_higher_one_taken,
    every_rule_of_a_delegation_has_its_refusal,
    a_refused_delegation_keeps_none_of_its_message_out,
    quotas_hold_within_one_message_and_over_several,
    an_unusable_voucher_falls_back_to_the_best_that_is_left,
    a_deposit_that_a_fork_took_back_falls_back_to_what_is_left,
    a_channel_keeps_its_best_vouchers_and_no_more,
    an_appointment_is_renewed_when_half_of_its_term_is_over_and_nothing_promised_is_taken_back,
    a_close_of_a_held_channel_is_an_obligation_whenever_it_was_seen,
    what_the_disk_has_changed_keeps_no_other_from_being_defended,
    one_damaged_copy_of_a_voucher_takes_no_other_with_it,
    takes_nothing_on_that_can_not_be_claimed_in_time,
    lets_go_of_what_is_settled_over_or_expired_once_that_is_confirmed
);
