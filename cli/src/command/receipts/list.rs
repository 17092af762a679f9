use std::io::{self, Write};

use clap::Args;
use lloom_ledger::ChannelRecord;
use lloom_receipts::{ChannelId, ReceiptHash, RequestHash, TokenAmount, UnixSeconds, UsageReceipt};
use serde::Serialize;

use super::{InArchive, elsewhere};
use crate::{
    failure::Result,
    money::Token,
    output::{Align, Report, Table, shortened},
    session::Session,
};

/// List receipts
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this channel's
    #[arg(long, value_name = "ID")]
    pub channel: Option<String>,
    /// At most so many, the newest of each channel
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub limit: usize,
}

/// A receipt's content.
#[derive(Clone, Debug, Serialize)]
pub struct ReceiptLine {
    /// Its channel.
    pub channel: ChannelId,
    /// Its place in it, from 1.
    pub sequence: u64,
    /// What names it.
    pub receipt_hash: ReceiptHash,
    /// What was asked.
    pub request_hash: RequestHash,
    /// Of this inference.
    pub input_tokens: u32,
    /// Of this inference.
    pub output_tokens: u32,
    /// What this inference cost.
    pub amount: TokenAmount,
    /// The same, for people.
    pub amount_display: String,
    /// Of the channel, up to here.
    pub cumulative_amount: TokenAmount,
    /// The same, for people.
    pub cumulative_amount_display: String,
    /// Of the channel, up to here.
    pub cumulative_input_tokens: u64,
    /// Of the channel, up to here.
    pub cumulative_output_tokens: u64,
    /// When the answer was complete.
    pub completed_at: UnixSeconds,
}

impl ReceiptLine {
    /// For `receipt`.
    pub fn new(receipt: &UsageReceipt, token: &Token) -> Self {
        let bill = &receipt.bill;
        Self {
            channel: receipt.channel,
            sequence: receipt.sequence,
            receipt_hash: receipt.hash(),
            request_hash: bill.request,
            input_tokens: bill.usage.input.get(),
            output_tokens: bill.usage.output.get(),
            amount: bill.amount,
            amount_display: token.show(bill.amount),
            cumulative_amount: receipt.cumulative_amount,
            cumulative_amount_display: token.show(receipt.cumulative_amount),
            cumulative_input_tokens: receipt.cumulative_input.get(),
            cumulative_output_tokens: receipt.cumulative_output.get(),
            completed_at: bill.completed_at,
        }
    }
}

#[derive(Serialize)]
struct Receipts {
    receipts: Vec<ReceiptLine>,
    /// Older ones that were left out.
    omitted: usize,
    /// Channels whose receipts are in the archive.
    archived: Vec<InArchive>,
}

impl Report for Receipts {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.receipts.is_empty() {
            return match elsewhere(&self.archived) {
                None => writeln!(out, "No receipts yet."),
                Some(text) => writeln!(out, "No receipts in the store; {text}"),
            };
        }
        let mut table = Table::new(&[
            ("CHANNEL", Align::Left),
            ("NO", Align::Right),
            ("INPUT", Align::Right),
            ("OUTPUT", Align::Right),
            ("AMOUNT", Align::Right),
            ("CHANNEL TOTAL", Align::Right),
        ]);
        for line in &self.receipts {
            table.row([
                shortened(&line.channel.to_string()),
                line.sequence.to_string(),
                line.input_tokens.to_string(),
                line.output_tokens.to_string(),
                line.amount_display.clone(),
                line.cumulative_amount_display.clone(),
            ]);
        }
        table.write(out)?;
        if self.omitted > 0 {
            writeln!(out, "\n{} older ones are left out; --limit shows more.", self.omitted)?;
        }
        if let Some(text) = elsewhere(&self.archived) {
            writeln!(out, "\n{text}")?;
        }
        Ok(())
    }
}

/// Lists them.
///
/// # Errors
/// When the store can't be read.
pub async fn run(session: &Session, arguments: ListArgs) -> Result {
    let token = &session.network.token;
    let mut receipts: Vec<ReceiptLine> = Vec::new();
    let mut omitted = 0;
    let mut of_channel = 0;
    let mut current: Option<ChannelId> = None;
    let archived = super::read(
        session,
        arguments.channel.as_deref(),
        |record: &ChannelRecord, receipt| {
            if current != Some(record.id) {
                current = Some(record.id);
                of_channel = 0;
            }
            receipts.push(ReceiptLine::new(receipt.receipt(), token));
            of_channel += 1;
            if of_channel > arguments.limit {
                receipts.remove(receipts.len() - of_channel);
                of_channel -= 1;
                omitted += 1;
            }
            Ok(())
        },
    )
    .await?;
    session.output.print(&Receipts {
        receipts,
        omitted,
        archived,
    })
}
