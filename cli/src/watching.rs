//! A watcher in this process, made from the configuration.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use alloy::primitives::Address;
use lloom_ledger::Ledger;
use lloom_receipts::{BlockNumber, Keypair, TokenAmount, UnixSeconds};
use lloom_watcher::{
    DefencePolicy, FeePolicy, HandleError, PlannerPolicy, Publish as PublishPolicy, RpcChain, TokenThresholds, Watcher,
    WatcherConfig, WatcherError, WatcherHandle,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    command::watch::tower,
    config::{Decimal, Publish, TokenSettings, WatcherSettings},
    deployment_block,
    failure::{Failure, Kind, Result},
    money::Token,
    network::Network,
    onchain::{OnChain, OperatorStatus, chain_failure},
    output::Output,
    session::Session,
    sight::{Obstacle, Sight, max_head_age},
    transact::{ANOTHER_CHAIN, poll_interval, send_failure},
};

/// A running watcher.
#[derive(Debug)]
pub struct Watching {
    /// Takes orders.
    pub handle: WatcherHandle,
    /// The chain it follows.
    pub chain: RpcChain,
    task: JoinHandle<std::result::Result<(), WatcherError>>,
    stop: CancellationToken,
}

/// Whether a watcher claims by itself, or only when it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiative {
    /// By itself.
    Own,
    /// On orders alone.
    Orders,
}

/// The payee this home earns for: config.toml's, or the key itself.
///
/// # Errors
/// When there is no configuration or key.
pub fn payee(session: &Session) -> Result<Address> {
    match session.config()?.executor.as_ref().and_then(|executor| executor.payee) {
        Some(payee) => Ok(payee),
        None => session.address(),
    }
}

/// How `operator` stands with `payee` on chain. A payee's own key needs no naming.
///
/// # Errors
/// When the chain doesn't answer.
pub async fn standing(on_chain: &OnChain, payee: Address, operator: Address) -> Result<OperatorStatus> {
    if payee == operator {
        return Ok(OperatorStatus::Active);
    }
    on_chain.operator_status(payee, operator).await
}

/// Checks that the chain lets `operator` sign and close for `payee`.
///
/// # Errors
/// When it doesn't.
pub async fn check_operator(on_chain: &OnChain, payee: Address, operator: Address) -> Result {
    let status = standing(on_chain, payee, operator).await?;
    no_operator(status, payee, operator).map_or(Ok(()), Err)
}

/// Why `operator`, which stands so with `payee`, may neither sign nor close for it; `None` when it may.
pub fn no_operator(status: OperatorStatus, payee: Address, operator: Address) -> Option<Failure> {
    let (why, hint) = match status {
        OperatorStatus::Active => return None,
        OperatorStatus::Unknown => (
            format!("the payee {payee} has not named {operator} as its operator"),
            format!("with the payee's key, once: `lloomctl operator add {operator}`"),
        ),
        OperatorStatus::Retired => (
            format!("the payee {payee} has removed {operator} from its operators"),
            format!(
                "put a key in that it names, or name this one again with the payee's key: `lloomctl operator add {operator}`"
            ),
        ),
    };
    let failure = Failure::new(Kind::Refused, why).hint(hint);
    Some(failure.hint("meanwhile `lloomctl watch` claims what vouchers cover, for which no operator is needed"))
}

/// Says so where `operator`, which stands so with `payee`, claims by vouchers alone.
pub fn warn_of_standing(output: Output, status: OperatorStatus, payee: Address, operator: Address) {
    if let Some(failure) = no_operator(status, payee, operator) {
        let advice = failure.hints().first().map_or("", String::as_str);
        output.note(format!(
            "Warning: {}. What vouchers cover is claimed all the same; nothing is closed, and no usage published. To change that, {advice}.",
            failure.one_line()
        ));
    }
}

impl Watching {
    /// Starts one on `ledger`, which signs with `key`.
    ///
    /// # Errors
    /// When the configuration is wrong, or the chain doesn't tell where to begin.
    pub async fn start(
        session: &Session,
        on_chain: &OnChain,
        ledger: Ledger,
        key: Keypair,
        initiative: Initiative,
    ) -> Result<Self> {
        let start_block = deployment_block::of(session, on_chain).await?;
        let config = watcher_config(session, Some(payee(session)?), start_block, initiative)?;
        let chain = session.chain()?;
        let (watcher, handle) = Watcher::new(config, chain.clone(), ledger, key);
        Ok(Self::spawn(watcher, handle, chain))
    }

