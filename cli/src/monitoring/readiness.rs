//! Whether anything progresses. Pure: everything it knows comes in as arguments.

use std::{collections::HashMap, time::Duration};

use lloom_receipts::UnixSeconds;
use lloom_watcher::WatcherStatus;
use serde::Serialize;

use crate::output::counted;

/// A loop that was silent for longer than this is dead.
const MAX_LOOP_SILENCE: Duration = Duration::from_secs(30);

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Now.
    pub now: UnixSeconds,
    /// When the process began.
    pub started_at: UnixSeconds,
    /// Where the watcher stands; `None` when it is gone.
    pub watcher: Option<WatcherStatus>,
    /// What the store answered when it was last asked to write, if that was no success.
    pub store_failure: Option<String>,
    /// How the peer-to-peer network stands, where there is to be one.
    pub network: Option<NetworkEvidence>,
    /// How long ago the main loop turned; `None` while it has not begun.
    pub main_loop_silence: Option<Duration>,
    /// Whether the process was told to stop.
    pub stopping: bool,
}

/// How the peer-to-peer network stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkEvidence {
    /// Not joined yet.
    Joining,
    /// Its event loop does not answer.
    Silent,
    /// It answers, and listens on this many addresses.
    Answers {
        /// How many.
        listening: usize,
    },
}

/// How long is too long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a completed round, or without a claim of what is due that goes forward.
    pub round_silence: Duration,
    /// Between the head and the store's cursor.
    pub lag: Duration,
    /// Since the newest block; `None` where a chain may stand still.
    pub head_age: Option<Duration>,
}

/// One thing that has to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub check: &'static str,
    /// Whether it goes on.
    pub ok: bool,
    /// What is the case.
    pub finding: String,
    /// What to do about it, where it is not.
    #[serde(flatten)]
    pub mend: Option<Mend>,
    /// Since when it is not.
    #[serde(rename = "since_unix_seconds", skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixSeconds>,
}

/// What to do about something that does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "MendAnswer")]
pub enum Mend {
    /// To ask `lloomctl doctor`, which knows more.
    AskDoctor,
    /// This.
    Do(&'static str),
}

/// A [`Mend`] in words; the doctor, who reads them too, is told which ones name it.
#[derive(Serialize)]
struct MendAnswer {
    mend: &'static str,
    ask_doctor: bool,
}

impl From<Mend> for MendAnswer {
    fn from(mend: Mend) -> Self {
        let (mend, ask_doctor) = match mend {
            Mend::AskDoctor => ("`lloomctl doctor` says which part of it fails", true),
            Mend::Do(mend) => (mend, false),
        };
        Self { mend, ask_doctor }
    }
}

impl Check {
    fn good(check: &'static str, finding: impl Into<String>) -> Self {
        Self {
            check,
            ok: true,
            finding: finding.into(),
            mend: None,
            since: None,
        }
    }

    fn bad(check: &'static str, finding: impl Into<String>, mend: &'static str) -> Self {
        Self::failing(check, finding, Mend::Do(mend))
    }

    fn unclear(check: &'static str, finding: impl Into<String>) -> Self {
        Self::failing(check, finding, Mend::AskDoctor)
    }

