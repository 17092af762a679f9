use std::{
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use alloy::primitives::Address;
use clap::{Args, ValueEnum};
use lloom_node::{Backend, BackendConfig, client::MAX_INCREMENT};
use lloom_receipts::Keypair;
use serde::Serialize;

use crate::{
    config::{Config, Publish, TowerSettings},
    delegating::towers_at,
    failure::{Failure, Kind, OrFail as _, Result},
    keystore::{self, KdfCost, LockedKey},
    onchain::parse_address,
    output::{Report, counted, write_pairs},
    secret::Secret,
    session::Session,
};

/// Make a home: a key and a configuration
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lloomctl init --role client
  lloomctl init --role executor --backend http://localhost:11434/v1 --model llama3.2:3b --price 0.15/0.60
  lloomctl init --role tower --listen /ip4/0.0.0.0/tcp/4402")]
pub struct InitArgs {
    /// Whether this home buys, sells, or defends others' channels
    #[arg(long, value_enum)]
    pub role: Role,
    /// Executor: where the LLM server's API starts (any OpenAI-compatible one)
    #[arg(long, value_name = "URL", default_value = "http://localhost:11434/v1")]
    pub backend: String,
    /// Executor: a file with the LLM server's API key
    #[arg(long, value_name = "FILE")]
    pub backend_api_key_file: Option<PathBuf>,
    /// Executor: a model to sell, as the LLM server names it; may be repeated
    #[arg(long = "model", value_name = "ID")]
    pub models: Vec<String>,
    /// Executor: prices of a million prompt and completion tokens, such as 0.15/0.60; once, or once a model
    #[arg(long = "price", value_name = "INPUT/OUTPUT", allow_hyphen_values = true)]
    pub prices: Vec<String>,
    /// Executor: the longest answer, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 4_096)]
    pub max_output_tokens: u32,
    /// Executor: the longest prompt, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 8_192)]
    pub max_input_tokens: u32,
    /// Executor: a tower that defends its channels, by the address it prints; may be repeated
    #[arg(long = "tower", value_name = "MULTIADDR")]
    pub towers: Vec<String>,
    /// Executor: who is paid [default: this home's own key]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub payee: Option<Address>,
    /// Executor: what claims publish on chain
    #[arg(long, value_enum, default_value_t = PublishChoice::Vouchers)]
    pub publish: PublishChoice,
    /// Where to listen for peers, as a multiaddress; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Vec<String>,
    /// A peer to meet the others through, as a multiaddress; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    pub bootstrap: Vec<String>,
    /// Don't look for peers on the local network
    #[arg(long)]
    pub no_mdns: bool,
    /// Import a key instead of making one: a file (hex, or a keystore), or - for standard input
    #[arg(long, value_name = "FILE")]
    pub import: Option<PathBuf>,
    /// Encrypt the key so that its password can be guessed quickly: for development networks alone
    #[arg(long)]
    pub insecure_fast_kdf: bool,
}

/// What a home is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sells.
    Executor,
    /// Buys.
    Client,
    /// Defends others' channels.
    Tower,
}

/// [`Publish`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublishChoice {
    /// Amounts only: cheapest
    Vouchers,
    /// The tokens used, at every claim
    Receipts,
    /// The tokens used, once, when a channel closes
    ReceiptsOnClose,
}

impl PublishChoice {
    const fn setting(self) -> Publish {
        match self {
            Self::Vouchers => Publish::Vouchers,
            Self::Receipts => Publish::Receipts,
            Self::ReceiptsOnClose => Publish::ReceiptsOnClose,
        }
    }
}

#[derive(Serialize)]
struct Made {
    role: Role,
    home: PathBuf,
    config: PathBuf,
    key_file: PathBuf,
    address: Address,
    payee: Option<Address>,
    network: String,
    #[serde(skip)]
    next: Vec<String>,
}

impl Report for Made {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut pairs = vec![
            ("Address", self.address.to_string()),
            ("Key", self.key_file.display().to_string()),
            ("Configuration", self.config.display().to_string()),
            ("Network", self.network.clone()),
        ];
        if let Some(payee) = self.payee {
            pairs.push(("Paid to", payee.to_string()));
        }
        write_pairs(out, &pairs)?;
        writeln!(out, "\nNext:")?;
        for line in &self.next {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }
}

