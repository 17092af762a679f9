//! How to close a channel without forfeiting anything. Pure.

use lloom_receipts::TokenAmount;

use crate::planner::{Candidate, Publish};

/// What to do next on the way to a closed channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseStep {
    /// Settle by voucher what the last receipt does not cover; close when that is final.
    ClaimFirst { amount: TokenAmount },
    /// `closeWithReceipt`, which publishes the usage.
    WithReceipt { amount: TokenAmount },
    /// `closeWithVoucher`. At what is settled already, the contract asks for no signature.
    WithVoucher { amount: TokenAmount },
}

impl CloseStep {
    /// The best it can do for the channel's money, and for publicity where the policy wants it.
    pub(crate) fn next(channel: &Candidate, publish: Publish) -> Self {
        let publishes = publish != Publish::Vouchers;
        let voucher = channel.by_voucher();
        let receipt = channel.receipt.filter(|amount| *amount <= channel.deposit);
        match (voucher, receipt) {
            (Some(voucher), Some(receipt)) if publishes && voucher > receipt => Self::ClaimFirst { amount: voucher },
            (Some(voucher), Some(receipt)) if !publishes && voucher >= receipt => Self::WithVoucher { amount: voucher },
            (_, Some(receipt)) if publishes || receipt > channel.settled => Self::WithReceipt { amount: receipt },
            (Some(voucher), _) => Self::WithVoucher { amount: voucher },
            (None, _) => Self::WithVoucher {
                amount: channel.settled,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};
    use lloom_receipts::ChannelId;

    use super::*;

    fn channel(voucher: Option<u128>, receipt: Option<u128>, settled: u128) -> Candidate {
        Candidate {
            channel: ChannelId::new(B256::ZERO),
            payee: Address::ZERO,
            token: Address::ZERO,
            deposit: TokenAmount::new(1_000),
            settled: TokenAmount::new(settled),
            billed: TokenAmount::new(800),
            voucher: voucher.map(TokenAmount::new),
            receipt: receipt.map(TokenAmount::new),
            deadline: None,
            publishes: true,
            held: None,
        }
    }

    #[test]
    fn forfeits_nothing_and_publishes_what_it_may() {
        let claim = |amount| CloseStep::ClaimFirst {
            amount: TokenAmount::new(amount),
        };
        let receipt = |amount| CloseStep::WithReceipt {
            amount: TokenAmount::new(amount),
        };
        let voucher = |amount| CloseStep::WithVoucher {
            amount: TokenAmount::new(amount),
        };
        for (what, held, settled, published, unpublished) in [
            ("both cover all", (Some(900), Some(800)), 0, receipt(800), voucher(800)),
            ("an unlinked bill", (Some(900), Some(600)), 0, claim(800), voucher(800)),
            (
                "all claimed, a bill unlinked",
                (Some(900), Some(600)),
                800,
                receipt(600),
                voucher(800),
            ),
            ("all claimed", (Some(900), Some(800)), 800, receipt(800), voucher(800)),
            ("a small voucher", (Some(500), Some(800)), 0, receipt(800), receipt(800)),
            ("only a voucher", (Some(900), None), 0, voucher(800), voucher(800)),
            ("only a receipt", (None, Some(800)), 100, receipt(800), receipt(800)),
            (
                "nothing new in a voucher",
                (Some(900), None),
                800,
                voucher(800),
                voucher(800),
            ),
            ("nothing at all", (None, None), 0, voucher(0), voucher(0)),
            (
                "a receipt above the deposit",
                (Some(900), Some(1_001)),
                0,
                voucher(800),
                voucher(800),
            ),
        ] {
            let channel = channel(held.0, held.1, settled);
            for publish in [Publish::Receipts, Publish::ReceiptsOnClose] {
                assert_eq!(CloseStep::next(&channel, publish), published, "{what}");
            }
            assert_eq!(CloseStep::next(&channel, Publish::Vouchers), unpublished, "{what}");
        }
    }
}
