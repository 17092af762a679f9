use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of model tokens in one inference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenCount(u32);

impl TokenCount {
    /// `count` tokens.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The sum, or the most a count can be: what a request may hold is bounded far below.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for TokenCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A number of model tokens over the life of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenTotal(u64);

impl TokenTotal {
    /// `total` tokens.
    pub const fn new(total: u64) -> Self {
        Self(total)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The total with `count` more, unless it leaves `uint64`.
    pub fn checked_add(self, count: TokenCount) -> Option<Self> {
        self.0.checked_add(u64::from(count.0)).map(Self)
    }
}

impl fmt::Display for TokenTotal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What an inference read and wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens.
    pub input: TokenCount,
    /// Completion tokens.
    pub output: TokenCount,
}
