use alloy::primitives::B256;

use super::*;

const PAYEE: Address = Address::repeat_byte(0xee);
const TOKEN: Address = Address::repeat_byte(0x70);
const NOW: UnixSeconds = UnixSeconds::new(1_000_000);
const MARGIN: Duration = Duration::from_secs(600);

fn id(number: u8) -> ChannelId {
    ChannelId::new(B256::repeat_byte(number))
}

/// A channel with a large deposit whose bills a voucher and a receipt cover alike.
fn channel(number: u8, billed: u128) -> Candidate {
    Candidate {
        channel: id(number),
        payee: PAYEE,
        token: TOKEN,
        deposit: TokenAmount::new(1_000_000),
        settled: TokenAmount::ZERO,
        billed: TokenAmount::new(billed),
        voucher: Some(TokenAmount::new(billed + 50)),
        receipt: Some(TokenAmount::new(billed)),
        deadline: None,
        publishes: true,
        held: None,
    }
}

/// A row of vouchers costs 15 units of fee at a gas price of 1 gwei, a claim 40 more.
fn policy() -> PlannerPolicy {
    PlannerPolicy {
        min_value_over_fee: 10,
        native_price_in_token: Some(TokenAmount::new(1_000_000)),
        min_claim: TokenAmount::new(500),
        tokens: BTreeMap::new(),
        publish: Publish::Vouchers,
        safety_margin: MARGIN,
        exposure_near: TokenAmount::ZERO,
        max_rows: 100,
    }
}

const SITUATION: Situation = Situation {
    now: NOW,
    gas_price: 1_000_000_000,
    ordered: false,
};

fn amounts(plan: &Plan) -> Vec<Vec<(ChannelId, u128)>> {
    plan.claims
        .iter()
        .map(|claim| {
            claim
                .rows
                .iter()
                .map(|row| (row.channel, row.amount.base_units()))
                .collect()
        })
        .collect()
}

#[test]
fn settles_what_was_billed_and_never_a_vouchers_slack() {
    for (what, voucher, billed, deposit, settled, expected) in [
        ("slack", Some(900), 800, 1_000, 0, Some(800)),
        ("bills ahead of the voucher", Some(900), 950, 1_000, 0, Some(900)),
        ("nothing new", Some(900), 800, 1_000, 800, None),
        ("more settled than billed", Some(900), 800, 1_000, 850, None),
        ("a voucher over the deposit", Some(2_000), 1_500, 1_000, 0, Some(1_000)),
        ("no voucher", None, 800, 1_000, 0, None),
        ("a deposit that a reorg took back", Some(900), 800, 0, 0, None),
    ] {
        let candidate = Candidate {
            voucher: voucher.map(TokenAmount::new),
            billed: TokenAmount::new(billed),
            deposit: TokenAmount::new(deposit),
            settled: TokenAmount::new(settled),
            ..channel(1, 0)
        };
        assert_eq!(candidate.by_voucher(), expected.map(TokenAmount::new), "{what}");
    }
}

#[test]
fn a_receipt_settles_exactly_its_amount_or_not_at_all() {
    for (receipt, deposit, settled, expected) in [
        (Some(800), 1_000, 0, Some(800)),
        (Some(800), 1_000, 800, None),
        (Some(800), 799, 0, None),
        (None, 1_000, 0, None),
    ] {
        let candidate = Candidate {
            receipt: receipt.map(TokenAmount::new),
            deposit: TokenAmount::new(deposit),
            settled: TokenAmount::new(settled),
            ..channel(1, 800)
        };
        assert_eq!(candidate.by_receipt(), expected.map(TokenAmount::new));
    }
}

