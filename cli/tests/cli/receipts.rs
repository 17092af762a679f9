//! Checking exported receipts, away from the store they came from.

use std::fs;

use alloy::primitives::{Address, B256};
use lloom_receipts::{
    ChannelParameters, ContentHash, Domain, Keypair, Receipt, ReceiptHead, RequestHash, TokenAmount, TokenCount,
    UnixSeconds, Usage, UsageBill, commitment_salt,
};
use serde_json::{Value, json};

use crate::harness::{Ended, Home};

const RANDOM: B256 = B256::repeat_byte(9);

fn domain() -> Domain {
    Domain::new(31_337, Address::repeat_byte(1), Address::repeat_byte(2))
}

fn key(byte: u8) -> Keypair {
    Keypair::from_secret([byte; 32]).unwrap()
}

/// What `receipts export` writes for a channel with `count` receipts, signed by `operator`.
fn exported(operator: &Keypair, count: u8) -> Vec<Value> {
    let payer = key(7);
    let channel = ChannelParameters {
        payer: payer.address(),
        payee: Address::repeat_byte(3),
        token: Address::repeat_byte(4),
        salt: commitment_salt(key(8).address(), RANDOM),
        authorized_signer: Address::ZERO,
    };
    let mut head = ReceiptHead::empty(channel.id(&domain()));
    (1..=count)
        .map(|number| {
            let bill = operator.sign(
                &domain(),
                UsageBill {
                    channel: head.channel,
                    request: RequestHash::new(B256::repeat_byte(number)),
                    response_hash: ContentHash::new(B256::ZERO),
                    usage: Usage {
                        input: TokenCount::new(10),
                        output: TokenCount::new(20),
                    },
                    amount: TokenAmount::new(1_000),
                    completed_at: UnixSeconds::new(1_700_000_000),
                },
            );
            let receipt = payer.sign(&domain(), head.link(*bill.document()).unwrap());
            head = ReceiptHead::at(receipt.document());
            json!({
                "chain_id": 31_337,
                "escrow": domain().escrow(),
                "settlement": domain().settlement(),
                "channel": channel,
                "operator": key(8).address(),
                "client_random": RANDOM,
                "receipt": Receipt::join(receipt, &bill).unwrap(),
            })
        })
        .collect()
}

fn verify(lines: &[Value]) -> Ended {
    run_verify(lines, &["--json"])
}

fn run_verify(lines: &[Value], flags: &[&str]) -> Ended {
    let home = Home::new();
    let path = home.path().join("receipts.jsonl");
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    fs::write(&path, text.join("\n")).unwrap();
    home.run(&[&["receipts", "verify", path.to_str().unwrap()], flags].concat())
}

#[test]
fn people_are_told_what_was_not_checked() {
    let good = exported(&key(8), 3);
    let told = |lines: &[Value]| run_verify(lines, &[]).stdout;
    assert!(!told(&good).contains("on its word"));
    let later = told(&good[1..]);
    assert!(
        later.contains("begin at 2, not at 1: the 0.001 LDEV before it"),
        "{later}"
    );
    wrong(&[], "holds no receipts");
}

#[track_caller]
fn wrong(lines: &[Value], words: &str) {
    let ended = verify(lines);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains(words), "'{words}' is missing: {ended:?}");
    assert!(!ended.failure()["hints"].as_array().unwrap().is_empty(), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

#[test]
fn receipts_are_verified_without_a_store_or_a_chain() {
    let good = exported(&key(8), 3);
    let checked = verify(&good).json();
    assert_eq!(checked["receipts"], 3);
    let channel = &checked["channels"][0];
    assert_eq!(
        (
            &channel["first_sequence"],
            &channel["last_sequence"],
            &channel["amount"],
            &channel["output_tokens"]
        ),
        (&1.into(), &3.into(), &"3000".into(), &60.into())
    );
    // An export may begin anywhere.
    let later = verify(&good[1..]).json();
    let channel = &later["channels"][0];
    assert_eq!(
        (&channel["first_sequence"], &channel["amount_before"]),
        (&2.into(), &"1000".into())
    );
}

#[test]
fn what_was_changed_or_left_out_is_found() {
    let good = exported(&key(8), 3);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut lines = good.clone();
        change(&mut lines[1]);
        lines
    };
    wrong(
        &changed(&|line| line["receipt"]["receipt"]["cumulative_amount"] = "9000".into()),
        "payer signature is wrong",
    );
    wrong(
        &changed(&|line| line["channel"]["payee"] = json!(Address::repeat_byte(5))),
        "the parties named make the channel",
    );
    wrong(
        &changed(&|line| line["chain_id"] = 1.into()),
        "the parties named make the channel",
    );
    wrong(
        &[good[0].clone(), good[2].clone()],
        "does not follow the receipt before",
    );
    wrong(
        &[good[0].clone(), good[0].clone()],
        "does not follow the receipt before",
    );
    wrong(&changed(&|line| *line = json!({})), "line 2");
}

#[test]
fn a_strangers_bill_needs_the_registrys_word() {
    // Somebody else signed the bill; and a bill whose signature is another document's.
    let forged = exported(&key(6), 1);
    let mut swapped = exported(&key(8), 1);
    swapped[0]["receipt"]["bill_signature"] = swapped[0]["receipt"]["payer_signature"].clone();
    assert_eq!(verify(&swapped).code, 3);
    let ended = verify(&forged);
    // These contracts are on no network that is known here: nobody can say that the payee named the signer.
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains(&key(6).address().to_string()), "{ended:?}");
}
