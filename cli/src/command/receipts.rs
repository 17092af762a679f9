//! The commands of `receipts`.

pub mod export;
pub mod list;
pub mod show;
pub mod verify;

use clap::Subcommand;
use lloom_ledger::{ChannelFilter, ChannelRecord, Ledger};
use lloom_receipts::{ChannelId, Receipt, Verified};

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

/// Reads the receipts of one channel, or of all, in order.
///
/// # Errors
/// When the store can't be read, or doesn't know the channel.
pub async fn read(
    session: &Session,
    channel: Option<&str>,
    mut each: impl FnMut(&ChannelRecord, Receipt<Verified>) -> Result,
) -> Result {
    let channel = channel.map(parse_channel).transpose()?;
    let Some(ledger) = session.read_store().await? else {
        return match channel {
            Some(channel) => Err(unknown_channel(channel)),
            None => Ok(()),
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
    for record in records {
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
    Ok(())
}

async fn page(ledger: &Ledger, channel: ChannelId, from: u64) -> Result<Vec<Receipt<Verified>>> {
    ledger.receipts(channel, from, PAGE).await.or_fail(Kind::Store, || {
        format!("cannot read the receipts of the channel {channel}")
    })
}
