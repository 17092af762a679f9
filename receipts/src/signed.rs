use std::marker::PhantomData;

use alloy::primitives::{Address, B256, keccak256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Domain, Signature, Verifier, VerifyError};

/// A document that EIP-712 gives a hash.
pub trait Document {
    /// `hashStruct(document)`.
    fn struct_hash(&self) -> B256;

    /// The separator of the domain it is signed in.
    fn separator(domain: &Domain) -> B256;

    /// What is signed: `keccak256(0x1901 ‖ separator ‖ structHash)`.
    fn digest(&self, domain: &Domain) -> B256 {
        digest(Self::separator(domain), self.struct_hash())
    }
}

/// What is signed of a struct with this hash (EIP-712).
pub(crate) fn digest(separator: B256, struct_hash: B256) -> B256 {
    let mut preimage = [0; 66];
    preimage[..2].copy_from_slice(&[0x19, 0x01]);
    preimage[2..34].copy_from_slice(separator.as_slice());
    preimage[34..].copy_from_slice(struct_hash.as_slice());
    keccak256(preimage)
}

/// The signature has not been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {}

/// The signature is the one it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {}

/// A document and one signature. Only `Signed<_, Unverified>` deserializes:
///
/// ```compile_fail
/// use lloom_receipts::{Signed, Verified, Voucher};
/// let forged: Signed<Voucher, Verified> = serde_json::from_str("{}").unwrap();
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Signed<D, S = Unverified> {
    document: D,
    signature: Signature,
    state: PhantomData<S>,
}

impl<D: Clone, S> Clone for Signed<D, S> {
    fn clone(&self) -> Self {
        Self {
            document: self.document.clone(),
            signature: self.signature,
            state: PhantomData,
        }
    }
}

impl<D, S> Signed<D, S> {
    /// What was signed.
    pub const fn document(&self) -> &D {
        &self.document
    }

    /// The signature.
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Forgets what is known of the signature.
    pub fn into_unverified(self) -> Signed<D, Unverified> {
        Signed {
            document: self.document,
            signature: self.signature,
            state: PhantomData,
        }
    }

    /// The parts.
    pub fn into_parts(self) -> (D, Signature) {
        (self.document, self.signature)
    }
}

impl<D> Signed<D, Unverified> {
    /// A document as it came from somewhere.
    pub const fn new(document: D, signature: Signature) -> Self {
        Self {
            document,
            signature,
            state: PhantomData,
        }
    }
}

impl<D: Document> Signed<D, Unverified> {
    /// Checks that `signer` signed the document for `domain`.
    ///
    /// # Errors
    /// [`VerifyError`] when somebody else did, or nobody.
    pub fn verify(
        self,
        domain: &Domain,
        verifier: &Verifier,
        signer: Address,
    ) -> Result<Signed<D, Verified>, VerifyError> {
        verifier.check(self.document.digest(domain), &self.signature, signer)?;
        Ok(self.into_verified())
    }
}

impl<D> Signed<D, Unverified> {
    /// The document once its signature is known to be right.
    pub(crate) fn into_verified(self) -> Signed<D, Verified> {
        Signed {
            document: self.document,
            signature: self.signature,
            state: PhantomData,
        }
    }
}

impl<D> Signed<D, Verified> {
    pub(crate) const fn own(document: D, signature: Signature) -> Self {
        Self {
            document,
            signature,
            state: PhantomData,
        }
    }

    /// Takes back what a store was given as `Verified`.
    ///
    /// For `lloom-ledger` only, which stores nothing weaker: a caller without that guarantee must
    /// [`verify`](Signed::verify).
    pub const fn recall(document: D, signature: Signature) -> Self {
        Self {
            document,
            signature,
            state: PhantomData,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire<D> {
    document: D,
    signature: Signature,
}

impl<D: Serialize, S> Serialize for Signed<D, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        Wire {
            document: &self.document,
            signature: self.signature,
        }
        .serialize(serializer)
    }
}

impl<'de, D: Deserialize<'de>> Deserialize<'de> for Signed<D, Unverified> {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        let wire = Wire::deserialize(deserializer)?;
        Ok(Self::new(wire.document, wire.signature))
    }
}