#[test]
fn waits_until_the_value_exceeds_a_multiple_of_the_fee() {
    // One row: 40 + 15 units of fee, ten times that is 550.
    for (billed, claimed) in [(549, false), (550, true)] {
        let plan = plan(&[channel(1, billed)], SITUATION, &policy());
        assert_eq!(!plan.claims.is_empty(), claimed, "{billed}");
        assert_eq!(plan.waiting.is_empty(), claimed, "{billed}");
    }
    let plan = plan(&[channel(1, 549)], SITUATION, &policy());
    assert_eq!(
        plan.waiting[0].why,
        WhyNot::NotWorthwhile {
            value: TokenAmount::new(549),
            needed: TokenAmount::new(550)
        }
    );
    assert_eq!(plan.waiting[0].claimed_from, None);
    // Its payer is leaving: it waits no longer than until the safety margin begins.
    let deadline = SITUATION.now.plus(Duration::from_secs(10_000));
    let leaving = Candidate {
        deadline: Some(deadline),
        ..channel(1, 549)
    };
    let plan = super::plan(&[leaving], SITUATION, &policy());
    assert_eq!(
        plan.waiting[0].claimed_from,
        Some(deadline.minus(policy().safety_margin))
    );
}

#[test]
fn channels_share_the_fee_of_one_claim() {
    // Neither is worth a claim alone; together they are worth more than 10 * (40 + 2 * 15).
    let plan = plan(&[channel(1, 350), channel(2, 351)], SITUATION, &policy());
    assert_eq!(amounts(&plan), [[(id(2), 351), (id(1), 350)]]);
    assert_eq!(plan.claims[0].value, TokenAmount::new(701));
    assert_eq!(plan.claims[0].fee, Some(TokenAmount::new(70)));
}

#[test]
fn a_row_that_does_not_pay_for_itself_stays_out() {
    let plan = plan(&[channel(1, 9_000), channel(2, 149)], SITUATION, &policy());
    assert_eq!(amounts(&plan), [[(id(1), 9_000)]]);
    assert_eq!(plan.waiting.len(), 1);
    assert_eq!(plan.waiting[0].channel, id(2));
}

#[test]
fn without_a_price_the_minimum_decides() {
    let policy = PlannerPolicy {
        native_price_in_token: None,
        ..policy()
    };
    assert!(plan(&[channel(1, 499)], SITUATION, &policy).claims.is_empty());
    let claims = plan(&[channel(1, 250), channel(2, 250)], SITUATION, &policy).claims;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].fee, None);
}

#[test]
fn a_deadline_ignores_the_fee_and_names_the_loss() {
    let margin_begins = NOW.plus(MARGIN);
    for (deadline, claimed) in [
        (margin_begins.plus(Duration::from_secs(1)), false),
        (margin_begins, true),
        (NOW.minus(Duration::from_secs(60)), true),
    ] {
        let candidate = Candidate {
            deadline: Some(deadline),
            ..channel(1, 5)
        };
        let plan = plan(&[candidate], SITUATION, &policy());
        assert_eq!(!plan.claims.is_empty(), claimed, "{deadline}");
        if let Some(claim) = plan.claims.first() {
            assert_eq!(claim.rows[0].why, WhyNow::Deadline);
            assert_eq!(claim.deadline, Some(deadline));
            assert_eq!(claim.loss(), Some(TokenAmount::new(50)));
        }
    }
}

#[test]
fn rows_worth_their_own_gas_ride_with_an_urgent_one() {
    let urgent = Candidate {
        deadline: Some(NOW),
        ..channel(1, 5)
    };
    let plan = plan(&[channel(2, 150), urgent, channel(3, 149)], SITUATION, &policy());
    assert_eq!(amounts(&plan), [[(id(1), 5), (id(2), 150)]]);
}

#[test]
fn a_used_up_deposit_is_claimed_unless_that_is_a_loss() {
    for (billed, claimed) in [(54, false), (55, true)] {
        let candidate = Candidate {
            deposit: TokenAmount::new(billed),
            ..channel(1, billed)
        };
        assert_eq!(
            !plan(&[candidate], SITUATION, &policy()).claims.is_empty(),
            claimed,
            "{billed}"
        );
    }
    let near = PlannerPolicy {
        exposure_near: TokenAmount::new(100),
        ..policy()
    };
    for (deposit, claimed) in [(300, true), (301, false)] {
        let candidate = Candidate {
            deposit: TokenAmount::new(deposit),
            ..channel(1, 200)
        };
        assert_eq!(
            !plan(&[candidate], SITUATION, &near).claims.is_empty(),
            claimed,
            "{deposit}"
        );
    }
}

