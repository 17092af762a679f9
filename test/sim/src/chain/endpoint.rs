use std::sync::Arc;

use lloom_receipts::BlockNumber;

use super::SimBlock;

/// The chain as one endpoint sees it at one moment.
#[derive(Clone, Debug)]
pub struct View {
    canonical: Arc<Vec<Arc<SimBlock>>>,
}

impl View {
    pub(super) const fn new(canonical: Arc<Vec<Arc<SimBlock>>>) -> Self {
        Self { canonical }
    }

    /// The newest block.
    ///
    /// # Panics
    /// Never: there is always the first.
    pub fn head(&self) -> &Arc<SimBlock> {
        self.canonical.last().expect("a chain has a first block")
    }

    /// The block at a height.
    pub fn block(&self, number: BlockNumber) -> Option<&Arc<SimBlock>> {
        self.canonical.get(usize::try_from(number.get()).ok()?)
    }

    /// The blocks of a range, as far as there are any.
    pub fn blocks(&self, first: BlockNumber, last: BlockNumber) -> impl Iterator<Item = &Arc<SimBlock>> {
        let first = usize::try_from(first.get()).unwrap_or(usize::MAX);
        let end = usize::try_from(last.get()).map_or(usize::MAX, |last| last.saturating_add(1));
        self.canonical.iter().take(end).skip(first)
    }
}

/// One endpoint of a process.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    /// What it shows in place of the chain, and until when: it is behind, or on a fork that the others have left.
    pub stale: Option<(View, u64)>,
    /// Until when it doesn't answer at all.
    pub down_until: u64,
}

/// How endpoints answer: each number is so many of a thousand answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// No answer in time; whatever was asked may have been done.
    pub timeouts: u64,
    /// An answer that is an error.
    pub errors: u64,
    /// An answer that can't be read.
    pub malformed: u64,
    /// A transaction that is said to be in the pool, and is not.
    pub swallowed: u64,
    /// A transaction that is said to have failed, and is in the pool.
    pub disowned: u64,
    /// A transaction that is in the pool, and of which nothing is said.
    pub silenced: u64,
    /// A block with logs that is said to have none, when it is asked for by its hash: of several machines behind an
    /// address, one has not heard of it.
    pub bare: u64,
    /// The most blocks whose logs are given at once; zero for no limit.
    pub range_limit: u64,
}
