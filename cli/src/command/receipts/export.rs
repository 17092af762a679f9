use std::{
    io::{self, Write},
    path::PathBuf,
};

use alloy::primitives::{Address, B256};
use clap::Args;
use lloom_ledger::StoreDeployment;
use lloom_receipts::{ChannelParameters, Receipt};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Kind, OrFail as _, Result},
    output::{Report, finish},
    session::Session,
};

/// Write receipts out, with all that is needed to check them elsewhere
///
/// One JSON object a line: the receipt with both signatures, the channel it belongs to, and the contracts it was
/// signed for. `receipts verify` checks such a file without any store.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Only this channel's
    #[arg(long, value_name = "ID")]
    pub channel: Option<String>,
    /// Where to [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exported {
    /// The chain.
    pub chain_id: u64,
    /// The contract that vouchers are signed for.
    pub escrow: Address,
    /// The contract that receipts are signed for.
    pub settlement: Address,
    /// What the channel's id is the hash of.
    pub channel: ChannelParameters,
    /// The node the channel is committed to, where that is known.
    pub operator: Option<Address>,
    /// What proves that commitment.
    pub client_random: Option<B256>,
    /// The receipt.
    pub receipt: Receipt,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    receipts: usize,
}

impl Report for Written {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Wrote {} receipts to {}.", self.receipts, self.file.display())
    }
}

/// Writes them out.
///
/// # Errors
/// When store or file refuse.
pub async fn run(session: &Session, arguments: ExportArgs) -> Result {
    let StoreDeployment {
        chain_id,
        escrow,
        settlement,
    } = session.store_deployment();
    let mut text = Vec::new();
    let mut receipts = 0;
    super::read(session, arguments.channel.as_deref(), |record, receipt| {
        let line = Exported {
            chain_id,
            escrow,
            settlement,
            channel: record.parameters,
            operator: record.operator,
            client_random: record.client_random,
            receipt: receipt.into_unverified(),
        };
        serde_json::to_writer(&mut text, &line).or_fail(Kind::Failed, || "cannot write a receipt".to_owned())?;
        text.push(b'\n');
        receipts += 1;
        Ok(())
    })
    .await?;
    match arguments.out {
        None => finish(io::stdout().lock().write_all(&text)),
        Some(file) => {
            std::fs::write(&file, &text).or_fail(Kind::Failed, || format!("cannot write {}", file.display()))?;
            session.output.print(&Written { file, receipts })
        }
    }
}
