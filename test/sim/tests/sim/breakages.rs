//! Breaks eight rules of the design on purpose, one at a time, and sees the simulation notice. `test/README.md` says how.

use lloom_sim::{Campaign, Flaw, Options, properties::Property, simulate};

/// Seeds within which each has to be noticed. They are the same every time.
const SEEDS: u64 = 200;

fn is_caught_by(flaw: Flaw, expected: &[Property]) {
    let campaign = Campaign {
        start: 0,
        seeds: SEEDS,
        flaw: Some(flaw),
        stops: true,
    };
    let report = campaign.run(|_| {}).expect("the machine has room");
    let Some(failure) = report.failures.first() else {
        panic!("{flaw:?} is not noticed in {SEEDS} seeds");
    };
    let caught: Vec<_> = failure.violations.iter().map(|violation| violation.property).collect();
    println!("{flaw:?} is caught by {caught:?} in seed {}", failure.seed);
    assert!(
        caught.iter().any(|property| expected.contains(property)),
        "{flaw:?} breaks {:?} in seed {}",
        failure.violations,
        failure.seed
    );
    // A failing seed fails again in the same way, event by event: it is all that a report needs.
    let broken = Options {
        flaw: Some(flaw),
        ..Options::of_seed(failure.seed)
    };
    let [first, again] = [(); 2].map(|()| simulate(&broken).expect("the machine has room"));
    assert_eq!(
        first.violations, failure.violations,
        "{flaw:?} in seed {}",
        failure.seed
    );
    assert_eq!(first.violations, again.violations, "{flaw:?} in seed {}", failure.seed);
    assert_eq!(
        (first.trace.events(), first.trace.hash()),
        (again.trace.events(), again.trace.hash()),
        "{flaw:?} in seed {}",
        failure.seed
    );
    let sound = simulate(&Options::of_seed(failure.seed)).expect("the machine has room");
    assert!(sound.violations.is_empty(), "{:?}", sound.violations);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn persisting_after_the_broadcast_is_caught() {
    is_caught_by(Flaw::PersistAfterBroadcast, &[Property::Ledger, Property::Nonce]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn forgetting_the_cursor_is_caught() {
    // What was in the blocks may have been a request to close.
    is_caught_by(Flaw::ForgetCursor, &[Property::Ledger, Property::Obligation]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn dropping_an_obligation_is_caught() {
    is_caught_by(Flaw::DropObligation, &[Property::Obligation]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn trusting_a_timeout_is_caught() {
    is_caught_by(Flaw::TrustTimeout, &[Property::Ledger]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn skipping_a_reorg_is_caught() {
    is_caught_by(Flaw::SkipReorg, &[Property::Ledger, Property::Obligation]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn trusting_blindly_is_caught() {
    is_caught_by(Flaw::TrustBlindly, &[Property::Exposure]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn spending_blindly_is_caught() {
    is_caught_by(Flaw::SpendBlindly, &[Property::Budget]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn trusting_a_copy_is_caught() {
    // What was open in the copy is billed a second time.
    is_caught_by(Flaw::TrustCopy, &[Property::Honesty]);
}
