//! `lloomctl`: what a person does with Lloom.
//!
//! One file a command, under `command/`. This file parses, loads, installs tracing, runs, and maps the exit code.

mod answer;
mod anvil;
mod buying;
mod cli;
mod command;
mod config;
mod control;
mod date;
mod delegating;
mod deployment_block;
mod disk;
mod explanation;
mod failure;
mod home;
mod keystore;
mod money;
mod monitoring;
mod network;
mod onchain;
mod output;
mod password;
mod peers;
mod progress;
mod secret;
mod session;
mod settlement;
mod sight;
mod transact;
mod watching;

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::{Parser as _, error::ErrorKind};
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command},
    failure::{Failure, Kind},
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    let json = cli.global.json;
    install_tracing(&cli);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, json),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(Kind::Failed, error).while_("cannot start the runtime"))?;
    let result = runtime.block_on(command::run(cli));
    // A prompt that was interrupted must not keep the process alive.
    runtime.shutdown_background();
    result
}

fn report(failure: &Failure, json: bool) -> ExitCode {
    let mut err = io::stderr().lock();
    // Whoever closed stderr still gets the exit code.
    let _ = if json {
        failure.write_json(&mut err)
    } else {
        failure.write_human(&mut err)
    };
    ExitCode::from(failure.kind().exit_code())
}

/// clap's own words, or the same as JSON. Help and version are answers, not errors.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    let is_answer = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if !is_answer && env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default();
        let failure = Failure::new(Kind::Usage, message.strip_prefix("error: ").unwrap_or(message));
        return report(
            &failure.hint("`lloomctl help` and `--help` explain every command"),
            true,
        );
    }
    // clap prints answers to stdout and errors to stderr; whoever closed them doesn't want to know.
    let _ = error.print();
    let _ = io::stdout().flush();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Logs go to stderr. What runs for long says what it does, the rest only what is wrong; `LLOOM_LOG` or `RUST_LOG` asks
/// for more.
fn install_tracing(cli: &Cli) {
    let default = match cli.command {
        Command::Node(_) | Command::Watch(_) => {
            "warn,libp2p_kad=error,lloom_node=info,lloom_watcher=info,lloomctl=info"
        }
        _ => "warn,libp2p_kad=error",
    };
    let filter = env::var("LLOOM_LOG")
        .or_else(|_| env::var("RUST_LOG"))
        .ok()
        .and_then(|directives| EnvFilter::try_new(directives).ok())
        .unwrap_or_else(|| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
