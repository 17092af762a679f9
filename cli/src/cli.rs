//! The argument tree.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::command;

/// Buy and sell LLM inference, paid by the token.
///
/// A client deposits once (`init`, `deposit`) and buys (`chat`); an executor puts a node in front of its LLM server
/// (`init --role executor`, `node run`) and is paid for exactly what it served.
#[derive(Debug, Parser)]
#[command(name = "lloomctl", version, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalOptions {
    /// The directory with configuration, keys and store [default: ~/.lloom]
    #[arg(long, global = true, env = "LLOOM_HOME", hide_env_values = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Another network than config.toml's: devnet, base-sepolia, base, or one of networks/<NAME>.toml
    #[arg(
        long,
        global = true,
        env = "LLOOM_NETWORK",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub network: Option<String>,
    /// Another JSON-RPC endpoint than the configured one
    #[arg(
        long,
        global = true,
        env = "LLOOM_RPC_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub rpc_url: Option<String>,
    /// Another key of the keystore than config.toml's
    #[arg(long, global = true, value_name = "NAME")]
    pub key: Option<String>,
    /// Read the key's password from a file (or set LLOOM_PASSWORD); otherwise it is asked for
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Answer in JSON, for programs: base units as decimal strings, errors as an object on stderr
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(command::init::InitArgs),
    Devnet(command::devnet::DevnetArgs),
    Deploy(command::deploy::DeployArgs),
    Faucet(command::faucet::FaucetArgs),
    Deposit(command::deposit::DepositArgs),
    Withdraw(command::withdraw::WithdrawArgs),
    Balance(command::balance::BalanceArgs),
    /// Open, inspect and close payment channels
    #[command(subcommand)]
    Channel(command::channel::ChannelCommand),
    /// Name the keys that may sign for a payee
    #[command(subcommand)]
    Operator(command::operator::OperatorCommand),
    /// Share what an executor earns among its host, validators and a treasury
    #[command(subcommand)]
    Splitter(command::splitter::SplitterCommand),
    Claim(command::claim::ClaimArgs),
    Earnings(command::earnings::EarningsArgs),
    /// List, show, verify and export usage receipts
    #[command(subcommand)]
    Receipts(command::receipts::ReceiptsCommand),
    /// Look after the store
    #[command(subcommand)]
    Ledger(command::ledger::LedgerCommand),
    Models(command::models::ModelsArgs),
    Chat(command::chat::ChatArgs),
    /// Run an executor's node
    #[command(subcommand)]
    Node(command::node::NodeCommand),
    Watch(command::watch::WatchArgs),
    /// Look after the towers that defend this executor while it is away
    #[command(subcommand)]
    Tower(command::tower::TowerCommand),
    Doctor(command::doctor::DoctorArgs),
    Completions(command::completions::CompletionsArgs),
    /// Explain the exit codes
    #[command(long_about = command::exit_codes::long_about())]
    ExitCodes,
}