    /// Starts one on `ledger` that defends what others have handed to it, paying at most `max_fee` wei for gas.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_defending(
        session: &Session,
        on_chain: &OnChain,
        ledger: Ledger,
        key: Keypair,
        policy: DefencePolicy,
        max_fee: u128,
        initiative: Initiative,
    ) -> Result<Self> {
        let start_block = deployment_block::of(session, on_chain).await?;
        let mut config = watcher_config(session, None, start_block, initiative)?;
        config.planner.publish = PublishPolicy::Vouchers;
        config.fees = as_promised(config.fees, max_fee);
        let chain = session.chain()?;
        let (watcher, handle) = Watcher::new(config, chain.clone(), ledger, key);
        Ok(Self::spawn(watcher.defending(policy), handle, chain))
    }

    fn spawn(watcher: Watcher<RpcChain>, handle: WatcherHandle, chain: RpcChain) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(watcher.run(stop.clone()));
        Self {
            handle,
            chain,
            task,
            stop,
        }
    }

    /// Waits until it fails, which it doesn't while all is well.
    pub async fn failed(&mut self) -> Failure {
        match (&mut self.task).await {
            Ok(Ok(())) => Failure::new(Kind::Failed, "the watcher stopped by itself"),
            Ok(Err(error)) => watcher_failure(error),
            Err(error) => Failure::of(Kind::Failed, error).while_("the watcher crashed"),
        }
    }

    /// Stops it. What it decided is in the ledger.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the watcher stopped with an error"
            );
        }
    }

    /// Runs an order, unless the watcher fails first.
    ///
    /// # Errors
    /// The order's, or the watcher's.
    pub async fn obey<T>(&mut self, order: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            // An order fails when its watcher does: the watcher knows why.
            biased;
            failure = self.failed() => Err(failure),
            result = order => result,
        }
    }
}

/// How long a watcher of this home may see nothing of the chain, where its looks may take `silence`.
///
/// # Errors
/// When there is no configuration.
pub fn sight(session: &Session, silence: Duration) -> Result<Sight> {
    Ok(Sight {
        silence,
        head_age: max_head_age(&session.config()?.monitoring, &session.network),
    })
}

/// What keeps a watcher from seeing the chain at this moment.
pub fn obstacle(watcher: &WatcherHandle, sight: Sight) -> Option<Obstacle> {
    let now = UnixSeconds::from(SystemTime::now());
    sight.obstacle(&watcher.status().borrow(), now)
}

fn watcher_config(
    session: &Session,
    payee: Option<Address>,
    start_block: u64,
    initiative: Initiative,
) -> Result<WatcherConfig> {
    let settings = &session.config()?.watcher;
    let network = &session.network;
    Ok(WatcherConfig {
        domain: network.domain(),
        registry: network.contracts.registry,
        start_block: BlockNumber::new(start_block),
        payees: payee
            .into_iter()
            .flat_map(|payee| claimed_tokens(settings, network).map(move |token| (payee, token)))
            .collect(),
        confirmations: confirmations(settings, network),
        // A command that waits for one claim doesn't have to be polite for long.
        poll_interval: match initiative {
            Initiative::Own => settings.poll_interval_millis.map_or_else(
                || own_interval(network),
                |milliseconds| Duration::from_millis(milliseconds.max(10)),
            ),
            Initiative::Orders => poll_interval(network),
        },
        auto_claim: initiative == Initiative::Own,
        yields_after: Duration::from_secs(settings.yield_after_secs),
        max_head_age: max_head_age(&session.config()?.monitoring, network),
        planner: planner(settings, network)?,
        fees: fees(settings),
    })
}

/// How often a watcher that runs for long looks at the chain when nobody chose.
const fn own_interval(network: &Network) -> Duration {
    if network.development {
        Duration::from_millis(250)
    } else {
        Duration::from_secs(2)
    }
}

/// How deep a block has to lie.
pub fn confirmations(settings: &WatcherSettings, network: &Network) -> u64 {
    settings.confirmations.unwrap_or(network.confirmations)
}

/// What this home pays for gas, whoever in it sends: a command takes up what its watcher left pending.
///
/// # Errors
/// When there is no configuration, or a tower's promises can't be read.
pub async fn fee_policy(session: &Session, ledger: &Ledger) -> Result<FeePolicy> {
    let config = session.config()?;
    let policy = fees(&config.watcher);
    if !config.is_tower() {
        return Ok(policy);
    }
    Ok(as_promised(policy, tower::max_fee(session, ledger).await?))
}

