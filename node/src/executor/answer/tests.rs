use alloy::primitives::{Address, B256, U256};
use lloom_receipts::{ChannelId, ModelHash, PricePerMillion, Prices, RequestNonce, UnixSeconds};

use super::*;

const SALT: ContentSalt = ContentSalt::new(B256::ZERO);

fn count(tokens: u32) -> TokenCount {
    TokenCount::new(tokens)
}

fn output(tokens: u32) -> Usage {
    Usage {
        input: count(0),
        output: count(tokens),
    }
}

/// A base unit a token, 100 input and 40 output tokens at most.
fn request() -> InferenceRequest {
    let price = PricePerMillion::new(TokenAmount::new(1_000_000));
    InferenceRequest {
        channel: ChannelId::new(B256::ZERO),
        operator: Address::ZERO,
        nonce: RequestNonce::new(U256::ZERO),
        model: ModelHash::of_id("m"),
        prompt_hash: ContentHash::of(SALT, b""),
        max_input: count(100),
        max_output: count(40),
        prices: Prices {
            input: price,
            output: price,
        },
        deadline: UnixSeconds::new(0),
    }
}

fn answer() -> Answer {
    Answer::new(request(), SALT, count(10), count(20))
}

fn chunk(answer: &mut Answer) -> (Vec<u8>, Usage) {
    match answer.next_chunk() {
        Some(ExecutorFrame::Chunk { data, usage }) => {
            answer.set_delivered();
            (data, usage)
        }
        other => panic!("no chunk: {other:?}"),
    }
}

#[test]
fn reserves_the_input_and_an_increment_first() {
    assert_eq!(
        Answer::first_reservation(&request(), count(10)).unwrap(),
        Reservation {
            output: count(10),
            total: TokenAmount::new(110)
        }
    );
    assert_eq!(
        Answer::first_reservation(&request(), count(1_000)).unwrap().total,
        TokenAmount::new(140)
    );
}

#[test]
fn gathers_events_and_hashes_what_is_sent() {
    let mut answer = answer();
    answer.take_event(b"{\"a\":1}", count(1)).unwrap();
    answer.take_event(b"{\n\"b\":\r\n2}", count(2)).unwrap();
    let (data, usage) = chunk(&mut answer);
    assert_eq!(data, b"data: {\"a\":1}\n\ndata: { \"b\":  2}\n\n");
    assert_eq!(usage, output(2));
    assert_eq!(answer.delivered().hash, ContentHash::of(SALT, &data));
    assert_eq!(answer.delivered().bytes, data.len() as u64);
    assert_eq!(answer.next_chunk(), None);
}

#[test]
fn holds_what_is_not_reserved_until_it_is() {
    let mut answer = answer();
    answer.take_event(b"a", count(10)).unwrap();
    assert!(answer.takes_events());
    answer.take_event(b"b", count(11)).unwrap();
    assert!(!answer.takes_events());
    assert!(answer.is_stalled());
    let (data, _) = chunk(&mut answer);
    assert_eq!(data, b"data: a\n\n");

    // Nothing is acknowledged, so nothing more is reserved: it could be what covers the client's next request.
    assert_eq!(answer.wanted(), None);
    assert_eq!(answer.lacking(), TokenAmount::new(1));
    assert!(
        !answer.overshoot(),
        "the client can pay for more once it has acknowledged"
    );

    let mark = answer.acknowledge(9, output(10)).unwrap().unwrap();
    assert_eq!(mark, answer.acknowledged());
    assert_eq!(mark.hash, answer.delivered().hash);
    let wanted = answer.wanted().unwrap();
    assert_eq!((wanted.output, wanted.total), (count(20), TokenAmount::new(120)));
    answer.reserve(wanted);
    assert!(!answer.is_stalled());
    assert_eq!(chunk(&mut answer), (b"data: b\n\n".to_vec(), output(11)));
}

#[test]
fn reserves_ahead_of_what_is_acknowledged_but_never_past_the_limit() {
    let mut answer = answer();
    assert_eq!(answer.wanted(), None);
    answer.take_event(b"a", count(6)).unwrap();
    let (data, usage) = chunk(&mut answer);
    let mut bytes = data.len() as u64;
    answer.acknowledge(bytes, usage).unwrap();
    let wanted = answer.wanted().unwrap();
    assert_eq!(wanted.output, count(16));
    answer.reserve(wanted);
    assert_eq!(answer.wanted(), None);
    for tokens in [16, 26, 36] {
        answer.take_event(b"a", count(tokens)).unwrap();
        let (data, usage) = chunk(&mut answer);
        bytes += data.len() as u64;
        answer.acknowledge(bytes, usage).unwrap();
        answer.reserve(answer.wanted().unwrap());
    }
    assert_eq!(answer.wanted(), None, "everything up to the limit is reserved");
    answer.take_event(b"a", count(40)).unwrap();
    chunk(&mut answer);
    assert_eq!(answer.take_event(b"a", count(41)), Err(LimitReached));
    assert_eq!(
        answer.delivered().usage,
        Usage {
            input: count(20),
            output: count(40)
        },
        "with the prompt as estimated, as the backend never said"
    );
}

