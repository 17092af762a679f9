use alloy::primitives::{Address, B256, U256};
use lloom_node::wire::Ending;
use lloom_receipts::{
    ContentHash, ContentSalt, Keypair, ModelHash, PricePerMillion, Prices, ReceiptHead, RequestNonce, Signed,
    UnixSeconds, Voucher,
};

use super::*;
use crate::{chain::Genesis, script};

const CHANNEL: ChannelId = ChannelId::new(B256::repeat_byte(1));
const SALT: ContentSalt = ContentSalt::new(B256::repeat_byte(2));
const TIGHT: Tolerance = Tolerance {
    output_slack: TokenCount::new(0),
    template_slack: TokenCount::new(0),
};

fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units)
}

/// One unit a token.
fn request() -> InferenceRequest {
    let price = PricePerMillion::new(amount(1_000_000));
    InferenceRequest {
        channel: CHANNEL,
        operator: Address::repeat_byte(3),
        nonce: RequestNonce::new(U256::ONE),
        model: ModelHash::of_id("model"),
        prompt_hash: ContentHash::new(B256::ZERO),
        max_input: TokenCount::new(100),
        max_output: TokenCount::new(64),
        prices: Prices {
            input: price,
            output: price,
        },
        deadline: UnixSeconds::new(1_000),
    }
}

fn key() -> Keypair {
    Keypair::from_secret([5; 32]).unwrap()
}

fn signed<D: lloom_receipts::Document>(document: D) -> Signed<D, Unverified> {
    key().sign(&Genesis::deployed().domain(), document).into_unverified()
}

fn voucher(units: u128) -> ClientFrame {
    let voucher = Voucher {
        channel: CHANNEL,
        amount: amount(units),
    };
    ClientFrame::Voucher {
        voucher: Some(signed(voucher)),
        received_bytes: 0,
        received: Usage::default(),
    }
}

fn receipt(bill: UsageBill) -> ClientFrame {
    let receipt = ReceiptHead::empty(CHANNEL).link(bill).unwrap();
    let receipt = Receipt::new(receipt, *signed(receipt).signature(), *signed(bill).signature());
    ClientFrame::Receipt {
        receipt: Box::new(receipt),
        voucher: None,
    }
}

fn usage(output: u32) -> Usage {
    Usage {
        input: TokenCount::new(40),
        output: TokenCount::new(output),
    }
}

fn bill(output: u32, response: ContentHash) -> UsageBill {
    UsageBill::for_request(&request(), usage(output), response, UnixSeconds::new(900)).unwrap()
}

/// A client that asked, and heard `tokens` tokens; and what it heard.
fn after(tokens: u32) -> (Dealings, ContentHash) {
    let mut dealings = Dealings::default();
    let infer = Infer {
        request: signed(request()),
        client_random: B256::ZERO,
        salt: SALT,
        body: vec![b' '; 100],
        voucher: None,
    };
    dealings.say(0, &ClientFrame::Infer(Box::new(infer)), TIGHT);
    let mut all = Vec::new();
    for said in 1..=tokens {
        let data = script::event(said);
        all.extend_from_slice(&data);
        let usage = usage(said);
        dealings.hear(&ExecutorFrame::Chunk { data, usage }, Some(request().hash()));
    }
    (dealings, ContentHash::of(SALT, &all))
}

fn is_noticed(mut dealings: Dealings, heard: Option<UsageBill>, said: &ClientFrame) -> bool {
    if let Some(bill) = heard {
        let frame = ExecutorFrame::Bill {
            bill: signed(bill),
            ending: Ending::Complete,
        };
        dealings.hear(&frame, Some(request().hash()));
    }
    dealings.say(0, said, TIGHT);
    !dealings.violations.is_empty()
}

#[test]
fn a_voucher_above_what_came_and_one_increment_is_noticed() {
    let promised = 100 + u128::from(INCREMENT);
    assert!(!is_noticed(after(0).0, None, &voucher(promised)));
    assert!(is_noticed(after(0).0, None, &voucher(promised + 1)));
    assert!(!is_noticed(after(10).0, None, &voucher(promised + 10)));
    assert!(is_noticed(after(10).0, None, &voucher(promised + 11)));
}

#[test]
fn a_count_that_no_bytes_justify_is_promised_nothing() {
    let (mut dealings, _) = after(1);
    let usage = usage(60);
    let data = b"data".to_vec();
    dealings.hear(&ExecutorFrame::Chunk { data, usage }, Some(request().hash()));
    let text = text_bytes(&script::event(1));
    let justified = 100 + u128::from(text) + u128::from(INCREMENT);
    assert!(is_noticed(dealings, None, &voucher(justified + 1)));
}

#[test]
fn linking_what_did_not_come_is_noticed() {
    let (_, response) = after(10);
    let due = bill(10, response);
    assert!(!is_noticed(after(10).0, Some(due), &receipt(due)));
    let undelivered = bill(11, response);
    assert!(is_noticed(after(10).0, Some(undelivered), &receipt(undelivered)));
    let other = bill(10, ContentHash::new(B256::ZERO));
    assert!(is_noticed(after(10).0, Some(other), &receipt(other)));
    let mut dear = due;
    dear.amount = amount(51);
    assert!(is_noticed(after(10).0, Some(dear), &receipt(dear)));
}

#[test]
fn linking_a_second_bill_is_noticed() {
    let (mut dealings, response) = after(10);
    let due = bill(10, response);
    dealings.say(0, &receipt(due), TIGHT);
    assert_eq!(dealings.violations, Vec::<String>::new());
    assert!(
        !is_noticed(after(10).0, None, &receipt(due)),
        "sent again, it is the same"
    );
    assert!(is_noticed(dealings, None, &receipt(bill(9, response))));
}
