use lloom_ledger::{LedgerError, ServeError};

use crate::wire::{Document, Refusal};

/// What a client is told when the ledger refuses.
pub(super) fn refusal(error: ServeError) -> Refusal {
    match error {
        ServeError::UnknownChannel => Refusal::ChannelUnknown,
        ServeError::Unconfirmed => Refusal::ChannelUnconfirmed,
        ServeError::ChannelClosing => Refusal::ChannelClosing,
        // What is archived is over.
        ServeError::ChannelFinalized | ServeError::Ledger(LedgerError::Archived { .. }) => Refusal::ChannelFinalized,
        // A request that is known here was asked before, whatever became of it.
        ServeError::NonceUsed | ServeError::AlreadyBilled | ServeError::Waived { .. } => Refusal::NonceUsed,
        ServeError::Uncovered {
            required,
            authorized,
            deposit,
        } => Refusal::Uncovered {
            required,
            authorized,
            deposit,
        },
        ServeError::VoucherNotIncreasing { best } => Refusal::VoucherNotIncreasing { best },
        ServeError::VoucherOverDeposit { deposit } => Refusal::VoucherOverDeposit { deposit },
        ServeError::DoesNotExtend { head } => Refusal::DoesNotExtend {
            head: head.map(|head| Box::new(head.into_unverified())),
        },
        ServeError::BillNotCommitted => Refusal::UnknownBill,
        ServeError::BillAlreadyLinked => Refusal::BillAlreadyLinked,
        ServeError::RestoredTooRecently { until } => Refusal::RestoredTooRecently { until },
        ServeError::OtherChannel { .. } => Refusal::OtherChannel {
            document: Document::Voucher,
        },
        ServeError::BillRefused(_) => Refusal::OtherChannel {
            document: Document::Bill,
        },
        error => {
            tracing::error!(error = &error as &dyn std::error::Error, "the ledger failed");
            Refusal::Internal
        }
    }
}

/// What a client is told when the ledger fails.
pub(super) fn failed(error: LedgerError) -> Refusal {
    refusal(error.into())
}