#[test]
fn an_order_ignores_the_fee() {
    let ordered = Situation {
        ordered: true,
        ..SITUATION
    };
    let plan = plan(&[channel(1, 1), channel(2, 0)], ordered, &policy());
    assert_eq!(amounts(&plan), [[(id(1), 1)]]);
    assert_eq!(plan.claims[0].rows[0].why, WhyNow::Ordered);
    assert!(plan.waiting.is_empty());
}

#[test]
fn chooses_the_means_by_policy_and_by_what_there_is() {
    let both = channel(1, 5_000);
    let unlinked = Candidate {
        receipt: Some(TokenAmount::new(4_000)),
        ..both.clone()
    };
    let only_receipt = Candidate {
        voucher: None,
        ..both.clone()
    };
    let small_voucher = Candidate {
        voucher: Some(TokenAmount::new(4_500)),
        ..both.clone()
    };
    let published = Candidate {
        settled: TokenAmount::new(4_000),
        ..unlinked.clone()
    };
    let pressed = |candidate: &Candidate| Candidate {
        deadline: Some(NOW),
        ..candidate.clone()
    };
    let chosen = |candidate: &Candidate, publish: Publish| {
        let policy = PlannerPolicy { publish, ..policy() };
        let plan = plan(std::slice::from_ref(candidate), SITUATION, &policy);
        plan.claims
            .first()
            .map(|claim| (claim.by, claim.rows[0].amount.base_units()))
    };
    for publish in [Publish::Vouchers, Publish::ReceiptsOnClose] {
        assert_eq!(chosen(&both, publish), Some((ClaimBy::Vouchers, 5_000)));
        assert_eq!(chosen(&unlinked, publish), Some((ClaimBy::Vouchers, 5_000)));
        assert_eq!(chosen(&only_receipt, publish), Some((ClaimBy::Receipts, 5_000)));
        assert_eq!(chosen(&small_voucher, publish), Some((ClaimBy::Receipts, 5_000)));
    }
    assert_eq!(chosen(&both, Publish::Receipts), Some((ClaimBy::Receipts, 5_000)));
    assert_eq!(chosen(&unlinked, Publish::Receipts), Some((ClaimBy::Receipts, 4_000)));
    // Money before publicity once the payer is leaving.
    assert_eq!(
        chosen(&pressed(&unlinked), Publish::Receipts),
        Some((ClaimBy::Vouchers, 5_000))
    );
    assert_eq!(
        chosen(&pressed(&both), Publish::Receipts),
        Some((ClaimBy::Receipts, 5_000))
    );
    assert_eq!(chosen(&published, Publish::Receipts), None);
    assert_eq!(
        chosen(&pressed(&published), Publish::Receipts),
        Some((ClaimBy::Vouchers, 5_000))
    );
    // A receipt that can't be published is not waited for, and money is worth no less for it.
    let of_stranger = |candidate: &Candidate| Candidate {
        publishes: false,
        ..candidate.clone()
    };
    for publish in [Publish::Vouchers, Publish::ReceiptsOnClose, Publish::Receipts] {
        for candidate in [&both, &unlinked, &published, &pressed(&both)] {
            assert_eq!(
                chosen(&of_stranger(candidate), publish),
                Some((ClaimBy::Vouchers, 5_000))
            );
        }
        assert_eq!(
            chosen(&of_stranger(&small_voucher), publish),
            Some((ClaimBy::Vouchers, 4_500))
        );
        assert_eq!(chosen(&of_stranger(&only_receipt), publish), None);
    }
    let policy = PlannerPolicy {
        publish: Publish::Receipts,
        ..policy()
    };
    assert_eq!(
        plan(&[published], SITUATION, &policy).waiting[0].why,
        WhyNot::AwaitsReceipt
    );
}

#[test]
fn packs_by_payee_token_and_means() {
    let other_payee = Candidate {
        payee: Address::repeat_byte(0xef),
        ..channel(2, 9_000)
    };
    let other_token = Candidate {
        token: Address::repeat_byte(0x71),
        ..channel(3, 9_000)
    };
    let by_receipt = Candidate {
        voucher: None,
        ..channel(4, 9_000)
    };
    let plan = plan(
        &[channel(1, 9_000), other_payee, other_token, by_receipt],
        SITUATION,
        &policy(),
    );
    assert_eq!(plan.claims.len(), 4);
    assert!(plan.claims.iter().all(|claim| claim.rows.len() == 1));
}

