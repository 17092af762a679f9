use std::{fmt, str::FromStr};

use alloy::{
    hex,
    primitives::{B256, U256, uint},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Half the order of secp256k1: an `s` above it is not canonical (draft, "Signature Verification"; EIP-2).
const HALF_ORDER: U256 = uint!(0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0_U256);

/// A canonical ECDSA signature: 65 bytes `r ‖ s ‖ v` with `v` 27 or 28 and low `s`.
///
/// Anything else has no value of this type, so a high-s twin can't be stored beside the original.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature {
    r: [u8; 32],
    s: [u8; 32],
    odd_y: bool,
}

impl Signature {
    /// Length in bytes.
    pub const LENGTH: usize = 65;

    /// Reads `r ‖ s ‖ v`.
    ///
    /// # Errors
    /// A length other than 65, a `v` other than 27 and 28, a zero or high `s`, a zero `r`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bytes: &[u8; Self::LENGTH] = bytes
            .try_into()
            .map_err(|_| SignatureError::Length { length: bytes.len() })?;
        let odd_y = match bytes[64] {
            27 => false,
            28 => true,
            v => return Err(SignatureError::RecoveryValue { v }),
        };
        let mut r = [0; 32];
        let mut s = [0; 32];
        r.copy_from_slice(&bytes[..32]);
        s.copy_from_slice(&bytes[32..64]);
        Self::from_parts(r, s, odd_y)
    }

    pub(crate) fn from_parts(r: [u8; 32], s: [u8; 32], odd_y: bool) -> Result<Self, SignatureError> {
        if U256::from_be_bytes(s) > HALF_ORDER {
            return Err(SignatureError::HighS);
        }
        if r == [0; 32] || s == [0; 32] {
            return Err(SignatureError::Zero);
        }
        Ok(Self { r, s, odd_y })
    }

    /// The 65 bytes `r ‖ s ‖ v`, the only form this project produces (draft, "Hexadecimal Values").
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..32].copy_from_slice(&self.r);
        bytes[32..64].copy_from_slice(&self.s);
        bytes[64] = if self.odd_y { 28 } else { 27 };
        bytes
    }

    /// `(r, vs)` as EIP-2098 packs it: only for calldata, where it saves gas.
    pub fn to_compact(&self) -> (B256, B256) {
        let mut vs = self.s;
        if self.odd_y {
            vs[0] |= 0x80;
        }
        (B256::from(self.r), B256::from(vs))
    }

    pub(crate) fn compact_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.r);
        bytes[32..].copy_from_slice(&self.s);
        bytes
    }

    pub(crate) const fn r(&self) -> [u8; 32] {
        self.r
    }

    pub(crate) const fn s(&self) -> [u8; 32] {
        self.s
    }

    pub(crate) const fn odd_y(&self) -> bool {
        self.odd_y
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode_prefixed(self.to_bytes()))
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = hex::decode(text).map_err(|_| SignatureError::Hex)?;
        Self::from_bytes(&bytes)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Signature;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a 65-byte signature")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Signature, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Signature, E> {
                Signature::from_bytes(bytes).map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

/// Why bytes are no canonical signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not hexadecimal.
    #[error("the signature is not hexadecimal")]
    Hex,
    /// Not 65 bytes long.
    #[error("a signature has 65 bytes, this one {length}")]
    Length {
        /// Bytes given.
        length: usize,
    },
    /// `v` is neither 27 nor 28.
    #[error("a signature ends with 27 or 28, this one with {v}")]
    RecoveryValue {
        /// The last byte.
        v: u8,
    },
    /// `s` is above half the curve's order.
    #[error("the signature's s is not canonical (above half the curve's order)")]
    HighS,
    /// `r` or `s` is zero.
    #[error("the signature's r or s is zero")]
    Zero,
}
