use std::io::{self, Write};

use clap::Args;
use lloom_receipts::{ContentHash, ReceiptHash};
use serde::Serialize;

use super::list::ReceiptLine;
use crate::{
    date::utc,
    failure::{Failure, Kind, OrFail as _, Result},
    onchain::parse_channel,
    output::{Report, write_pairs},
    session::Session,
};

/// Show one receipt
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The channel's id
    pub channel: String,
    /// The receipt's number in it [default: the newest]
    pub sequence: Option<u64>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    line: ReceiptLine,
    previous_receipt: ReceiptHash,
    response_hash: ContentHash,
    payer_signature: String,
    bill_signature: String,
}

impl Report for Shown {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let line = &self.line;
        write_pairs(
            out,
            &[
                ("Receipt", line.receipt_hash.to_string()),
                ("Channel", line.channel.to_string()),
                ("Number", line.sequence.to_string()),
                ("Follows", self.previous_receipt.to_string()),
                ("Request", line.request_hash.to_string()),
                ("Response", self.response_hash.to_string()),
                (
                    "Tokens",
                    format!("{} input, {} output", line.input_tokens, line.output_tokens),
                ),
                ("Amount", line.amount_display.clone()),
                (
                    "Channel total",
                    format!(
                        "{} for {} input and {} output tokens",
                        line.cumulative_amount_display, line.cumulative_input_tokens, line.cumulative_output_tokens
                    ),
                ),
                (
                    "Completed at",
                    format!("{} ({})", utc(line.completed_at), line.completed_at),
                ),
                ("Payer's signature", self.payer_signature.clone()),
                ("Executor's signature", self.bill_signature.clone()),
            ],
        )
    }
}

/// Shows one.
///
/// # Errors
/// When there is no such receipt.
pub async fn run(session: &Session, arguments: ShowArgs) -> Result {
    let channel = parse_channel(&arguments.channel)?;
    let nothing = || {
        Failure::new(
            Kind::Refused,
            format!("this home has no such receipt of the channel {channel}"),
        )
        .hint("`lloomctl receipts list` shows those it has")
    };
    let ledger = session.read_store().await?.ok_or_else(nothing)?;
    let failed = || format!("cannot read the receipts of the channel {channel}");
    let sequence = match arguments.sequence {
        Some(sequence) => sequence,
        None => ledger.head(channel).await.or_fail(Kind::Store, failed)?.sequence,
    };
    let receipt = ledger
        .receipts(channel, sequence, 1)
        .await
        .or_fail(Kind::Store, failed)?
        .into_iter()
        .find(|receipt| receipt.receipt().sequence == sequence);
    let Some(receipt) = receipt else {
        let archived = super::archived_channels(session, &ledger).await?;
        let archived = archived
            .into_iter()
            .find(|archived| archived.channel == channel && (1..=archived.receipts).contains(&sequence));
        return Err(match archived {
            None => nothing(),
            Some(archived) => Failure::new(
                Kind::Refused,
                format!("receipt {sequence} of the channel {channel} is in the archive"),
            )
            .hint(format!("it is a line of {}", archived.file.display())),
        });
    };
    ledger.close().await;
    session.output.print(&Shown {
        line: ReceiptLine::new(receipt.receipt(), &session.network.token),
        previous_receipt: receipt.receipt().previous,
        response_hash: receipt.receipt().bill.response_hash,
        payer_signature: receipt.payer_signature().to_string(),
        bill_signature: receipt.bill_signature().to_string(),
    })
}
