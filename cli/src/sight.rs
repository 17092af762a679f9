//! Whether a watcher sees the chain as it is. Pure.

use std::{fmt, time::Duration};

use lloom_receipts::UnixSeconds;
use lloom_watcher::WatcherStatus;

use crate::{config::MonitoringSettings, network::Network};

/// How old a chain's newest block may be when nobody chose.
const MAX_HEAD_AGE: Duration = Duration::from_secs(180);

/// How old a chain's newest block may be until its endpoint is taken to stand still: the same for readiness, for what is
/// sold or promised, and for whoever leads. `None` on development networks, which mine when there is something to mine.
pub fn max_head_age(settings: &MonitoringSettings, network: &Network) -> Option<Duration> {
    let chosen = settings.max_head_age_secs.map(Duration::from_secs);
    chosen.or_else(|| (!network.development).then_some(MAX_HEAD_AGE))
}

/// For how long a watcher may see nothing of the chain until nothing may be sold or promised on what it saw.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Without a completed look.
    pub silence: Duration,
    /// Without a new block: [`max_head_age`].
    pub head_age: Option<Duration>,
}

/// Why the chain is out of sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No look at the chain was completed for so long.
    Silence(Duration),
    /// The newest block that is shown is so old.
    OldHead(Duration),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(silence) => write!(out, "no look at the chain was completed for {} s", silence.as_secs()),
            Self::OldHead(age) => write!(
                out,
                "the newest block that the endpoint shows is {} s old, so it stands still, or the chain does",
                age.as_secs()
            ),
        }
    }
}

impl Sight {
    /// What keeps a watcher that stands so from seeing the chain. One that has completed no look yet is only beginning: who
    /// serves has waited for the first.
    pub fn obstacle(&self, watcher: &WatcherStatus, now: UnixSeconds) -> Option<Obstacle> {
        let silence = watcher.last_progress.map(|at| now.since(at));
        if let Some(silence) = silence.filter(|silence| *silence > self.silence) {
            return Some(Obstacle::Silence(silence));
        }
        let old = watcher.old_head(now, self.head_age);
        old.map(|(_, age)| Obstacle::OldHead(age))
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use lloom_ledger::Block;
    use lloom_receipts::BlockNumber;

    use super::*;
    use crate::home::Home;

    #[test]
    fn looks_that_show_nothing_new_are_no_sight() {
        let at = UnixSeconds::new;
        let sight = Sight {
            silence: Duration::from_secs(300),
            head_age: Some(Duration::from_secs(180)),
        };
        let mut watcher = WatcherStatus::default();
        assert_eq!(sight.obstacle(&watcher, at(10_000)), None);
        watcher.head = Some(Block {
            number: BlockNumber::new(7),
            hash: B256::repeat_byte(7),
            parent: B256::repeat_byte(6),
            timestamp: at(10_000),
        });
        watcher.head_since = Some(at(10_001));
        watcher.last_progress = Some(at(10_180));
        assert_eq!(sight.obstacle(&watcher, at(10_180)), None);

        // Its rounds go on, and each finds the same head.
        watcher.last_progress = Some(at(10_181));
        let old = Obstacle::OldHead(Duration::from_secs(181));
        assert_eq!(sight.obstacle(&watcher, at(10_181)), Some(old));
        assert!(old.to_string().contains("newest block"), "{old}");
        let may_stand = Sight {
            head_age: None,
            ..sight
        };
        assert_eq!(may_stand.obstacle(&watcher, at(10_181)), None);

        let silent = Obstacle::Silence(Duration::from_secs(301));
        assert_eq!(may_stand.obstacle(&watcher, at(10_482)), Some(silent));
    }

    #[test]
    fn only_development_networks_may_stand_still_unless_somebody_chose() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(directory.path().to_owned())).unwrap();
        let of = |network, max_head_age_secs| {
            let settings = MonitoringSettings {
                max_head_age_secs,
                ..MonitoringSettings::default()
            };
            max_head_age(&settings, &Network::load(&home, network).unwrap())
        };
        assert_eq!(of("devnet", None), None);
        assert_eq!(of("base", None), Some(MAX_HEAD_AGE));
        for network in ["devnet", "base"] {
            assert_eq!(of(network, Some(7)), Some(Duration::from_secs(7)));
        }
    }
}
