//! Executors that cheat: the client stops paying, keeps what it has signed as evidence, and lowers their score.

use std::sync::{Arc, Mutex};

use lloom_ledger::Quality;
use lloom_node::{
    client::{ChatError, MAX_INCREMENT, Overbilled},
    wire::{ClientFrame, Ending, ExecutorFrame, Infer, MAX_OVERSHOOT, Refusal, State},
};
use lloom_receipts::{
    BillError, ContentHash, Domain, InferenceRequest, Keypair, ReceiptHead, Signed, TokenAmount, Usage, UsageBill,
};
use serde_json::json;

use crate::world::{DEPOSIT, ExecutorEnd, World, count, now};

const EVENT: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n";

fn usage(input: u32, output: u32) -> Usage {
    Usage {
        input: count(input),
        output: count(output),
    }
}

/// Takes the request on.
async fn taken(wire: &mut ExecutorEnd) -> Option<Infer> {
    let infer = asked_for(wire).await?;
    wire.send(ExecutorFrame::Accepted).await;
    Some(infer)
}

/// Answers `Sync` as an executor that knows nothing, and gives the request.
async fn asked_for(wire: &mut ExecutorEnd) -> Option<Infer> {
    loop {
        match wire.next().await? {
            ClientFrame::Sync { channel, .. } => {
                wire.send(ExecutorFrame::State(Box::new(State {
                    channel,
                    head: None,
                    receipts: Vec::new(),
                    unlinked: Vec::new(),
                    authorized: TokenAmount::ZERO,
                    spent: TokenAmount::ZERO,
                    deposit: DEPOSIT,
                })))
                .await;
            }
            ClientFrame::Infer(infer) => return Some(*infer),
            _ => {}
        }
    }
}

fn honest_bill(infer: &Infer) -> UsageBill {
    let hash = ContentHash::of(infer.salt, EVENT);
    UsageBill::for_request(infer.request.document(), usage(4, 5), hash, now()).unwrap()
}

/// An executor that sends one honest chunk and then the bill that `cheat` makes.
fn bills(
    world: &World,
    signer: Keypair,
    cheat: impl Fn(&InferenceRequest, UsageBill) -> UsageBill + Send + Sync + Clone + 'static,
) {
    let domain: Domain = world.domain;
    world.cable.impersonate(move |mut wire| {
        let (cheat, signer) = (cheat.clone(), signer.clone());
        async move {
            let Some(infer) = taken(&mut wire).await else { return };
            wire.send(ExecutorFrame::Chunk {
                data: EVENT.to_vec(),
                usage: usage(4, 5),
            })
            .await;
            let bill = cheat(infer.request.document(), honest_bill(&infer));
            wire.send(ExecutorFrame::Bill {
                bill: signer.sign(&domain, bill).into_unverified(),
                ending: Ending::Complete,
            })
            .await;
            while let Some(frame) = wire.next().await {
                if let ClientFrame::Receipt { receipt, .. } = frame {
                    let sequence = receipt.receipt().sequence;
                    wire.send(ExecutorFrame::Recorded { sequence }).await;
                }
            }
        }
    });
}

async fn unpaid(world: &World) -> ChatError {
    let Err(error) = world.chat(json!({})).await else {
        panic!("it was paid");
    };
    let head = world.client_ledger.head(world.channel).await.unwrap();
    assert_eq!(head, ReceiptHead::empty(world.channel));
    assert!(
        world
            .client_ledger
            .unbilled_requests(world.channel)
            .await
            .unwrap()
            .is_empty()
    );
    let quality: Quality = world.client_ledger.quality(world.operator.address()).await.unwrap();
    assert_eq!((quality.observations, quality.success_rate), (1, 0.0));
    error
}

#[tokio::test]
async fn an_honest_bill_is_paid() {
    let world = World::new().await;
    bills(&world, world.operator.clone(), |_, bill| bill);
    let done = world.chat(json!({})).await.unwrap();
    assert_eq!(done.completion.usage(), usage(4, 5));
    assert_eq!(done.text, EVENT);
}