/// A tower's: all it ever sends is for a deadline, and it has promised what it pays.
fn as_promised(policy: FeePolicy, max_fee: u128) -> FeePolicy {
    FeePolicy {
        max_fee,
        urgent_max_fee: max_fee,
        ..policy
    }
}

fn fees(settings: &WatcherSettings) -> FeePolicy {
    const WEI_PER_GWEI: u128 = 1_000_000_000;
    FeePolicy {
        max_fee: u128::from(settings.max_fee_gwei) * WEI_PER_GWEI,
        urgent_max_fee: u128::from(settings.urgent_max_fee_gwei) * WEI_PER_GWEI,
        urgent_within: Duration::from_secs(settings.safety_margin_secs),
        patience: Duration::from_secs(settings.replace_after_secs),
        ..FeePolicy::default()
    }
}

/// Whether a watcher of this home claims channels in `token`.
///
/// # Errors
/// When there is no configuration.
pub fn claims_token(session: &Session, token: Address) -> Result<bool> {
    Ok(claimed_tokens(&session.config()?.watcher, &session.network).any(|claimed| claimed == token))
}

/// The tokens that are claimed: the network's, and those that have thresholds of their own.
fn claimed_tokens<'a>(settings: &'a WatcherSettings, network: &Network) -> impl Iterator<Item = Address> + use<'a> {
    let own = network.token.address;
    let others = settings.tokens.keys().copied().filter(move |token| *token != own);
    std::iter::once(own).chain(others)
}

fn planner(settings: &WatcherSettings, network: &Network) -> Result<PlannerPolicy> {
    let amount = |key: &str, text: &Decimal| network.token.parse_setting(key, text.as_str());
    let mut policy = PlannerPolicy {
        min_value_over_fee: settings.min_value_over_fee,
        native_price_in_token: settings
            .coin_price
            .as_ref()
            .map(|price| amount("watcher.coin_price", price))
            .transpose()?,
        min_claim: amount("watcher.min_claim", &settings.min_claim)?,
        tokens: BTreeMap::new(),
        publish: match settings.publish {
            Publish::Vouchers => PublishPolicy::Vouchers,
            Publish::Receipts => PublishPolicy::Receipts,
            Publish::ReceiptsOnClose => PublishPolicy::ReceiptsOnClose,
        },
        safety_margin: Duration::from_secs(settings.safety_margin_secs),
        exposure_near: amount("watcher.claim_when_deposit_left", &settings.claim_when_deposit_left)?,
        max_rows: settings.max_rows,
    };
    for (address, of_token) in &settings.tokens {
        let thresholds = token_thresholds(*address, of_token, &policy, network)?;
        policy.tokens.insert(*address, thresholds);
    }
    Ok(policy)
}

fn token_thresholds(
    address: Address,
    settings: &TokenSettings,
    policy: &PlannerPolicy,
    network: &Network,
) -> Result<TokenThresholds> {
    let section = format!("watcher.tokens.\"{address}\"");
    let is_own = address == network.token.address;
    let missing = |key: &str, why: &str| {
        Failure::new(Kind::Configuration, format!("config.toml's {section} lacks {key}")).hint(why.to_owned())
    };
    let decimals = match settings.decimals {
        Some(decimals) => decimals,
        None if is_own => network.token.decimals,
        None => return Err(missing("decimals", "without it, amounts of that token can't be read")),
    };
    let token = Token {
        address,
        symbol: if is_own {
            network.token.symbol.clone()
        } else {
            format!("units of {address}")
        },
        decimals,
    };
    let amount = |key: &str, text: &Option<Decimal>| {
        text.as_ref()
            .map(|text| token.parse_setting(&format!("{section}.{key}"), text.as_str()))
            .transpose()
    };
    let general = is_own.then_some(policy);
    let native_price_in_token =
        amount("coin_price", &settings.coin_price)?.or_else(|| general.and_then(|policy| policy.native_price_in_token));
    let min_claim = amount("min_claim", &settings.min_claim)?.or_else(|| general.map(|policy| policy.min_claim));
    let min_claim = match (min_claim, native_price_in_token) {
        (Some(minimum), _) => minimum,
        (None, Some(_)) => TokenAmount::ZERO,
        (None, None) => {
            return Err(missing(
                "min_claim",
                "say what a claim has to bring, or what a coin costs (coin_price)",
            ));
        }
    };
    let left = amount("claim_when_deposit_left", &settings.claim_when_deposit_left)?;
    Ok(TokenThresholds {
        min_value_over_fee: settings.min_value_over_fee.unwrap_or(policy.min_value_over_fee),
        native_price_in_token,
        min_claim,
        exposure_near: left
            .or_else(|| general.map(|policy| policy.exposure_near))
            .unwrap_or(TokenAmount::ZERO),
    })
}

