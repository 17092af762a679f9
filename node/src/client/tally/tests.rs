use alloy::primitives::{Address, B256, U256};
use lloom_receipts::{ChannelId, ModelHash, PricePerMillion, Prices, RequestNonce, UnixSeconds};
use serde_json::json;

use super::*;

const SALT: ContentSalt = ContentSalt::new(B256::ZERO);
const TOLERANCE: Tolerance = Tolerance {
    output_slack: TokenCount::new(4),
    template_slack: TokenCount::new(10),
};

fn usage(input: u32, output: u32) -> Usage {
    Usage {
        input: TokenCount::new(input),
        output: TokenCount::new(output),
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
        max_input: TokenCount::new(100),
        max_output: TokenCount::new(40),
        prices: Prices {
            input: price,
            output: price,
        },
        deadline: UnixSeconds::new(0),
    }
}

fn tally() -> Tally {
    Tally::new(request(), SALT, 60, TokenCount::new(10), TOLERANCE)
}

fn event(text: &str) -> Vec<u8> {
    format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]})).into_bytes()
}

#[test]
fn pays_ahead_when_half_of_the_increment_is_used() {
    let mut tally = tally();
    assert_eq!(
        Tally::first_authorization(&request(), TokenCount::new(10)).unwrap(),
        TokenAmount::new(110)
    );
    let four = event("abcd");
    assert_eq!(tally.receive(&four, usage(0, 4)), Ok(None));
    assert_eq!(
        tally.receive(&event("e"), usage(0, 5)).unwrap().unwrap(),
        Acknowledgement {
            received_bytes: (four.len() + event("e").len()) as u64,
            received: usage(0, 5),
            authorized: TokenAmount::new(115),
        }
    );
    assert_eq!(tally.pay_ahead(), None, "everything is acknowledged");
    assert_eq!(tally.receive(&event("f"), usage(0, 6)), Ok(None));
    let asked = tally.pay_ahead().unwrap();
    assert_eq!((asked.received, asked.authorized), (usage(0, 6), TokenAmount::new(116)));
}

#[test]
fn never_authorizes_more_than_the_request_s_maximum() {
    let mut tally = tally();
    let ahead = tally.receive(&event(&"x".repeat(40)), usage(0, 39)).unwrap().unwrap();
    assert_eq!(ahead.authorized, TokenAmount::new(140));
    assert_eq!(
        tally.receive(&event("y"), usage(0, 40)).unwrap().unwrap().authorized,
        TokenAmount::new(140)
    );
}

#[test]
fn believes_no_count_that_the_bytes_can_not_justify() {
    let mut receiving = tally();
    assert_eq!(
        receiving.receive(&event("abc"), usage(0, 8)),
        Err(Overcount {
            usage: usage(0, 8),
            input: TokenCount::new(70),
            output: TokenCount::new(7)
        })
    );
    assert!(tally().receive(&event("abc"), usage(70, 7)).is_ok());
    assert!(tally().receive(&event("abc"), usage(71, 7)).is_err());
    assert!(
        tally().receive(&event(&"x".repeat(100)), usage(0, 41)).is_err(),
        "beyond the request's limit"
    );
}

#[test]
fn counts_generated_text_wherever_it_stands() {
    let mut content = ContentBytes::default();
    let delta = json!({"choices": [
        {"delta": {"role": "assistant", "content": "ab", "reasoning": "cde"}, "index": 0},
        {"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}},
    ], "id": "not counted"});
    let line = format!("data: {delta}\n\ndata: garbage\n\n: comment\n\ndata: {{\"usage\":{{}}}}\n\n");
    content.count(line.as_bytes());
    assert_eq!(content.bytes, 8);
    // Also when it comes byte by byte.
    let mut content = ContentBytes::default();
    for byte in line.as_bytes() {
        content.count(&[*byte]);
    }
    assert_eq!(content.bytes, 8);
}

#[test]
fn pays_only_the_bill_for_what_came() {
    let mut tally = tally();
    let data = event("hello");
    tally.receive(&data, usage(0, 5)).unwrap();
    tally.receive(b"", usage(50, 5)).unwrap();
    let hash = ContentHash::of(SALT, &data);
    let bill = |usage| UsageBill::for_request(&request(), usage, hash, UnixSeconds::new(1)).unwrap();

    assert_eq!(tally.judge(&bill(usage(50, 5))), Ok(()));
    assert_eq!(tally.judge(&bill(usage(0, 0))), Ok(()), "less is always fine");
    let mut corrected = self::tally();
    corrected.receive(&data, usage(0, 5)).unwrap();
    corrected.receive(b"", usage(50, 4)).unwrap();
    assert!(
        corrected.judge(&bill(usage(50, 5))).is_err(),
        "the last count is the one that counts"
    );
    assert_eq!(corrected.judge(&bill(usage(50, 4))), Ok(()));
    assert!(matches!(
        tally.judge(&bill(usage(50, 6))),
        Err(Overbilled::BeyondAnnounced { .. })
    ));
    assert!(matches!(
        tally.judge(&bill(usage(51, 5))),
        Err(Overbilled::BeyondAnnounced { .. })
    ));
    let overcharged = UsageBill {
        amount: TokenAmount::new(56),
        ..bill(usage(50, 5))
    };
    assert!(matches!(
        tally.judge(&overcharged),
        Err(Overbilled::Bill(BillError::Overcharged { .. }))
    ));
    let other = UsageBill {
        response_hash: ContentHash::of(SALT, b"other"),
        ..bill(usage(50, 5))
    };
    assert!(matches!(tally.judge(&other), Err(Overbilled::OtherResponse { .. })));
    let elsewhere = UsageBill {
        channel: ChannelId::new(B256::repeat_byte(1)),
        ..bill(usage(50, 5))
    };
    assert!(matches!(
        tally.judge(&elsewhere),
        Err(Overbilled::Bill(BillError::OtherRequest { .. }))
    ));
}