/// Makes the home.
///
/// # Errors
/// When there is one already, or an argument is wrong. Nothing is written then.
pub fn run(session: &Session, arguments: InitArgs) -> Result {
    let home = &session.home;
    if home.is_initialized() {
        return Err(Failure::new(
            Kind::Configuration,
            format!("{} exists already", home.config().display()),
        )
        .hint("edit that file, or make another home: `lloomctl --home <directory> init …`"));
    }
    let text = configuration(session, &arguments)?;
    // Whatever was given on the command line, the next command has to be able to read it.
    Config::parse(&text).map_err(|failure| failure.while_("the arguments make no configuration"))?;

    let path = home.key(session.key_name());
    let address = if path.exists() && arguments.import.is_none() {
        session.output.note(format!("Using the key {}.", path.display()));
        LockedKey::read(home, session.key_name())?.address()?
    } else {
        make_key(session, &arguments, &path)?
    };
    home.write(&home.config(), text.as_bytes(), false)?;

    let executor = arguments.role == Role::Executor;
    let payee = executor.then(|| arguments.payee.unwrap_or(address));
    session.output.print(&Made {
        role: arguments.role,
        home: home.root().to_owned(),
        config: home.config(),
        key_file: path,
        address,
        payee,
        network: session.network.name.clone(),
        next: next_steps(session, arguments.role, payee, address),
    })
}

fn make_key(session: &Session, arguments: &InitArgs, path: &Path) -> Result<Address> {
    let key: Keypair = match &arguments.import {
        None => keystore::generate()?,
        Some(source) => keystore::import(&read_import(source)?, session.password(), source)?,
    };
    let cost = if arguments.insecure_fast_kdf {
        KdfCost::Insecure
    } else {
        KdfCost::Standard
    };
    let password = session.password().for_new_key()?;
    if path.exists() {
        return Err(Failure::new(Kind::Key, format!("{} exists already", path.display()))
            .hint("name the imported key with --key"));
    }
    session.home.create()?;
    keystore::store(&session.home, session.key_name(), &key, &password, cost)?;
    Ok(key.address())
}

fn read_import(source: &Path) -> Result<Secret> {
    let bytes = if source == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .take(64 * 1024)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    } else {
        fs::read(source)
    };
    bytes.map(Secret::new).or_fail(Kind::Key, || {
        format!("cannot read the key to import from {}", source.display())
    })
}

fn next_steps(session: &Session, role: Role, payee: Option<Address>, address: Address) -> Vec<String> {
    let mut steps = Vec::new();
    let devnet = session.network.development;
    match role {
        Role::Client => {
            if devnet {
                steps.push("lloomctl devnet              (in another terminal, unless one is running)".to_owned());
            } else {
                steps.push(format!(
                    "send {} and some {} for gas to {address}",
                    session.network.token.symbol, session.network.coin
                ));
            }
            steps.push("lloomctl deposit 10".to_owned());
            steps.push("lloomctl chat \"Why is the sky blue?\"".to_owned());
        }
        Role::Executor => {
            if devnet {
                steps.push("lloomctl faucet              (gas money for claims)".to_owned());
            } else {
                steps.push(format!("send some {} for gas to {address}", session.network.coin));
            }
            if payee.is_some_and(|payee| payee != address) {
                steps.push(format!(
                    "lloomctl operator add {address}   (with the payee's key, once)"
                ));
            }
            steps.push("lloomctl node run".to_owned());
        }
        Role::Tower => {
            if devnet {
                steps.push("lloomctl faucet              (gas money for claims)".to_owned());
            } else {
                steps.push(format!("send some {} for gas to {address}", session.network.coin));
            }
            steps.push("lloomctl watch --tower       (prints what executors put into their [towers])".to_owned());
        }
    }
    steps
}

fn configuration(session: &Session, arguments: &InitArgs) -> Result<String> {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write_configuration(&mut text, session, arguments, &models(session, arguments)?);
    Ok(text)
}

/// Refuses a base URL that `node run` would refuse.
fn check_backend(url: &str) -> Result {
    Backend::new(BackendConfig::new(url.to_owned()))
        .or_fail(Kind::Usage, || format!("--backend '{url}' is no use"))
        .map_err(|failure| failure.hint("give the whole base URL, such as http://localhost:11434/v1"))?;
    Ok(())
}

struct Model<'a> {
    id: &'a str,
    input_price: &'a str,
    output_price: &'a str,
}

