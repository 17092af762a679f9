//! Looks after progress, once a second.

use std::time::{Duration, Instant, SystemTime};

use lloom_ledger::Ledger;
use lloom_receipts::UnixSeconds;
use lloom_watcher::WatcherStatus;
use tokio::sync::watch;

use super::{
    Joined,
    pulse::Pulse,
    readiness::{Check, Evidence, Limits, Memory, NetworkEvidence, judge},
};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same before everything progresses for the first time: whoever waits for that is told at once.
const LOOK_AT_START_EVERY: Duration = Duration::from_millis(50);
/// A store that committed nothing for longer is asked to prove that it can. One that failed is asked each time.
const PROOF_AFTER: Duration = Duration::from_secs(15);
/// How long the store and the network may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the network is asked to answer.
const NETWORK_EVERY: Duration = Duration::from_secs(5);

/// What was judged last.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What was checked; nothing before the first look.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Whether everything progresses.
    pub fn is_ready(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.ok)
    }
}

/// What is looked after.
pub struct Vigil {
    /// The watcher.
    pub watcher: watch::Receiver<WatcherStatus>,
    /// The store.
    pub ledger: Ledger,
    /// Whether there is to be a peer-to-peer network.
    pub expects_network: bool,
    /// The network, once it is joined.
    pub network: Joined,
    /// The process's main loop.
    pub main_loop: Pulse,
    /// This loop itself.
    pub own: Pulse,
    /// How long is too long.
    pub limits: Limits,
    /// When the process began.
    pub started_at: UnixSeconds,
    /// Where the verdicts go.
    pub verdict: watch::Sender<Verdict>,
}

impl Vigil {
    /// Looks until it is dropped.
    pub async fn run(self) {
        let mut memory = Memory::default();
        let mut store_failure = None;
        let mut network = NetworkEvidence::Joining;
        let mut network_at: Option<Instant> = None;
        let mut was_ready = false;
        loop {
            store_failure = self.prove_store(store_failure.is_some()).await;
            if self.expects_network && network_at.is_none_or(|at| at.elapsed() >= NETWORK_EVERY) {
                network = self.look_at_network().await;
                network_at = (network != NetworkEvidence::Joining).then(Instant::now);
            }
            // A watcher that ended took its end of the channel along.
            let watcher = self
                .watcher
                .has_changed()
                .is_ok()
                .then(|| self.watcher.borrow().clone());
            let evidence = Evidence {
                now: UnixSeconds::from(SystemTime::now()),
                started_at: self.started_at,
                watcher,
                store_failure: store_failure.clone(),
                network: self.expects_network.then_some(network),
                main_loop_silence: self.main_loop.silence(),
                stopping: self.main_loop.is_stopping(),
            };
            let mut checks = judge(&evidence, &self.limits);
            memory.note(&mut checks, evidence.now);
            let verdict = Verdict { checks };
            was_ready |= verdict.is_ready();
            self.tell(verdict);
            self.own.beat();
            // A store that takes nothing is asked each time, and not more often for being asked early.
            let is_starting = !was_ready && store_failure.is_none();
            let pause = if is_starting { LOOK_AT_START_EVERY } else { LOOK_EVERY };
            tokio::time::sleep(pause).await;
        }
    }

    /// Publishes it, and logs what changed.
    fn tell(&self, verdict: Verdict) {
        let before = self.verdict.send_replace(verdict);
        if self.main_loop.is_stopping() {
            // What ends is no news to whoever ends it.
            return;
        }
        let now = self.verdict.borrow();
        let was_ok = |name| {
            before
                .checks
                .iter()
                .find(|check| check.check == name)
                .is_none_or(|check| check.ok)
        };
        for check in &now.checks {
            match (was_ok(check.check), check.ok) {
                // What has not begun is no news.
                (true, false) if !before.checks.is_empty() => {
                    tracing::error!(check = check.check, finding = check.finding, "not ready any more");
                }
                (false, true) => tracing::info!(check = check.check, finding = check.finding, "goes on"),
                _ => {}
            }
        }
    }

    /// Says why the store takes nothing, if it doesn't.
    async fn prove_store(&self, failed_before: bool) -> Option<String> {
        if !self.ledger.has_writer() {
            return Some("its writer is gone".to_owned());
        }
        let now = UnixSeconds::from(SystemTime::now());
        let last = self.ledger.metrics().last_commit();
        if !failed_before && last.is_some_and(|at| now.since(at) <= PROOF_AFTER) {
            return None;
        }
        match tokio::time::timeout(PATIENCE, self.ledger.prove_writable()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(crate::failure::Failure::of(crate::failure::Kind::Store, error).one_line()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn look_at_network(&self) -> NetworkEvidence {
        let Some(network) = self.network.get() else {
            return NetworkEvidence::Joining;
        };
        if !network.is_responsive(PATIENCE).await {
            return NetworkEvidence::Silent;
        }
        NetworkEvidence::Answers {
            listening: network.listen_addresses().len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy::primitives::{Address, B256};
    use lloom_ledger::{Block, StoreDeployment};
    use lloom_receipts::BlockNumber;

    use super::*;

    /// Waits for a verdict in which exactly these checks fail.
    async fn failing(verdicts: &mut watch::Receiver<Verdict>, expected: &[&str]) {
        let fails = |verdict: &Verdict| {
            let failing: Vec<_> = verdict.checks.iter().filter(|check| !check.ok).collect();
            !verdict.checks.is_empty() && failing.iter().map(|check| check.check).eq(expected.iter().copied())
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), verdicts.wait_for(fails)).await;
        waited.unwrap_or_else(|_| panic!("never {expected:?}")).unwrap();
    }

    #[tokio::test]
    async fn what_dies_is_missed() {
        let home = tempfile::tempdir().unwrap();
        let deployment = StoreDeployment {
            chain_id: 1,
            escrow: Address::repeat_byte(1),
            settlement: Address::repeat_byte(2),
        };
        let ledger = Ledger::open(&home.path().join("lloom.db"), &deployment).await.unwrap();
        let now = UnixSeconds::from(SystemTime::now());
        let head = Block {
            number: BlockNumber::new(1),
            hash: B256::ZERO,
            parent: B256::ZERO,
            timestamp: now,
        };
        let (status, watcher) = watch::channel(WatcherStatus {
            head: Some(head),
            cursor: Some(head),
            last_progress: Some(now),
            ..WatcherStatus::default()
        });
        let (verdict, mut verdicts) = watch::channel(Verdict::default());
        assert!(!verdicts.borrow().is_ready(), "nothing is known yet");
        let main_loop = Pulse::default();
        let vigil = Vigil {
            watcher,
            ledger: ledger.clone(),
            expects_network: false,
            network: Arc::default(),
            main_loop: main_loop.clone(),
            own: Pulse::default(),
            limits: Limits {
                round_silence: Duration::from_secs(600),
                lag: Duration::from_secs(600),
                head_age: Some(Duration::from_secs(600)),
            },
            started_at: now,
            verdict,
        };
        let running = tokio::spawn(vigil.run());
        failing(&mut verdicts, &[]).await;
        assert!(verdicts.borrow().is_ready());

        // As when the writer's task ends, by whatever cause.
        ledger.close().await;
        failing(&mut verdicts, &["store"]).await;
        // As when the watcher's does.
        drop(status);
        failing(&mut verdicts, &["watcher", "claims", "cursor", "chain", "store"]).await;
        main_loop.set_stopping();
        failing(
            &mut verdicts,
            &["process", "watcher", "claims", "cursor", "chain", "store"],
        )
        .await;
        running.abort();
    }
}
