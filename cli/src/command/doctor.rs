mod chain;
mod channels;
mod diagnosis;
mod executor;
mod held;
mod key;
mod money;
mod node;
mod peers;
mod store;
mod towers;

use clap::Args;

use self::diagnosis::Checks;
use crate::{
    config::Config,
    control::ask_status,
    failure::{Failure, Result},
    onchain::OnChain,
    output::Output,
    progress::Progress,
    session::Session,
    settlement::StatusAnswer,
};

/// Look at everything and say what is wrong
///
/// Looks at the configuration, the key, the store and its disk, each endpoint of the chain, the contracts, the clock,
/// money, deadlines, the LLM server, towers, the running node or the ports it would need, and its peers. Says one line
/// about each, the worst first, with what mends it; changes nothing, and fails when something is wrong. With a password,
/// it also checks that the key opens, and in a client's home that executors can be found.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

/// Looks.
///
/// # Errors
/// When something is wrong.
pub async fn run(session: &Session, _arguments: DoctorArgs) -> Result {
    let progress = Progress::spinner(session.output, "Looking");
    let mut checks = Checks::default();
    let config = match session.config() {
        Ok(config) => {
            checks.good("configuration", session.home.config().display().to_string());
            Some(config)
        }
        Err(failure) => {
            checks.bad("configuration", &failure);
            None
        }
    };
    let address = key::check(session, &mut checks);
    let node = ask_status(&session.home.control_socket()).await;
    let node_runs = matches!(node, Ok(Some(_)));
    let ledger = store::check(session, node_runs, &mut checks).await;
    let on_chain = match session.chain() {
        Ok(chain) => Some(OnChain::new(chain, &session.network)),
        Err(failure) => {
            checks.bad("chain", &failure);
            None
        }
    };
    let on_chain = match on_chain {
        Some(on_chain) if chain::check(session, &on_chain, &mut checks).await => Some(on_chain),
        _ => None,
    };
    if let (Some(on_chain), Some(address)) = (&on_chain, address)
        && let Err(failure) = money::check(session, on_chain, address, config, &mut checks).await
    {
        checks.bad("money", &failure);
    }
    let sells = config.is_some_and(|config| config.executor.is_some());
    if let Some(ledger) = ledger {
        if sells
            && let Err(failure) = channels::check(session, &ledger, on_chain.as_ref(), node_runs, &mut checks).await
        {
            checks.bad("claims", &failure);
        }
        if config.is_some_and(Config::is_tower)
            && let Err(failure) = held::check(session, &ledger, on_chain.as_ref(), node_runs, &mut checks).await
        {
            checks.bad("held", &failure);
        }
        ledger.close().await;
    }
    if let Some(config) = config {
        check_configured(session, config, node, address.is_some(), &mut checks).await;
    }
    drop(progress);
    conclude(session.output, checks)
}

async fn check_configured(
    session: &Session,
    config: &Config,
    node: Result<Option<StatusAnswer>>,
    has_key: bool,
    checks: &mut Checks,
) {
    executor::check(session, config, checks).await;
    towers::check(session, config, checks).await;
    let node_runs = matches!(node, Ok(Some(_)));
    let network = node.as_ref().ok().and_then(Option::as_ref);
    let network = network.and_then(|status| status.network.clone());
    node::check(session, config, node, checks).await;
    if has_key {
        peers::check(session, config, node_runs, network.as_ref(), checks).await;
    }
}

/// Says that the home's configuration is no use: without it nothing else can be looked at.
///
/// # Errors
/// Always.
pub fn refuse(output: Output, failure: Failure) -> Result {
    let mut checks = Checks::default();
    let failure = match failure.hints() {
        [] => failure.hint("correct that; `lloomctl init` in another --home shows what can be said"),
        _ => failure,
    };
    checks.bad("configuration", &failure);
    conclude(output, checks)
}

fn conclude(output: Output, checks: Checks) -> Result {
    let (diagnosis, result) = checks.conclude();
    output.print(&diagnosis)?;
    result
}
