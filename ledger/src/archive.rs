//! Receipts outside of the store: a line each, with all that is needed to check them anywhere.
//!
//! A file of the archive is written once and never changed. It holds whole channels, from the first receipt to the last,
//! and is verified by itself: signatures, links and totals.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use alloy::primitives::{Address, B256};
use lloom_receipts::{
    ChannelId, ChannelParameters, ContentSalt, Domain, InferenceRequest, Receipt, ReceiptError, ReceiptHead, Signed,
    UnixSeconds, Verifier, Voucher, commitment_salt,
};
use serde::{Deserialize, Serialize};

use crate::{
    ChannelRecord, Ledger, LedgerError, StoreDeployment,
    account::read_head,
    column::{Read as _, sql},
    new_file::{NewFile, SUFFIX},
};

/// A receipt with the channel it belongs to and the contracts it was signed for: a line of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchivedReceipt {
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
    /// The request that its bill is for, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ArchivedRequest>,
    /// With a channel's last receipt: its vouchers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vouchers: Vec<Signed<Voucher>>,
}

/// A request, and the salt of its content hashes: who has the text can prove with it what was asked and answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchivedRequest {
    /// The request.
    pub signed: Signed<InferenceRequest>,
    /// The salt.
    pub content_salt: ContentSalt,
}

impl ArchivedReceipt {
    /// A line with what is known of `channel`.
    pub fn new(deployment: &StoreDeployment, channel: &ChannelRecord, receipt: Receipt) -> Self {
        let StoreDeployment {
            chain_id,
            escrow,
            settlement,
        } = *deployment;
        Self {
            chain_id,
            escrow,
            settlement,
            channel: channel.parameters,
            operator: channel.operator,
            client_random: channel.client_random,
            receipt,
            request: None,
            vouchers: Vec::new(),
        }
    }

    /// The domain it is signed in.
    pub fn domain(&self) -> Domain {
        Domain::new(self.chain_id, self.escrow, self.settlement)
    }

    /// The operator that the channel's id commits to, where the line proves one.
    pub fn committed_operator(&self) -> Option<Address> {
        self.operator
            .zip(self.client_random)
            .filter(|(operator, random)| commitment_salt(*operator, *random) == self.channel.salt)
            .map(|(operator, _)| operator)
    }
}

/// A channel whose receipts are in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedChannel {
    /// The channel.
    pub channel: ChannelId,
    /// The file's name.
    pub file: String,
    /// Its last receipt.
    pub head: ReceiptHead,
}

/// What is wrong with a file of the archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file system failed.
    #[error("the archive's file {} can't be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A line is not what it has to be.
    #[error("line {line} of {}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

impl Ledger {
    /// The channels whose receipts are in the archive, and in which of its files.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn archived_channels(&self) -> Result<Vec<ArchivedChannel>, LedgerError> {
        let statement = sql(
            "SELECT channel, archive, head_sequence, head_input, head_output, head_amount, head_hash FROM accounts
             WHERE archive IS NOT NULL ORDER BY archive, channel",
        );
        let rows = self.reader("list archived channels").await?.rows(statement).await?;
        rows.iter()
            .map(|row| {
                let channel = row.read("channel")?;
                Ok(ArchivedChannel {
                    channel,
                    file: row.read("archive")?,
                    head: read_head(row, channel)?,
                })
            })
            .collect()
    }
}

/// What a file was found to hold.
#[derive(Debug, Default)]
pub(crate) struct ArchiveContents {
    /// Each channel and its last receipt.
    pub(crate) heads: BTreeMap<ChannelId, ReceiptHead>,
    pub(crate) receipts: u64,
    pub(crate) signatures: u64,
}

/// Lines that are verified together.
const BATCH: usize = 500;

/// Verifies a file: signatures, requests, links and totals from each channel's first receipt on. `is_named` says whether a
/// payee has named an operator; the operator that a request asked may bill it.
pub(crate) fn verify_archive(
    path: &Path,
    domain: &Domain,
    verifier: &Verifier,
    is_named: &dyn Fn(Address, Address) -> bool,
) -> Result<ArchiveContents, ArchiveError> {
    let failed = |source| ArchiveError::Io {
        path: path.to_owned(),
        source,
    };
    let wrong = |line: u64, what: String| ArchiveError::Line {
        path: path.to_owned(),
        line,
        what,
    };
    let mut contents = ArchiveContents::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut lines = BufReader::new(File::open(path).map_err(failed)?).lines().zip(1u64..);
    loop {
        batch.clear();
        for (line, number) in lines.by_ref().take(BATCH) {
            let line = line.map_err(failed)?;
            let archived: ArchivedReceipt =
                serde_json::from_str(&line).map_err(|error| wrong(number, format!("it is no receipt: {error}")))?;
            contents.take(domain, &archived).map_err(|what| wrong(number, what))?;
            batch.push((number, archived));
        }
        if batch.is_empty() {
            return Ok(contents);
        }
        contents.signatures +=
            verify_batch(&batch, domain, verifier, is_named).map_err(|(line, what)| wrong(line, what))?;
    }
}

