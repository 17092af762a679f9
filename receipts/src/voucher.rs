use alloy::primitives::B256;
use lloom_bindings::eip712;
use serde::{Deserialize, Serialize};

use crate::{ChannelId, Document, Domain, TokenAmount, struct_hash::TypeHash};

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
        static TYPE: TypeHash = TypeHash::new();
        TYPE.hash(&eip712::Voucher {
            channelId: self.channel.hash(),
            cumulativeAmount: self.amount.base_units(),
        })
    }

    fn separator(domain: &Domain) -> B256 {
        domain.escrow_separator()
    }
}
