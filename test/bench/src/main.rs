//! Measures what the project promises of its speed, and says what is missed.
//!
//! Every figure is the median of several runs of a release build, with the method beside it. They are written to
//! `target/bench/` too, a file a topic.

mod acceptance;
mod documents;
mod figure;
mod gas;
mod history;
mod planning;
mod restart;
mod streaming;
mod verification;

use std::path::{Path, PathBuf};

use clap::Parser;
use eyre::{Result, WrapErr as _, bail};
use lloom_e2e::interruption;

use crate::{
    figure::{Figure, Report},
    history::History,
};

/// Measures gas, verification, acceptance and streaming, next to their targets.
#[derive(Parser)]
struct Arguments {
    /// Where the figures are written, a JSON file a topic, and the store with a long history is kept.
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

    fn measure(self, output: &Path) -> Result<Vec<Figure>> {
        match self {
            Self::Gas => gas::measure(),
            Self::Receipts => verification::measure(),
            Self::Ledger => ledger(output),
            Self::Streaming => streaming::measure(),
        }
    }
}

/// What the store does, and what is done with a large one.
fn ledger(output: &Path) -> Result<Vec<Figure>> {
    let mut figures = acceptance::measure()?;
    // What follows takes long, and may be interrupted.
    figure::write(output, Topic::Ledger.name(), &figures)?;
    let runtime = tokio::runtime::Runtime::new().wrap_err("starting a runtime")?;
    let measuring = async {
        let history = History::prepare(output.join("history")).await?;
        figures.extend(restart::measure(&history).await?);
        figures.extend(planning::measure(&history).await?);
        Ok(figures)
    };
    runtime.block_on(async {
        tokio::select! {
            figures = Box::pin(measuring) => figures,
            interrupted = interruption() => interrupted.and_then(|()| bail!("interrupted")),
        }
    })
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::new(arguments.output.clone())?;
    for topic in Topic::ALL {
        if arguments.only.is_empty() || arguments.only.contains(&topic) {
            report.add(topic.name(), topic.measure(&arguments.output)?)?;
        }
    }
    report.conclude();
    Ok(())
}
