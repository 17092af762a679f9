//! EIP-712 struct hashes, with the hash of each type computed once and not with every signature.

use std::sync::OnceLock;

use alloy::{
    primitives::{B256, Keccak256, keccak256},
    sol_types::SolStruct,
};

/// The hash of one type: `keccak256(encodeType)`.
pub(crate) struct TypeHash(OnceLock<B256>);

impl TypeHash {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// `hashStruct` of a `T` without struct fields.
    pub(crate) fn hash<T: SolStruct>(&self, value: &T) -> B256 {
        self.hash_encoded::<T>(&value.eip712_encode_data())
    }

    /// `hashStruct` of the `T` with this `encodeData`.
    pub(crate) fn hash_encoded<T: SolStruct>(&self, data: &[u8]) -> B256 {
        let type_hash = self.0.get_or_init(|| keccak256(T::eip712_encode_type().as_bytes()));
        let mut hasher = Keccak256::new();
        hasher.update(type_hash);
        hasher.update(data);
        hasher.finalize()
    }
}
