use std::time::Duration;

use lloom_receipts::{Keypair, PricePerMillion, TokenCount};

use super::*;
use crate::{network::offer_for_tests, peer_id};

const CAUTIOUS: Policy = Policy {
    reliability: 2.0,
    speed: 0.5,
    known_after: 3,
    explore_per_mille: 0,
};

fn prices(input: u128, output: u128) -> Prices {
    Prices {
        input: PricePerMillion::new(TokenAmount::new(input)),
        output: PricePerMillion::new(TokenAmount::new(output)),
    }
}

fn wanted() -> Wanted {
    Wanted {
        model: ModelHash::of_id("tiny"),
        expected: Usage {
            input: TokenCount::new(1_000),
            output: TokenCount::new(500),
        },
        limit: None,
        max_increment: TokenCount::new(256),
    }
}

fn unknown() -> Quality {
    Quality::default()
}

fn observed(success_rate: f64, first_token_ms: u64, tokens_per_second: f64) -> Quality {
    Quality {
        observations: 50,
        success_rate,
        time_to_first_token: Some(Duration::from_millis(first_token_ms)),
        tokens_per_second: Some(tokens_per_second),
    }
}

fn candidates(of: &[(Prices, Quality)]) -> Vec<(PeerId, Offer, Quality)> {
    let candidate = |(index, (prices, quality)): (usize, &(Prices, Quality))| {
        let keypair = Keypair::from_secret([u8::try_from(index + 1).unwrap(); 32]).unwrap();
        let mut offer = offer_for_tests(keypair.address());
        offer.models[0].prices = *prices;
        (peer_id(&keypair), offer, *quality)
    };
    of.iter().enumerate().map(candidate).collect()
}

#[test]
fn ranks_by_price_and_measured_quality() {
    let cheap = prices(100_000, 400_000);
    let dear = prices(150_000, 600_000);
    let double = prices(200_000, 800_000);
    let good = observed(1.0, 200, 50.0);
    for (case, of, expected) in [
        ("the cheaper of equals", vec![(dear, good), (cheap, good)], vec![1, 0]),
        (
            "half again as dear, but it doesn't fail half the time",
            vec![(cheap, observed(0.5, 200, 50.0)), (dear, good)],
            vec![1, 0],
        ),
        (
            "rare failures are cheaper than half again the price",
            vec![(cheap, observed(0.95, 200, 50.0)), (dear, good)],
            vec![0, 1],
        ),
        (
            "twice the price for five times the speed",
            vec![(cheap, observed(1.0, 1_000, 10.0)), (double, observed(1.0, 200, 50.0))],
            vec![1, 0],
        ),
        (
            "twice the price for a little more speed is too much",
            vec![(cheap, observed(1.0, 220, 45.0)), (double, good)],
            vec![0, 1],
        ),
        (
            "the known good one goes before an equal nobody knows",
            vec![(cheap, unknown()), (cheap, good)],
            vec![1, 0],
        ),
        (
            "an unknown one goes before one that is known to fail",
            vec![(cheap, observed(0.2, 200, 50.0)), (cheap, unknown())],
            vec![1, 0],
        ),
        (
            "free is the cheapest, and free executors differ in quality",
            vec![
                (prices(0, 0), observed(0.5, 200, 50.0)),
                (cheap, good),
                (prices(0, 0), good),
            ],
            vec![2, 0, 1],
        ),
        (
            "a speed of zero or nonsense is very slow, not infinitely good",
            vec![(cheap, observed(1.0, 200, 0.0)), (dear, good)],
            vec![1, 0],
        ),
    ] {
        assert_eq!(rank(&candidates(&of), &wanted(), &CAUTIOUS, 1), expected, "{case}");
    }
}

#[test]
fn who_cannot_serve_the_request_is_left_out() {
    let good = observed(1.0, 200, 50.0);
    let mut candidates = candidates(&[(prices(1, 1), good); 6]);
    candidates[0].1.models[0].hash = ModelHash::of_id("other");
    candidates[1].1.models[0].max_input = TokenCount::new(999);
    candidates[2].1.models[0].max_output = TokenCount::new(499);
    candidates[3].1.models.clear();
    candidates[5].1.increment = TokenCount::new(257);
    assert_eq!(rank(&candidates, &wanted(), &CAUTIOUS, 1), [4]);

    let limited = Wanted {
        limit: Some(prices(1, 0)),
        ..wanted()
    };
    assert_eq!(choose(&candidates, &limited, &CAUTIOUS, 1), None);
    assert_eq!(choose(&[], &wanted(), &CAUTIOUS, 1), None);
}

#[test]
fn unknown_executors_are_explored_as_often_as_the_policy_says() {
    let good = observed(1.0, 200, 50.0);
    let candidates = candidates(&[
        (prices(100, 100), good),
        (prices(900, 900), unknown()),
        (prices(500, 500), unknown()),
    ]);
    // One base unit more or less decides nothing here: make the prices count.
    let wanted = Wanted {
        expected: Usage {
            input: TokenCount::new(8_000),
            output: TokenCount::new(2_000),
        },
        ..wanted()
    };
    let policy = Policy {
        explore_per_mille: 100,
        ..CAUTIOUS
    };
    let firsts: Vec<usize> = (0..2_000)
        .map(|seed| {
            let ranked = rank(&candidates, &wanted, &policy, seed);
            assert_eq!(ranked, rank(&candidates, &wanted, &policy, seed), "the seed decides");
            assert_eq!(ranked.len(), 3);
            ranked[0]
        })
        .collect();
    let explored = firsts.iter().filter(|first| **first == 2).count();
    assert!((150..250).contains(&explored), "{explored} of 2000");
    assert!(!firsts.contains(&1), "the cheapest unknown is tried first");
    assert!((0..2_000).all(|seed| rank(&candidates, &wanted, &CAUTIOUS, seed)[0] == 0));

    let always = Policy {
        explore_per_mille: 1_000,
        ..CAUTIOUS
    };
    assert_eq!(rank(&candidates, &wanted, &always, 3), [2, 0, 1]);
}

#[test]
fn equals_share_the_work() {
    let candidates = candidates(&[(prices(100_000, 100_000), observed(1.0, 200, 50.0)); 4]);
    let mut firsts = [0; 4];
    for seed in 0..400 {
        firsts[rank(&candidates, &wanted(), &CAUTIOUS, seed)[0]] += 1;
    }
    assert!(firsts.iter().all(|count| (50..150).contains(count)), "{firsts:?}");
}
