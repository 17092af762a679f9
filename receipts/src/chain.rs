use serde::{Deserialize, Serialize};

use crate::{ChannelId, ReceiptHash, TokenAmount, TokenTotal, UsageBill, UsageReceipt};

/// The end of a channel's chain of receipts: all the next one needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptHead {
    /// The channel.
    pub channel: ChannelId,
    /// The newest receipt's, 0 when there is none.
    pub sequence: u64,
    /// Its totals.
    pub input: TokenTotal,
    /// Its totals.
    pub output: TokenTotal,
    /// Its totals, base units.
    pub amount: TokenAmount,
    /// Its struct hash, or [`ReceiptHash::NONE`].
    pub hash: ReceiptHash,
}

impl ReceiptHead {
    /// The head of a channel without receipts.
    pub const fn empty(channel: ChannelId) -> Self {
        Self {
            channel,
            sequence: 0,
            input: TokenTotal::new(0),
            output: TokenTotal::new(0),
            amount: TokenAmount::ZERO,
            hash: ReceiptHash::NONE,
        }
    }

    /// The head after `receipt`.
    pub fn at(receipt: &UsageReceipt) -> Self {
        Self {
            channel: receipt.channel,
            sequence: receipt.sequence,
            input: receipt.cumulative_input,
            output: receipt.cumulative_output,
            amount: receipt.cumulative_amount,
            hash: receipt.hash(),
        }
    }

    /// The receipt that adds `bill` to this head.
    ///
    /// # Errors
    /// [`ChainError`] when the bill is of another channel or a total overflows.
    pub fn link(&self, bill: UsageBill) -> Result<UsageReceipt, ChainError> {
        if bill.channel != self.channel {
            return Err(ChainError::OtherChannel { channel: bill.channel });
        }
        Ok(UsageReceipt {
            channel: self.channel,
            sequence: self.sequence.checked_add(1).ok_or(ChainError::Overflow)?,
            cumulative_input: self.input.checked_add(bill.usage.input).ok_or(ChainError::Overflow)?,
            cumulative_output: self.output.checked_add(bill.usage.output).ok_or(ChainError::Overflow)?,
            cumulative_amount: self.amount.checked_add(bill.amount).ok_or(ChainError::Overflow)?,
            previous: self.hash,
            bill,
        })
    }

    /// Checks that `receipt` is exactly what [`link`](Self::link) makes of its bill.
    ///
    /// # Errors
    /// [`ChainError::DoesNotExtend`] when it isn't.
    pub fn check_extends(&self, receipt: &UsageReceipt) -> Result<(), ChainError> {
        if self.link(receipt.bill)? == *receipt {
            Ok(())
        } else {
            Err(ChainError::DoesNotExtend {
                sequence: receipt.sequence,
                head: self.sequence,
            })
        }
    }
}

/// Why a bill or receipt does not go on from a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It belongs to another channel.
    #[error("it belongs to the channel {channel}")]
    OtherChannel {
        /// The channel it belongs to.
        channel: ChannelId,
    },
    /// Its predecessor or totals are not the head's.
    #[error("receipt {sequence} does not extend the head, which is receipt {head}")]
    DoesNotExtend {
        /// The receipt's.
        sequence: u64,
        /// The head's.
        head: u64,
    },
    /// A total leaves its range.
    #[error("a total of the channel overflows")]
    Overflow,
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;
    use crate::{ContentHash, RequestHash, TokenCount, UnixSeconds, Usage};

    fn bill(channel: ChannelId, amount: u128) -> UsageBill {
        UsageBill {
            channel,
            request: RequestHash::new(B256::with_last_byte(amount as u8)),
            response_hash: ContentHash::new(B256::ZERO),
            usage: Usage {
                input: TokenCount::new(3),
                output: TokenCount::new(4),
            },
            amount: TokenAmount::new(amount),
            completed_at: UnixSeconds::new(1),
        }
    }

    #[test]
    fn receipts_extend_only_their_head() {
        let channel = ChannelId::new(B256::repeat_byte(9));
        let empty = ReceiptHead::empty(channel);
        let first = empty.link(bill(channel, 5)).unwrap();
        assert_eq!((first.sequence, first.previous), (1, ReceiptHash::NONE));
        empty.check_extends(&first).unwrap();

        let head = ReceiptHead::at(&first);
        let second = head.link(bill(channel, 6)).unwrap();
        assert_eq!(second.cumulative_amount, TokenAmount::new(11));
        assert_eq!(second.cumulative_output, TokenTotal::new(8));
        assert_eq!(second.previous, first.hash());
        head.check_extends(&second).unwrap();

        for wrong in [
            UsageReceipt { sequence: 3, ..second },
            UsageReceipt {
                cumulative_amount: TokenAmount::new(12),
                ..second
            },
            UsageReceipt {
                cumulative_input: TokenTotal::new(7),
                ..second
            },
            UsageReceipt {
                previous: ReceiptHash::NONE,
                ..second
            },
            first,
        ] {
            assert!(matches!(
                head.check_extends(&wrong),
                Err(ChainError::DoesNotExtend { .. })
            ));
        }
        let elsewhere = ChannelId::new(B256::repeat_byte(8));
        assert_eq!(
            head.link(bill(elsewhere, 1)),
            Err(ChainError::OtherChannel { channel: elsewhere })
        );
        assert_eq!(head.link(bill(channel, u128::MAX)), Err(ChainError::Overflow));
    }
}