fn models<'a>(session: &Session, arguments: &'a InitArgs) -> Result<Vec<Model<'a>>> {
    if arguments.role != Role::Executor {
        let executors = !arguments.models.is_empty() || !arguments.prices.is_empty() || !arguments.towers.is_empty();
        if executors || arguments.payee.is_some() {
            return Err(
                Failure::new(Kind::Usage, "--model, --price, --tower and --payee are an executor's")
                    .hint("did you mean --role executor?"),
            );
        }
        return Ok(Vec::new());
    }
    if arguments.models.is_empty() {
        return Err(
            Failure::new(Kind::Usage, "an executor needs at least one --model, with its --price")
                .hint("`ollama list` (or the server's /v1/models) shows what there is"),
        );
    }
    check_backend(&arguments.backend)?;
    // As the node will read them.
    towers_at(&arguments.towers)?;
    if arguments.prices.len() != 1 && arguments.prices.len() != arguments.models.len() {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "{} given with {}",
                counted(arguments.models.len() as u64, "model"),
                counted(arguments.prices.len() as u64, "price")
            ),
        )
        .hint("give one --price for all, or one for each --model, in the same order"));
    }
    arguments
        .models
        .iter()
        .enumerate()
        .map(|(index, id)| {
            let price = arguments.prices.get(index).unwrap_or(&arguments.prices[0]);
            let (input_price, output_price) = price.split_once('/').ok_or_else(|| {
                Failure::new(Kind::Usage, format!("'{price}' is no pair of prices"))
                    .hint("write prompt and completion price of a million tokens, such as 0.15/0.60")
            })?;
            for amount in [input_price, output_price] {
                session.network.token.parse(amount)?;
            }
            Ok(Model {
                id,
                input_price,
                output_price,
            })
        })
        .collect()
}

/// A TOML string.
fn quoted(text: impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(quoted).collect();
    format!("[{}]", quoted.join(", "))
}

