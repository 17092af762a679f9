//! The chain: each endpoint by itself, whether they agree, the contracts, the clock.

use std::time::{Duration, SystemTime};

use lloom_ledger::Block;
use lloom_receipts::UnixSeconds;
use lloom_watcher::{Chain as _, RpcChain};

use super::diagnosis::Checks;
use crate::{
    failure::{Failure, Kind, Result},
    network::Network,
    onchain::{OnChain, chain_failure},
    output::counted,
    session::Session,
    watching::confirmations,
};

/// A clock further ahead of the chain's, or behind it, makes executors refuse requests, or take stale ones.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// A newest block older than this is a chain, or an endpoint, that stands still.
const HEAD_TOLERANCE: Duration = Duration::from_secs(300);
/// An endpoint whose newest block is older than another's by more is behind.
const LAG_TOLERANCE: Duration = Duration::from_secs(30);

/// Looks at all of it. Whether the contracts can be asked.
pub async fn check(session: &Session, on_chain: &OnChain, checks: &mut Checks) -> bool {
    let network = &session.network;
    let Some(head) = check_endpoints(session, checks).await else {
        return false;
    };
    check_clock(network, head, checks);
    if let Err(failure) = on_chain.check_deployed(network).await {
        checks.bad("contracts", &failure);
        return false;
    }
    match on_chain.check_code().await {
        Ok(()) => checks.good(
            "contracts",
            format!("escrow {}, with this version's code", network.contracts.escrow),
        ),
        Err(failure) => checks.bad("contracts", &failure),
    }
    check_token(network, on_chain, checks).await;
    true
}

struct Answered {
    name: String,
    chain: RpcChain,
    head: Block,
}

/// Asks each endpoint by itself. Gives the newest block of those that serve this chain.
async fn check_endpoints(session: &Session, checks: &mut Checks) -> Option<Block> {
    let network = &session.network;
    let mut answered = Vec::new();
    let mut failures = Vec::new();
    for url in &network.rpc_urls {
        match ask(session, url).await {
            Ok(found) => answered.push(found),
            Err(failure) => failures.push(failure),
        }
    }
    let nobody = answered.is_empty();
    for failure in failures {
        if nobody || failure.kind() == Kind::Configuration {
            let failure = if network.development {
                failure.hint("`lloomctl devnet` starts a local chain")
            } else {
                failure
            };
            checks.bad("chain", &failure);
        } else {
            // The others do its work.
            let advice = failure.hints().first().cloned();
            checks.warn(
                "chain",
                failure.one_line(),
                advice.unwrap_or_else(|| "the other endpoints are asked instead".to_owned()),
            );
        }
    }
    let newest = answered.iter().map(|found| found.head).max_by_key(|head| head.number)?;
    for found in &answered {
        let behind = newest.timestamp.since(found.head.timestamp);
        if behind > LAG_TOLERANCE {
            checks.warn(
                "chain",
                format!(
                    "{} is {} and {} s behind the others",
                    found.name,
                    counted(newest.number.get() - found.head.number.get(), "block"),
                    behind.as_secs()
                ),
                match session.has_own_endpoint() {
                    true => "put it last in config.toml's `rpc_urls`, or take another".to_owned(),
                    false => format!(
                        "put it last in networks/{}.toml's `rpc_urls`, or take another",
                        network.name
                    ),
                },
            );
        }
    }
    if let Some(failure) = compare(session, &answered).await {
        checks.bad("chain", &failure);
        return None;
    }
    let endpoints = match answered.len() {
        1 => String::new(),
        count => format!(", {count} endpoints agree"),
    };
    checks.good(
        "chain",
        format!(
            "'{}', chain {}, at block {}{endpoints}",
            network.name, network.chain_id, newest.number
        ),
    );
    Some(newest)
}

async fn ask(session: &Session, url: &str) -> Result<Answered> {
    let alone = Network {
        rpc_urls: vec![url.to_owned()],
        ..session.network.clone()
    };
    let chain = session.chain_of(&alone)?;
    let head = chain
        .head()
        .await
        .map_err(|error| chain_failure(error, "cannot read the chain"))?;
    Ok(Answered {
        name: host(url),
        chain,
        head,
    })
}

