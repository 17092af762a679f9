//! Keys, and the shapes that a signature comes in, good and bad.

use alloy::primitives::{Address, B256, U256, keccak256, uint};
use secp256k1::{
    Keypair, Message, PublicKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

const ORDER: U256 = uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);
const HALF_ORDER: U256 = uint!(0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0_U256);

/// A secp256k1 key and its address.
#[derive(Clone, Debug)]
pub struct Key {
    pair: Keypair,
    address: Address,
}

/// The three parts of an ECDSA signature, as the EVM's precompile takes them: nothing about them is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// `r`.
    pub r: B256,
    /// `s`, of either half of the order.
    pub s: B256,
    /// 27 or 28 where the signature is good.
    pub v: u8,
}

impl Key {
    /// The key that `name` alone determines.
    ///
    /// # Panics
    /// Never in practice: one hash in 2^128 is no key.
    pub fn of(name: &str) -> Self {
        let pair = Keypair::from_secret_bytes(keccak256(name).0).expect("a hash is a key");
        let address = address_of(&pair.public_key());
        Self { pair, address }
    }

    /// The key's address.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest.
    pub fn sign(&self, digest: B256) -> Parts {
        let signature =
            RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.pair.secret_key());
        let (id, bytes) = signature.serialize_compact();
        Parts {
            r: B256::from_slice(&bytes[..32]),
            s: B256::from_slice(&bytes[32..]),
            v: if id == RecoveryId::One { 28 } else { 27 },
        }
    }
}

impl Parts {
    /// `r ‖ s ‖ v`, the form of 65 bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.r.as_slice(), self.s.as_slice(), &[self.v]].concat()
    }

    /// The second word of the form of 64 bytes: `s` under the parity of `v` (EIP-2098).
    pub fn vs(self) -> B256 {
        let mut word = self.s;
        word[0] |= u8::from(self.v == 28) << 7;
        word
    }

    /// `r ‖ vs`, the form of 64 bytes.
    pub fn to_compact_bytes(self) -> Vec<u8> {
        [self.r, self.vs()].concat()
    }

    /// The other signature of the same key over the same digest, whose `s` is in the other half.
    pub fn twin(self) -> Self {
        let s = ORDER - U256::from_be_bytes(self.s.0);
        Self {
            r: self.r,
            s: s.into(),
            v: 55_u8.wrapping_sub(self.v),
        }
    }

    /// Reads either form; nothing of any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| B256::from_slice(&bytes[32 * index..32 * (index + 1)]);
        match bytes.len() {
            65 => Some(Self {
                r: word(0),
                s: word(1),
                v: bytes[64],
            }),
            64 => Some(Self::from_compact(word(0), word(1))),
            _ => None,
        }
    }

    /// Reads the two words of EIP-2098.
    pub fn from_compact(r: B256, vs: B256) -> Self {
        let mut s = vs;
        s[0] &= 0x7f;
        Self {
            r,
            s,
            v: 27 + (vs[0] >> 7),
        }
    }

    /// Whether `s` is in the lower half of the order.
    pub fn is_low(&self) -> bool {
        U256::from_be_bytes(self.s.0) <= HALF_ORDER
    }

    /// What the precompile answers: whose key made this, whichever half `s` is in.
    pub fn recover(&self, digest: B256) -> Option<Address> {
        let id = match self.v {
            27 => RecoveryId::Zero,
            28 => RecoveryId::One,
            _ => return None,
        };
        let signature = RecoverableSignature::from_compact(&[self.r, self.s].concat(), id).ok()?;
        let key = signature.recover_ecdsa(Message::from_digest(digest.0)).ok()?;
        Some(address_of(&key))
    }
}

fn address_of(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}
