//! Whom a client can buy from, and who can meet an executor or a tower.

use futures::future::join_all;

use super::diagnosis::Checks;
use crate::{
    config::Config,
    failure::Result,
    output::counted,
    peers::{self, join_as_nobody, multiaddresses, network_failure},
    session::Session,
    settlement::NetworkAnswer,
};

/// Looks for them. `node_runs`: a process of this home takes orders; `network`: how it stands among peers, if it has joined
/// them.
pub async fn check(
    session: &Session,
    config: &Config,
    node_runs: bool,
    network: Option<&NetworkAnswer>,
    checks: &mut Checks,
) {
    if config.executor.is_none() && !config.is_tower() {
        return check_executors(session, checks).await;
    }
    // Whoever only claims is met by nobody.
    let listens = network.is_some_and(|network| network.addresses > 0);
    match dial(session, config, listens).await {
        Ok(silent) if silent.is_empty() => {}
        Ok(silent) => {
            for silent in silent {
                checks.warn("peers", silent.finding, silent.hint);
            }
            return;
        }
        Err(failure) => return checks.bad("peers", &failure),
    }
    match network.filter(|_| listens) {
        Some(network) if network.peers == 0 && !config.is_tower() => checks.warn(
            "peers",
            "no peer is connected, so nobody can buy",
            "is the port of config.toml's `listen` open and forwarded, does `external` name the address that others see, and `bootstrap` a peer that is up? `lloomctl models` on another machine shows whether this node is found",
        ),
        Some(network) => checks.good("peers", format!("{} met", counted(network.peers as u64, "peer"))),
        None if node_runs => {}
        None => check_plans(config, checks),
    }
}

/// Looks for executors as the client does.
async fn check_executors(session: &Session, checks: &mut Checks) {
    if !session.password().is_at_hand() {
        return checks.warn(
            "peers",
            "not looked for: that takes the key",
            "set LLOOM_PASSWORD or --password-file",
        );
    }
    // What is wrong with the key is said already.
    let Ok(key) = session.unlock() else { return };
    let found = async {
        let network = peers::join(session, &key, &[]).await?;
        let found = peers::executors(session, &network, None).await;
        network.shutdown().await;
        found
    };
    match found.await {
        Ok(executors) if executors.is_empty() => checks.warn(
            "peers",
            "no executor can be found",
            "config.toml's `bootstrap` names peers to meet others through; `chat --executor <multiaddress>` needs none",
        ),
        Ok(executors) => checks.good(
            "peers",
            format!("{} found", counted(executors.len() as u64, "executor")),
        ),
        Err(failure) => checks.bad("peers", &failure),
    }
}

/// An address of config.toml at which nobody answers.
struct Silent {
    finding: String,
    hint: &'static str,
}

/// Dials the peers that config.toml names, and, where this home's process listens, the addresses that it gives others. A
/// node that runs is known by its key, so somebody else dials.
async fn dial(session: &Session, config: &Config, listens: bool) -> Result<Vec<Silent>> {
    let mut wanted = Vec::new();
    for address in multiaddresses("bootstrap", &config.bootstrap)? {
        let hint = "others are met through it: is it up, and is the address right?";
        wanted.push(("bootstrap", address, hint));
    }
    let external = multiaddresses("external", &config.external)?;
    for address in external.into_iter().filter(|_| listens) {
        let hint = "others are told that this node is there: is the port open and forwarded? Some routers keep a machine from reaching itself that way: then try `lloomctl models` on another one";
        wanted.push(("external", address, hint));
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let network = join_as_nobody(session).await?;
    let dialed = wanted.into_iter().map(|(key, address, hint)| {
        let network = &network;
        async move {
            let error = network.dial(address.clone()).await.err()?;
            let failure = network_failure(error, format!("config.toml's `{key}` names {address}"));
            Some(Silent {
                finding: failure.one_line(),
                hint,
            })
        }
    });
    let silent = join_all(dialed).await.into_iter().flatten().collect();
    network.shutdown().await;
    Ok(silent)
}

/// What of the configuration keeps an executor that is off from being found later.
fn check_plans(config: &Config, checks: &mut Checks) {
    match (config.bootstrap.len(), config.mdns) {
        // Executors name a tower by its address.
        (0, _) if config.is_tower() => {}
        (0, false) => checks.warn(
            "peers",
            "nobody to meet others through: only who is given this node's address finds it",
            "config.toml's `bootstrap` names peers that know others",
        ),
        (0, true) => checks.good(
            "peers",
            "those of the local network; config.toml's `bootstrap` names no others",
        ),
        (count, _) => checks.good(
            "peers",
            format!(
                "{} of config.toml's `bootstrap` can be reached",
                counted(count as u64, "peer")
            ),
        ),
    }
}
