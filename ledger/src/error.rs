use lloom_receipts::ChannelId;

/// What an operation did, when it succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is recorded now, durably.
    Recorded,
    /// It was recorded before, durably. Nothing changed.
    AlreadyKnown,
}

/// Why the store itself could not do something. Refusals of a document are variants of the operations' own errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store was opened with [`Ledger::open_read_only`](crate::Ledger::open_read_only).
    #[error("the store is open for reading only")]
    ReadOnly,
    /// The store was closed, or its writer is gone. What was not answered may or may not be recorded.
    #[error("the store is closed")]
    Closed,
    /// SQLite failed. Nothing of the operation is recorded.
    #[error("the store failed to {operation}")]
    Sql {
        /// What was to be done.
        operation: &'static str,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// A stored value can't be what it is stored as.
    #[error("the store's column '{column}' can't be read")]
    Unreadable {
        /// Where it stands.
        column: &'static str,
        /// Why it can't be read.
        #[source]
        source: sqlx::Error,
    },
    /// A stored value contradicts another, or a total leaves its range.
    #[error("the store contradicts itself: {what}")]
    Inconsistent {
        /// Which rule is broken.
        what: &'static str,
    },
    /// The channel is kept for the other side: one process either serves a channel or buys on it.
    #[error("the channel {channel} is kept for the other side")]
    OtherSide {
        /// The channel.
        channel: ChannelId,
    },
}

/// An error that may hold a failure of the store itself.
pub(crate) trait Failure: From<LedgerError> {
    fn ledger(&self) -> Option<&LedgerError>;
}

impl Failure for LedgerError {
    fn ledger(&self) -> Option<&LedgerError> {
        Some(self)
    }
}
