//! Moving the receipts of channels that are over into the archive.
//!
//! In this order, so that it may end anywhere: the receipts of all such channels are written to a new file of the archive;
//! it is on disk, read again and verified; it gets its name; each channel's account says which file holds its receipts,
//! and takes nothing more; the rows go. What ended before the third step left nothing. What ended after it is found by the
//! next time: a file that no account names is used where it holds exactly what is in the store, and rows that are left over
//! of an archived channel go then.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    path::{Path, PathBuf},
};

use lloom_receipts::{ChannelId, ReceiptHead, RequestHash, Signed, TokenAmount, UnixSeconds, Verifier, Voucher};

use crate::{
    ArchiveError, ArchivedReceipt, ArchivedRequest, ChannelRecord, Ledger, LedgerError, OpenError, Purpose, StoreUrl,
    account::{Standing, account_of, find_standing, read_standing, standing_columns},
    archive::{NewArchive, list_archives, verify_archive},
    channel::channel_columns,
    check::PAGE,
    column::{Put as _, Read as _, sql},
    document::{bill_columns, bill_fields, find_request, read_receipt, receipt_columns, receipt_fields},
    lock::StoreLock,
    packed::{Packed, packed_rows},
    session::Session,
    sqlite,
    writer::Operation,
};

/// Receipts that are read, and written to the archive, at a time.
const LINES_AT_A_TIME: u32 = 100;

/// A channel that can be archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compactable {
    /// The channel.
    pub channel: ChannelId,
    /// How many receipts it has.
    pub receipts: u64,
    /// What they come to, base units.
    pub amount: TokenAmount,
}

/// What was archived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Channels.
    pub channels: u64,
    /// Their receipts.
    pub receipts: u64,
    /// Rows that are not in the store any more.
    pub rows: u64,
    /// The files that hold them.
    pub files: BTreeSet<PathBuf>,
}

