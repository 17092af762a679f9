use lloom_ledger::{DelegationRefusal, Outcome, TakeOn};
use lloom_receipts::{TowerAppointment, Verifier};
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::*;

fn tower(store: &Store, config: TowerConfig) -> Tower {
    Tower::new(config, store.ledger.clone(), domain(), tower_key())
}

async fn ask(tower: &Tower, question: TowerQuestion) -> TowerAnswer {
    tower.answer(operator().address(), question, now()).await
}

async fn updated(tower: &Tower, delegations: Vec<DelegationMessage>) -> Vec<DelegationAnswer> {
    match ask(tower, update(delegations)).await {
        TowerAnswer::Updated(answers) => answers,
        other => panic!("{other:?}"),
    }
}

fn taken_on(answer: &DelegationAnswer) -> &Signed<TowerAppointment> {
    match answer {
        DelegationAnswer::TakenOn(appointment) => appointment,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_answer_is_counted_by_its_reason() {
    let store = Store::following(2).await;
    let config = TowerConfig {
        messages_per_minute: 3,
        ..tower_config()
    };
    let tower = tower(&store, config);
    updated(&tower, vec![delegation(1, 150, 100), delegation(2, 90, 9)]).await;
    updated(&tower, vec![delegation(1, 150, 90)]).await;
    tower.set_impediment(Some(Impediment::NoGasMoney));
    for _ in 0..2 {
        let refused = ask(&tower, update(vec![delegation(1, 150, 150)])).await;
        assert!(matches!(refused, TowerAnswer::Refused(_)), "{refused:?}");
    }
    let mut registry = Registry::with_prefix("lloom");
    tower.metrics().register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        "lloom_tower_delegations_total{answer=\"taken_on\"} 1",
        "lloom_tower_delegations_total{answer=\"passed_over\"} 1",
        "lloom_tower_delegations_total{answer=\"refused\"} 1",
        "lloom_tower_refusals_total{reason=\"below_minimum\"} 1",
        "lloom_tower_refusals_total{reason=\"wrong_signer\"} 0",
        "lloom_tower_refused_messages_total{reason=\"no_gas_money\"} 1",
        "lloom_tower_refused_messages_total{reason=\"too_many_messages\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[tokio::test]
async fn what_is_taken_on_is_signed_by_the_tower_and_held_for_who_brought_it() {
    let store = Store::following(2).await;
    let tower = tower(&store, tower_config());
    let answers = updated(&tower, vec![delegation(1, 150, 100), delegation(2, 90, 90)]).await;
    let verifier = Verifier::default();
    for (answer, claim) in answers.iter().zip([100, 90]) {
        let appointment = taken_on(answer).clone();
        let appointment = appointment.verify(&domain(), &verifier, tower_key().address()).unwrap();
        let said = appointment.document();
        assert_eq!((said.claim, said.operator), (amount(claim), operator().address()));
        assert_eq!(said.tower, tower_key().address());
    }
    let deployment = Deployment::from(&domain());
    let status = TowerQuestion::Status {
        deployment,
        after: None,
    };
    let TowerAnswer::Status { held, more } = ask(&tower, status.clone()).await else {
        panic!("a status");
    };
    assert_eq!((held.len(), more), (2, false));
    let stranger = tower.answer(key(9).address(), status, now()).await;
    assert_eq!(
        stranger,
        TowerAnswer::Status {
            held: vec![],
            more: false
        },
        "what is held for one is nobody else's business"
    );
}

#[tokio::test]
async fn a_better_one_that_is_held_is_answered_with_its_voucher() {
    let store = Store::following(1).await;
    let tower = tower(&store, tower_config());
    updated(&tower, vec![delegation(1, 200, 180)]).await;
    let answers = updated(&tower, vec![delegation(1, 150, 100)]).await;
    let DelegationAnswer::PassedOver {
        appointment,
        voucher: held,
    } = &answers[0]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(appointment.document().claim, amount(180));
    assert_eq!(*held, voucher(1, 200).into_unverified());
}

#[tokio::test]
async fn a_delegation_that_was_stored_before_a_crash_gets_the_signature_it_was_stored_for() {
    let mut store = Store::following(1).await;
    let config = tower_config();
    // Killed between storing and signing.
    let stored = store
        .ledger
        .take_on(TakeOn {
            tower: tower_key().address(),
            operator: operator().address(),
            delegations: vec![lloom_ledger::Delegation {
                voucher: voucher(1, 150),
                claim: amount(100),
            }],
            terms: config.terms,
            quotas: config.quotas,
            grace: config.grace,
            now: now(),
        })
        .await
        .unwrap();
    let stored = stored[0].as_ref().unwrap();
    assert_eq!(stored.outcome(), Outcome::Recorded);
    let signed = tower_key().sign(&domain(), *stored.appointment()).into_unverified();
    store.crash().await;
    let answers = updated(&tower(&store, config.clone()), vec![delegation(1, 150, 100)]).await;
    assert_eq!(*taken_on(&answers[0]), signed);
    // Killed after signing, before it was heard.
    store.crash().await;
    let answers = updated(&tower(&store, config), vec![delegation(1, 150, 100)]).await;
    assert_eq!(*taken_on(&answers[0]), signed);
}

#[tokio::test]
async fn a_bad_delegation_is_refused_by_itself_and_by_name() {
    let store = Store::following(3).await;
    let tower = tower(&store, tower_config());
    let mut of_another = delegation(1, 50, 50);
    of_another.parameters = parameters(2);
    let mut paid_to_another = delegation(1, 50, 50);
    paid_to_another.parameters.payee = key(9).address();
    let forged = Voucher {
        channel: channel(2),
        amount: amount(50),
    };
    let mut forged_signature = delegation(2, 50, 50);
    forged_signature.voucher = key(9).sign(&domain(), forged).into_unverified();
    let answers = updated(
        &tower,
        vec![
            of_another,
            paid_to_another,
            forged_signature,
            delegation(2, 50, 60),
            delegation(3, 50, 50),
            delegation(9, 50, 50),
        ],
    )
    .await;
    let refused = |refusal| DelegationAnswer::Refused(refusal);
    assert_eq!(answers[0], refused(UpdateRefusal::OtherChannel));
    assert_eq!(answers[1], refused(UpdateRefusal::OtherChannel));
    let expected = payer().address();
    assert_eq!(answers[2], refused(UpdateRefusal::WrongSigner { expected }));
    let ceiling = amount(50);
    assert_eq!(
        answers[3],
        refused(UpdateRefusal::Delegation(DelegationRefusal::AboveCeiling { ceiling }))
    );
    assert_eq!(taken_on(&answers[4]).document().channel, channel(3));
    assert_eq!(
        answers[5],
        refused(UpdateRefusal::Delegation(DelegationRefusal::UnknownChannel))
    );
    assert_eq!(store.ledger.held_totals().await.unwrap().channels, 1);
}

#[tokio::test]
async fn only_operators_that_the_payee_has_named_hand_over_its_channels() {
    let store = Store::following(1).await;
    let tower = tower(&store, tower_config());
    let thief = key(9).address();
    let TowerAnswer::Updated(answers) = tower.answer(thief, update(vec![delegation(1, 50, 50)]), now()).await else {
        panic!("an answer");
    };
    let not_operator = DelegationRefusal::NotOperator {
        payee: payee(),
        operator: thief,
    };
    assert_eq!(
        answers,
        [DelegationAnswer::Refused(UpdateRefusal::Delegation(not_operator))]
    );
}

#[tokio::test]
async fn refuses_whole_messages_by_name() {
    let store = Store::following(1).await;
    let tower_here = tower(&store, tower_config());
    let here = Deployment::from(&domain());
    for deployment in [
        Deployment { chain_id: 1, ..here },
        Deployment {
            escrow: Address::ZERO,
            ..here
        },
        Deployment {
            settlement: Address::ZERO,
            ..here
        },
    ] {
        let refused = TowerAnswer::Refused(TowerRefusal::OtherDeployment { deployment: here });
        let delegations = vec![delegation(1, 50, 50)];
        let question = TowerQuestion::Update {
            deployment,
            delegations,
        };
        assert_eq!(ask(&tower_here, question).await, refused);
        let question = TowerQuestion::Status {
            deployment,
            after: None,
        };
        assert_eq!(ask(&tower_here, question).await, refused);
    }
    let many = vec![delegation(1, 50, 50); MAX_DELEGATIONS + 1];
    assert_eq!(
        ask(&tower_here, update(many)).await,
        TowerAnswer::Refused(TowerRefusal::TooManyDelegations {
            limit: MAX_DELEGATIONS as u32
        })
    );
    for impediment in [Impediment::ChainOutOfSight, Impediment::NoGasMoney] {
        tower_here.set_impediment(Some(impediment));
        assert_eq!(
            ask(&tower_here, update(vec![delegation(1, 50, 50)])).await,
            TowerAnswer::Refused(TowerRefusal::Impeded(impediment))
        );
        let TowerAnswer::Terms(profile) = ask(&tower_here, TowerQuestion::Terms).await else {
            panic!("terms");
        };
        assert_eq!(profile.impediment, Some(impediment));
    }
    tower_here.set_impediment(None);
    taken_on(&updated(&tower_here, vec![delegation(1, 50, 50)]).await[0]);

    let mut choosy = tower_config();
    choosy.executors = Some([payee()].into());
    let executor = operator().address();
    assert_eq!(
        ask(&tower(&store, choosy), update(vec![])).await,
        TowerAnswer::Refused(TowerRefusal::UnknownExecutor { executor })
    );
    let mut quiet = tower_config();
    quiet.messages_per_minute = 2;
    let quiet = tower(&store, quiet);
    for _ in 0..2 {
        assert!(matches!(ask(&quiet, TowerQuestion::Terms).await, TowerAnswer::Terms(_)));
    }
    assert!(matches!(
        ask(&quiet, TowerQuestion::Terms).await,
        TowerAnswer::Refused(TowerRefusal::TooManyMessages { seconds: 1..=60 })
    ));
}

#[tokio::test]
async fn tells_what_it_promises_and_how_far_it_sees() {
    let store = Store::following(1).await;
    let tower = tower(&store, tower_config());
    updated(&tower, vec![delegation(1, 50, 50)]).await;
    let TowerAnswer::Terms(profile) = ask(&tower, TowerQuestion::Terms).await else {
        panic!("terms");
    };
    assert_eq!(profile.tower, tower_key().address());
    assert_eq!((profile.minimum_value, profile.max_fee_per_gas), (amount(10), 500));
    assert_eq!((profile.channels, profile.max_channels), (1, 16));
    assert_eq!(profile.head.unwrap().number, BlockNumber::new(1));
    assert_eq!((profile.impediment, profile.token), (None, token()));
}
