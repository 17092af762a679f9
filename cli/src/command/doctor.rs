use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use alloy::primitives::U256;
use clap::Args;
use lloom_receipts::UnixSeconds;
use serde::Serialize;

use crate::{
    command::node,
    config::Config,
    control::{Answer, Order, hand_over},
    failure::{Failure, Kind, OrFail as _, Result},
    money::show_coins,
    onchain::{OnChain, head_number},
    output::Report,
    peers,
    progress::Progress,
    session::Session,
    watching::{check_operator, payee},
};

mod towers;

/// Gas that an executor's claim may take: less than what this costs is too little.
const GAS_OF_A_CLAIM: u64 = 300_000;
/// Clocks further apart than this make executors refuse requests, or take stale ones.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
/// A watcher that got nowhere for this long is stuck.
const PROGRESS_TOLERANCE: Duration = Duration::from_secs(120);

/// Look at everything and say what is wrong
///
/// Looks at the configuration, the key, the chain and its contracts, money, the store, the LLM server and the peers,
/// changes nothing, and fails when something is wrong. With a password, it also checks that the key opens and that
/// peers can be met.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

#[derive(Serialize)]
struct Diagnosis {
    healthy: bool,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    state: State,
    finding: String,
    hints: Vec<String>,
    #[serde(skip)]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    Warning,
    Bad,
}

