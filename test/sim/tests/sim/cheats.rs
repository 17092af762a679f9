//! That there is something to notice: channels opened on a signature, and an executor that cheats.

use lloom_sim::Campaign;

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized: `make test-sim` runs it")]
fn grants_and_swindles_happen_and_break_nothing() {
    let campaign = Campaign {
        start: 0,
        seeds: 20,
        flaw: None,
        stops: false,
    };
    let report = campaign.run(|_| {}).unwrap();
    assert_eq!(report.passed, 20, "{:?}", report.failures);
    assert!(report.counts.grants > 20, "{:?}", report.counts);
    assert!(report.counts.swindles > 40, "{:?}", report.counts);
}
