//! A store that may be older than what was done with it, and what follows from that.
//!
//! Several things give an older copy away when it is opened: its lock file or witness file knows of a later commit, it is
//! marked as a backup, or the lock file beside it was made elsewhere, because a whole directory was copied or put back.

use lloom_receipts::UnixSeconds;

use crate::{
    Ledger, LedgerError,
    column::{Put as _, Read as _, sql},
    session::Session,
};

/// What is known at opening of how old a store is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// The newest commit that the store knows of this home's.
    pub(crate) committed: i64,
    /// The newest one that the lock file or the witness file knows.
    pub(crate) witnessed: Option<i64>,
    /// When it was made, where it is a backup that nobody has opened yet.
    pub(crate) copied_at: Option<UnixSeconds>,
    /// Whether the lock file beside it was made in another place: what has been done there since, nobody here knows.
    pub(crate) lies_elsewhere: bool,
}

impl Evidence {
    /// The newest commit anybody knows of.
    pub(crate) fn newest(&self) -> i64 {
        self.committed.max(self.witnessed.unwrap_or(0))
    }

    /// Whether the store may be older than what was done with it. Says so.
    pub(crate) fn tells_of_a_copy(&self) -> bool {
        let reason = if self.newest() > self.committed {
            "its newest commits are missing"
        } else if self.copied_at.is_some() {
            "it is a backup that was put in its place"
        } else if self.lies_elsewhere {
            "its directory is a copy of another one"
        } else {
            return false;
        };
        tracing::warn!(
            reason,
            committed = self.committed,
            witnessed = self.witnessed,
            "the store is a copy that was put back; requests it can't know of are refused for a while"
        );
        true
    }
}

impl Ledger {
    /// When this store was noticed to be a copy that was put back, if it ever was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn restored_at(&self) -> Result<Option<UnixSeconds>, LedgerError> {
        let mut session = self.reader("read when it was restored").await?;
        match session.row(sql("SELECT restored_at FROM store")).await? {
            Some(row) => row.read_optional("restored_at"),
            None => Ok(None),
        }
    }

    /// When this copy was made, where it is a backup that was not opened for writing yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn copied_at(&self) -> Result<Option<UnixSeconds>, LedgerError> {
        find_copied_at(&mut self.reader("read whether it is a backup").await?).await
    }
}

pub(crate) async fn find_copied_at(session: &mut Session) -> Result<Option<UnixSeconds>, LedgerError> {
    match session.row(sql("SELECT copied_at FROM store")).await? {
        Some(row) => row.read_optional("copied_at"),
        None => Ok(None),
    }
}

/// Remembers that a copy was put back, and gives up what may have been billed since the copy was made: a second,
/// different bill for one request is a fault that anybody can prove (design, section 3.3). Says how many requests that
/// were.
pub(crate) async fn mark_restored(session: &mut Session, now: UnixSeconds) -> Result<u64, LedgerError> {
    session
        .write(sql("UPDATE store SET restored_at = $1, copied_at = NULL").put(now))
        .await?;
    session
        .write(sql(
            "UPDATE requests SET dropped = 'accepted before the store was restored from a copy'
             WHERE dropped IS NULL
               AND channel IN (SELECT channel FROM accounts WHERE side = 'serving')
               AND hash NOT IN (SELECT request FROM bills)",
        ))
        .await
}
