use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use alloy::primitives::{Address, B256};
use secp256k1::{
    Message, PublicKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use crate::{
    Signature,
    batch::{self, Claim, KeyMultiples},
    key::address_of,
};

/// Signers whose public key is remembered; a node meets fewer in a day.
const MAX_KNOWN_KEYS: usize = 65_536;

/// Checks ECDSA signatures: one by one with libsecp256k1, and many at once with [`check_all`](Self::check_all), which is
/// several times as fast.
///
/// It always recovers the key instead of verifying against a known one: the chain recovers too, so the recovery bit has
/// to be right, and plain verification doesn't look at it. What the cache of known keys saves is the hash from key to
/// address; and signatures can be checked together only by keys that are known.
#[derive(Debug, Default)]
pub struct Verifier {
    known: Mutex<HashMap<Address, KnownKey>>,
}

#[derive(Clone, Copy)]
struct KnownKey {
    key: PublicKey,
    multiples: KeyMultiples,
}

impl std::fmt::Debug for KnownKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.key, formatter)
    }
}

/// A signature to be checked, and by whom it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureCheck {
    /// What was signed.
    pub digest: B256,
    /// The signature over it.
    pub signature: Signature,
    /// Who has to have made it.
    pub signer: Address,
}

impl Verifier {
    /// Checks that `signer` made `signature` over `digest`.
    ///
    /// # Errors
    /// [`VerifyError::Unrecoverable`] when nobody did, [`VerifyError::WrongSigner`] when somebody else did.
    pub fn check(&self, digest: B256, signature: &Signature, signer: Address) -> Result<(), VerifyError> {
        let key = recover_key(digest, signature)?;
        if self.known().get(&signer).is_some_and(|known| known.key == key) {
            return Ok(());
        }
        let recovered = address_of(&key);
        if recovered != signer {
            return Err(VerifyError::WrongSigner {
                expected: signer,
                recovered,
            });
        }
        self.remember(signer, key);
        Ok(())
    }

    /// Makes many checks, with the results in their order: each is what [`check`](Self::check) would say. Those by
    /// signers that made a good signature before are made together ([`crate`], "Many signatures at once").
    pub fn check_all(&self, checks: &[SignatureCheck]) -> Vec<Result<(), VerifyError>> {
        let singly = |check: &SignatureCheck| self.check(check.digest, &check.signature, check.signer);
        if checks.len() < batch::SMALLEST {
            return checks.iter().map(singly).collect();
        }
        let mut results = vec![Ok(()); checks.len()];
        let mut keys = Vec::new();
        let mut places = HashMap::new();
        let mut claims = Vec::with_capacity(checks.len());
        let mut positions = Vec::with_capacity(checks.len());
        for (position, check) in checks.iter().enumerate() {
            let place = match places.get(&check.signer) {
                Some(&place) => place,
                None => {
                    // A guard that lived on into the other arm would still be held there.
                    let known = self.known().get(&check.signer).copied();
                    let Some(known) = known else {
                        results[position] = singly(check);
                        continue;
                    };
                    keys.push(known.multiples);
                    places.insert(check.signer, keys.len() - 1);
                    keys.len() - 1
                }
            };
            positions.push(position);
            claims.push(Claim {
                digest: check.digest,
                signature: &check.signature,
                key: place,
            });
        }
        let proven = batch::prove(&keys, &claims, &mut rand::rng());
        for (position, proven) in positions.into_iter().zip(proven) {
            if !proven {
                results[position] = singly(&checks[position]);
            }
        }
        results
    }

    /// Who made `signature` over `digest`.
    ///
    /// # Errors
    /// [`VerifyError::Unrecoverable`] when nobody did.
    pub fn recover(&self, digest: B256, signature: &Signature) -> Result<Address, VerifyError> {
        recover_key(digest, signature).map(|key| address_of(&key))
    }