#[test]
fn takes_only_acknowledgements_of_what_was_sent() {
    let mut answer = answer();
    assert_eq!(answer.acknowledge(0, output(0)), Ok(None));
    answer.take_event(b"a", count(1)).unwrap();
    chunk(&mut answer);
    answer.take_event(b"b", count(2)).unwrap();
    chunk(&mut answer);
    for (bytes, usage) in [(8, output(1)), (9, output(2)), (27, output(3)), (u64::MAX, output(40))] {
        assert_eq!(
            answer.acknowledge(bytes, usage),
            Err(Refusal::NeverSent { received_bytes: bytes })
        );
    }
    assert!(answer.acknowledge(18, output(2)).unwrap().is_some());
    // An older one, which came late.
    assert_eq!(answer.acknowledge(9, output(1)), Ok(None));
}

#[test]
fn an_event_larger_than_an_increment_leaves_when_all_before_it_is_paid() {
    let mut answer = answer();
    answer.take_event(b"a", count(5)).unwrap();
    answer.take_event(b"large", count(25)).unwrap();
    let (data, usage) = chunk(&mut answer);
    assert!(!answer.overshoot());
    answer.acknowledge(data.len() as u64, usage).unwrap();
    let wanted = answer.wanted().unwrap();
    assert_eq!(wanted.output, count(15));
    answer.reserve(wanted);
    assert_eq!(answer.wanted().unwrap().output, count(25));
    assert!(answer.overshoot());
    assert_eq!(chunk(&mut answer).1, output(25));

    let mut answer = Answer::new(
        InferenceRequest {
            max_output: count(10_000),
            ..request()
        },
        SALT,
        count(10),
        count(20),
    );
    answer.take_event(b"huge", count(10 + MAX_OVERSHOOT + 1)).unwrap();
    assert!(!answer.overshoot(), "but not one beyond all measure");
}

#[test]
fn acknowledging_without_paying_lets_nothing_leave() {
    let mut answer = answer();
    answer.take_event(b"a", count(10)).unwrap();
    answer.take_event(b"b", count(11)).unwrap();
    let (data, usage) = chunk(&mut answer);
    answer.acknowledge(data.len() as u64, usage).unwrap();
    assert!(!answer.overshoot(), "a small event is no reason");

    let mut answer = self::answer();
    answer.take_event(b"a", count(10)).unwrap();
    answer.take_event(b"large", count(30)).unwrap();
    let (data, usage) = chunk(&mut answer);
    answer.acknowledge(data.len() as u64, usage).unwrap();
    assert!(!answer.overshoot(), "the increment ahead is not paid");
}

#[test]
fn announces_the_final_usage_in_a_last_chunk() {
    let mut answer = answer();
    answer.take_event(b"a", count(3)).unwrap();
    chunk(&mut answer);
    answer.take_usage(Usage {
        input: count(500),
        output: count(4),
    });
    assert_eq!(answer.next_chunk(), None, "not before the end");
    answer.end();
    assert!(!answer.is_complete());
    let (data, usage) = chunk(&mut answer);
    assert!(data.is_empty());
    assert_eq!(
        usage,
        Usage {
            input: count(100),
            output: count(4)
        },
        "within the request's limits"
    );
    assert!(answer.is_complete());
}

#[test]
fn a_cut_answer_counts_only_what_was_sent() {
    let mut answer = answer();
    answer.take_event(b"a", count(3)).unwrap();
    let (data, _) = chunk(&mut answer);
    answer.take_event(b"b", count(5)).unwrap();
    answer.cut();
    let billed = Usage {
        input: count(20),
        output: count(3),
    };
    assert_eq!(answer.delivered().usage, billed);
    assert!(!answer.is_complete(), "the client is told what the prompt counts");
    assert_eq!(chunk(&mut answer), (Vec::new(), billed));
    assert!(answer.is_complete());
    assert_eq!(answer.next_chunk(), None);
    assert_eq!(answer.delivered().hash, ContentHash::of(SALT, &data));

    let mut unread = self::answer();
    unread.take_event(b"held", count(11)).unwrap();
    unread.cut();
    assert!(unread.is_complete());
    assert_eq!(
        unread.delivered().usage,
        output(0),
        "what was never delivered costs nothing"
    );
}
