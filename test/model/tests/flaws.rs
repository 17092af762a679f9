//! What the comparison is worth: a model that is broken on purpose is found out, whichever rule it breaks.

use lloom_model::{Campaign, Chain, Flaw};

#[test]
fn every_flaw_is_found_within_the_budget() {
    for &flaw in Flaw::ALL {
        match Campaign::DEFAULT.run(Some(flaw)) {
            Ok(_) => panic!("{flaw:?} was never seen"),
            Err(found) => {
                let sequences = found.seed - Campaign::DEFAULT.seed + 1;
                println!(
                    "{flaw:?}: sequence {sequences}, step {}, in {}",
                    found.actions.len(),
                    found.difference.what
                );
            }
        }
    }
}

#[test]
fn a_disagreement_is_shrunk_to_what_it_needs() {
    let found = Campaign::DEFAULT
        .run(Some(Flaw::AnyonesTopUpCancelsClose))
        .expect_err("the model is broken");
    let shrunk = found.shrunk(&Chain::deploy());
    println!("{shrunk}");
    // What was signed is good in a span of time, so waits may be needed too.
    let names = shrunk.actions.iter().map(lloom_model::Action::name);
    let names: Vec<_> = names.filter(|name| *name != "wait").collect();
    // A payer with money opens a channel and asks to close it; somebody else with money tops up.
    assert!(names.len() <= 8, "{names:?}");
    assert_eq!(names.last(), Some(&"topUpWithAuthorization"));
}