#[tokio::test]
async fn bills_that_are_not_owed_are_not_paid() {
    type Cheat = fn(&InferenceRequest, UsageBill) -> UsageBill;
    let beyond: Cheat =
        |request, bill| UsageBill::for_request(request, usage(4, 6), bill.response_hash, now()).unwrap();
    let dear: Cheat = |_, bill| UsageBill {
        amount: TokenAmount::new(bill.amount.base_units() + 1),
        ..bill
    };
    let other: Cheat = |_, bill| UsageBill {
        response_hash: ContentHash::new(alloy::primitives::B256::ZERO),
        ..bill
    };
    for (cheat, name) in [(beyond, "beyond"), (dear, "dear"), (other, "other")] {
        let world = World::new().await;
        bills(&world, world.operator.clone(), cheat);
        let ChatError::Overbilled(overbilled) = unpaid(&world).await else {
            panic!("another error");
        };
        let found = match overbilled {
            Overbilled::BeyondAnnounced { .. } => "beyond",
            Overbilled::Bill(BillError::Overcharged { .. }) => "dear",
            Overbilled::OtherResponse { .. } => "other",
            _ => "unexpected",
        };
        assert_eq!(found, name);
    }
}

#[tokio::test]
async fn a_refused_bill_is_not_paid_when_it_is_offered_again() {
    let world = World::new().await;
    let (domain, operator) = (world.domain, world.operator.clone());
    let refused = Arc::new(Mutex::new(None));
    let known = Arc::clone(&refused);
    bills(&world, world.operator.clone(), move |request, bill| {
        let bill = UsageBill::for_request(request, usage(4, 6), bill.response_hash, now()).unwrap();
        *known.lock().unwrap() = Some(operator.sign(&domain, bill).into_unverified());
        bill
    });
    assert!(matches!(unpaid(&world).await, ChatError::Overbilled(_)));
    // It is within what the client had promised for the request.
    lists(&world, refused.lock().unwrap().take().unwrap());
    let report = world.client.sync(world.channel, world.peer()).await.unwrap();
    assert_eq!((report.linked, report.unjustified), (0, 1));
    let head = world.client_ledger.head(world.channel).await.unwrap();
    assert_eq!(head, ReceiptHead::empty(world.channel));
}

#[tokio::test]
async fn a_bill_by_another_key_is_not_paid() {
    let world = World::new().await;
    bills(&world, Keypair::from_secret([9; 32]).unwrap(), |_, bill| bill);
    assert!(matches!(unpaid(&world).await, ChatError::ForeignBill { .. }));
}

#[tokio::test]
async fn counts_beyond_the_bytes_are_not_paid_for() {
    let world = World::new().await;
    world.cable.impersonate(|mut wire| async move {
        if taken(&mut wire).await.is_none() {
            return;
        }
        wire.send(ExecutorFrame::Chunk {
            data: EVENT.to_vec(),
            usage: usage(0, 5 + 64 + 1),
        })
        .await;
        while wire.next().await.is_some() {}
    });
    assert!(matches!(unpaid(&world).await, ChatError::Overcount(_)));
}

/// What an executor says it holds bills of, without a receipt.
fn lists(world: &World, bill: Signed<UsageBill>) {
    world.cable.impersonate(move |mut wire| {
        let bill = bill.clone();
        async move {
            while let Some(frame) = wire.next().await {
                match frame {
                    ClientFrame::Sync { channel, .. } => {
                        wire.send(ExecutorFrame::State(Box::new(State {
                            channel,
                            head: None,
                            receipts: Vec::new(),
                            unlinked: vec![bill.clone()],
                            authorized: DEPOSIT,
                            spent: DEPOSIT,
                            deposit: DEPOSIT,
                        })))
                        .await;
                    }
                    ClientFrame::Receipt { receipt, .. } => {
                        let sequence = receipt.receipt().sequence;
                        wire.send(ExecutorFrame::Recorded { sequence }).await;
                    }
                    _ => {}
                }
            }
        }
    });
}

