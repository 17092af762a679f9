use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use lloom_ledger::ArchivedReceipt;
use serde::Serialize;

use super::elsewhere;
use crate::{
    failure::{Kind, OrFail as _, Result},
    output::{Report, counted, finish},
    session::Session,
};

/// Write receipts out, with all that is needed to check them elsewhere
///
/// One JSON object a line: the receipt with both signatures, the channel it belongs to, and the contracts it was
/// signed for. `receipts verify` checks such a file without any store. What `ledger compact` has archived lies in such files
/// already, and is not written again.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Only this channel's
    #[arg(long, value_name = "ID")]
    pub channel: Option<String>,
    /// Where to [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    receipts: usize,
}

impl Report for Written {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let receipts = counted(self.receipts as u64, "receipt");
        writeln!(out, "Wrote {receipts} to {}.", self.file.display())
    }
}

/// Writes them out.
///
/// # Errors
/// When store or file refuse.
pub async fn run(session: &Session, arguments: ExportArgs) -> Result {
    let deployment = session.store_deployment();
    let mut text = Vec::new();
    let mut receipts = 0;
    let archived = super::read(session, arguments.channel.as_deref(), |record, receipt| {
        let line = ArchivedReceipt::new(&deployment, record, receipt.into_unverified());
        serde_json::to_writer(&mut text, &line).or_fail(Kind::Failed, || "cannot write a receipt".to_owned())?;
        text.push(b'\n');
        receipts += 1;
        Ok(())
    })
    .await?;
    if let Some(text) = elsewhere(&archived) {
        session
            .output
            .note(format!("Note: {text} Such a file is an export by itself."));
    }
    match arguments.out {
        None => finish(io::stdout().lock().write_all(&text)),
        Some(file) => {
            std::fs::write(&file, &text).or_fail(Kind::Failed, || format!("cannot write {}", file.display()))?;
            session.output.print(&Written { file, receipts })
        }
    }
}