fn two_urgent_among_five() -> [Candidate; 5] {
    [
        channel(1, 1_000),
        channel(2, 3_000),
        Candidate {
            deadline: Some(NOW.plus(Duration::from_secs(60))),
            ..channel(3, 10)
        },
        Candidate {
            deadline: Some(NOW.plus(Duration::from_secs(30))),
            ..channel(4, 20)
        },
        channel(5, 2_000),
    ]
}

#[test]
fn splits_at_the_most_rows_and_sends_the_urgent_first() {
    let policy = PlannerPolicy {
        max_rows: 2,
        ..policy()
    };
    let candidates = two_urgent_among_five();
    let plan = plan(&candidates, SITUATION, &policy);
    assert_eq!(
        amounts(&plan),
        [
            vec![(id(4), 20), (id(3), 10)],
            vec![(id(2), 3_000), (id(5), 2_000)],
            vec![(id(1), 1_000)]
        ]
    );
}

#[test]
fn what_is_kept_for_later_is_never_what_a_deadline_presses() {
    let policy = PlannerPolicy {
        max_rows: 1,
        ..policy()
    };
    let candidates = two_urgent_among_five();
    for (room, kept) in [
        (0, vec![id(4), id(3)]),
        (1, vec![id(4), id(3), id(2)]),
        (2, vec![id(4), id(3), id(2), id(5)]),
        (9, vec![id(4), id(3), id(2), id(5), id(1)]),
    ] {
        let mut plan = plan(&candidates, SITUATION, &policy);
        plan.keep_first(room);
        let channels: Vec<_> = plan.claims.iter().map(|claim| claim.rows[0].channel).collect();
        assert_eq!(channels, kept, "room for {room}");
    }
}

#[test]
fn a_fee_beyond_every_amount_is_not_worth_anything() {
    let policy = PlannerPolicy {
        native_price_in_token: Some(TokenAmount::MAX),
        ..policy()
    };
    let situation = Situation {
        gas_price: u128::MAX,
        ..SITUATION
    };
    assert!(plan(&[channel(1, 1_000)], situation, &policy).claims.is_empty());
}

#[test]
fn each_token_has_its_own_thresholds() {
    // Eighteen decimals, and a coin costs three thousand of it.
    let other = Address::repeat_byte(0x71);
    let unit = 10u128.pow(18);
    let thresholds = TokenThresholds {
        min_value_over_fee: 20,
        native_price_in_token: Some(TokenAmount::new(3_000 * unit)),
        min_claim: TokenAmount::ZERO,
        exposure_near: TokenAmount::new(5 * unit),
    };
    let policy = PlannerPolicy {
        tokens: BTreeMap::from([(other, thresholds)]),
        ..policy()
    };
    let of_other = |number, billed| Candidate {
        token: other,
        deposit: TokenAmount::new(u128::MAX),
        ..channel(number, billed)
    };
    // One row: 55,000 gas at 1 gwei are 0.000055 coins, or 0.165 of the token; twenty times that is 3.3.
    let needed = 33 * unit / 10;
    for (billed, claimed) in [(needed - 1, false), (needed, true)] {
        let plan = plan(&[of_other(1, billed), channel(2, 549)], SITUATION, &policy);
        assert_eq!(plan.claims.len(), usize::from(claimed), "{billed}");
        assert_eq!(
            plan.waiting.len(),
            2 - usize::from(claimed),
            "the other token has its own"
        );
    }
    // Its deposit is used up as its own thresholds say.
    let used = Candidate {
        deposit: TokenAmount::new(6 * unit),
        ..of_other(1, unit)
    };
    let planned = plan(&[used], SITUATION, &policy);
    assert_eq!(planned.claims[0].rows[0].why, WhyNow::DepositUsed);
}