/// Whether the endpoints have the same block where none of them should differ any more.
async fn compare(session: &Session, answered: &[Answered]) -> Option<Failure> {
    let depth = session.config().map_or(session.network.confirmations, |config| {
        confirmations(&config.watcher, &session.network)
    });
    let lowest = answered.iter().map(|found| found.head.number).min()?;
    let height = lowest.below(depth);
    let mut first: Option<(&str, Block)> = None;
    for found in answered {
        // One that doesn't answer now did a moment ago.
        let Ok(Some(block)) = found.chain.block(height).await else {
            continue;
        };
        match first {
            None => first = Some((&found.name, block)),
            Some((name, known)) if known.hash != block.hash => {
                return Some(
                    Failure::new(
                        Kind::Chain,
                        format!("{name} and {} have different blocks {height}, which should be final", found.name),
                    )
                    .hint("one of them is on a fork or lies: compare with a block explorer, and take the other out of the configuration"),
                );
            }
            Some(_) => {}
        }
    }
    None
}

/// An endpoint without its path, which may hold a key.
fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

fn check_clock(network: &Network, head: Block, checks: &mut Checks) {
    let now = UnixSeconds::from(SystemTime::now());
    let (ahead, behind) = (now.since(head.timestamp), head.timestamp.since(now));
    if behind > CLOCK_TOLERANCE {
        let finding = format!("this clock is {} s behind the newest block", behind.as_secs());
        if network.development {
            checks.warn("clock", finding, "fine on a development chain whose time was moved");
        } else {
            let failure = Failure::new(Kind::Failed, finding);
            checks.bad(
                "clock",
                &failure
                    .hint("set it by a time server (`timedatectl set-ntp true`): requests would be refused as expired"),
            );
        }
    } else if ahead > HEAD_TOLERANCE && !network.development {
        checks.warn(
            "clock",
            format!("the newest block is {} s old by this clock", ahead.as_secs()),
            "compare with a block explorer: this clock is ahead (`timedatectl`), or the endpoint or the chain stands still",
        );
    } else {
        checks.good("clock", "in step with the chain");
    }
}

async fn check_token(network: &Network, on_chain: &OnChain, checks: &mut Checks) {
    match on_chain.token_description().await {
        Ok((symbol, decimals)) if symbol == network.token.symbol && decimals == network.token.decimals.get() => {
            checks.good("token", format!("{symbol} {}", network.token.address));
        }
        Ok((symbol, decimals)) => checks.bad(
            "token",
            &Failure::new(
                Kind::Configuration,
                format!(
                    "the token says it is {symbol} with {decimals} decimals, the network's file says {} with {}",
                    network.token.symbol,
                    network.token.decimals.get()
                ),
            )
            .hint("correct the network's file: amounts would be off by powers of ten"),
        ),
        Err(failure) => checks.bad("token", &failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_newest_block() {
        let directory = tempfile::tempdir().unwrap();
        let home = crate::home::Home::resolve(Some(directory.path().to_owned())).unwrap();
        let told = |network: &str, ahead: bool, seconds: u64| {
            let now = UnixSeconds::from(SystemTime::now());
            let by = Duration::from_secs(seconds);
            let head = Block {
                number: lloom_receipts::BlockNumber::new(1),
                hash: alloy::primitives::B256::ZERO,
                parent: alloy::primitives::B256::ZERO,
                timestamp: if ahead { now.plus(by) } else { now.minus(by) },
            };
            let mut checks = Checks::default();
            check_clock(&Network::load(&home, network).unwrap(), head, &mut checks);
            let (diagnosis, result) = checks.conclude();
            (
                result.is_ok(),
                serde_json::to_string(&diagnosis).unwrap().contains("warning"),
            )
        };
        assert_eq!(told("base", true, 30), (true, false));
        assert_eq!(
            told("base", true, 90),
            (false, false),
            "requests would be refused as expired"
        );
        assert_eq!(told("base", false, 200), (true, false));
        assert_eq!(told("base", false, 400), (true, true), "the clock or the chain");
        assert_eq!(told("devnet", true, 90), (true, true), "its time can be moved");
        assert_eq!(told("devnet", false, 100_000), (true, false), "it mines on demand");
    }

    #[test]
    fn endpoints_are_named_without_their_keys() {
        for (url, name) in [
            ("https://rpc.example/v3/secret", "rpc.example"),
            ("http://user:secret@127.0.0.1:8545?key=secret", "127.0.0.1:8545"),
            ("https://[::1]:8545/secret", "[::1]:8545"),
        ] {
            assert_eq!(host(url), name);
        }
    }
}
