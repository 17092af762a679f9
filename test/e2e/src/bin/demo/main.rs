//! The main job, for real and on one machine: three clients buy streamed inference from two executors, both sides sign
//! usage receipts, the watchers batch them on chain, and the money arrives, equal to the last unit on both sides.
//!
//! `LLOOM_BACKEND=http://…/v1` (and `LLOOM_MODEL`) put your own LLM server behind the executors.

mod audit;
mod backend;
mod market;
mod summary;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;
use eyre::{Result, WrapErr};
use lloom_e2e::{Chain, Mining, interruption};

use crate::{audit::Audit, backend::Backend, market::Market, summary::Summary};

/// Runs the main job on a chain of its own, and checks that not a unit is lost.
#[derive(Parser)]
struct Arguments {
    /// Where the summary is written
    #[arg(long, value_name = "FILE", default_value = "target/demo/summary.json")]
    summary: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Everything that is started is owned by the future that is dropped here, and dies with it.
    let ended = tokio::select! {
        ended = Box::pin(run(arguments)) => ended.map(|()| ExitCode::SUCCESS),
        interrupted = interruption() => interrupted.map(|()| {
            eprintln!("Interrupted: everything that was started is stopped.");
            ExitCode::from(130)
        }),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(arguments: Arguments) -> Result<()> {
    let start = Instant::now();
    let say = |text: String| println!("{:>5.1} s  {text}", start.elapsed().as_secs_f64());

    let backend = Backend::start().await?;
    say(backend.description());
    let chain = Chain::start(Mining::Living).await?;
    say(format!("a chain at {}, the contracts deployed", chain.rpc_url()));
    let market = Market::open(&chain, &backend).await?;
    say(market.description());

    let before = market.holdings(&chain).await?;
    let answers = market.trade(&backend).await?;
    say(format!(
        "{} streamed answers, each with a receipt that both sides signed",
        answers.len()
    ));
    market.claim().await?;
    say("what was left is claimed".to_owned());
    market.close_channels().await?;
    say("the channels are closed, what remained is back with the clients".to_owned());
    let after = market.holdings(&chain).await?;

    let audit = Audit::of(&chain, &market, &answers).await?;
    market.stop().await?;
    audit.print();
    let summary = Summary::new(&audit, before, after);
    summary.write(&arguments.summary).wrap_err("writing the summary")?;
    summary.check()?;
    audit.check(&backend)?;
    say(format!(
        "charged, settled, received and paid are equal: {}",
        arguments.summary.display()
    ));
    Ok(())
}
