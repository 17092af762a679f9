use std::{
    io::{self, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Args;
use lloom_ledger::{CompactError, Compacted, Ledger};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use serde::Serialize;

use crate::{
    disk::size,
    failure::{Failure, Kind, OrFail as _, Result},
    output::{Align, Report, Table, counted, shortened},
    progress::Progress,
    session::{Session, store_failure},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Move the receipts of channels that are long over into the archive
///
/// A channel is over when a confirmed block says so. Its receipts, with their bills, requests and vouchers, are written to a
/// new file of the archive, read again and verified, and only then deleted from the store. Such a file never changes, and
/// `receipts verify` and `ledger check` verify it by itself. It may be interrupted at any moment: run it again.
///
/// What totals are made of stays: the channel, its account, its newest receipt and voucher. `earnings` and all the others
/// show what they showed. So does what is not settled between the two sides: receipts that were withdrawn, bills that
/// nobody linked.
///
/// Afterwards the file is written anew without the space that was freed, which takes as much room on the disk for a while.
/// Stop the node first. A database gives its space back by itself.
#[derive(Debug, Args)]
pub struct CompactArgs {
    /// Keep what is younger in the store [default: config.toml's `keep_days` under [ledger], or 90]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: Option<u32>,
    /// Say what would be archived, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave the file as long as it is: the space is used again by what comes
    #[arg(long)]
    no_vacuum: bool,
}

#[derive(Serialize)]
struct Archived {
    archive: PathBuf,
    keep_days: u32,
    channels: u64,
    receipts: u64,
    files: Vec<PathBuf>,
    /// The store's length before and after, where it was written anew.
    bytes_before: Option<u64>,
    bytes_after: Option<u64>,
}

impl Report for Archived {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.channels == 0 {
            writeln!(
                out,
                "No channel has been over for {} that is not archived yet.",
                days(self.keep_days)
            )?;
        }
        for file in &self.files {
            writeln!(
                out,
                "Archived {} of {} in {}.",
                counted(self.receipts, "receipt"),
                counted(self.channels, "channel"),
                file.display()
            )?;
        }
        if let Some((before, after)) = self.bytes_before.zip(self.bytes_after) {
            writeln!(out, "The store had {} and has {}.", size(before), size(after))?;
        }
        if self.channels > 0 {
            writeln!(
                out,
                "\nThe archive is a part of your records: back {} up as well.",
                self.archive.display()
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Planned {
    archive: PathBuf,
    keep_days: u32,
    channels: Vec<PlannedChannel>,
}

#[derive(Serialize)]
struct PlannedChannel {
    channel: ChannelId,
    receipts: u64,
    amount: TokenAmount,
    amount_display: String,
}

impl Report for Planned {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.channels.is_empty() {
            return writeln!(
                out,
                "No channel has been over for {} that is not archived yet.",
                days(self.keep_days)
            );
        }
        let mut table = Table::new(&[
            ("CHANNEL", Align::Left),
            ("RECEIPTS", Align::Right),
            ("AMOUNT", Align::Right),
        ]);
        for planned in &self.channels {
            table.row([
                shortened(&planned.channel.to_string()),
                planned.receipts.to_string(),
                planned.amount_display.clone(),
            ]);
        }
        table.write(out)?;
        writeln!(
            out,
            "\nThese would move to {}. Nothing was changed.",
            self.archive.display()
        )
    }
}

/// Compacts the store.
///
/// # Errors
/// When the store or the archive can't be written. Nothing is lost then.
pub async fn run(session: &Session, arguments: CompactArgs) -> Result {
    let archive = session.archive();
    let keep_days = arguments
        .keep_days
        .unwrap_or_else(|| session.ledger_settings().keep_days.max(1));
    let now = UnixSeconds::from(SystemTime::now());
    let before = now.minus(DAY * keep_days);
    if arguments.dry_run {
        return plan(session, archive, keep_days, before).await;
    }
    let url = session.store_url()?;
    let Some(reading) = session.read_store().await? else {
        return session
            .output
            .print(&archived(archive, keep_days, Compacted::default(), None));
    };
    reading.close().await;
    let ledger = session.open_store().await?;
    let progress = Progress::spinner(session.output, "Archiving receipts");
    let compacted = ledger.compact(&archive, before, now).await;
    ledger.close().await;
    drop(progress);
    let compacted = compacted.map_err(compact_failure)?;
    let mut lengths = None;
    if compacted.rows > 0 && !arguments.no_vacuum {
        let progress = Progress::spinner(session.output, "Giving the space back");
        let emptied = Ledger::give_back_space(&url).await;
        drop(progress);
        match emptied {
            Ok(given_back) => lengths = given_back,
            Err(error) => session.output.note(format!(
                "The space could not be given back; what comes will use it. {}",
                store_failure(error).one_line()
            )),
        }
    }
    session.output.print(&archived(archive, keep_days, compacted, lengths))
}

fn archived(archive: PathBuf, keep_days: u32, compacted: Compacted, lengths: Option<(u64, u64)>) -> Archived {
    Archived {
        archive,
        keep_days,
        channels: compacted.channels,
        receipts: compacted.receipts,
        files: compacted.files.into_iter().collect(),
        bytes_before: lengths.map(|(before, _)| before),
        bytes_after: lengths.map(|(_, after)| after),
    }
}

async fn plan(session: &Session, archive: PathBuf, keep_days: u32, before: UnixSeconds) -> Result {
    let mut channels = Vec::new();
    if let Some(ledger) = session.read_store().await? {
        let found = ledger
            .compactable(before)
            .await
            .or_fail(Kind::Store, || "cannot look for what can be archived".to_owned())?;
        channels.extend(found.into_iter().map(|found| PlannedChannel {
            channel: found.channel,
            receipts: found.receipts,
            amount: found.amount,
            amount_display: session.network.token.show(found.amount),
        }));
        ledger.close().await;
    }
    session.output.print(&Planned {
        archive,
        keep_days,
        channels,
    })
}

fn compact_failure(error: CompactError) -> Failure {
    let hint = match &error {
        CompactError::Io { .. } => {
            "is there room for the receipts once more, and may you write there? config.toml's `archive` under [ledger] names another place"
        }
        CompactError::Unsound(_) | CompactError::Incomplete { .. } => {
            "nothing was deleted. `lloomctl ledger check` says what is wrong with the store"
        }
        _ => "nothing is lost: what is not in the archive is in the store. Run it again",
    };
    Failure::of(Kind::Store, error).hint(hint)
}

fn days(count: u32) -> String {
    counted(count.into(), "day")
}
