use lloom_sim::{Campaign, Fault, Options, simulate};

#[test]
fn a_seed_does_the_same_again() {
    let mut hashes = Vec::new();
    for seed in [11, 12] {
        let first = simulate(&Options::of_seed(seed)).unwrap();
        let again = simulate(&Options::of_seed(seed)).unwrap();
        assert!(first.trace.events() > 500, "seed {seed}: something happens");
        assert_eq!(first.trace.events(), again.trace.events(), "seed {seed}");
        assert_eq!(first.trace.hash(), again.trace.hash(), "seed {seed}");
        assert_eq!(first.violations, again.violations, "seed {seed}");
        hashes.push(first.trace.hash());
    }
    assert_ne!(hashes[0], hashes[1], "another seed does something else");
}

#[test]
fn bytes_choose_in_place_of_a_seed() {
    let options = |bytes: &[u8]| Options {
        bytes: Some(bytes.to_vec()),
        ..Options::of_seed(0)
    };
    let calm = simulate(&options(&[])).unwrap();
    assert!(calm.violations.is_empty(), "{:?}", calm.violations);
    let some: Vec<u8> = (0..=255)
        .cycle()
        .take(4_000)
        .map(|byte: u8| byte.wrapping_mul(89))
        .collect();
    let first = simulate(&options(&some)).unwrap();
    assert!(first.violations.is_empty(), "{:?}", first.violations);
    assert_ne!(first.trace.hash(), calm.trace.hash());
    assert_eq!(simulate(&options(&some)).unwrap().trace.hash(), first.trace.hash());
}

#[test]
fn money_moves_in_a_few_seeds() {
    let campaign = Campaign {
        start: 0,
        seeds: 4,
        flaw: None,
        stops: false,
    };
    let report = campaign.run(|_| {}).unwrap();
    assert_eq!(report.passed, 4, "{:?}", report.failures);
    assert!(report.counts.accepted > 20, "{:?}", report.counts);
    assert!(report.counts.recorded > 20, "{:?}", report.counts);
    assert!(!report.settled.is_zero());
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn everything_goes_wrong_in_a_few_seeds() {
    let campaign = Campaign {
        start: 0,
        seeds: 40,
        flaw: None,
        stops: false,
    };
    let report = campaign.run(|_| {}).unwrap();
    assert_eq!(report.passed, 40, "{:?}", report.failures);
    let missing: Vec<_> = Fault::ALL
        .into_iter()
        .filter(|fault| report.faults.of(*fault) == 0)
        .collect();
    assert_eq!(missing, [], "{:?}", report.faults);
}
