//! Measures what the project promises of its speed, and says what is missed.
//!
//! Every figure is the median of several runs of a release build, with the method beside it. They are written to
//! `target/bench/` too, a file a topic.

mod acceptance;
mod documents;
mod figure;
mod gas;
mod streaming;
mod verification;

use std::path::PathBuf;

use clap::Parser;
use eyre::Result;

use crate::figure::{Figure, Report};

/// Measures gas, verification, acceptance and streaming, next to their targets.
#[derive(Parser)]
struct Arguments {
    /// Where the figures are written, a JSON file a topic.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// Only these topics.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Topic>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Topic {
    Gas,
    Receipts,
    Ledger,
    Streaming,
}

impl Topic {
    const ALL: [Self; 4] = [Self::Gas, Self::Receipts, Self::Ledger, Self::Streaming];

    const fn name(self) -> &'static str {
        match self {
            Self::Gas => "gas",
            Self::Receipts => "receipts",
            Self::Ledger => "ledger",
            Self::Streaming => "streaming",
        }
    }

    fn measure(self) -> Result<Vec<Figure>> {
        match self {
            Self::Gas => gas::measure(),
            Self::Receipts => verification::measure(),
            Self::Ledger => acceptance::measure(),
            Self::Streaming => streaming::measure(),
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::new(arguments.output)?;
    for topic in Topic::ALL {
        if arguments.only.is_empty() || arguments.only.contains(&topic) {
            report.add(topic.name(), topic.measure()?)?;
        }
    }
    report.conclude();
    Ok(())
}