/// It was asked, said no, and bills what an event may cost beyond what is paid ahead. Nothing is owed; a bill over nothing,
/// of an executor that could not tell whether it had taken the request on, is linked.
#[tokio::test]
async fn a_request_that_was_refused_costs_nothing() {
    let world = World::new().await;
    let asked = Arc::new(Mutex::new(None));
    let request = Arc::clone(&asked);
    world.cable.impersonate(move |mut wire| {
        let request = Arc::clone(&request);
        async move {
            let Some(infer) = asked_for(&mut wire).await else {
                return;
            };
            *request.lock().unwrap() = Some(infer);
            wire.send(ExecutorFrame::Refused(Refusal::Overloaded { capacity: 1 }))
                .await;
            while wire.next().await.is_some() {}
        }
    });
    let refused = world.chat(json!({})).await;
    assert!(
        matches!(refused, Err(ChatError::Refused(Refusal::Overloaded { .. }))),
        "{refused:?}"
    );
    let infer = asked.lock().unwrap().take().unwrap();
    let bill = |output| {
        let hash = ContentHash::of(infer.salt, EVENT);
        let bill = UsageBill::for_request(infer.request.document(), usage(0, output), hash, now()).unwrap();
        world.operator.sign(&world.domain, bill).into_unverified()
    };
    for (output, linked) in [(MAX_OVERSHOOT, 0), (1, 0), (0, 1)] {
        lists(&world, bill(output));
        let report = world.client.sync(world.channel, world.peer()).await.unwrap();
        assert_eq!(
            (report.linked, report.unjustified),
            (linked, 1 - linked),
            "{output} tokens"
        );
    }
}

#[tokio::test]
async fn a_second_bill_for_a_paid_request_is_not_paid() {
    let world = World::new().await;
    let paid = world.chat(json!({"tokens": 3})).await.unwrap();
    let head = paid.completion.receipt;
    let second = UsageBill {
        amount: TokenAmount::new(1),
        ..head.receipt().bill
    };
    let second = world.operator.sign(&world.domain, second).into_unverified();
    let head = head.into_unverified();
    world.cable.impersonate(move |mut wire| {
        let (head, second) = (head.clone(), second.clone());
        async move {
            while let Some(frame) = wire.next().await {
                let ClientFrame::Sync { channel, .. } = frame else {
                    continue;
                };
                wire.send(ExecutorFrame::State(Box::new(State {
                    channel,
                    head: Some(head.clone()),
                    receipts: Vec::new(),
                    unlinked: vec![second.clone()],
                    authorized: DEPOSIT,
                    spent: DEPOSIT,
                    deposit: DEPOSIT,
                })))
                .await;
            }
        }
    });
    let report = world.client.sync(world.channel, world.peer()).await.unwrap();
    assert_eq!((report.linked, report.unjustified), (0, 1));
    assert_eq!(world.client_ledger.head(world.channel).await.unwrap().sequence, 1);
    let quality = world.client_ledger.quality(world.operator.address()).await.unwrap();
    assert_eq!((quality.observations, quality.success_rate), (2, 0.5));
}

#[tokio::test]
async fn a_head_that_this_client_never_signed_is_not_believed() {
    let world = World::new().await;
    let stranger = Keypair::from_secret([9; 32]).unwrap();
    let paid = world.chat(json!({"tokens": 3})).await.unwrap().completion.receipt;
    let forged = ReceiptHead::at(paid.receipt()).link(paid.receipt().bill).unwrap();
    let signature = *stranger.sign(&world.domain, forged).signature();
    let forged = lloom_receipts::Receipt::new(forged, signature, *paid.bill_signature());
    world.cable.impersonate(move |mut wire| {
        let forged = forged.clone();
        async move {
            while let Some(frame) = wire.next().await {
                let ClientFrame::Sync { channel, .. } = frame else {
                    continue;
                };
                wire.send(ExecutorFrame::State(Box::new(State {
                    channel,
                    head: Some(forged.clone()),
                    receipts: vec![forged.clone()],
                    unlinked: Vec::new(),
                    authorized: DEPOSIT,
                    spent: DEPOSIT,
                    deposit: DEPOSIT,
                })))
                .await;
            }
        }
    });
    assert!(matches!(
        world.client.sync(world.channel, world.peer()).await,
        Err(ChatError::FalseHead { .. })
    ));
    assert_eq!(world.client_ledger.head(world.channel).await.unwrap().sequence, 1);
}

#[tokio::test]
async fn an_executor_is_not_paid_farther_ahead_than_the_client_says() {
    for increment in [MAX_INCREMENT.get() + 1, u32::MAX] {
        let world = World::with(|_, _, offer| offer.increment = count(increment)).await;
        let refused = world.chat(json!({"tokens": 2})).await.unwrap_err();
        assert!(
            matches!(refused, ChatError::FarAhead { wanted, limit: MAX_INCREMENT } if wanted == count(increment)),
            "{refused}"
        );
        let purchases = world.client_ledger.purchases(world.channel).await.unwrap();
        assert_eq!(purchases.authorized, TokenAmount::ZERO, "nothing was signed");
    }
}