impl Report for Diagnosis {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &self.checks {
            let mark = match check.state {
                State::Good => "ok",
                State::Warning => "!!",
                State::Bad => "BAD",
            };
            writeln!(out, "{mark:<3}  {:<width$}  {}", check.name, check.finding)?;
            for hint in &check.hints {
                writeln!(out, "     {:<width$}  Hint: {hint}", "")?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn good(&mut self, name: &'static str, finding: impl Into<String>) {
        self.push(name, State::Good, finding, Vec::new(), None);
    }

    fn warn(&mut self, name: &'static str, finding: impl Into<String>, hint: impl Into<String>) {
        self.push(name, State::Warning, finding, vec![hint.into()], None);
    }

    fn bad(&mut self, name: &'static str, failure: &Failure) {
        self.push(
            name,
            State::Bad,
            failure.one_line(),
            failure.hints().to_vec(),
            Some(failure.kind()),
        );
    }

    fn push(
        &mut self,
        name: &'static str,
        state: State,
        finding: impl Into<String>,
        hints: Vec<String>,
        kind: Option<Kind>,
    ) {
        self.0.push(Check {
            name,
            state,
            finding: finding.into(),
            hints,
            kind,
        });
    }
}

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
    let address = match session.address() {
        Ok(address) => {
            checks.good("key", format!("'{}' is {address}", session.key_name()));
            Some(address)
        }
        Err(failure) => {
            checks.bad("key", &failure);
            None
        }
    };
    check_store(session, &mut checks).await;
    let on_chain = OnChain::new(session.chain()?, &session.network);
    let reachable = check_chain(session, &on_chain, &mut checks).await;
    if reachable
        && let Some(address) = address
        && let Err(failure) = check_money(session, &on_chain, address, config, &mut checks).await
    {
        checks.bad("money", &failure);
    }
    if let Some(config) = config {
        check_executor(session, config, &mut checks).await;
        towers::check(session, config, &mut checks).await;
        check_node(session, config, &mut checks).await;
        if address.is_some() {
            check_peers(session, config, &mut checks).await;
        }
    }
    drop(progress);
    let worst = checks.0.iter().find_map(|check| check.kind);
    let bad = checks.0.iter().filter(|check| check.state == State::Bad).count();
    session.output.print(&Diagnosis {
        healthy: worst.is_none(),
        checks: checks.0,
    })?;
    match worst {
        None => Ok(()),
        Some(kind) => Err(Failure::new(
            kind,
            format!("{bad} thing{} wrong", if bad == 1 { " is" } else { "s are" }),
        )),
    }
}

async fn check_store(session: &Session, checks: &mut Checks) {
    let url = match session.store_url() {
        Ok(url) => url,
        Err(failure) => return checks.bad("store", &failure),
    };
    let name = if url.is_shared() {
        format!("{url}, shared with other homes")
    } else {
        url.to_string()
    };
    match lloom_ledger::Ledger::open_read_only(&url).await {
        Ok(ledger) => {
            let whole = if *ledger.deployment() == session.store_deployment() {
                ledger
                    .cursor()
                    .await
                    .or_fail(Kind::Store, || "cannot read the store".to_owned())
            } else {
                Err(
                    Failure::new(Kind::Store, "the store belongs to another deployment or chain")
                        .hint("use another --home for this network"),
                )
            };
            match whole {
                Ok(cursor) => checks.good(
                    "store",
                    // A store that follows no chain knows the first block only.
                    cursor
                        .filter(|block| block.number.get() > 0)
                        .map_or_else(|| name.clone(), |block| format!("{name}, up to block {}", block.number)),
                ),
                Err(failure) => checks.bad("store", &failure),
            }
            ledger.close().await;
        }
        Err(lloom_ledger::OpenError::Missing { .. }) => {
            checks.good("store", format!("nothing is recorded yet in {name}"))
        }
        Err(error) => checks.bad("store", &crate::session::store_failure(error)),
    }
}

async fn check_chain(session: &Session, on_chain: &OnChain, checks: &mut Checks) -> bool {
    let network = &session.network;
    match head_number(on_chain.chain()).await {
        Ok(number) => checks.good(
            "chain",
            format!("'{}', chain {}, at block {number}", network.name, network.chain_id),
        ),
        Err(failure) => {
            checks.bad("chain", &failure);
            return false;
        }
    }
    if let Ok(head) = on_chain.head_time().await {
        let now = UnixSeconds::from(SystemTime::now());
        let apart = now.since(head).max(head.since(now));
        if apart > CLOCK_TOLERANCE {
            checks.warn(
                "clock",
                format!("this clock and the newest block are {} s apart", apart.as_secs()),
                if network.development {
                    "fine on a development chain that mines only now and then"
                } else {
                    "compare this clock with a time server's; or the endpoint is behind"
                },
            );
        }
    }
    if let Err(failure) = on_chain.check_deployed(network).await {
        checks.bad("contracts", &failure);
        return false;
    }
    checks.good("contracts", format!("escrow {}", network.contracts.escrow));
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
    true
}

async fn check_money(
    session: &Session,
    on_chain: &OnChain,
    address: alloy::primitives::Address,
    config: Option<&Config>,
    checks: &mut Checks,
) -> Result {
    let network = &session.network;
    let token = &network.token;
    let coins = on_chain.coins(address).await?;
    let shown = show_coins(coins, &network.coin);
    let sells = config.is_some_and(|config| config.executor.is_some());
    let is_tower = config.is_some_and(is_tower);
    let gas_price = lloom_watcher::Chain::fees(on_chain.chain())
        .await
        .map_or(0, lloom_watcher::FeeQuote::gas_price);
    let needed = U256::from(gas_price) * U256::from(GAS_OF_A_CLAIM);
    if coins < needed {
        let hint = if network.development {
            "`lloomctl faucet` gives some".to_owned()
        } else {
            format!("send some {} to {address}", network.coin)
        };
        if sells || is_tower {
            let failure = Failure::new(
                Kind::Chain,
                format!(
                    "{shown}: too little to claim with, which takes {}",
                    show_coins(needed, &network.coin)
                ),
            );
            checks.bad("gas money", &failure.hint(hint));
        } else {
            checks.warn("gas money", format!("{shown}: too little for a transaction"), hint);
        }
    } else {
        checks.good("gas money", shown);
    }
    if is_tower {
        return Ok(());
    }
    if !sells {
        let wallet = on_chain.wallet_balance(address).await?;
        let escrow = on_chain.escrow_balance(address).await?;
        let finding = format!(
            "{} in the escrow, {} in the wallet",
            token.show(escrow),
            token.show(wallet)
        );
        if escrow.is_zero() {
            checks.warn(
                "balance",
                finding,
                "`lloomctl deposit` puts money into the escrow, to pay from",
            );
        } else {
            checks.good("balance", finding);
        }
    } else {
        let payee = payee(session)?;
        match check_operator(on_chain, payee, address).await {
            Ok(()) => checks.good("operator", format!("{address} may sign for {payee}")),
            Err(failure) => checks.bad("operator", &failure),
        }
    }
    Ok(())
}

async fn check_executor(session: &Session, config: &Config, checks: &mut Checks) {
    let Some(settings) = &config.executor else { return };
    let payee = settings.payee.unwrap_or_default();
    match session
        .address()
        .and_then(|operator| node::offer(session, config, settings, payee, operator))
    {
        Ok(_) => {}
        Err(failure) => checks.bad("offer", &failure),
    }
    let backend = match node::backend(settings) {
        Ok(backend) => backend,
        Err(failure) => return checks.bad("LLM server", &failure),
    };
    match backend.models().await {
        Ok(available) => {
            let missing: Vec<_> = settings
                .models
                .iter()
                .filter(|model| !available.contains(&model.id))
                .map(|model| model.id.as_str())
                .collect();
            if missing.is_empty() {
                checks.good(
                    "LLM server",
                    format!("{}, with all models offered", settings.backend_url),
                );
            } else {
                let failure = Failure::new(
                    Kind::Configuration,
                    format!("{} has no {}", settings.backend_url, missing.join(", ")),
                );
                checks.bad("LLM server", &failure.hint(format!("it has {}", available.join(", "))));
            }
        }
        Err(error) => checks.bad(
            "LLM server",
            &Failure::of(Kind::Failed, error)
                .while_(format!("{} doesn't answer", settings.backend_url))
                .hint(
                    "is it running? `ollama serve` starts Ollama; config.toml's executor.backend_url says where it is",
                ),
        ),
    }
}

/// Whether the home is there to defend others.
fn is_tower(config: &Config) -> bool {
    config.executor.is_none() && config.tower.is_some()
}

async fn check_node(session: &Session, config: &Config, checks: &mut Checks) {
    if config.executor.is_none() && !is_tower(config) {
        return;
    }
    match hand_over(&session.home.control_socket(), &Order::Status {}).await {
        Ok(None) if is_tower(config) => checks.warn("tower", "not running", "`lloomctl watch --tower` starts it"),
        Ok(None) => checks.warn("node", "not running", "`lloomctl node run` starts it"),
        Ok(Some(Answer::Status(status))) => {
            let now = UnixSeconds::from(SystemTime::now());
            let idle = status.last_progress.map(|at| now.since(UnixSeconds::new(at)));
            if let Some(problem) = status.problem {
                checks.bad(
                    "node",
                    &Failure::new(Kind::Chain, problem).while_("its watcher is held up"),
                );
            } else if idle.is_none_or(|idle| idle > PROGRESS_TOLERANCE) {
                checks.bad("node", &Failure::new(Kind::Failed, "its watcher gets nowhere"));
            } else {
                checks.good(
                    "node",
                    if status.standing_by {
                        "running; another one leads and claims, and this one stands by for it".to_owned()
                    } else {
                        format!(
                            "running, {} transactions under way, {} channels closing",
                            status.pending_transactions, status.obligations
                        )
                    },
                );
            }
        }
        Ok(Some(_)) => checks.bad("node", &Failure::new(Kind::Failed, "it answered something else")),
        Err(failure) => checks.bad("node", &failure),
    }
}

/// A node that runs is known to its peers; whoever would join with its key beside it would be two of one.
async fn check_peers(session: &Session, config: &Config, checks: &mut Checks) {
    if config.executor.is_some() || is_tower(config) {
        return;
    }
    if !session.password().is_at_hand() {
        return checks.warn(
            "peers",
            "not looked for: that takes the key",
            "set LLOOM_PASSWORD or --password-file",
        );
    }
    let key = match session.unlock() {
        Ok(key) => key,
        Err(failure) => return checks.bad("key", &failure),
    };
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
        Ok(executors) if executors.len() == 1 => checks.good("peers", "1 executor found"),
        Ok(executors) => checks.good("peers", format!("{} executors found", executors.len())),
        Err(failure) => checks.bad("peers", &failure),
    }
}
