//! What a failed round means: that the next may succeed, or that going on would be wrong.

use lloom_ledger::{ApplyError, LedgerError, SettleError};

use super::WatcherError;
use crate::{chain::ChainError, follower::FollowError, sender::SendError};

#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Settle(#[from] SettleError),
}

impl From<ChainError> for RoundError {
    fn from(error: ChainError) -> Self {
        Self::Send(SendError::Chain(error))
    }
}

impl From<LedgerError> for RoundError {
    fn from(error: LedgerError) -> Self {
        Self::Send(SendError::Ledger(error))
    }
}

/// A failed round, sorted by what to do about it.
pub(super) enum Trouble {
    Passing(String),
    /// Another watcher leads.
    Deposed,
    Fatal(WatcherError),
}

impl Trouble {
    pub(super) fn sort(error: RoundError) -> Self {
        match error {
            RoundError::Follow(FollowError::Chain(error)) | RoundError::Send(SendError::Chain(error)) => {
                if error.is_transient() {
                    Self::Passing(error.to_string())
                } else {
                    Self::Fatal(WatcherError::Chain(error))
                }
            }
            RoundError::Follow(FollowError::Ledger(error))
            | RoundError::Send(SendError::Ledger(error))
            | RoundError::Settle(SettleError::Ledger(error))
            | RoundError::Follow(FollowError::Apply(ApplyError::Ledger(error))) => match error {
                LedgerError::NotLeading => Self::Deposed,
                // All that was decided is done again, which does nothing where it was recorded.
                error if error.is_transient() => Self::Passing(error.to_string()),
                error => Self::Fatal(WatcherError::Ledger(error)),
            },
            RoundError::Follow(FollowError::ForeignChain { oldest }) => {
                Self::Fatal(WatcherError::ForeignChain { oldest })
            }
            // One faulty answer is enough for this. Nothing of it was recorded, and the next may be right.
            RoundError::Follow(error @ FollowError::Apply(_)) => Self::Passing(error.to_string()),
            RoundError::Settle(error) | RoundError::Send(SendError::Settle(error)) => {
                Self::Fatal(WatcherError::Settle(error))
            }
            RoundError::Send(error @ SendError::Unreadable(_)) => Self::Fatal(WatcherError::Send(error)),
            RoundError::Send(error) => Self::Passing(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use lloom_ledger::EventPosition;
    use lloom_receipts::BlockNumber;

    use super::*;

    #[test]
    fn blocks_that_the_store_refuses_stop_no_watcher() {
        let block = BlockNumber::new(7);
        for error in [
            ApplyError::Unordered,
            ApplyError::DoesNotConnect { block },
            ApplyError::StrayEvent {
                block,
                position: EventPosition::of_log(1),
            },
            ApplyError::WrongChannelId {
                channel: lloom_receipts::ChannelId::new(alloy::primitives::B256::ZERO),
            },
        ] {
            let told = error.to_string();
            let trouble = Trouble::sort(FollowError::Apply(error).into());
            assert!(matches!(trouble, Trouble::Passing(reason) if reason == told));
        }
    }
}
