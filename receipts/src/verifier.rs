use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use alloy::primitives::{Address, B256};
use secp256k1::{
    Message, PublicKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use crate::{Signature, key::address_of};

/// Signers whose public key is remembered; a node meets fewer in a day.
const MAX_KNOWN_KEYS: usize = 65_536;

/// Checks ECDSA signatures with libsecp256k1.
///
/// It always recovers the key instead of verifying against a known one: the chain recovers too, so the recovery bit has
/// to be right, and plain verification doesn't look at it. What the cache of known keys saves is the hash from key to
/// address.
#[derive(Debug, Default)]
pub struct Verifier {
    known: Mutex<HashMap<Address, PublicKey>>,
}

impl Verifier {
    /// Checks that `signer` made `signature` over `digest`.
    ///
    /// # Errors
    /// [`VerifyError::Unrecoverable`] when nobody did, [`VerifyError::WrongSigner`] when somebody else did.
    pub fn check(&self, digest: B256, signature: &Signature, signer: Address) -> Result<(), VerifyError> {
        let key = recover_key(digest, signature)?;
        if self.known().get(&signer) == Some(&key) {
            return Ok(());
        }
        let recovered = address_of(&key);
        if recovered != signer {
            return Err(VerifyError::WrongSigner {
                expected: signer,
                recovered,
            });
        }
        let mut known = self.known();
        if known.len() >= MAX_KNOWN_KEYS {
            known.clear();
        }
        known.insert(signer, key);
        Ok(())
    }

    /// Who made `signature` over `digest`.
    ///
    /// # Errors
    /// [`VerifyError::Unrecoverable`] when nobody did.
    pub fn recover(&self, digest: B256, signature: &Signature) -> Result<Address, VerifyError> {
        recover_key(digest, signature).map(|key| address_of(&key))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Address, PublicKey>> {
        // A cache has no invariant that a panic elsewhere could break.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn recover_key(digest: B256, signature: &Signature) -> Result<PublicKey, VerifyError> {
    let recovery_id = if signature.odd_y() {
        RecoveryId::One
    } else {
        RecoveryId::Zero
    };
    RecoverableSignature::from_compact(&signature.compact_bytes(), recovery_id)
        .and_then(|recoverable| recoverable.recover_ecdsa(Message::from_digest(digest.0)))
        .map_err(|_| VerifyError::Unrecoverable)
}

/// Why a signature is not the one it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No key gives this signature.
    #[error("the signature belongs to no key")]
    Unrecoverable,
    /// Another key gives this signature.
    #[error("signed by {recovered}, not by {expected}")]
    WrongSigner {
        /// Who had to sign.
        expected: Address,
        /// Who did.
        recovered: Address,
    },
}
