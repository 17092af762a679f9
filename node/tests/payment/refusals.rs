//! Every rule a client can break, by name, and that the same stream goes on serving after each.

use std::time::Duration;

use alloy::primitives::{Address, B256, U256, uint};
use lloom_ledger::ChainEventKind;
use lloom_node::wire::{ClientFrame, Document, Ending, ExecutorFrame, Infer, MAX_FRAME, Refusal, encode};
use lloom_receipts::{
    ChannelId, InferenceRequest, Keypair, ModelHash, PricePerMillion, Prices, Receipt, ReceiptHead, Signature, Signed,
    TokenAmount, UnixSeconds, UsageBill,
};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::world::{ClientEnd, DEPOSIT, INCREMENT, World, apply, count, now, prices, state};

/// What the executor answers, which has to be a refusal.
async fn refusal(wire: &mut ClientEnd, frame: ClientFrame) -> Refusal {
    wire.send(frame).await;
    match wire.next().await {
        ExecutorFrame::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn infer(infer: Infer) -> ClientFrame {
    ClientFrame::Infer(Box::new(infer))
}

/// Asks, pays, and gives the bill.
async fn served(wire: &mut ClientEnd, request: Infer) -> Signed<UsageBill> {
    wire.send(infer(request)).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    loop {
        match wire.next().await {
            ExecutorFrame::Chunk { .. } => {}
            ExecutorFrame::Bill { bill, ending } => {
                assert_eq!(ending, Ending::Complete);
                return bill;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// Links a bill to the executor's head.
async fn link(world: &World, wire: &mut ClientEnd, bill: Signed<UsageBill>) {
    let head = world.executor_ledger.head(world.channel).await.unwrap();
    let sequence = head.sequence + 1;
    let receipt = Box::new(receipt(world, head, bill));
    wire.send(ClientFrame::Receipt { receipt, voucher: None }).await;
    assert_eq!(wire.next().await, ExecutorFrame::Recorded { sequence });
}

fn receipt(world: &World, head: ReceiptHead, bill: Signed<UsageBill>) -> Receipt {
    let linked = world.payer.sign(&world.domain, head.link(*bill.document()).unwrap());
    Receipt::new(*linked.document(), *linked.signature(), *bill.signature())
}

/// A good request that `spoil` makes a bad one, its request signed anew.
async fn spoiled(world: &World, nonce: u64, spoil: impl FnOnce(&mut InferenceRequest)) -> Infer {
    let script = json!({"tokens": 2});
    let mut infer = world.infer(nonce, script.clone()).await;
    infer.request = world.sign_request(nonce, &world.body(&script), spoil).into_unverified();
    infer
}

#[tokio::test]
async fn each_broken_rule_of_a_request_is_named_and_nothing_is_served() {
    let world = World::new().await;
    let mut wire = world.dial();
    let stranger = Keypair::from_secret([9; 32]).unwrap();
    let operator = world.operator.address();
    let payer = world.payer.address();
    let now = now();
    let price = |amount| PricePerMillion::new(TokenAmount::new(amount));

    let mut cases: Vec<(Infer, Refusal)> = Vec::new();
    let unknown = ChannelId::new(B256::repeat_byte(1));
    cases.push((
        spoiled(&world, 1, |request| request.channel = unknown).await,
        Refusal::ChannelUnknown,
    ));
    let mut elsewhere = world.infer(2, json!({})).await;
    elsewhere.client_random = B256::ZERO;
    cases.push((elsewhere, Refusal::NotCommitted { operator }));
    cases.push((
        spoiled(&world, 3, |request| request.operator = stranger.address()).await,
        Refusal::OtherOperator { operator },
    ));
    let mut forged = world.infer(4, json!({})).await;
    forged.request = stranger
        .sign(&world.domain, *forged.request.document())
        .into_unverified();
    cases.push((
        forged,
        Refusal::WrongSigner {
            document: Document::Request,
            expected: payer,
        },
    ));
    let model = ModelHash::of_id("another");
    cases.push((
        spoiled(&world, 7, |request| request.model = model).await,
        Refusal::UnknownModel { model },
    ));
    for cheap in [
        Prices {
            input: price(999_999),
            output: price(2_000_000),
        },
        Prices {
            input: price(1_000_000),
            output: price(1_999_999),
        },
    ] {
        cases.push((
            spoiled(&world, 8, |request| request.prices = cheap).await,
            Refusal::PriceUnderAsk { ask: prices() },
        ));
    }
    let outside = Refusal::LimitsOutsideOffer {
        max_input: count(4_000),
        max_output: count(500),
    };
    for (max_input, max_output) in [(4_001, 100), (500, 501), (500, 0), (0, 100)] {
        let request = spoiled(&world, 9, |request| {
            request.max_input = count(max_input);
            request.max_output = count(max_output);
        });
        cases.push((request.await, outside.clone()));
    }
    let dear = Prices {
        input: PricePerMillion::new(TokenAmount::MAX),
        output: PricePerMillion::new(TokenAmount::MAX),
    };
    let mut overflowing = spoiled(&world, 10, |request| request.prices = dear).await;
    overflowing.voucher = None;
    // 600 tokens at 2^128 - 1 a million still fit; what doesn't fit is refused before the offer is looked at.
    overflowing.request = world
        .sign_request(10, &overflowing.body, |request| {
            request.prices = dear;
            request.max_input = count(u32::MAX);
        })
        .into_unverified();
    cases.push((overflowing, Refusal::AmountOverflow));
    let mut swapped = world.infer(11, json!({})).await;
    swapped.body = world.body(&json!({"tokens": 99}));
    cases.push((swapped, Refusal::PromptHashMismatch));
    let long = world.body(&json!({"padding": "x".repeat(3_200)}));
    let mut cramped = world.infer(12, json!({})).await;
    cramped.request = world
        .sign_request(12, &long, |request| request.max_input = count(100))
        .into_unverified();
    let minimum = count(long.len() as u32 / 16);
    cramped.body = long;
    cases.push((cramped, Refusal::InputLimitTooLow { minimum }));
    for (body, refusal) in [
        (
            json!({"model": "other", "messages": []}),
            Refusal::BodyModelMismatch { body: "other".into() },
        ),
        (
            json!({"model": "stub", "messages": [], "max_tokens": 101}),
            Refusal::BodyLimitMismatch {
                body: 101,
                request: count(100),
            },
        ),
        (
            json!({"model": "stub"}),
            Refusal::MalformedBody {
                detail: "'messages' is no array".into(),
            },
        ),
    ] {
        let body = serde_json::to_vec(&body).unwrap();
        let mut odd = world.infer(13, json!({})).await;
        odd.request = world.sign_request(13, &body, |_| {}).into_unverified();
        odd.body = body;
        cases.push((odd, refusal));
    }
    let mut unpaid = world.infer(14, json!({})).await;
    unpaid.voucher = None;
    let required = TokenAmount::new(500 + 2 * u128::from(INCREMENT));
    let uncovered = |authorized| Refusal::Uncovered {
        required,
        authorized: TokenAmount::new(authorized),
        deposit: DEPOSIT,
    };
    cases.push((unpaid.clone(), uncovered(0)));
    unpaid.voucher = Some(world.voucher(required.base_units() - 1).into_unverified());
    cases.push((unpaid.clone(), uncovered(required.base_units() - 1)));
    unpaid.voucher = Some(world.voucher(DEPOSIT.base_units() + 1).into_unverified());
    cases.push((unpaid.clone(), Refusal::VoucherOverDeposit { deposit: DEPOSIT }));
    let voucher = *world.voucher(10_000).document();
    unpaid.voucher = Some(stranger.sign(&world.domain, voucher).into_unverified());
    let wrong_voucher = Refusal::WrongSigner {
        document: Document::Voucher,
        expected: payer,
    };
    cases.push((unpaid.clone(), wrong_voucher));
    let foreign = lloom_receipts::Voucher {
        channel: unknown,
        ..voucher
    };
    unpaid.voucher = Some(world.payer.sign(&world.domain, foreign).into_unverified());
    cases.push((
        unpaid,
        Refusal::OtherChannel {
            document: Document::Voucher,
        },
    ));

    for (case, expected) in cases {
        assert_eq!(refusal(&mut wire, infer(case)).await, expected);
    }
    let expired = spoiled(&world, 5, |request| request.deadline = UnixSeconds::new(1)).await;
    assert!(matches!(
        refusal(&mut wire, infer(expired)).await,
        Refusal::Expired { deadline, .. } if deadline == UnixSeconds::new(1)
    ));
    let far = now.plus(Duration::from_secs(3_600));
    let patient = spoiled(&world, 6, |request| request.deadline = far).await;
    assert!(matches!(
        refusal(&mut wire, infer(patient)).await,
        Refusal::DeadlineTooFar { deadline, .. } if deadline == far
    ));

    let account = world.executor_ledger.account(world.channel).await.unwrap();
    assert_eq!(account, Default::default(), "nothing of what was refused is recorded");
    let good = world.infer(100, json!({"tokens": 2})).await;
    let bill = served(&mut wire, good).await;
    link(&world, &mut wire, bill).await;
}

#[tokio::test]
async fn a_nonce_serves_once() {
    let world = World::new().await;
    let mut wire = world.dial();
    let first = world.infer(1, json!({"tokens": 2})).await;
    let bill = served(&mut wire, first.clone()).await;
    assert_eq!(
        refusal(&mut wire, infer(first)).await,
        Refusal::NonceUsed,
        "the very request"
    );
    let other = world.infer(1, json!({"tokens": 3})).await;
    assert_eq!(
        refusal(&mut wire, infer(other)).await,
        Refusal::NonceUsed,
        "another with its nonce"
    );
    link(&world, &mut wire, bill).await;
    let next = world.infer(2, json!({"tokens": 2})).await;
    let bill = served(&mut wire, next).await;
    link(&world, &mut wire, bill).await;
}

#[tokio::test]
async fn a_voucher_that_does_not_increase_pays_for_nothing() {
    let world = World::new().await;
    let mut wire = world.dial();
    let bill = {
        let good = world.infer(1, json!({"tokens": 2})).await;
        served(&mut wire, good).await
    };
    let best = world.executor_ledger.account(world.channel).await.unwrap().authorized;
    let mut stale = world.infer(2, json!({})).await;
    stale.voucher = Some(world.voucher(best.base_units() - 1).into_unverified());
    assert_eq!(
        refusal(&mut wire, infer(stale)).await,
        Refusal::VoucherNotIncreasing { best }
    );
    // Between two answers, too.
    let alone = ClientFrame::Voucher {
        voucher: Some(world.voucher(1).into_unverified()),
        received_bytes: 0,
        received: Default::default(),
    };
    assert_eq!(refusal(&mut wire, alone).await, Refusal::VoucherNotIncreasing { best });
    link(&world, &mut wire, bill).await;
    let next = world.infer(3, json!({"tokens": 2})).await;
    served(&mut wire, next).await;
}

#[tokio::test]
async fn receipts_link_each_bill_once_and_only_to_the_head() {
    let world = World::new().await;
    let mut wire = world.dial();
    let empty = ReceiptHead::empty(world.channel);
    let first = {
        let good = world.infer(1, json!({"tokens": 2})).await;
        served(&mut wire, good).await
    };
    let second = {
        let good = world.infer(2, json!({"tokens": 3})).await;
        served(&mut wire, good).await
    };
    let send = |receipt| ClientFrame::Receipt {
        receipt: Box::new(receipt),
        voucher: None,
    };

    // Nothing is recorded yet: the refusal carries no head.
    let ahead = ReceiptHead { sequence: 4, ..empty };
    assert_eq!(
        refusal(&mut wire, send(receipt(&world, ahead, first.clone()))).await,
        Refusal::DoesNotExtend { head: None }
    );
    let stranger = Keypair::from_secret([9; 32]).unwrap();
    let forged = stranger.sign(&world.domain, empty.link(*first.document()).unwrap());
    let forged = Receipt::new(*forged.document(), *forged.signature(), *first.signature());
    assert_eq!(
        refusal(&mut wire, send(forged)).await,
        Refusal::WrongSigner {
            document: Document::Receipt,
            expected: world.payer.address()
        }
    );
    let invented = UsageBill {
        amount: TokenAmount::new(1),
        ..*first.document()
    };
    let self_signed = world.payer.sign(&world.domain, invented).into_unverified();
    assert_eq!(
        refusal(&mut wire, send(receipt(&world, empty, self_signed))).await,
        Refusal::WrongSigner {
            document: Document::Bill,
            expected: world.operator.address()
        }
    );
    // A second bill for the request, even if the operator's key had signed it.
    let second_bill = world.operator.sign(&world.domain, invented).into_unverified();
    assert_eq!(
        refusal(&mut wire, send(receipt(&world, empty, second_bill))).await,
        Refusal::UnknownBill
    );

    let head = receipt(&world, empty, first.clone());
    wire.send(send(head.clone())).await;
    assert_eq!(wire.next().await, ExecutorFrame::Recorded { sequence: 1 });
    wire.send(send(head.clone())).await;
    assert_eq!(
        wire.next().await,
        ExecutorFrame::Recorded { sequence: 1 },
        "again is fine"
    );

    // Now the refusal carries the head, from which the client goes on.
    let refused = refusal(&mut wire, send(receipt(&world, empty, second.clone()))).await;
    let Refusal::DoesNotExtend { head: Some(carried) } = refused else {
        panic!("not refused with the head: {refused:?}");
    };
    assert_eq!(*carried, head);
    let head = ReceiptHead::at(carried.receipt());
    assert_eq!(
        refusal(&mut wire, send(receipt(&world, head, first))).await,
        Refusal::BillAlreadyLinked
    );
    wire.send(send(receipt(&world, head, second))).await;
    assert_eq!(wire.next().await, ExecutorFrame::Recorded { sequence: 2 });
}

#[tokio::test]
async fn malformed_frames_end_nothing_oversize_and_truncated_ones_their_stream() {
    let world = World::new().await;
    let mut wire = world.dial();
    let mut other = world.dial();
    for content in [&b"\xff"[..], b"", b"\xa1\x65Infer\x00"] {
        let mut frame = (content.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(content);
        wire.write_raw(&frame).await;
        match wire.next().await {
            ExecutorFrame::Refused(Refusal::Malformed { .. }) => {}
            unexpected => panic!("not refused: {unexpected:?}"),
        }
    }
    let good = world.infer(1, json!({"tokens": 2})).await;
    let bill = served(&mut wire, good).await;
    link(&world, &mut wire, bill).await;

    wire.write_raw(&u32::MAX.to_be_bytes()).await;
    assert_eq!(
        wire.next().await,
        ExecutorFrame::Refused(Refusal::Oversize {
            length: u64::from(u32::MAX),
            limit: MAX_FRAME as u64
        })
    );
    assert!(wire.reader.next().await.unwrap().is_none(), "the stream is over");

    let mut cut = world.dial();
    cut.write_raw(&[0, 0, 1, 0, 1, 2, 3]).await;
    cut.writer.close(Duration::from_secs(1)).await.unwrap();
    assert_eq!(
        cut.next().await,
        ExecutorFrame::Refused(Refusal::Truncated {
            received: 7,
            length: 260
        })
    );
    assert!(cut.reader.next().await.unwrap().is_none(), "the stream is over");

    // The others go on.
    let good = world.infer(2, json!({"tokens": 2})).await;
    let bill = served(&mut other, good).await;
    link(&world, &mut other, bill).await;
}

/// The order of secp256k1.
const ORDER: U256 = uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);

/// The other signature over the same document by the same key: its `s` is in the upper half, and its parity is the other.
fn twin(signature: &Signature) -> [u8; Signature::LENGTH] {
    let mut bytes = signature.to_bytes();
    let high = ORDER - U256::from_be_slice(&bytes[32..64]);
    bytes[32..64].copy_from_slice(&high.to_be_bytes::<32>());
    bytes[64] = 55 - bytes[64];
    bytes
}

/// The chain would refuse it, and who keeps it beside the other has two names for one document.
#[tokio::test]
async fn a_high_s_twin_of_a_good_signature_is_refused_as_malformed() {
    let world = World::new().await;
    let mut wire = world.dial();
    let good = world.infer(1, json!({"tokens": 2})).await;
    let of_request = *good.request.signature();
    let of_voucher = *good.voucher.as_ref().unwrap().signature();
    for signature in [of_request, of_voucher] {
        let mut frame = encode(&infer(good.clone())).unwrap().to_vec();
        let original = signature.to_bytes();
        let mut places = frame
            .windows(original.len())
            .enumerate()
            .filter(|(_, window)| *window == original);
        let place = places.next().unwrap().0;
        assert!(places.next().is_none(), "it stands there once");
        frame[place..place + original.len()].copy_from_slice(&twin(&signature));
        wire.write_raw(&frame).await;
        match wire.next().await {
            ExecutorFrame::Refused(Refusal::Malformed { detail }) => {
                assert!(detail.contains("not canonical"), "{detail}");
            }
            unexpected => panic!("not refused: {unexpected:?}"),
        }
    }
    let account = world.executor_ledger.account(world.channel).await.unwrap();
    assert_eq!(
        (account.spent, account.authorized),
        (TokenAmount::ZERO, TokenAmount::ZERO)
    );
    // The request was not taken on: signed as it should be, it is served.
    let bill = served(&mut wire, good).await;
    link(&world, &mut wire, bill).await;
}

#[tokio::test]
async fn a_stream_answers_one_request_at_a_time_and_checks_what_is_acknowledged() {
    let world = World::new().await;
    let mut wire = world.dial();
    world.server.gate.add_permits(1);
    let running = world.infer(1, json!({"tokens": 3, "gated": true})).await;
    wire.send(infer(running)).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    assert!(matches!(wire.next().await, ExecutorFrame::Chunk { .. }));

    let second = world.infer(2, json!({})).await;
    assert_eq!(refusal(&mut wire, infer(second)).await, Refusal::Busy);
    let never_sent = ClientFrame::Voucher {
        voucher: None,
        received_bytes: 1_000_000,
        received: Default::default(),
    };
    assert_eq!(
        refusal(&mut wire, never_sent).await,
        Refusal::NeverSent {
            received_bytes: 1_000_000
        }
    );
    world.server.gate.add_permits(2);
    let bill = loop {
        match wire.next().await {
            ExecutorFrame::Chunk { .. } => {}
            ExecutorFrame::Bill { bill, ending } => {
                assert_eq!(ending, Ending::Complete);
                break bill;
            }
            other => panic!("unexpected: {other:?}"),
        }
    };
    link(&world, &mut wire, bill).await;
}

#[tokio::test]
async fn an_executor_serves_as_many_as_it_has_places() {
    let world = World::with(|_, _, offer| offer.capacity = 1).await;
    let mut wire = world.dial();
    let mut other = world.dial();
    let running = world.infer(1, json!({"tokens": 1, "gated": true})).await;
    wire.send(infer(running)).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    let second = world.infer(2, json!({"tokens": 1})).await;
    assert_eq!(
        refusal(&mut other, infer(second.clone())).await,
        Refusal::Overloaded { capacity: 1 }
    );
    world.server.gate.add_permits(1);
    while !matches!(wire.next().await, ExecutorFrame::Bill { .. }) {}
    let again = world.infer(2, json!({"tokens": 1})).await;
    served(&mut other, again).await;
}

#[tokio::test]
async fn a_channel_s_state_is_its_payer_s_affair() {
    let world = World::new().await;
    let mut wire = world.dial_as(Address::repeat_byte(0x44));
    let channel = world.channel;
    assert_eq!(
        refusal(&mut wire, ClientFrame::Sync { channel, after: 0 }).await,
        Refusal::NotThePayer
    );
    let unknown = ChannelId::new(B256::ZERO);
    assert_eq!(
        refusal(
            &mut wire,
            ClientFrame::Sync {
                channel: unknown,
                after: 0
            }
        )
        .await,
        Refusal::ChannelUnknown
    );
    let mut own = world.dial();
    let known = state(&mut own, channel).await;
    assert_eq!((known.head, known.deposit), (None, DEPOSIT));
}

#[tokio::test]
async fn a_channel_that_closes_or_is_too_small_is_not_served() {
    let world = World::with(|_, _, offer| {
        offer.min_deposit = TokenAmount::new(DEPOSIT.base_units() + 1);
    })
    .await;
    let mut wire = world.dial();
    let small = world.infer(1, json!({})).await;
    assert_eq!(
        refusal(&mut wire, infer(small)).await,
        Refusal::DepositTooSmall {
            deposit: DEPOSIT,
            minimum: TokenAmount::new(DEPOSIT.base_units() + 1)
        }
    );

    let world = World::new().await;
    let mut wire = world.dial();
    let closing = ChainEventKind::CloseRequested {
        channel: world.channel,
        requested_at: now(),
    };
    // At the head, not confirmed: a requested close counts at once.
    apply(&world.executor_ledger, 2, vec![closing], 1).await;
    let late = world.infer(1, json!({})).await;
    assert_eq!(refusal(&mut wire, infer(late)).await, Refusal::ChannelClosing);
    let closed = ChainEventKind::Closed {
        channel: world.channel,
        settled: TokenAmount::ZERO,
        refunded: DEPOSIT,
    };
    apply(&world.executor_ledger, 3, vec![closed], 3).await;
    let late = world.infer(2, json!({})).await;
    assert_eq!(refusal(&mut wire, infer(late)).await, Refusal::ChannelFinalized);
}

#[tokio::test]
async fn a_channel_that_is_not_confirmed_is_not_served() {
    let world = World::new().await;
    let mut wire = world.dial();
    let random = B256::repeat_byte(3);
    let parameters = lloom_receipts::ChannelParameters {
        salt: lloom_receipts::commitment_salt(world.operator.address(), random),
        ..world.parameters
    };
    let channel = parameters.id(&world.domain);
    let opened = ChainEventKind::ChannelOpened {
        channel,
        parameters,
        deposit: DEPOSIT,
        refunds_to_balance: false,
    };
    apply(&world.executor_ledger, 2, vec![opened], 1).await;
    let mut early = spoiled(&world, 1, |request| request.channel = channel).await;
    early.client_random = random;
    early.voucher = None;
    assert_eq!(
        refusal(&mut wire, infer(early.clone())).await,
        Refusal::ChannelUnconfirmed
    );
    apply(&world.executor_ledger, 3, Vec::new(), 3).await;
    assert!(matches!(
        refusal(&mut wire, infer(early)).await,
        Refusal::Uncovered { .. }
    ));
    assert_eq!(
        world.executor_ledger.head(channel).await.unwrap(),
        ReceiptHead::empty(channel)
    );
}

#[tokio::test]
async fn a_close_requested_in_mid_answer_ends_it_with_a_bill() {
    let world = World::new().await;
    let mut wire = world.dial();
    world.server.gate.add_permits(4);
    let running = world.infer(1, json!({"tokens": 90, "gated": true})).await;
    wire.send(infer(running)).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    let mut received = Default::default();
    while received != count(4) {
        match wire.next().await {
            ExecutorFrame::Chunk { usage, .. } => received = usage.output,
            other => panic!("unexpected: {other:?}"),
        }
    }
    let closing = ChainEventKind::CloseRequested {
        channel: world.channel,
        requested_at: now(),
    };
    apply(&world.executor_ledger, 2, vec![closing], 1).await;
    // At once: neither the model server nor the client says anything more.
    loop {
        match wire.next().await {
            ExecutorFrame::Chunk { .. } => {}
            ExecutorFrame::Bill { bill, ending } => {
                assert_eq!(ending, Ending::ChannelClosing);
                assert_eq!(bill.document().usage.output, count(4));
                break;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
}

impl ClientEnd {
    async fn write_raw(&mut self, bytes: &[u8]) {
        self.writer.get_mut().write_all(bytes).await.unwrap();
        self.writer.get_mut().flush().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_served_while_the_chain_is_out_of_sight() {
    let world = World::new().await;
    let mut wire = world.dial();
    world.executor.set_chain_out_of_sight(Some(&"nobody shows a new block"));
    let blind = world.infer(1, json!({})).await;
    assert_eq!(refusal(&mut wire, infer(blind)).await, Refusal::ChainOutOfSight);

    world.executor.set_chain_out_of_sight(None);
    let again = world.infer(1, json!({})).await;
    wire.send(infer(again)).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
}

#[tokio::test]
async fn nothing_is_served_while_the_payee_names_another_operator() {
    let world = World::new().await;
    let mut wire = world.dial();
    world.server.gate.add_permits(4);
    let running = world.infer(1, json!({"tokens": 4})).await;
    wire.send(infer(running)).await;
    assert_eq!(wire.next().await, ExecutorFrame::Accepted);
    world.executor.set_named(false);
    let mut beside = world.dial();
    let late = world.infer(2, json!({})).await;
    assert_eq!(refusal(&mut beside, infer(late)).await, Refusal::NotNamed);
    // What was taken on before ends as it would have.
    let bill = loop {
        match wire.next().await {
            ExecutorFrame::Chunk { .. } => {}
            ExecutorFrame::Bill { bill, ending } => {
                assert_eq!(ending, Ending::Complete);
                break bill;
            }
            other => panic!("unexpected: {other:?}"),
        }
    };
    link(&world, &mut wire, bill).await;

    world.executor.set_named(true);
    let again = world.infer(3, json!({"tokens": 2})).await;
    served(&mut wire, again).await;
}

/// A request that is cancelled before its first token costs its payer nothing, and leaves a request and a bill here.
#[tokio::test]
async fn asking_in_vain_is_bounded_and_what_was_billed_can_still_be_linked() {
    let world = World::new().await;
    let mut wire = world.dial();
    let asked = now();
    let mut first = None;
    let mut taken = 0;
    let refused = loop {
        assert!(taken < 1_000, "there is no end to it");
        let mut request = world.infer(taken + 1, json!({"tokens": 9, "gated": true})).await;
        if taken > 0 {
            // The first voucher covers them all.
            request.voucher = None;
        }
        wire.send(infer(request)).await;
        match wire.next().await {
            ExecutorFrame::Accepted => {}
            ExecutorFrame::Refused(refusal) => break refusal,
            other => panic!("unexpected: {other:?}"),
        }
        wire.send(ClientFrame::Cancel).await;
        match wire.next().await {
            ExecutorFrame::Bill { bill, ending } => {
                assert_eq!((bill.document().amount, ending), (TokenAmount::ZERO, Ending::Cancelled));
                first.get_or_insert(bill);
            }
            other => panic!("unexpected: {other:?}"),
        }
        taken += 1;
    };
    assert!(
        matches!(refused, Refusal::Fruitless { until } if until > asked),
        "{refused}"
    );
    assert!(
        taken > u64::from(world.offer.capacity),
        "no crowd of honest requests is refused"
    );

    // To link them makes them no better. They are listed all the same, and linked.
    link(&world, &mut wire, first.unwrap()).await;
    let again = world.infer(taken + 1, json!({"tokens": 2})).await;
    assert!(matches!(
        refusal(&mut wire, infer(again)).await,
        Refusal::Fruitless { .. }
    ));
    let listed = state(&mut wire, world.channel).await.unlinked;
    assert_eq!(listed.len() as u64, (taken - 1).min(512));
    link(&world, &mut wire, listed[0].clone()).await;
}

#[tokio::test]
async fn who_reads_no_answers_is_read_no_further() {
    let world = World::with(|executor, _, _| executor.write_timeout = Duration::from_secs(2)).await;
    let stranger = Keypair::from_secret([9; 32]).unwrap();
    let mut wire = world.dial_as(stranger.address());
    // Each is no frame, and answered with a longer one: some twenty megabytes in all.
    let flood = [0, 0, 0, 1, 0xff].repeat(500_000);
    let written = wire.writer.get_mut().write_all(&flood).await;
    assert!(written.is_err(), "all of it was read, and the answers kept");

    // Who reads them is served on.
    let mut wire = world.dial_as(stranger.address());
    let (answers, requests) = (&mut wire.reader, wire.writer.get_mut());
    let write = async { requests.write_all(&flood[..500_000]).await.unwrap() };
    let read = async {
        for _ in 0..100_000 {
            answers.next().await.unwrap().unwrap();
        }
    };
    tokio::join!(write, read);
}
