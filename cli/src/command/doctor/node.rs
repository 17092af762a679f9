//! The node of this home: whether it runs and gets anywhere, or what would keep it from starting.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    time::{Duration, SystemTime},
};

use lloom_ledger::LockState;
use lloom_receipts::UnixSeconds;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::diagnosis::Checks;
use crate::{
    config::Config,
    failure::{Failure, Kind, Result},
    session::Session,
    settlement::StatusAnswer,
};

/// A watcher that got nowhere for this long is stuck.
const PROGRESS_TOLERANCE: Duration = Duration::from_secs(120);
/// How long monitoring may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer of `/readyz`, bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Looks at it.
pub async fn check(session: &Session, config: &Config, asked: Result<Option<StatusAnswer>>, checks: &mut Checks) {
    if config.executor.is_none() && !config.is_tower() {
        return;
    }
    match asked {
        Err(failure) => checks.bad("node", &failure),
        Ok(Some(status)) => {
            let monitoring = status.monitoring.clone();
            let restart = format!("restart `{}`", command(config));
            check_status(status, &restart, checks);
            check_monitoring(monitoring, &restart, checks).await;
        }
        // It begins, and is not to be asked yet; or a command has the store, and what it listens on is its own.
        Ok(None) if has_store_open(session) => checks.warn(
            "node",
            "not running, or about to be: the store is open already",
            "look again in a minute; the line of `store` says which process it is",
        ),
        Ok(None) => {
            let name = if config.is_tower() { "tower" } else { "node" };
            checks.warn(name, "not running", format!("`{}` starts it", command(config)));
            check_ports(config, checks);
        }
    }
}

/// What runs in such a home.
const fn command(config: &Config) -> &'static str {
    match config.is_tower() {
        true => "lloomctl watch --tower",
        false => "lloomctl node run",
    }
}

/// Whether a process of this home has the store.
fn has_store_open(session: &Session) -> bool {
    let lock = session.store_url().ok().map(|url| LockState::of(&url));
    // One that can't be looked at has a line of its own.
    matches!(lock, Some(Ok(lock)) if lock.is_held)
}

fn check_status(status: StatusAnswer, restart: &str, checks: &mut Checks) {
    let now = UnixSeconds::from(SystemTime::now());
    // One that has just begun has got nowhere yet.
    let last = status.last_progress.max(status.started_at);
    let idle = last.map(|at| now.since(UnixSeconds::new(at)));
    let progress = status.progress();
    if let Some(problem) = status.problem {
        checks.bad(
            "node",
            &Failure::new(Kind::Chain, problem)
                .while_("its watcher is held up")
                .hint("the lines of `chain` and `gas money` say what to do"),
        );
    } else if idle.is_none_or(|idle| idle > PROGRESS_TOLERANCE) {
        checks.bad(
            "node",
            &Failure::new(Kind::Failed, "its watcher gets nowhere").hint(restart),
        );
    } else if status.catching_up {
        checks.warn(
            "node",
            format!("running; {progress}"),
            "it serves and claims once it is there; if the block stays the same, look at the lines of `chain`",
        );
    } else {
        checks.good(
            "node",
            if status.standing_by {
                "running; another one leads and claims, and this one stands by for it".to_owned()
            } else {
                format!(
                    "running; transactions under way: {}; channels that payers are closing: {}",
                    status.pending_transactions, status.obligations
                )
            },
        );
    }
}

/// What of `/readyz` is read here.
#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    checks: Vec<ReadinessCheck>,
}

#[derive(Deserialize)]
struct ReadinessCheck {
    check: String,
    ok: bool,
    finding: String,
    mend: Option<String>,
    /// Whether that is to ask the doctor, who this is.
    #[serde(default)]
    ask_doctor: bool,
}

async fn check_monitoring(monitoring: Option<String>, restart: &str, checks: &mut Checks) {
    let Some(address) = monitoring.as_deref().and_then(|url| url.strip_prefix("http://")) else {
        return checks.warn(
            "monitoring",
            "switched off: nobody is told when the node gets nowhere",
            "config.toml's monitoring.enabled = true",
        );
    };
    let answer = match tokio::time::timeout(PATIENCE, read_readiness(address)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            let failure = Failure::new(Kind::Failed, format!("{address} gives no answer of a node: {error}"));
            return checks.bad("monitoring", &failure.hint(restart));
        }
        Err(_) => {
            let failure = Failure::new(Kind::Failed, format!("{address} does not answer"));
            return checks.bad("monitoring", &failure.hint(format!("it hangs: {restart}")));
        }
    };
    if answer.ready {
        return checks.good("monitoring", format!("http://{address}, ready"));
    }
    for check in answer.checks.into_iter().filter(|check| !check.ok) {
        let failure = Failure::new(Kind::Failed, format!("not ready: {} – {}", check.check, check.finding));
        checks.bad(
            "monitoring",
            &match check.mend {
                Some(mend) if !check.ask_doctor => failure.hint(mend),
                _ => failure,
            },
        );
    }
}

async fn read_readiness(address: &str) -> io::Result<Readiness> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("it speaks no HTTP"))?;
    serde_json::from_str(body).map_err(|_| io::Error::other("it answers something else"))
}

/// What a node would find taken when it starts.
fn check_ports(config: &Config, checks: &mut Checks) {
    let mut taken = Vec::new();
    let mut wanted: Vec<(String, Option<SocketAddr>)> = Vec::new();
    for listen in &config.listen {
        wanted.push((format!("listen address {listen}"), tcp_address(listen)));
    }
    if let (true, Some(listen)) = (config.monitoring.enabled, &config.monitoring.listen) {
        let address = listen.to_socket_addrs().ok().and_then(|mut found| found.next());
        wanted.push((format!("monitoring.listen {listen}"), address));
    }
    for (name, address) in &wanted {
        if let Some(address) = address
            && let Err(error) = TcpListener::bind(address)
        {
            taken.push(format!("{name}: {error}"));
        }
    }
    if taken.is_empty() {
        return checks.good("ports", "free for a node");
    }
    for taken in taken {
        let failure = Failure::new(Kind::Configuration, format!("config.toml's {taken}"));
        checks.bad(
            "ports",
            &failure.hint("stop what has it (`ss -ltnp` names it), or change config.toml"),
        );
    }
}

/// `/ip4/<address>/tcp/<port>`; other transports are not looked at.
fn tcp_address(multiaddress: &str) -> Option<SocketAddr> {
    let mut parts = multiaddress.split('/').skip(1);
    let (kind, address) = (parts.next()?, parts.next()?);
    if !matches!(kind, "ip4" | "ip6") || parts.next()? != "tcp" {
        return None;
    }
    Some(SocketAddr::new(address.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tcp_addresses() {
        for (text, expected) in [
            ("/ip4/0.0.0.0/tcp/4401", Some("0.0.0.0:4401")),
            ("/ip6/::1/tcp/0", Some("[::1]:0")),
            ("/ip4/127.0.0.1/udp/1/quic-v1", None),
            ("/dns4/example.org/tcp/1", None),
            ("nonsense", None),
        ] {
            assert_eq!(tcp_address(text), expected.map(|text| text.parse().unwrap()), "{text}");
        }
    }
}
