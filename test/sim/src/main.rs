//! Runs seeds, and says which of them break a rule.

use std::process::ExitCode;

use clap::Parser;
use lloom_sim::{Campaign, Options, simulate};

/// Simulates executors, clients and a chain on their worst days.
///
/// Prints a line for each seed that breaks a rule, and how many did. A seed does the same every time.
#[derive(Debug, Parser)]
#[command(name = "lloom-sim")]
struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Print everything that happens with the first seed, and run no other
    #[arg(long)]
    trace: bool,
}

fn main() -> eyre::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.trace {
        return trace(arguments.start);
    }
    let campaign = Campaign {
        start: arguments.start,
        seeds: arguments.seeds,
        flaw: None,
        stops: false,
    };
    let report = campaign.run(|failure| println!("{failure}"))?;
    println!("{report}");
    Ok(exit(report.is_well()))
}

fn trace(seed: u64) -> eyre::Result<ExitCode> {
    let outcome = simulate(&Options {
        prints: true,
        ..Options::of_seed(seed)
    })?;
    println!(
        "seed {seed}: {} events, hash {:016x}, {:?}, {:?}, {} settled",
        outcome.trace.events(),
        outcome.trace.hash(),
        outcome.counts,
        outcome.faults,
        outcome.settled
    );
    Ok(exit(outcome.violations.is_empty()))
}

fn exit(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
