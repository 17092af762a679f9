use std::sync::Arc;

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
    /// The store failed. Nothing of the operation is recorded.
    #[error("the store failed to {operation}")]
    Sql {
        /// What was to be done.
        operation: &'static str,
        /// What it says.
        #[source]
        source: sqlx::Error,
    },
    /// The store can't be reached. Nothing of the operation is recorded; it may be tried again.
    #[error("the store can't be reached to {operation}")]
    Unavailable {
        /// What was to be done.
        operation: &'static str,
        /// What is in the way.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The connection was lost while the operation was being committed, and the store could not be reached again to find
    /// out. It may be recorded or not; trying it again does no harm, and tells.
    #[error("the store was lost during a commit, so it is unknown whether it is recorded")]
    OutcomeUnknown,
    /// The store no longer holds what this process has committed to it: an older copy was put back, or a replica took
    /// over that had not received it all. Nothing more is written before the store is opened anew, which does what has to
    /// be done about it.
    #[error(
        "the store has lost what was committed to it: an older copy was put in its place; restart to go on with it"
    )]
    Replaced,
    /// The store is on another schema than this program's: another version of it was started there. Nothing is written to
    /// it by this one.
    #[error(
        "the store's schema is {found} now, and this program's {supported}: another version of it was started on the store; run that one"
    )]
    OtherSchema {
        /// The schema found.
        found: i64,
        /// The one this program works on.
        supported: u32,
    },
    /// Another process was elected to follow the chain, to claim and to close.
    #[error("another process leads: this one may not follow the chain, claim or close")]
    NotLeading,
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
    /// The channel is over, and its receipts are in the archive: nothing is recorded on it any more.
    #[error("the channel {channel} is over and archived")]
    Archived {
        /// The channel.
        channel: ChannelId,
    },
    /// The channel is kept for the other side: one process either serves a channel or buys on it.
    #[error("the channel {channel} is kept for the other side")]
    OtherSide {
        /// The channel.
        channel: ChannelId,
    },
}

impl LedgerError {
    /// Whether trying again later may help, with nothing else changed.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::OutcomeUnknown)
    }

    pub(crate) fn unavailable(operation: &'static str, source: sqlx::Error) -> Self {
        Self::Unavailable {
            operation,
            source: Arc::new(source),
        }
    }

    /// Whether it is the store's own failure, and no answer from it.
    pub(crate) const fn is_of_the_store(&self) -> bool {
        matches!(
            self,
            Self::Sql { .. }
                | Self::Unavailable { .. }
                | Self::OutcomeUnknown
                | Self::Replaced
                | Self::OtherSchema { .. }
        )
    }

    /// The same once more, for another caller.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Unavailable { operation, source } => Self::Unavailable {
                operation,
                source: Arc::clone(source),
            },
            Self::OutcomeUnknown => Self::OutcomeUnknown,
            Self::Replaced => Self::Replaced,
            Self::OtherSchema { found, supported } => Self::OtherSchema {
                found: *found,
                supported: *supported,
            },
            Self::NotLeading => Self::NotLeading,
            Self::Inconsistent { what } => Self::Inconsistent { what },
            _ => Self::Closed,
        }
    }
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