fn watcher_failure(error: WatcherError) -> Failure {
    match error {
        WatcherError::Chain(error) => chain_failure(error, "cannot follow the chain"),
        WatcherError::ForeignChain { .. } => Failure::of(Kind::Chain, error).hint(ANOTHER_CHAIN),
        WatcherError::Send(error) => send_failure(error, "cannot look after the transactions sent"),
        other => Failure::of(Kind::Store, other).while_("the watcher stopped"),
    }
}

/// An order's failure.
pub fn handle_failure(error: HandleError) -> Failure {
    match error {
        HandleError::Unavailable { .. } => {
            Failure::of(Kind::Chain, error).hint("is the endpoint up? Another one can be given with --rpc-url")
        }
        HandleError::StandsBy => Failure::of(Kind::Refused, error)
            .hint("give the order to the node that leads; this one takes over by itself when that one ends"),
        HandleError::HandedOver => Failure::of(Kind::Refused, error)
            .hint("ask the node that leads now; `lloomctl claim --dry-run` there says what is left"),
        HandleError::Send(error) => send_failure(error, "cannot settle"),
        HandleError::Close(_) => Failure::of(Kind::Refused, error),
        HandleError::Ledger(_) => Failure::of(Kind::Store, error),
        other => Failure::of(Kind::Failed, other),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::address;

    use super::*;
    use crate::{config::Config, home::Home};

    fn policy(text: &str) -> Result<(PlannerPolicy, Vec<Address>)> {
        let directory = tempfile::tempdir().unwrap();
        let network = Network::load(&Home::resolve(Some(directory.path().to_owned())).unwrap(), "devnet").unwrap();
        let settings = Config::parse(&format!("network = \"devnet\"\n[watcher]\n{text}"))
            .unwrap()
            .watcher;
        let tokens = claimed_tokens(&settings, &network).collect();
        Ok((planner(&settings, &network)?, tokens))
    }

    #[test]
    fn each_token_has_its_own_thresholds_in_its_own_units() {
        let other = address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e");
        let text = format!(
            "min_claim = \"2\"\n[watcher.tokens.\"{other}\"]\ndecimals = 18\nmin_claim = \"5\"\nmin_value_over_fee = 20\n"
        );
        let (policy, tokens) = policy(&text).unwrap();
        assert_eq!(policy.min_claim, TokenAmount::new(2_000_000));
        let thresholds = policy.thresholds(other);
        assert_eq!(thresholds.min_claim, TokenAmount::new(5 * 10u128.pow(18)));
        assert_eq!(thresholds.min_value_over_fee, 20);
        assert_eq!(thresholds.native_price_in_token, None);
        assert_eq!((tokens.len(), tokens[1]), (2, other), "its channels are claimed too");
    }

    #[test]
    fn thresholds_of_the_networks_own_token_complete_the_general_ones() {
        let own = lloom_bindings::dev_token_address();
        let text = format!("coin_price = \"3000\"\n[watcher.tokens.\"{own}\"]\nmin_claim = \"5\"\n");
        let (policy, tokens) = policy(&text).unwrap();
        let thresholds = policy.thresholds(own);
        assert_eq!(thresholds.min_claim, TokenAmount::new(5_000_000));
        assert_eq!(thresholds.native_price_in_token, Some(TokenAmount::new(3_000_000_000)));
        assert_eq!(tokens, [own]);
    }

    #[test]
    fn thresholds_that_say_nothing_are_refused() {
        let other = "[watcher.tokens.\"0x036CbD53842c5426634e7929541eC2318f3dCF7e\"]\n";
        for (text, named) in [
            ("min_claim = \"5\"", "decimals"),
            ("decimals = 18", "min_claim"),
            ("decimals = 2\nmin_claim = \"0.001\"", "min_claim"),
        ] {
            let failure = policy(&format!("{other}{text}\n")).unwrap_err();
            assert_eq!(failure.kind(), Kind::Configuration);
            assert!(failure.one_line().contains(named), "{}", failure.one_line());
        }
    }
}
