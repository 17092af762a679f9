use lloom_ledger::{DelegationRefusal, Undelegated};
use lloom_receipts::{TowerAppointment, Verifier};

use super::*;
use crate::tower::statement::Statements;

fn profile() -> TowerProfile {
    let config = tower_config();
    TowerProfile {
        tower: tower_key().address(),
        deployment: Deployment::from(&domain()),
        token: token(),
        minimum_value: config.terms.minimum_value,
        max_fee_per_gas: config.terms.max_fee_per_gas,
        term_secs: config.terms.term.as_secs(),
        max_operators: 1,
        max_channels: 1,
        messages_per_minute: 1,
        channels: 0,
        head: None,
        impediment: None,
        agent: String::new(),
    }
}

fn appointment() -> TowerAppointment {
    TowerAppointment {
        channel: channel(1),
        tower: tower_key().address(),
        operator: operator().address(),
        ceiling: amount(150),
        claim: amount(100),
        minimum_value: amount(10),
        max_fee_per_gas: 500,
        taken_at: now(),
        expires_at: now().plus(Duration::from_secs(1_000)),
    }
}

fn signed(appointment: TowerAppointment) -> Signed<TowerAppointment> {
    tower_key().sign(&domain(), appointment).into_unverified()
}

/// What an executor that was asked to have 100 of a voucher over 150 claimed makes of `answers`.
async fn check(answers: Vec<DelegationAnswer>) -> Result<Statements, TowerFault> {
    let store = Store::following(1).await;
    store.earn(1, 100, 50).await;
    let tower = tower_key().address();
    let asked: Vec<Undelegated> = store.ledger.undelegated(tower, payee(), now(), None, 10).await.unwrap();
    assert_eq!(asked.len(), 1);
    let verifier = Verifier::default();
    check_answers(
        &asked,
        answers,
        &profile(),
        operator().address(),
        &domain(),
        &verifier,
        now(),
    )
}

async fn fault(appointment: TowerAppointment) -> TowerFault {
    let answer = DelegationAnswer::TakenOn(signed(appointment));
    check(vec![answer]).await.unwrap_err()
}

#[tokio::test]
async fn the_truth_is_believed() {
    let truth = appointment();
    let statements = check(vec![DelegationAnswer::TakenOn(signed(truth))]).await.unwrap();
    assert_eq!(*statements[0].as_ref().unwrap().document(), truth);
    let refusal = UpdateRefusal::Delegation(DelegationRefusal::UnknownChannel);
    let statements = check(vec![DelegationAnswer::Refused(refusal.clone())]).await.unwrap();
    assert_eq!(statements, [Err(refusal)]);
}

#[tokio::test]
async fn every_lie_has_its_name() {
    let channel = channel(1);
    let anothers = key(9).sign(&domain(), appointment()).into_unverified();
    assert_eq!(
        check(vec![DelegationAnswer::TakenOn(anothers)]).await,
        Err(TowerFault::WrongSigner { channel })
    );
    let answered = super::channel(2);
    assert_eq!(
        fault(TowerAppointment {
            channel: answered,
            ..appointment()
        })
        .await,
        TowerFault::OtherChannel {
            asked: channel,
            answered
        }
    );
    for other in [
        TowerAppointment {
            tower: payee(),
            ..appointment()
        },
        TowerAppointment {
            operator: payee(),
            ..appointment()
        },
    ] {
        assert_eq!(fault(other).await, TowerFault::OtherParties { channel });
    }
    for other in [
        TowerAppointment {
            minimum_value: amount(11),
            ..appointment()
        },
        TowerAppointment {
            max_fee_per_gas: 499,
            ..appointment()
        },
        TowerAppointment {
            expires_at: now(),
            ..appointment()
        },
    ] {
        assert_eq!(fault(other).await, TowerFault::OtherTerms { channel });
    }
    assert_eq!(
        check(vec![]).await,
        Err(TowerFault::OtherCount { asked: 1, answered: 0 })
    );
}

#[tokio::test]
async fn another_amount_is_a_lie_unless_the_payer_side_has_signed_for_it() {
    let other = |claim, ceiling| TowerAppointment {
        claim: amount(claim),
        ceiling: amount(ceiling),
        ..appointment()
    };
    let lie = |promised| TowerFault::OtherAmount {
        channel: channel(1),
        asked: amount(100),
        promised: amount(promised),
    };
    // Less than asked; more, so that it is never told again; what the voucher can't carry.
    assert_eq!(fault(other(99, 150)).await, lie(99));
    assert_eq!(fault(other(1_000, 1_000)).await, lie(1_000));
    assert_eq!(fault(other(100, 99)).await, lie(100));

    let passed_over = |claim, ceiling, voucher: Signed<Voucher, Verified>| {
        check(vec![DelegationAnswer::PassedOver {
            appointment: signed(other(claim, ceiling)),
            voucher: voucher.into_unverified(),
        }])
    };
    let held = passed_over(180, 200, voucher(1, 200)).await.unwrap();
    assert_eq!(held[0].as_ref().unwrap().document().claim, amount(180));
    let forged = key(9).sign(&domain(), *voucher(1, 200).document());
    assert_eq!(passed_over(180, 200, forged).await, Err(lie(180)));
    assert_eq!(passed_over(180, 200, voucher(1, 199)).await, Err(lie(180)));
    assert_eq!(passed_over(180, 200, voucher(2, 200)).await, Err(lie(180)));
    assert_eq!(passed_over(201, 200, voucher(1, 200)).await, Err(lie(201)));
    assert_eq!(passed_over(99, 200, voucher(1, 200)).await, Err(lie(99)));
}
