use lloom_ledger::ClaimBy;
use lloom_receipts::Decimals;
use lloom_watcher::{Deferral, Held, TokenThresholds, WhyNow};

use super::*;

const TOKEN: Address = Address::repeat_byte(0x70);

fn own() -> Token {
    Token {
        address: TOKEN,
        symbol: String::from("USDC"),
        decimals: Decimals::new(6),
    }
}

fn explained(verdict: Verdict) -> Explanation {
    Explanation {
        channel: ChannelId::new(B256::repeat_byte(1)),
        payee: Address::repeat_byte(2),
        token: TOKEN,
        deposit: TokenAmount::new(5_000_000),
        settled: TokenAmount::new(1_000_000),
        billed: TokenAmount::new(1_250_000),
        voucher: Some(TokenAmount::new(1_300_000)),
        receipt: None,
        deadline: None,
        claimed_from: None,
        thresholds: TokenThresholds {
            min_value_over_fee: 10,
            native_price_in_token: Some(TokenAmount::new(3_000_000_000)),
            min_claim: TokenAmount::ZERO,
            exposure_near: TokenAmount::ZERO,
        },
        gas_price: 2_000_000_000,
        failed: None,
        verdict,
    }
}

fn waiting(why: WhyNot) -> Verdict {
    Verdict::NotYet(Waiting {
        channel: ChannelId::new(B256::repeat_byte(1)),
        token: TOKEN,
        value: TokenAmount::new(250_000),
        why,
        claimed_from: None,
        deferred: Some(Deferral {
            looks: 7,
            since: UnixSeconds::new(1_700_000_000),
        }),
    })
}

fn text(explanation: Explanation) -> String {
    let mut out = Vec::new();
    ExplanationAnswer::new(explanation, &own())
        .write_human(&mut out)
        .unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn says_what_would_change_a_claim_that_is_not_worth_its_fee() {
    let small = WhyNot::NotWorthwhile {
        value: TokenAmount::new(250_000),
        needed: TokenAmount::new(1_000_000),
    };
    insta::assert_snapshot!(text(explained(waiting(small))));
    let answer = ExplanationAnswer::new(explained(waiting(small)), &own());
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(
        (&json["verdict"], &json["reason"]),
        (&"not_yet".into(), &"not_worthwhile".into())
    );
    assert_eq!((&json["value"], &json["needed"]), (&"250000".into(), &"1000000".into()));
    assert_eq!(json["looks"], 7);
    assert_eq!(serde_json::from_value::<ExplanationAnswer>(json).unwrap(), answer);
}

#[test]
fn says_when_a_row_that_failed_is_tried_again_and_when_it_has_to_be() {
    let held = WhyNot::Quarantined(Held {
        until: UnixSeconds::new(1_700_000_100),
        failures: 3,
    });
    let explanation = Explanation {
        failed: Some(String::from("InvalidSignature")),
        deadline: Some(UnixSeconds::new(1_700_003_600)),
        claimed_from: Some(UnixSeconds::new(1_700_001_800)),
        ..explained(waiting(held))
    };
    insta::assert_snapshot!(text(explanation));
}

#[test]
fn says_why_now_and_what_is_under_way() {
    let now = Verdict::Now {
        by: ClaimBy::Vouchers,
        value: TokenAmount::new(250_000),
        why: WhyNow::Deadline,
        rows: 3,
        claim_value: TokenAmount::new(900_000),
        fee: Some(TokenAmount::new(1_000)),
    };
    insta::assert_snapshot!(text(explained(now)));
    let under_way = Verdict::UnderWay {
        transaction: B256::repeat_byte(9),
        amount: TokenAmount::new(1_250_000),
        closes: false,
    };
    insta::assert_snapshot!(text(explained(under_way)));
    insta::assert_snapshot!(text(explained(Verdict::Nothing(NothingDue::AllSettled))));
}

#[test]
fn says_what_is_held_and_when_it_is_defended() {
    let held = |from| Verdict::Held {
        value: TokenAmount::new(250_000),
        from,
    };
    let leaving = Explanation {
        deadline: Some(UnixSeconds::new(1_700_003_600)),
        ..explained(held(Some(UnixSeconds::new(1_700_002_400))))
    };
    insta::assert_snapshot!(format!("{}\n{}", text(leaving), text(explained(held(None)))));
}
