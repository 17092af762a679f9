//! The heads that an endpoint has shown lately, and what their bloom filters say of the logs in them.

use std::collections::VecDeque;

use alloy::primitives::{B256, Bloom, BloomInput};

use super::raw::RawBlock;
use crate::LogFilter;

/// Heads that are remembered.
const KEPT: usize = 16;
/// From so many bits of its 2,048 on a filter says yes to anything, as those of busy chains do.
const SATURATED: u32 = 1_024;

#[derive(Debug, Default)]
pub(super) struct ShownBlocks(VecDeque<(B256, Option<Bloom>)>);

/// What is to be thought of an endpoint that gives no logs of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emptiness {
    /// Nothing speaks against it.
    Likely,
    /// The block's own filter speaks of such logs: of several machines behind the address, the one that answered may not
    /// know the block. One filter in some speaks of logs that are not there.
    Doubtful,
}

impl ShownBlocks {
    pub(super) fn add(&mut self, block: &RawBlock) {
        if self.0.iter().any(|(hash, _)| *hash == block.hash) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((block.hash, block.logs_bloom));
    }

    /// What its silence on the block named `hash` is worth; `None` of a block that it has not shown.
    pub(super) fn emptiness(&self, hash: B256, wanted: &LogFilter) -> Option<Emptiness> {
        let (_, bloom) = self.0.iter().find(|(shown, _)| *shown == hash)?;
        Some(Emptiness::told_by(*bloom, wanted))
    }
}

impl Emptiness {
    /// By a block's bloom filter, where it has one.
    pub(super) fn told_by(bloom: Option<Bloom>, wanted: &LogFilter) -> Self {
        let speaks_of_logs = bloom.is_some_and(|bloom| {
            let has = |bytes: &[u8]| bloom.contains_input(BloomInput::Raw(bytes));
            let ones: u32 = bloom.iter().map(|byte| byte.count_ones()).sum();
            ones < SATURATED
                && wanted.addresses.iter().any(|address| has(address.as_slice()))
                && wanted.topics.iter().any(|topic| has(topic.as_slice()))
        });
        match speaks_of_logs {
            true => Self::Doubtful,
            false => Self::Likely,
        }
    }
}
