//! Whom a client can buy from.

use super::diagnosis::Checks;
use crate::{config::Config, output::counted, peers, session::Session};

/// Looks for executors. A node that runs is known to its peers; whoever would join with its key beside it would be two
/// of one.
pub async fn check(session: &Session, config: &Config, checks: &mut Checks) {
    if config.executor.is_some() || config.is_tower() {
        return;
    }
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
