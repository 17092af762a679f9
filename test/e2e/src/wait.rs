//! Waiting for what must become true.

use std::{future::Future, time::Duration};

use eyre::{Result, eyre};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How long anything may take here before it counts as broken. Generous: two cores may be shared.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks at `condition` until it yields something.
///
/// # Errors
/// When [`LIMIT`] passes, with `what` was waited for, or when `condition` itself fails.
pub async fn until<T, F>(what: &str, condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    until_within(LIMIT, what, condition).await
}

/// [`until`] with a limit of its own.
///
/// # Errors
/// As [`until`].
pub async fn until_within<T, F>(limit: Duration, what: &str, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            ticks.tick().await;
            if let Some(found) = condition().await? {
                return Ok(found);
            }
        }
    };
    timeout_at(deadline, looking)
        .await
        .map_err(|_| eyre!("waited {} s in vain for: {what}", limit.as_secs()))?
}
