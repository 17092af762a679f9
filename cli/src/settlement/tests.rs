use lloom_receipts::Decimals;
use lloom_watcher::{Deferral, Held, PlannedClaim, PlannedRow};

use super::*;

const TOKEN: Address = Address::repeat_byte(0x70);
const OTHER_TOKEN: Address = Address::repeat_byte(0x71);

fn own() -> Token {
    Token {
        address: TOKEN,
        symbol: String::from("USDC"),
        decimals: Decimals::new(6),
    }
}

fn channel(number: u8) -> ChannelId {
    ChannelId::new(B256::repeat_byte(number))
}

fn row(number: u8, why: WhyNow, deadline: Option<u64>) -> PlannedRow {
    PlannedRow {
        channel: channel(number),
        amount: TokenAmount::new(u128::from(number) * 1_500_000),
        value: TokenAmount::new(u128::from(number) * 1_000_000),
        why,
        deadline: deadline.map(UnixSeconds::new),
    }
}

fn waiting(number: u8, why: WhyNot) -> Waiting {
    Waiting {
        channel: channel(number),
        token: TOKEN,
        value: TokenAmount::new(u128::from(number) * 10_000),
        why,
        claimed_from: None,
        deferred: Some(Deferral {
            looks: u64::from(number),
            since: UnixSeconds::new(1_700_000_000),
        }),
    }
}

/// With a row for each reason to claim now, and one for each reason to wait.
fn plan() -> Plan {
    let pressing = PlannedClaim {
        payee: Address::repeat_byte(2),
        token: TOKEN,
        by: ClaimBy::Vouchers,
        rows: vec![
            row(1, WhyNow::Deadline, Some(1_700_003_600)),
            row(2, WhyNow::Ordered, None),
            row(3, WhyNow::DepositUsed, None),
        ],
        value: TokenAmount::new(6_000_000),
        fee: Some(TokenAmount::new(120_000)),
        deadline: Some(UnixSeconds::new(1_700_003_600)),
    };
    let worthwhile = PlannedClaim {
        token: OTHER_TOKEN,
        by: ClaimBy::Receipts,
        rows: vec![row(4, WhyNow::Worthwhile, None)],
        value: TokenAmount::new(4_000_000),
        fee: None,
        deadline: None,
        ..pressing.clone()
    };
    let small = WhyNot::NotWorthwhile {
        value: TokenAmount::new(50_000),
        needed: TokenAmount::new(1_000_000),
    };
    let leaving = Waiting {
        claimed_from: Some(UnixSeconds::new(1_700_001_800)),
        ..waiting(6, small)
    };
    let failed = Held {
        until: UnixSeconds::new(1_700_000_030),
        failures: 1,
    };
    let uncounted = Waiting {
        token: OTHER_TOKEN,
        deferred: None,
        ..waiting(8, WhyNot::Quarantined(failed))
    };
    Plan {
        gas_price: 2_000_000_000,
        claims: vec![pressing, worthwhile],
        waiting: vec![waiting(5, small), leaving, waiting(7, WhyNot::AwaitsReceipt), uncounted],
    }
}

fn text(answer: &PlanAnswer) -> String {
    let mut out = Vec::new();
    answer.write_human(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_plan_says_of_each_channel_why_now_or_why_not_yet() {
    let answer = PlanAnswer::new(plan(), &own());
    insta::assert_snapshot!(text(&answer));
    let json = serde_json::to_string_pretty(&answer).unwrap();
    assert_eq!(serde_json::from_str::<PlanAnswer>(&json).unwrap(), answer);
    insta::assert_snapshot!(json);
}

#[test]
fn a_plan_of_nothing_is_one_sentence() {
    let nothing = Plan {
        gas_price: 1,
        claims: Vec::new(),
        waiting: Vec::new(),
    };
    assert_eq!(text(&PlanAnswer::new(nothing, &own())), "Nothing to claim.\n");
}