    fn remember(&self, signer: Address, key: PublicKey) {
        // Without them it is checked one by one for ever.
        let Some(multiples) = KeyMultiples::of(&key) else {
            return;
        };
        let mut known = self.known();
        if known.len() >= MAX_KNOWN_KEYS {
            known.clear();
        }
        known.insert(signer, KnownKey { key, multiples });
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Address, KnownKey>> {
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

#[cfg(test)]
mod tests {
    use alloy::primitives::{U256, uint};

    use super::*;
    use crate::{ChannelId, Document, Domain, Keypair, SignatureError, TokenAmount, Voucher};

    const ORDER: U256 = uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);

    fn domain() -> Domain {
        Domain::new(31337, Address::repeat_byte(1), Address::repeat_byte(2))
    }

    fn voucher(amount: u128) -> Voucher {
        Voucher {
            channel: ChannelId::new(B256::repeat_byte(3)),
            amount: TokenAmount::new(amount),
        }
    }

    #[test]
    fn only_the_signer_of_the_very_document_passes() {
        let verifier = Verifier::default();
        let (payer, stranger) = (
            Keypair::from_secret([7; 32]).unwrap(),
            Keypair::from_secret([8; 32]).unwrap(),
        );
        let signature = *payer.sign(&domain(), voucher(5)).signature();
        // Twice: the second time the key is known.
        for _ in 0..2 {
            verifier
                .check(voucher(5).digest(&domain()), &signature, payer.address())
                .unwrap();
            for (digest, signer) in [
                (voucher(6).digest(&domain()), payer.address()),
                (voucher(5).digest(&domain()), stranger.address()),
                (
                    voucher(5).digest(&Domain::new(1, Address::repeat_byte(1), Address::repeat_byte(2))),
                    payer.address(),
                ),
                (
                    voucher(5).digest(&Domain::new(31337, Address::ZERO, Address::repeat_byte(2))),
                    payer.address(),
                ),
            ] {
                assert!(matches!(
                    verifier.check(digest, &signature, signer),
                    Err(VerifyError::WrongSigner { .. })
                ));
            }
        }
    }

    #[test]
    fn the_recovery_bit_counts_even_for_a_known_key() {
        let verifier = Verifier::default();
        let payer = Keypair::from_secret([7; 32]).unwrap();
        let digest = voucher(5).digest(&domain());
        let signature = payer.sign_digest(digest);
        verifier.check(digest, &signature, payer.address()).unwrap();
        let mut bytes = signature.to_bytes();
        bytes[64] = 55 - bytes[64];
        let flipped = Signature::from_bytes(&bytes).unwrap();
        assert!(verifier.check(digest, &flipped, payer.address()).is_err());
    }

    #[test]
    fn what_is_not_canonical_is_no_signature() {
        let signature = Keypair::from_secret([7; 32])
            .unwrap()
            .sign_digest(B256::repeat_byte(9))
            .to_bytes();
        let mut high = signature;
        let s = U256::from_be_slice(&signature[32..64]);
        high[32..64].copy_from_slice(&(ORDER - s).to_be_bytes::<32>());
        high[64] = 55 - high[64];
        assert_eq!(Signature::from_bytes(&high), Err(SignatureError::HighS));
        for length in [0, 1, 64, 66, 10_000] {
            assert_eq!(
                Signature::from_bytes(&vec![1; length]),
                Err(SignatureError::Length { length })
            );
        }
        for v in [0, 1, 26, 29, 255] {
            let mut other = signature;
            other[64] = v;
            assert_eq!(Signature::from_bytes(&other), Err(SignatureError::RecoveryValue { v }));
        }
        let mut zero = signature;
        zero[..32].fill(0);
        assert_eq!(Signature::from_bytes(&zero), Err(SignatureError::Zero));
    }

    #[test]
    fn agrees_with_alloy() {
        let digest = B256::repeat_byte(9);
        for secret in 1..=20 {
            let key = Keypair::from_secret([secret; 32]).unwrap();
            let signature = key.sign_digest(digest);
            let theirs = alloy::primitives::Signature::from_raw(&signature.to_bytes()).unwrap();
            assert_eq!(theirs.recover_address_from_prehash(&digest).unwrap(), key.address());
            let (r, vs) = signature.to_compact();
            assert_eq!(
                (r.as_slice(), vs.as_slice()),
                (&theirs.as_erc2098()[..32], &theirs.as_erc2098()[32..])
            );
        }
    }
}
