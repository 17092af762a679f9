use alloy::primitives::{Address, B256};
use lloom_bindings::eip712::{escrow_domain, settlement_domain};

/// One deployment on one chain: what every signature and channel id is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    chain_id: u64,
    escrow: Address,
    settlement: Address,
    escrow_separator: B256,
    settlement_separator: B256,
}

impl Domain {
    /// The domain of the contracts `escrow` and `settlement` on the chain `chain_id`.
    pub fn new(chain_id: u64, escrow: Address, settlement: Address) -> Self {
        Self {
            chain_id,
            escrow,
            settlement,
            escrow_separator: escrow_domain(chain_id, escrow).hash_struct(),
            settlement_separator: settlement_domain(chain_id, settlement).hash_struct(),
        }
    }

    /// The chain's id.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The contract that holds the money.
    pub const fn escrow(&self) -> Address {
        self.escrow
    }

    /// The contract that settles usage receipts.
    pub const fn settlement(&self) -> Address {
        self.settlement
    }

    /// The domain separator vouchers are signed under.
    pub const fn escrow_separator(&self) -> B256 {
        self.escrow_separator
    }

    /// The domain separator requests, bills and receipts are signed under.
    pub const fn settlement_separator(&self) -> B256 {
        self.settlement_separator
    }
}
