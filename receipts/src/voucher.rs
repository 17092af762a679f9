use alloy::{primitives::B256, sol_types::SolStruct};
use lloom_bindings::eip712;
use serde::{Deserialize, Serialize};

use crate::{ChannelId, Document, Domain, TokenAmount};

/// The payer side's promise over a channel's cumulative amount (draft, "Voucher Signing Format").
///
/// For this project a voucher is a ceiling: a claim takes what was billed, at most this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// The channel.
    pub channel: ChannelId,
    /// Cumulative over the channel's life, base units.
    pub amount: TokenAmount,
}

impl Document for Voucher {
    fn struct_hash(&self) -> B256 {
        eip712::Voucher {
            channelId: self.channel.hash(),
            cumulativeAmount: self.amount.base_units(),
        }
        .eip712_hash_struct()
    }

    fn separator(domain: &Domain) -> B256 {
        domain.escrow_separator()
    }
}
