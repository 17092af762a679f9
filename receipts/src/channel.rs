use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::SolValue,
};
use lloom_bindings::eip712::{ChannelPreimage, CommitmentPreimage};
use serde::{Deserialize, Serialize};

use crate::{ChannelId, Domain};

/// What a channel's id commits to, and what a claim has to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChannelParameters {
    /// Who deposited.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// The ERC-20.
    pub token: Address,
    /// Free for the payer to choose; for libp2p channels a [`commitment_salt`].
    pub salt: B256,
    /// The hot key that signs for the payer; zero means the payer itself.
    pub authorized_signer: Address,
}

impl ChannelParameters {
    /// The channel's id on `domain`'s escrow (draft, "Channel State").
    pub fn id(&self, domain: &Domain) -> ChannelId {
        let preimage = ChannelPreimage {
            payer: self.payer,
            payee: self.payee,
            token: self.token,
            salt: self.salt,
            authorizedSigner: self.authorized_signer,
            escrow: domain.escrow(),
            chainId: U256::from(domain.chain_id()),
        };
        ChannelId::new(keccak256(preimage.abi_encode()))
    }

    /// Whose signature counts for the payer.
    pub fn payer_side(&self) -> Address {
        if self.authorized_signer.is_zero() {
            self.payer
        } else {
            self.authorized_signer
        }
    }
}

/// The salt that commits a channel to one operator: `keccak256(abi.encode(operator, clientRandom))`.
///
/// A node serves only channels committed to it, so that a voucher is never spent at two nodes of one payee (design,
/// section 5).
pub fn commitment_salt(operator: Address, client_random: B256) -> B256 {
    keccak256(
        CommitmentPreimage {
            operator,
            clientRandom: client_random,
        }
        .abi_encode(),
    )
}
