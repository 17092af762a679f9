//! The commands, one file each: clap's arguments, then the function.

pub mod balance;
pub mod channel;
pub mod chat;
pub mod claim;
pub mod completions;
pub mod deploy;
pub mod deposit;
pub mod devnet;
pub mod doctor;
pub mod earnings;
pub mod exit_codes;
pub mod faucet;
pub mod init;
pub mod ledger;
pub mod models;
pub mod node;
pub mod operator;
pub mod receipts;
pub mod splitter;
pub mod tower;
pub mod watch;
pub mod withdraw;

use crate::{
    cli::{Cli, Command},
    failure::{Failure, Kind, Result},
    output::Output,
    session::Session,
};

/// Runs a command. Ctrl-C ends every command that doesn't end on it by itself.
///
/// # Errors
/// What the command fails with.
pub async fn run(cli: Cli) -> Result {
    // These need no home, and those that serve stop in an orderly way of their own.
    match cli.command {
        Command::Completions(arguments) => completions::run(&arguments),
        Command::ExitCodes => exit_codes::run(cli.global.json),
        Command::Devnet(arguments) => return devnet::run(&Session::load(cli.global)?, arguments).await,
        Command::Node(command) => return node::run(&Session::load(cli.global)?, command).await,
        Command::Watch(arguments) => return watch::run(&Session::load(cli.global)?, arguments).await,
        Command::Chat(arguments) => return chat::run(&Session::load(cli.global)?, arguments).await,
        command => {
            let output = Output::new(cli.global.json);
            let session = match (Session::load(cli.global), &command) {
                (Ok(session), _) => session,
                (Err(failure), Command::Doctor(_)) => return doctor::refuse(output, failure),
                (Err(failure), _) => return Err(failure),
            };
            tokio::select! {
                result = Box::pin(dispatch(&session, command)) => result,
                _ = tokio::signal::ctrl_c() => Err(Failure::new(Kind::Interrupted, "interrupted")
                    .hint("what was sent before goes on; the next command finds it")),
            }
        }
    }
}

async fn dispatch(session: &Session, command: Command) -> Result {
    match command {
        Command::Init(arguments) => init::run(session, arguments),
        Command::Deploy(arguments) => deploy::run(session, arguments).await,
        Command::Faucet(arguments) => faucet::run(session, arguments).await,
        Command::Deposit(arguments) => deposit::run(session, arguments).await,
        Command::Withdraw(arguments) => withdraw::run(session, arguments).await,
        Command::Balance(arguments) => balance::run(session, arguments).await,
        Command::Channel(command) => channel::run(session, command).await,
        Command::Operator(command) => operator::run(session, command).await,
        Command::Splitter(command) => splitter::run(session, command).await,
        Command::Tower(command) => tower::run(session, command).await,
        Command::Claim(arguments) => claim::run(session, arguments).await,
        Command::Earnings(arguments) => earnings::run(session, arguments).await,
        Command::Receipts(command) => receipts::run(session, command).await,
        Command::Ledger(command) => ledger::run(session, command).await,
        Command::Models(arguments) => models::run(session, arguments).await,
        Command::Doctor(arguments) => doctor::run(session, arguments).await,
        // Run by `run` itself.
        Command::Devnet(_)
        | Command::Node(_)
        | Command::Watch(_)
        | Command::Chat(_)
        | Command::Completions(_)
        | Command::ExitCodes => Ok(()),
    }
}
