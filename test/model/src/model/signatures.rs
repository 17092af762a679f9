use alloy::{
    primitives::{Address, B256},
    sol_types::SolStruct,
};

use super::{Model, Terms};
use crate::{flaw::Flaw, signer::Parts, typed_data::Voucher};

impl Model {
    /// Who made this signature with its key; nobody when `s` is high.
    pub(super) fn key_signer(&self, digest: B256, signature: Parts) -> Option<Address> {
        let is_canonical = signature.is_low() || self.has(Flaw::HighSIsTaken);
        signature.recover(digest).filter(|_| is_canonical)
    }

    /// Whether `signer` signed this, by its key or, where no key did, as a contract.
    pub(super) fn has_signed(&self, signer: Address, digest: B256, signature: &[u8]) -> bool {
        let by_key = Parts::from_bytes(signature).and_then(|parts| self.key_signer(digest, parts));
        by_key == Some(signer) || signer == self.world.agreeable
    }

    /// What is signed of a struct of the escrow's domain.
    pub(super) fn escrow_digest(&self, message: &impl SolStruct) -> B256 {
        message.eip712_signing_hash(&self.world.escrow_domain)
    }

    pub(super) fn voucher_digest(&self, channel_id: B256, amount: u128) -> B256 {
        self.escrow_digest(&Voucher {
            channelId: channel_id,
            cumulativeAmount: amount,
        })
    }

    /// Whether the payer side signed a voucher, as `settle` takes it.
    pub(super) fn has_signed_voucher(&self, terms: &Terms, id: B256, amount: u128, signature: &[u8]) -> bool {
        let digest = self.voucher_digest(id, amount);
        self.has_signed(terms.signer(), digest, signature)
            || self.has(Flaw::PayerAlwaysSigns) && self.has_signed(terms.payer, digest, signature)
    }

    /// Whether a key of the payer side signed a voucher, as `claimVouchers` takes it.
    pub(super) fn key_signed_voucher(&self, terms: &Terms, id: B256, amount: u128, signature: Parts) -> bool {
        let signer = self.key_signer(self.voucher_digest(id, amount), signature);
        signer == Some(terms.signer()) || self.has(Flaw::PayerAlwaysSigns) && signer == Some(terms.payer)
    }
}