fn write_configuration(
    text: &mut String,
    session: &Session,
    arguments: &InitArgs,
    models: &[Model<'_>],
) -> std::fmt::Result {
    let executor = arguments.role == Role::Executor;
    let port = match arguments.role {
        Role::Executor => Some(4401),
        Role::Tower => Some(4402),
        Role::Client => None,
    };
    let symbol = &session.network.token.symbol;
    writeln!(
        text,
        "# Configuration of lloomctl. Amounts are in {symbol}, in quotes.\n"
    )?;
    writeln!(text, "network = {}", quoted(&session.network.name))?;
    match session.network.rpc_urls.as_slice() {
        [url] if session.has_own_endpoint() => writeln!(text, "rpc_urls = [{}]", quoted(url))?,
        _ => writeln!(
            text,
            "# rpc_urls = [\"https://…\"]   # instead of the network's own; better two than one"
        )?,
    }
    writeln!(
        text,
        "key = {}              # keystore/<key>.json",
        quoted(session.key_name())
    )?;
    writeln!(
        text,
        "# store = \"postgres://lloom@db.example/lloom?sslmode=verify-full\"   # instead of lloom.db in this directory"
    )?;
    let listen = match port {
        Some(port) if arguments.listen.is_empty() => vec![format!("/ip4/0.0.0.0/tcp/{port}")],
        _ => arguments.listen.clone(),
    };
    writeln!(text, "listen = {}", list(&listen))?;
    writeln!(text, "bootstrap = {}", list(&arguments.bootstrap))?;
    writeln!(text, "mdns = {}", !arguments.no_mdns)?;

    if executor {
        writeln!(text, "\n[executor]")?;
        match arguments.payee {
            Some(payee) => writeln!(text, "payee = {}", quoted(payee))?,
            None => writeln!(
                text,
                "# payee = \"0x…\"           # who is paid; this key's own address otherwise"
            )?,
        }
        writeln!(text, "backend_url = {}", quoted(&arguments.backend))?;
        if let Some(path) = &arguments.backend_api_key_file {
            writeln!(text, "backend_api_key_file = {}", quoted(path.display()))?;
        }
        writeln!(text, "increment_tokens = 64      # how far clients pay ahead")?;
        writeln!(
            text,
            "min_deposit = \"0\"          # the smallest channel that is served"
        )?;
        writeln!(text, "max_concurrent_requests = 16")?;
        writeln!(
            text,
            "\n[executor.exposure]        # what one payer is served on credit"
        )?;
        writeln!(text, "start = \"0\"")?;
        writeln!(text, "per_mille_of_settled = 0")?;
        writeln!(text, "maximum = \"0\"")?;
        for model in models {
            writeln!(text, "\n[[executor.models]]        # prices of a million tokens")?;
            writeln!(text, "id = {}", quoted(model.id))?;
            writeln!(text, "input_price = {}", quoted(model.input_price))?;
            writeln!(text, "output_price = {}", quoted(model.output_price))?;
            writeln!(text, "max_input_tokens = {}", arguments.max_input_tokens)?;
            writeln!(text, "max_output_tokens = {}", arguments.max_output_tokens)?;
        }
        let publish = match arguments.publish.setting() {
            Publish::Vouchers => "vouchers",
            Publish::Receipts => "receipts",
            Publish::ReceiptsOnClose => "receipts-on-close",
        };
        write_monitoring(text)?;
        writeln!(text, "\n[watcher]")?;
        writeln!(
            text,
            "publish = {}        # or \"receipts\", \"receipts-on-close\"",
            quoted(publish)
        )?;
        writeln!(
            text,
            "min_claim = \"1\"            # claims below wait, unless a deadline presses"
        )?;
        writeln!(
            text,
            "# coin_price = \"3000\"      # what a whole {} costs: claims then wait for {} times their fee",
            session.network.coin, 10
        )?;
        writeln!(
            text,
            "safety_margin_secs = 1800  # how long before a payer may leave its money is claimed at any fee"
        )?;
        writeln!(
            text,
            "\n[towers]                   # who claims when this node is off: their addresses, /p2p/… included"
        )?;
        writeln!(text, "peers = {}", list(&arguments.towers))?;
        writeln!(
            text,
            "interval_secs = 10         # how long what is earned is gathered before it is handed over"
        )?;
        writeln!(
            text,
            "urgent_value = \"1\"         # what is handed over at once when it has grown by this"
        )?;
    } else if arguments.role == Role::Tower {
        write_monitoring(text)?;
        write_tower(text, session)?;
    } else {
        writeln!(text, "\n[client]")?;
        writeln!(
            text,
            "channel_deposit = \"1\"      # what `chat` puts into a channel it opens"
        )?;
        writeln!(text, "budget_per_request = \"0.25\"  # the most that one may cost")?;
        writeln!(
            text,
            "budget_per_day = \"10\"        # the most that is spent or signed away in 24 hours, and at one executor"
        )?;
        writeln!(text, "budget_per_executor_per_day = \"5\"")?;
        writeln!(
            text,
            "max_increment_tokens = {}  # how far ahead of an answer it pays at the most",
            MAX_INCREMENT.get()
        )?;
    }
    Ok(())
}

fn write_monitoring(text: &mut String) -> std::fmt::Result {
    writeln!(
        text,
        "\n[monitoring]              # /metrics, /healthz, /readyz: METRICS.md"
    )?;
    writeln!(
        text,
        "# listen = \"127.0.0.1:9464\" # whoever reaches it reads balances"
    )
}

fn write_tower(text: &mut String, session: &Session) -> std::fmt::Result {
    let TowerSettings {
        max_operators,
        max_channels_per_operator,
        max_store_mib,
        messages_per_minute,
        minimum_value,
        max_fee_gwei,
        term_days,
        ..
    } = TowerSettings::default();
    writeln!(
        text,
        "\n[tower]                    # `lloomctl watch --tower`: what is promised"
    )?;
    writeln!(
        text,
        "minimum_value = {}     # claims that bring less are not made",
        quoted(minimum_value.as_str())
    )?;
    writeln!(
        text,
        "max_fee_gwei = {max_fee_gwei}         # the most that a claim pays for gas, in billionths of a whole {}",
        session.network.coin
    )?;
    writeln!(
        text,
        "term_days = {term_days}             # how long what is signed stands, unless it is renewed"
    )?;
    writeln!(
        text,
        "# claim_margin_secs = 1200 # how long before a deadline the executor has had its chance"
    )?;
    writeln!(
        text,
        "# executors = [\"0x…\"]       # only these operators; anybody's whose payee has named it otherwise"
    )?;
    writeln!(
        text,
        "max_operators = {max_operators}        # what is taken on at most"
    )?;
    writeln!(text, "max_channels_per_operator = {max_channels_per_operator}")?;
    writeln!(text, "max_store_mib = {max_store_mib}")?;
    writeln!(text, "messages_per_minute = {messages_per_minute}  # of one peer")
}
