use std::fmt;

use alloy::primitives::{Address, B256, keccak256};
use secp256k1::{Message, PublicKey, ecdsa::RecoverableSignature};

use crate::{Document, Domain, Signature, Signed, Verified};

/// A secp256k1 key that signs documents. Its secret never reaches `Debug` or an error.
#[derive(Clone)]
pub struct Keypair {
    pair: secp256k1::Keypair,
    address: Address,
}

impl Keypair {
    /// The key with this secret scalar.
    ///
    /// # Errors
    /// A scalar of zero or beyond the curve's order.
    pub fn from_secret(secret: [u8; 32]) -> Result<Self, KeyError> {
        let pair = secp256k1::Keypair::from_secret_bytes(secret).map_err(|_| KeyError)?;
        Ok(Self {
            pair,
            address: address_of(&pair.public_key()),
        })
    }

    /// The Ethereum address of the key.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The secret scalar, for handing the same identity to the network and to transactions.
    pub fn secret(&self) -> [u8; 32] {
        self.pair.to_secret_bytes()
    }

    /// Signs `document` for one deployment. Deterministic (RFC 6979): the same document gives the same bytes.
    pub fn sign<D: Document>(&self, domain: &Domain, document: D) -> Signed<D, Verified> {
        let signature = self.sign_digest(document.digest(domain));
        Signed::own(document, signature)
    }

    /// Signs a digest. Prefer [`Keypair::sign`], which knows the domain.
    pub fn sign_digest(&self, digest: B256) -> Signature {
        let signature =
            RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.pair.secret_key());
        let (recovery_id, bytes) = signature.serialize_compact();
        let mut r = [0; 32];
        let mut s = [0; 32];
        r.copy_from_slice(&bytes[..32]);
        s.copy_from_slice(&bytes[32..]);
        // libsecp256k1 always signs with low s, and r and s are never zero.
        Signature::from_parts(r, s, u8::from(recovery_id) & 1 == 1)
            .unwrap_or_else(|error| unreachable!("libsecp256k1 made a signature that is not canonical: {error}"))
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keypair({})", self.address)
    }
}

/// The bytes are no secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these 32 bytes are no secp256k1 secret key")]
pub struct KeyError;

/// The last 20 bytes of the keccak hash of the uncompressed key (yellow paper, appendix F).
pub(crate) fn address_of(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}
