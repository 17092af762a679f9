//! The commands of `receipts`.

pub mod export;
pub mod list;
pub mod show;
pub mod verify;

use std::{collections::BTreeSet, path::PathBuf};

use clap::Subcommand;
use lloom_ledger::{ChannelFilter, ChannelRecord, Ledger};
use lloom_receipts::{ChannelId, Receipt, Verified};
use serde::Serialize;

use crate::{
    failure::{Kind, OrFail as _, Result},
    onchain::parse_channel,
    session::{Session, unknown_channel},
};

/// Commands of `receipts`.
#[derive(Debug, Subcommand)]
pub enum ReceiptsCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Verify(verify::VerifyArgs),
    Export(export::ExportArgs),
}

/// Runs one.
///
/// # Errors
/// What it fails with.
pub async fn run(session: &Session, command: ReceiptsCommand) -> Result {
    match command {
        ReceiptsCommand::List(arguments) => list::run(session, arguments).await,
        ReceiptsCommand::Show(arguments) => show::run(session, arguments).await,
        ReceiptsCommand::Verify(arguments) => verify::run(session, arguments).await,
        ReceiptsCommand::Export(arguments) => export::run(session, arguments).await,
    }
}

/// Receipts are read in pages of this many.
const PAGE: u32 = 1_000;

/// Reads the receipts of one channel, or of all, in order. Those of archived channels are not read, but told of.
///
/// # Errors
/// When the store can't be read, or doesn't know the channel.
pub async fn read(
    session: &Session,
    channel: Option<&str>,
    mut each: impl FnMut(&ChannelRecord, Receipt<Verified>) -> Result,
) -> Result<Vec<InArchive>> {
    let channel = channel.map(parse_channel).transpose()?;
    let Some(ledger) = session.read_store().await? else {
        return match channel {
            Some(channel) => Err(unknown_channel(channel)),
            None => Ok(Vec::new()),
        };
    };
    let records = match channel {
        Some(channel) => vec![
            ledger
                .channel(channel)
                .await
                .or_fail(Kind::Store, || format!("cannot read the channel {channel}"))?
                .ok_or_else(|| unknown_channel(channel))?,
        ],
        None => ledger
            .channels(ChannelFilter::default())
            .await
            .or_fail(Kind::Store, || "cannot list the channels".to_owned())?,
    };
    let mut archived = archived_channels(session, &ledger).await?;
    archived.retain(|archived| records.iter().any(|record| record.id == archived.channel));
    for record in records {
        if archived.iter().any(|archived| archived.channel == record.id) {
            continue;
        }
        let mut next = 1;
        loop {
            let page = page(&ledger, record.id, next).await?;
            let Some(last) = page.last() else { break };
            next = last.receipt().sequence + 1;
            for receipt in page {
                each(&record, receipt)?;
            }
        }
    }
    ledger.close().await;
    Ok(archived)
}

/// A channel whose receipts are in the archive.
#[derive(Clone, Debug, Serialize)]
pub struct InArchive {
    /// The channel.
    pub channel: ChannelId,
    /// How many receipts it has.
    pub receipts: u64,
    /// The file that holds them.
    pub file: PathBuf,
}

/// The channels whose receipts are in the archive.
///
/// # Errors
/// When the store can't be read.
pub async fn archived_channels(session: &Session, ledger: &Ledger) -> Result<Vec<InArchive>> {
    let archived = ledger
        .archived_channels()
        .await
        .or_fail(Kind::Store, || "cannot list what is archived".to_owned())?;
    Ok(archived
        .into_iter()
        .map(|archived| InArchive {
            channel: archived.channel,
            receipts: archived.head.sequence,
            file: session.archive().join(archived.file),
        })
        .collect())
}

/// Where the receipts are that are not told of, in a sentence; `None` where none are in the archive.
pub fn elsewhere(archived: &[InArchive]) -> Option<String> {
    let receipts: u64 = archived.iter().map(|archived| archived.receipts).sum();
    let files: BTreeSet<String> = archived
        .iter()
        .map(|archived| archived.file.display().to_string())
        .collect();
    let files: Vec<String> = files.into_iter().collect();
    (!files.is_empty()).then(|| {
        let channels = archived.len();
        format!(
            "{receipts} more, of {channels} channel{} that {} over, are in {}.",
            if channels == 1 { "" } else { "s" },
            if channels == 1 { "is" } else { "are" },
            files.join(", ")
        )
    })
}

async fn page(ledger: &Ledger, channel: ChannelId, from: u64) -> Result<Vec<Receipt<Verified>>> {
    ledger.receipts(channel, from, PAGE).await.or_fail(Kind::Store, || {
        format!("cannot read the receipts of the channel {channel}")
    })
}