/// Why a store was not compacted, or not all of it. Nothing is lost: what is not in the archive is in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The archive can't be written.
    #[error("the archive {} can't be written", directory.display())]
    Io {
        /// Its directory.
        directory: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What was written is not what was to be written, or the store holds what can't be verified.
    #[error("what was written to the archive is not sound")]
    Unsound(#[source] ArchiveError),
    /// What was written to the archive ends elsewhere than the channel does.
    #[error("the receipts of the channel {channel} don't lead to its head: nothing of it was archived")]
    Incomplete {
        /// The channel.
        channel: ChannelId,
    },
}

impl Ledger {
    /// The channels that are over for good, at a confirmed block, and on which nothing was recorded since `before`: no
    /// deadline, no transaction and no open request depends on them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn compactable(&self, before: UnixSeconds) -> Result<Vec<Compactable>, LedgerError> {
        let standings = self.compactable_standings(before).await?;
        Ok(standings
            .iter()
            .map(|standing| Compactable {
                channel: standing.channel.id,
                receipts: standing.head.sequence,
                amount: standing.head.amount,
            })
            .collect())
    }

    async fn compactable_standings(&self, before: UnixSeconds) -> Result<Vec<Standing>, LedgerError> {
        let mut session = self.snapshot("look for what can be archived").await?;
        let statement = sql(concat!(
            "SELECT ",
            standing_columns!(),
            " FROM channels c JOIN accounts a ON a.channel = c.id
              WHERE c.confirmed_finalized AND c.latest_finalized AND a.archive IS NULL AND a.head_sequence > $2
                AND NOT EXISTS (SELECT 1 FROM obligations o WHERE o.channel = c.id AND o.resolution IS NULL)
                AND NOT EXISTS (SELECT 1 FROM requests r WHERE r.channel = c.id AND (r.begun_at >= $1 OR r.deadline >= $1))
                AND NOT EXISTS (SELECT 1 FROM bills b WHERE b.account = a.id AND b.completed_at >= $1)
                AND NOT EXISTS (SELECT 1 FROM requests r LEFT JOIN bills b ON b.request = r.hash
                                WHERE r.channel = c.id AND r.dropped IS NULL AND b.id IS NULL AND a.side = 'serving')
              ORDER BY c.opened_in, c.id"
        ));
        let rows = session.rows(statement.put(before).put(0u64)).await?;
        let needed = channels_of_pending(&mut session).await?;
        let standings = rows.iter().map(read_standing);
        let mut standings: Vec<Standing> = standings.collect::<Result<_, _>>()?;
        standings.retain(|standing| !needed.contains(&standing.channel.id));
        Ok(standings)
    }

    /// Moves the receipts of the channels that [`compactable`](Self::compactable) lists into a new file in `archive`,
    /// with the bills in them, their requests and vouchers. Account, newest receipt and best voucher stay, and with
    /// them every total; so do receipts that were withdrawn, and bills that nobody linked.
    ///
    /// It may be given up, or die, anywhere: doing it again goes on where it was.
    ///
    /// # Errors
    /// [`CompactError`].
    pub async fn compact(
        &self,
        archive: &Path,
        before: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<Compacted, CompactError> {
        let io_failed = |source| CompactError::Io {
            directory: archive.to_owned(),
            source,
        };
        let mut compacted = Compacted::default();
        let mut standings = self.compactable_standings(before).await?;
        // What an earlier time has written, and not come to say so.
        let known: HashSet<String> = self
            .archived_channels()
            .await?
            .into_iter()
            .map(|archived| archived.file)
            .collect();
        for name in list_archives(archive, true).map_err(io_failed)? {
            if known.contains(&name) || standings.is_empty() {
                continue;
            }
            let Ok(heads) = self.verify(archive.join(&name)).await else {
                tracing::warn!(file = %name, "a file of the archive is not sound; it is left alone");
                continue;
            };
            let (there, missing) = standings
                .into_iter()
                .partition(|standing| heads.get(&standing.channel.id) == Some(&standing.head));
            standings = missing;
            self.name_file(&there, &name, &archive.join(&name), &mut compacted)
                .await?;
        }
        if !standings.is_empty() {
            let path = self.write_archive(archive, &standings, now).await?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.name_file(&standings, &name, &path, &mut compacted).await?;
        }
        for archived in self.archived_channels().await? {
            compacted.rows += self.let_go(archived.channel).await?;
        }
        Ok(compacted)
    }

    /// Writes a file with all of `standings`, verifies it, and gives it its name.
    async fn write_archive(
        &self,
        archive: &Path,
        standings: &[Standing],
        now: UnixSeconds,
    ) -> Result<PathBuf, CompactError> {
        let io_failed = |source| CompactError::Io {
            directory: archive.to_owned(),
            source,
        };
        let mut file = NewArchive::begin(archive, now).map_err(io_failed)?;
        for standing in standings {
            self.write_channel(&mut file, &standing.channel, &standing.head)
                .await?
                .map_err(io_failed)?;
        }
        file.flush().map_err(io_failed)?;
        let heads = self.verify(file.temporary().to_owned()).await?;
        for standing in standings {
            let channel = standing.channel.id;
            if heads.get(&channel) != Some(&standing.head) {
                return Err(CompactError::Incomplete { channel });
            }
        }
        tracing::debug!(file = %file.path().display(), channels = standings.len(), "archiving");
        file.publish().map_err(io_failed)
    }

    /// Reads a file again, from the disk, and verifies it.
    async fn verify(&self, path: PathBuf) -> Result<BTreeMap<ChannelId, ReceiptHead>, CompactError> {
        let domain = *self.domain();
        let named = self.named_operators().await?;
        let verified = tokio::task::spawn_blocking(move || {
            let is_named = |payee, biller| {
                payee == biller || named.get(&payee).is_some_and(|operators| operators.contains(&biller))
            };
            verify_archive(&path, &domain, &Verifier::default(), &is_named)
        });
        match verified.await {
            Ok(verified) => Ok(verified.map_err(CompactError::Unsound)?.heads),
            Err(_) => Err(LedgerError::Closed.into()),
        }
    }

    async fn write_channel(
        &self,
        file: &mut NewArchive,
        channel: &ChannelRecord,
        head: &ReceiptHead,
    ) -> Result<io::Result<()>, LedgerError> {
        let mut session = self.snapshot("read what is to be archived").await?;
        let vouchers = sql(concat!(
            "SELECT amount, signature FROM vouchers WHERE account = ",
            account_of!("$1"),
            " ORDER BY amount"
        ));
        let mut vouchers: Vec<Signed<Voucher>> = session
            .rows(vouchers.put(channel.id))
            .await?
            .iter()
            .map(|row| {
                let voucher = Voucher {
                    channel: channel.id,
                    amount: row.read("amount")?,
                };
                Ok(Signed::new(voucher, row.read("signature")?))
            })
            .collect::<Result<_, LedgerError>>()?;
        let mut after = 0u64;
        loop {
            let statement = sql(concat!(
                "SELECT ",
                receipt_columns!(),
                " FROM receipts p JOIN bills b ON b.id = p.bill WHERE p.account = ",
                account_of!("$1"),
                " AND p.sequence > $2 ORDER BY p.sequence LIMIT $3"
            ));
            let rows = session
                .rows(statement.put(channel.id).put(after).put(i64::from(LINES_AT_A_TIME)))
                .await?;
            for row in &rows {
                let receipt = read_receipt(row)?;
                after = receipt.receipt().sequence;
                let request = find_request(&mut session, receipt.receipt().bill.request).await?;
                let mut line = ArchivedReceipt::new(self.deployment(), channel, receipt.into_unverified());
                line.request = request.map(|stored| ArchivedRequest {
                    content_salt: stored.content_salt,
                    signed: stored.request.into_unverified(),
                });
                if after == head.sequence {
                    line.vouchers = std::mem::take(&mut vouchers);
                }
                if let Err(error) = file.write(&line) {
                    return Ok(Err(error));
                }
            }
            if rows.is_empty() {
                return Ok(Ok(()));
            }
        }
    }

    async fn name_file(
        &self,
        standings: &[Standing],
        name: &str,
        path: &Path,
        compacted: &mut Compacted,
    ) -> Result<(), CompactError> {
        let heads = standings.iter().map(|standing| standing.head).collect();
        let file = name.to_owned();
        let named = self.submit(NameArchive { heads, file }).await?;
        for head in &named {
            compacted.channels += 1;
            compacted.receipts += head.sequence;
            compacted.files.insert(path.to_owned());
        }
        Ok(())
    }

    /// Deletes what the store needs no more of an archived channel. Says how many rows that were.
    async fn let_go(&self, channel: ChannelId) -> Result<u64, LedgerError> {
        let mut gone = 0;
        loop {
            let let_go = self.submit(LetGo { channel }).await?;
            gone += let_go;
            if let_go == 0 {
                return Ok(gone);
            }
        }
    }

    /// Gives the space of deleted rows back to the file system, which means that the whole file is written anew: that takes
    /// as much room beside it for a while. Gives its length before and after. A server does so by itself: `None`.
    ///
    /// # Errors
    /// When a process has the store open, or there is no room. The store is as it was.
    pub async fn give_back_space(store: &StoreUrl) -> Result<Option<(u64, u64)>, OpenError> {
        let Some(path) = store.path() else {
            return Ok(None);
        };
        let (lock, _) = StoreLock::acquire(store)?;
        let length = || {
            std::fs::metadata(path)
                .map(|file| file.len())
                .map_err(|source| OpenError::Io {
                    path: path.to_owned(),
                    source,
                })
        };
        let before = length()?;
        let emptied = async {
            let mut connection = sqlite::open_alone(path).await?;
            sqlx::query("VACUUM").execute(&mut connection).await?;
            crate::migration::empty_log(&mut connection).await?;
            sqlx::Connection::close(connection).await
        };
        emptied.await.map_err(|source| sqlite::failed(path, source))?;
        lock.release();
        Ok(Some((before, length()?)))
    }
}

/// The channels that transactions are about whose fate is unknown.
async fn channels_of_pending(session: &mut Session) -> Result<HashSet<ChannelId>, LedgerError> {
    let statement = sql("SELECT purpose FROM transactions WHERE finish IS NULL");
    let mut channels = HashSet::new();
    for row in &session.rows(statement).await? {
        let purpose: String = row.read("purpose")?;
        match crate::column::from_json("purpose", &purpose)? {
            Purpose::Claim { rows, .. } => channels.extend(rows.into_iter().map(|(channel, _)| channel)),
            Purpose::Close { channel, .. } => drop(channels.insert(channel)),
            Purpose::Cancellation | Purpose::Other => {}
        }
    }
    Ok(channels)
}

/// Says which file holds the receipts of channels, up to these heads: of all at once, so that a file which no account
/// names is needed by all or by none. From here on these channels take nothing more.
struct NameArchive {
    heads: Vec<ReceiptHead>,
    file: String,
}

impl Operation for NameArchive {
    const NAME: &'static str = "name the file of archived channels";
    type Output = Vec<ReceiptHead>;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Vec<ReceiptHead>, LedgerError> {
        let mut named = Vec::with_capacity(self.heads.len());
        for head in &self.heads {
            // Something was recorded since it was looked at, or the chain was rolled back: the next time, perhaps.
            let as_it_was = |standing: &Standing| {
                let states = [standing.channel.confirmed, standing.channel.latest];
                standing.archive.is_none()
                    && standing.head == *head
                    && states.iter().all(|state| state.is_some_and(|state| state.finalized))
            };
            if find_standing(session, head.channel)
                .await?
                .as_ref()
                .is_some_and(as_it_was)
            {
                let named_file = sql("UPDATE accounts SET archive = $2 WHERE channel = $1");
                session
                    .write(named_file.put(head.channel).put(self.file.clone()))
                    .await?;
                named.push(*head);
            }
        }
        Ok(named)
    }
}

/// Deletes some of the rows of an archived channel.
struct LetGo {
    channel: ChannelId,
}

impl Operation for LetGo {
    const NAME: &'static str = "let archived receipts go";
    type Output = u64;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<u64, LedgerError> {
        let standing = find_standing(session, self.channel).await?;
        let Some(standing) = standing.filter(|standing| standing.archive.is_some()) else {
            return Err(LedgerError::Inconsistent {
                what: "receipts would be deleted of a channel that is not archived",
            });
        };
        // Kept: the newest receipt and voucher, the best of those that can be claimed with, and what was withdrawn.
        let statement = sql(concat!(
            "SELECT b.request FROM receipts p JOIN bills b ON b.id = p.bill
             WHERE p.account = ",
            account_of!("$1"),
            " AND p.sequence <> $2
              AND p.sequence <> COALESCE((SELECT q.sequence FROM receipts q
                                          WHERE q.account = p.account AND q.unusable IS NULL AND q.cumulative_amount <= $3
                                          ORDER BY q.sequence DESC LIMIT 1), $2)
              AND NOT EXISTS (SELECT 1 FROM withdrawn_receipts w WHERE w.request = b.request)
              ORDER BY p.sequence LIMIT $4"
        ));
        let statement = statement
            .put(self.channel)
            .put(standing.head.sequence)
            .put(standing.deposit())
            .put(i64::from(PAGE));
        let mut requests = Packed::default();
        for row in &session.rows(statement).await? {
            requests.push(row.read::<RequestHash>("request")?);
        }
        let best = sql(concat!(
            "SELECT amount FROM vouchers WHERE account = ",
            account_of!("$1"),
            " AND unusable IS NULL ORDER BY amount DESC LIMIT 1"
        ));
        let best = session.row(best.put(self.channel)).await?;
        let best: Option<TokenAmount> = best.map(|row| row.read("amount")).transpose()?;
        let kept = best.unwrap_or(standing.voucher);
        let old = sql(concat!(
            "SELECT 1 FROM vouchers WHERE account = ",
            account_of!("$1"),
            " AND amount <> $2 AND amount <> $3 LIMIT 1"
        ));
        let old = old.put(self.channel).put(standing.voucher).put(kept);
        if requests.is_empty() && session.row(old).await?.is_none() {
            return Ok(0);
        }
        session
            .write(
                sql(concat!(
                    packed_rows!("$1", "32"),
                    "DELETE FROM receipts
                     WHERE bill IN (SELECT b.id FROM packed JOIN bills b ON b.request = substr($1, at, 32)); ",
                    packed_rows!("$1", "32"),
                    "DELETE FROM bills WHERE request IN (SELECT substr($1, at, 32) FROM packed); ",
                    packed_rows!("$1", "32"),
                    "DELETE FROM requests WHERE hash IN (SELECT substr($1, at, 32) FROM packed); ",
                    "DELETE FROM vouchers WHERE account = ",
                    account_of!("$2"),
                    " AND amount <> $3 AND amount <> $4"
                ))
                .put(requests.into_bytes())
                .put(self.channel)
                .put(standing.voucher)
                .put(kept),
            )
            .await
    }
}
