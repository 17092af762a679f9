use std::io::{self, Write};

use clap::Args;
use lloom_ledger::{Checked, Finding, Ledger, OpenError};
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    output::{Report, counted},
    progress::Progress,
    session::{Session, store_failure},
};

/// Look through the whole store, and the archive
///
/// Verifies what can be verified without the chain: the file's pages, the signature of every request, bill, receipt,
/// voucher and promise of a tower, the hashes that link receipts, their sequences and totals, that accounts are the sums
/// of their rows, that channels are as the chain's events say, deadlines, transactions, and every file of the archive.
///
/// Changes nothing, and works beside a running node. Says each thing that is wrong in a line, and fails if there is one.
#[derive(Debug, Args)]
pub struct CheckArgs {}

#[derive(Serialize)]
struct Looked {
    store: String,
    sound: bool,
    #[serde(flatten)]
    checked: Checked,
    /// What is wrong.
    found: Vec<Finding>,
}

impl Report for Looked {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for finding in &self.found {
            writeln!(out, "{finding}")?;
        }
        if !self.found.is_empty() {
            writeln!(out)?;
        }
        let checked = &self.checked;
        writeln!(
            out,
            "Looked at {}, {}, {}, {}, {} and {} in {},",
            counted(checked.channels, "channel"),
            counted(checked.receipts, "receipt"),
            counted(checked.bills, "bill"),
            counted(checked.requests, "request"),
            counted(checked.vouchers, "voucher"),
            counted(checked.transactions, "transaction"),
            self.store
        )?;
        if checked.archives > 0 {
            writeln!(
                out,
                "at {} in {} of the archive,",
                counted(checked.archived_receipts, "receipt"),
                counted(checked.archives, "file")
            )?;
        }
        writeln!(out, "and verified {}.", counted(checked.signatures, "signature"))?;
        if self.sound {
            writeln!(out, "All is as it has to be.")?;
        }
        Ok(())
    }
}

/// So many findings are told one by one; a store with more of them is lost in another way.
const TOLD: usize = 10_000;

/// Looks.
///
/// # Errors
/// When something is wrong, or the store can't be read.
pub async fn run(session: &Session, _arguments: CheckArgs) -> Result {
    let url = session.store_url()?;
    let ledger = match Ledger::open_read_only(&url).await {
        Ok(ledger) => ledger,
        Err(error @ OpenError::OlderSchema { .. }) => {
            return Err(store_failure(error)
                .hint("`lloomctl node run`, or any command that writes, brings it up to date; back it up first"));
        }
        Err(error) => return Err(store_failure(error)),
    };
    let progress = Progress::spinner(session.output, "Looking through the store");
    let mut found = Vec::new();
    let checked = ledger
        .check(&session.archive(), &mut |finding| {
            if found.len() < TOLD {
                found.push(finding);
            }
        })
        .await
        .or_fail(Kind::Store, || format!("{url} can't be read to its end"))?;
    ledger.close().await;
    drop(progress);
    let findings = checked.findings;
    session.output.print(&Looked {
        store: url.to_string(),
        sound: findings == 0,
        checked,
        found,
    })?;
    match findings {
        0 => Ok(()),
        _ => Err(Failure::new(
            Kind::Store,
            format!("{findings} thing{} wrong", if findings == 1 { " is" } else { "s are" }),
        )
        .hint(
            "copy the home before anything else is done with it. A backup that is sound can be put back with `lloomctl ledger restore`; claim first what can still be claimed",
        )),
    }
}