#[test]
fn the_highest_value_at_risk_goes_first() {
    let other = Address::repeat_byte(0x71);
    let policy = PlannerPolicy {
        // An amount of the other token is worth a millionth.
        tokens: BTreeMap::from([(
            other,
            TokenThresholds {
                native_price_in_token: Some(TokenAmount::new(1_000_000_000_000)),
                ..policy().thresholds(TOKEN)
            },
        )]),
        ..policy()
    };
    let in_token = |token, number, billed, left: Option<u64>| Candidate {
        token,
        deposit: TokenAmount::new(u128::MAX),
        deadline: left.map(|left| NOW.plus(Duration::from_secs(left))),
        ..channel(number, billed)
    };
    let first = |candidates: &[Candidate]| plan(candidates, SITUATION, &policy).claims[0].rows[0].channel;
    // Amounts of different tokens are compared by what they are worth.
    let small = in_token(other, 1, 900_000_000, None);
    let large = in_token(TOKEN, 2, 1_000, None);
    assert_eq!(first(&[small.clone(), large.clone()]), id(2));
    // What is due goes before what is worth more.
    let due = in_token(other, 3, 600_000_000, Some(300));
    assert_eq!(first(&[large.clone(), due.clone()]), id(3));
    // A deadline that is far is no reason.
    let far = in_token(other, 4, 900_000_000, Some(100_000));
    assert_eq!(first(&[large, far]), id(2));
    // Of two that are due, what there is to lose counts, and how soon.
    let soon = in_token(TOKEN, 5, 1_000, Some(59));
    let valuable = in_token(other, 6, 1_500_000_000, Some(149));
    assert_eq!(first(&[soon.clone(), valuable.clone()]), id(5));
    assert_eq!(first(&[soon, in_token(other, 6, 40_000_000_000, Some(149))]), id(6));

    // Within a claim the rows have that order too: the first transaction holds what counts most.
    let rows = [
        in_token(TOKEN, 7, 1_000, Some(500)),
        in_token(TOKEN, 8, 900, Some(20)),
        in_token(TOKEN, 9, 50_000, None),
    ];
    let planned = plan(&rows, SITUATION, &policy);
    assert_eq!(
        amounts(&planned)[0].iter().map(|row| row.0).collect::<Vec<_>>(),
        [id(8), id(7), id(9)]
    );
}

#[test]
fn what_failed_waits_its_time_and_is_claimed_alone_when_it_is_due() {
    let held = |until: u64, left: Option<u64>| Candidate {
        held: Some(Held {
            until: NOW.plus(Duration::from_secs(until)),
            failures: 2,
        }),
        deadline: left.map(|left| NOW.plus(Duration::from_secs(left))),
        ..channel(1, 9_000)
    };
    let due = Candidate {
        deadline: Some(NOW.plus(Duration::from_secs(100))),
        ..channel(2, 9_000)
    };
    let waits = plan(&[held(10, None), due.clone()], SITUATION, &policy());
    assert_eq!(amounts(&waits), [[(id(2), 9_000)]]);
    assert!(matches!(
        waits.waiting[0].why,
        WhyNot::Quarantined(Held { failures: 2, .. })
    ));
    // Its time is over: among the others again.
    let again = plan(&[held(0, None), channel(3, 9_000)], SITUATION, &policy());
    assert_eq!(again.claims.len(), 1);
    // Near a deadline it goes alone, so that it sinks no other.
    let alone = plan(&[held(0, Some(100)), due], SITUATION, &policy());
    assert_eq!(alone.claims.len(), 2);
    assert!(alone.claims.iter().all(|claim| claim.rows.len() == 1));
    // An order doesn't wait.
    let ordered = Situation {
        ordered: true,
        ..SITUATION
    };
    assert_eq!(plan(&[held(10, None)], ordered, &policy()).claims.len(), 1);
}

#[test]
fn what_failed_by_one_kind_is_tried_by_the_other_when_it_is_due() {
    let by = |publish, failures| {
        let policy = PlannerPolicy { publish, ..policy() };
        let held = (failures > 0).then_some(Held { until: NOW, failures });
        let due = Candidate {
            deadline: Some(NOW.plus(Duration::from_secs(60))),
            receipt: Some(TokenAmount::new(500)),
            held,
            ..channel(1, 500)
        };
        plan(&[due], SITUATION, &policy).claims[0].by
    };
    let kinds = |publish| [0, 1, 2, 3].map(|failures| by(publish, failures));
    let (receipts, vouchers) = (ClaimBy::Receipts, ClaimBy::Vouchers);
    assert_eq!(kinds(Publish::Receipts), [receipts, vouchers, receipts, vouchers]);
    assert_eq!(kinds(Publish::Vouchers), [vouchers, receipts, vouchers, receipts]);
}
