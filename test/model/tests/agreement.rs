//! The contracts do what the model says.

use lloom_model::Campaign;

#[test]
fn contracts_agree_with_the_model() {
    let started = std::time::Instant::now();
    let coverage = match Campaign::from_env().run(None) {
        Ok(coverage) => coverage,
        Err(disagreement) => panic!("{disagreement}"),
    };
    println!("{:?}", started.elapsed());
    for (action, end, count) in coverage.iter() {
        println!("{action:32} {end:40} {count}");
    }
}
