use std::fmt;

use alloy::primitives::{B256, Keccak256};
use serde::{Deserialize, Serialize};

/// 32 random bytes that keep a tower from guessing a prompt by its hash. Exchanged with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentSalt(B256);

impl ContentSalt {
    /// Wraps 32 bytes, which must be random.
    pub const fn new(random: B256) -> Self {
        Self(random)
    }

    /// The bytes.
    pub const fn bytes(self) -> B256 {
        self.0
    }
}

/// `keccak256(salt ‖ bytes)` of a prompt or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(B256);

impl ContentHash {
    /// Wraps a hash.
    pub const fn new(hash: B256) -> Self {
        Self(hash)
    }

    /// The 32 bytes.
    pub const fn hash(self) -> B256 {
        self.0
    }

    /// The hash of all of `bytes`.
    pub fn of(salt: ContentSalt, bytes: &[u8]) -> Self {
        let mut hasher = ContentHasher::new(salt);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

/// Hashes a stream as it passes.
#[derive(Clone)]
pub struct ContentHasher(Keccak256);

impl ContentHasher {
    /// Starts with the salt.
    pub fn new(salt: ContentSalt) -> Self {
        let mut keccak = Keccak256::new();
        keccak.update(salt.bytes());
        Self(keccak)
    }

    /// Adds the bytes that came next.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of what has passed so far.
    pub fn current(&self) -> ContentHash {
        self.clone().finish()
    }

    /// The hash of all that passed.
    pub fn finish(self) -> ContentHash {
        ContentHash(self.0.finalize())
    }
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ContentHasher")
    }
}
