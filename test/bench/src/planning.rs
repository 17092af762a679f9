use std::time::{Duration, Instant};

use eyre::{Result, ensure};
use lloom_receipts::{TokenAmount, UnixSeconds};
use lloom_watcher::{Candidate, PlannerPolicy, Situation, plan};

use crate::{
    documents::{Books, NOW},
    figure::{Figure, RUNS, Target, median},
    history::{CHANNELS, History},
};

/// The escrow's grace period.
const GRACE: Duration = Duration::from_secs(3_600);

/// The time from the store's rows to a plan that claims all channels.
pub async fn measure(history: &History) -> Result<Vec<Figure>> {
    let store = history.open().await?;
    let payee = Books::new(0)?.operator.address();
    // A coin costs 3,000 tokens and gas next to nothing: every row and every claim is weighed, and worth it.
    let policy = PlannerPolicy {
        native_price_in_token: Some(TokenAmount::new(3_000_000_000)),
        ..PlannerPolicy::default()
    };
    let situation = Situation {
        now: UnixSeconds::new(NOW.get() + 60),
        gas_price: 1_000,
        ordered: false,
    };
    let (mut reading, mut planning, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..=RUNS {
        let began = Instant::now();
        let tallies = store.tallies(payee).await?;
        let read = began.elapsed();
        let candidates = tallies.iter().map(|tally| Candidate::new(tally, GRACE));
        let plan = plan(candidates, situation, &policy);
        let took = began.elapsed();
        let rows: usize = plan.claims.iter().map(|claim| claim.rows.len()).sum();
        ensure!(rows == CHANNELS as usize, "a plan of {rows} rows");
        // The first brings the store into the page cache.
        if run > 0 {
            let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
            reading.push(milliseconds(read));
            planning.push(milliseconds(took.saturating_sub(read)));
            both.push(milliseconds(took));
        }
    }
    store.close().await;
    let method = format!(
        "{CHANNELS} channels of the store above, all of them worth a claim: what decides it is read from the store, and \
         planned into {} claims. The store is in the page cache. Median of {RUNS} runs.",
        CHANNELS as usize / policy.max_rows
    );
    let figure = |name: &str, times| Figure::new(name, median(times), "ms", method.clone());
    Ok(vec![
        figure("a claim over all channels planned", both)
            .with_key("plan_ms")
            .with_target(Target::AtMost(250.0)),
        figure("of that: reading", reading),
        figure("of that: planning", planning),
    ])
}