    fn failing(check: &'static str, finding: impl Into<String>, mend: Mend) -> Self {
        Self {
            check,
            ok: false,
            finding: finding.into(),
            mend: Some(mend),
            since: None,
        }
    }
}

/// The names of all checks, in their order.
#[cfg(test)]
pub const CHECKS: [&str; 7] = ["process", "watcher", "claims", "cursor", "chain", "store", "network"];

const RESTART: &str = "restart it; nothing that is recorded is lost";

/// Judges everything.
pub fn judge(evidence: &Evidence, limits: &Limits) -> Vec<Check> {
    let mut checks = vec![process(evidence), watcher(evidence, limits), claims(evidence, limits)];
    checks.push(cursor(evidence, limits));
    checks.push(chain(evidence, limits));
    checks.push(match &evidence.store_failure {
        None => Check::good("store", "it takes what is written"),
        Some(failure) => Check::bad(
            "store",
            format!("it takes nothing: {failure}"),
            "look at the disk's space and health with `df` and `dmesg`, then at `lloomctl doctor`",
        ),
    });
    checks.extend(evidence.network.map(network));
    checks
}

fn process(evidence: &Evidence) -> Check {
    if evidence.stopping {
        return Check::bad(
            "process",
            "it was told to stop",
            "nothing: it ends and bills what still runs",
        );
    }
    match evidence.main_loop_silence {
        Some(silence) if silence > MAX_LOOP_SILENCE => Check::bad(
            "process",
            format!("its main loop stands still for {} s", silence.as_secs()),
            RESTART,
        ),
        _ => Check::good("process", "its main loop turns"),
    }
}

fn watcher(evidence: &Evidence, limits: &Limits) -> Check {
    let Some(status) = &evidence.watcher else {
        return Check::bad("watcher", "it is gone", RESTART);
    };
    let silence = evidence.now.since(status.last_progress.unwrap_or(evidence.started_at));
    if silence > limits.round_silence {
        let why = status.problem.as_deref().unwrap_or("it doesn't say why");
        return Check::unclear(
            "watcher",
            format!("it completed no round for {} s: {why}", silence.as_secs()),
        );
    }
    match (&status.last_progress, &status.problem) {
        (None, Some(problem)) => Check::unclear("watcher", format!("it completed no round yet: {problem}")),
        (None, None) => Check::bad("watcher", "it completed no round yet", "wait: it has just begun"),
        (Some(_), Some(problem)) => Check::good("watcher", format!("it works, but: {problem}")),
        (Some(_), None) => Check::good("watcher", format!("its last round ended {} s ago", silence.as_secs())),
    }
}

/// What is due and can't be sent for a moment is nothing yet: an endpoint may refuse one call, and a bid may be too low for
/// one block.
fn claims(evidence: &Evidence, limits: &Limits) -> Check {
    let Some(status) = &evidence.watcher else {
        return Check::bad("claims", "nobody looks after them", RESTART);
    };
    let Some(stall) = &status.stalled else {
        return Check::good("claims", "none that is due stands still");
    };
    let channels = counted(stall.channels as u64, "channel");
    let waited = evidence.now.since(stall.since);
    let finding = format!(
        "payers of {channels} may soon take what is unclaimed, and no claim of it goes forward for {} s: {}",
        waited.as_secs(),
        stall.reason
    );
    if waited > limits.round_silence {
        Check::bad(
            "claims",
            finding,
            "send the node's key coins for gas if it lacks them, raise config.toml's `urgent_max_fee_gwei` if gas costs more, \
             or name another endpoint in `rpc_urls` if this one refuses; `lloomctl doctor` looks at each of these",
        )
    } else {
        Check::good("claims", finding)
    }
}

fn cursor(evidence: &Evidence, limits: &Limits) -> Check {
    let heights = evidence.watcher.as_ref().map(|status| (status.head, status.cursor));
    let Some((Some(head), Some(cursor))) = heights else {
        return Check::unclear("cursor", "no block was seen yet");
    };
    let blocks = head.number.get().saturating_sub(cursor.number.get());
    let lag = head.timestamp.since(cursor.timestamp);
    if blocks > 0 && lag > limits.lag {
        return Check::bad(
            "cursor",
            format!(
                "the store is {} and {} s behind the head",
                counted(blocks, "block"),
                lag.as_secs()
            ),
            "wait while it catches up; if the distance grows, name a faster endpoint in config.toml's `rpc_urls`",
        );
    }
    Check::good(
        "cursor",
        format!("the store is {} behind the head", counted(blocks, "block")),
    )
}

fn chain(evidence: &Evidence, limits: &Limits) -> Check {
    let watcher = evidence.watcher.as_ref();
    let Some((status, head)) = watcher.and_then(|status| Some((status, status.head?))) else {
        return Check::unclear("chain", "no block was seen yet");
    };
    match status.old_head(evidence.now, limits.head_age) {
        Some((head, age)) => Check::bad(
            "chain",
            format!("its newest block, {}, is {} s old", head.number, age.as_secs()),
            "compare with a block explorer: name another endpoint in config.toml's `rpc_urls` if only this one stands still",
        ),
        None => Check::good("chain", format!("its newest block is {}", head.number)),
    }
}

fn network(evidence: NetworkEvidence) -> Check {
    match evidence {
        NetworkEvidence::Joining => Check::bad("network", "it is not joined yet", "wait: the watcher catches up first"),
        NetworkEvidence::Silent => Check::bad("network", "its event loop does not answer", RESTART),
        NetworkEvidence::Answers { listening: 0 } => Check::bad(
            "network",
            "no address is listened on",
            "check config.toml's `listen`, and that the machine still has that address",
        ),
        NetworkEvidence::Answers { listening } => {
            let addresses = if listening == 1 { "address" } else { "addresses" };
            Check::good("network", format!("it listens on {listening} {addresses}"))
        }
    }
}

/// Remembers since when which check fails.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    failing_since: HashMap<&'static str, UnixSeconds>,
}

impl Memory {
    /// Notes what fails now, and tells `checks` since when.
    pub fn note(&mut self, checks: &mut [Check], now: UnixSeconds) {
        for check in checks {
            if check.ok {
                self.failing_since.remove(check.check);
            } else {
                check.since = Some(*self.failing_since.entry(check.check).or_insert(now));
            }
        }
    }
}

#[cfg(test)]
mod tests;