impl ArchiveContents {
    /// Counts a line whose signatures are still to be verified.
    fn take(&mut self, domain: &Domain, archived: &ArchivedReceipt) -> Result<(), String> {
        let receipt = archived.receipt.receipt();
        if archived.domain() != *domain {
            return Err("it is of other contracts, or another chain".to_owned());
        }
        let channel = archived.channel.id(domain);
        if receipt.channel != channel {
            return Err(format!(
                "the parties named make the channel {channel}, and not the receipt's"
            ));
        }
        let head = match self.heads.entry(channel) {
            Entry::Vacant(entry) => entry.insert(ReceiptHead::empty(channel)),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        head.check_extends(receipt).map_err(|error| error.to_string())?;
        *head = ReceiptHead::at(receipt);
        if let Some(request) = &archived.request {
            let request = request.signed.document();
            receipt.bill.check(request).map_err(|error| error.to_string())?;
        }
        if archived
            .vouchers
            .iter()
            .any(|voucher| voucher.document().channel != channel)
        {
            return Err("it holds a voucher of another channel".to_owned());
        }
        self.receipts += 1;
        Ok(())
    }
}

/// Verifies the signatures of lines. Says how many there are, or what is wrong with which line.
fn verify_batch(
    batch: &[(u64, ArchivedReceipt)],
    domain: &Domain,
    verifier: &Verifier,
    is_named: &dyn Fn(Address, Address) -> bool,
) -> Result<u64, (u64, String)> {
    let (mut signed, mut vouchers) = (Vec::with_capacity(batch.len()), Vec::new());
    for (number, archived) in batch {
        let payer_side = archived.channel.payer_side();
        let asked = archived
            .request
            .as_ref()
            .map(|request| request.signed.document().operator);
        let expected = asked
            .or(archived.committed_operator())
            .unwrap_or(archived.channel.payee);
        let request = archived
            .request
            .as_ref()
            .map(|request| request.signed.clone().by(payer_side));
        signed.push((archived.receipt.clone().by(payer_side, expected), request));
        vouchers.extend(
            archived
                .vouchers
                .iter()
                .map(|voucher| (*number, voucher.clone().by(payer_side))),
        );
    }
    let count = batch.len() * 2 + signed.iter().filter(|(_, request)| request.is_some()).count() + vouchers.len();
    let verdicts = verifier.verify_all(domain, signed);
    for ((number, archived), (receipt, request)) in batch.iter().zip(verdicts) {
        if let Some(Err(error)) = request {
            return Err((*number, format!("its request: {error}")));
        }
        match receipt {
            Ok(_) => {}
            // Another than the one asked may have signed: the payee, or another operator of its.
            Err(ReceiptError::NotExecutorSide { biller })
                if is_named(archived.channel.payee, biller) || archived.committed_operator() == Some(biller) => {}
            Err(error) => return Err((*number, error.to_string())),
        }
    }
    let (numbers, vouchers): (Vec<u64>, Vec<_>) = vouchers.into_iter().unzip();
    for (number, verdict) in numbers.into_iter().zip(verifier.verify_all(domain, vouchers)) {
        verdict.map_err(|error| (number, format!("a voucher: {error}")))?;
    }
    Ok(count as u64)
}

/// A file of the archive that is being written.
pub(crate) struct NewArchive {
    file: NewFile,
    out: BufWriter<File>,
    path: PathBuf,
}

impl NewArchive {
    /// Begins the next file in `directory`, which is made where it is missing, for its owner alone.
    pub(crate) fn begin(directory: &Path, now: UnixSeconds) -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory)?;
        let date = date_of(now);
        let names = std::iter::once(format!("{PREFIX}{date}{EXTENSION}"))
            .chain((2u32..).map(|number| format!("{PREFIX}{date}-{number}{EXTENSION}")));
        for name in names {
            let path = directory.join(name);
            match NewFile::begin(&path) {
                Ok(file) => {
                    let out = BufWriter::new(std::fs::OpenOptions::new().write(true).open(file.temporary())?);
                    return Ok(Self { file, out, path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(crate) fn write(&mut self, line: &ArchivedReceipt) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    /// Hands what is written to the file system. It can be read at [`temporary`](Self::temporary) then.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    pub(crate) fn temporary(&self) -> &Path {
        self.file.temporary()
    }

    /// Where it is going to lie.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until it is on disk, and gives it its name.
    pub(crate) fn publish(self) -> io::Result<PathBuf> {
        drop(self.out);
        self.file.publish()?;
        Ok(self.path)
    }
}

const PREFIX: &str = "receipts-";
const EXTENSION: &str = ".jsonl";

/// The names of the archive's files, in order. What a process left half-written is not among them, and goes where `tidy`
/// says so.
pub(crate) fn list_archives(directory: &Path, tidy: bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        if !name.starts_with(PREFIX) {
            continue;
        }
        if name.ends_with(EXTENSION) {
            names.push(name);
        } else if tidy && name.ends_with(SUFFIX) && name.contains(EXTENSION) {
            std::fs::remove_file(directory.join(name))?;
        }
    }
    names.sort();
    Ok(names)
}

/// The day of `time` in UTC, `2026-11-28` (H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
fn date_of(time: UnixSeconds) -> String {
    let days = time.get() / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_700_000_000, "2023-11-14"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date_of(UnixSeconds::new(seconds)), date);
        }
    }
}
