//! Follows the chain by block hash, and keeps the ledger's view of it.

use std::collections::BTreeSet;

use lloom_ledger::{ApplyError, Block, ChainEvent, Ledger, LedgerError, ObligationPolicy};
use lloom_receipts::BlockNumber;

use crate::{
    LogFilter,
    chain::{Chain, ChainError},
    event::Emitters,
    log_range::LogRange,
};

/// Blocks this close to the head are read one by one, by hash: an endpoint may be on another fork for any of them.
/// Deeper ones are read in ranges.
const TAIL: u64 = 32;
/// Blocks of the tail that are applied in one ledger transaction at most.
const TAIL_BATCH: u64 = 64;
/// Blocks of the first range that is asked for.
const FIRST_RANGE: u64 = 1_000;
/// Stored blocks that are compared at once when a fork is looked for.
const ANCESTOR_PAGE: u32 = 64;

/// What a step changed in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Blocks joined the chain.
    Committed { last: Block, events: usize },
    /// Blocks up to `old` were replaced by others, which the next steps read. Blocks that merely vanish look like an
    /// endpoint that is behind, and count until others stand in their place.
    Reorged { ancestor: BlockNumber, old: Block },
    /// Blocks above `ancestor` were taken back to be read again: an endpoint had left out logs of `block`.
    Missed { ancestor: BlockNumber, block: BlockNumber },
}

/// What a step saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) head: Block,
    pub(crate) cursor: Block,
    pub(crate) change: Option<Change>,
}

impl Step {
    /// Whether the ledger has everything up to the head this step saw.
    pub(crate) fn is_at_head(&self) -> bool {
        self.cursor.number >= self.head.number
    }
}

/// Why the chain can't be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("none of the stored blocks, from {oldest} on, is in the endpoint's chain: the store is another chain's")]
    ForeignChain { oldest: BlockNumber },
}

pub(crate) struct Follower<C> {
    chain: C,
    ledger: Ledger,
    emitters: Emitters,
    wanted: LogFilter,
    start_block: BlockNumber,
    confirmations: u64,
    obligations: ObligationPolicy,
    range: LogRange,
    /// Up to where logs were read by ranges of blocks: once, or again. `None` before the first step.
    read_by_range: Option<BlockNumber>,
}

impl<C: Chain> Follower<C> {
    pub(crate) fn new(
        chain: C,
        ledger: Ledger,
        emitters: Emitters,
        start_block: BlockNumber,
        confirmations: u64,
        obligations: ObligationPolicy,
    ) -> Self {
        Self {
            chain,
            ledger,
            emitters,
            wanted: emitters.filter(),
            start_block,
            confirmations,
            obligations,
            range: LogRange::new(FIRST_RANGE),
            read_by_range: None,
        }
    }

    /// Reads on by one batch of blocks, or takes back what a fork replaced. Cancel-safe: the ledger takes a batch whole
    /// or not at all.
    pub(crate) async fn step(&mut self) -> Result<Step, FollowError> {
        let head = self.chain.head().await?;
        let cursor = match self.ledger.cursor().await? {
            Some(cursor) => cursor,
            None => self.anchor().await?,
        };
        if let Some(ancestor) = self.find_fork(cursor, head).await? {
            self.ledger.roll_back(ancestor.number).await?;
            self.read_by_range = self.read_by_range.map(|number| number.min(ancestor.number));
            return Ok(Step {
                head,
                cursor: ancestor,
                change: Some(Change::Reorged {
                    ancestor: ancestor.number,
                    old: cursor,
                }),
            });
        }
        let next = cursor.number.next().max(self.start_block);
        let safe = head.number.below(self.confirmations.max(TAIL));
        if let Some((ancestor, block)) = self.find_missed(cursor, next, safe).await? {
            self.ledger.roll_back(ancestor.number).await?;
            return Ok(Step {
                head,
                cursor: ancestor,
                change: Some(Change::Missed {
                    ancestor: ancestor.number,
                    block,
                }),
            });
        }
        if next > head.number {
            return Ok(Step {
                head,
                cursor,
                change: None,
            });
        }
        let batch = if next <= safe {
            let batch = self.read_range(next, safe).await?;
            self.read_by_range = batch.blocks.last().map(|last| last.number);
            batch
        } else {
            self.read_tail(cursor, next, head).await?
        };
        let Some(last) = batch.blocks.last().copied() else {
            return Ok(Step {
                head,
                cursor,
                change: None,
            });
        };
        let events = batch.events.len();
        let confirmed = head.number.below(self.confirmations).min(last.number);
        self.ledger
            .apply_blocks(batch.blocks, batch.events, confirmed, self.obligations.clone())
            .await?;
        Ok(Step {
            head,
            cursor: last,
            change: Some(Change::Committed { last, events }),
        })
    }

    /// The first stored block is the chain's first: no fork replaces it, so a young store knows its chain too.
    async fn anchor(&self) -> Result<Block, FollowError> {
        let genesis = self.must_have(BlockNumber::new(0)).await?;
        self.ledger
            .apply_blocks(vec![genesis], Vec::new(), genesis.number, self.obligations.clone())
            .await?;
        Ok(genesis)
    }

    /// The newest stored block that is still in the chain, if the newest of all is not.
    ///
    /// An endpoint that is behind tells nothing about the blocks it doesn't have yet, so it can't take them back.
    async fn find_fork(&self, cursor: Block, head: Block) -> Result<Option<Block>, FollowError> {
        if head == cursor {
            return Ok(None);
        }
        let mut disagrees = false;
        let mut page = ANCESTOR_PAGE;
        let mut seen = 0;
        loop {
            let stored = self.ledger.newest_blocks(page).await?;
            for block in stored.iter().skip(seen) {
                if block.number > head.number {
                    continue;
                }
                let canonical = if block.number == head.number {
                    head
                } else {
                    self.must_have(block.number).await?
                };
                if canonical.hash == block.hash {
                    return Ok(disagrees.then_some(*block));
                }
                disagrees = true;
            }
            if stored.len() < page as usize && !disagrees {
                // The endpoint is behind everything that is stored.
                return Ok(None);
            }
            if stored.len() < page as usize {
                // No fork reaches below the blocks that the ledger keeps.
                return Err(FollowError::ForeignChain {
                    oldest: stored.last().map_or(BlockNumber::default(), |block| block.number),
                });
            }
            seen = stored.len();
            page *= 4;
        }
    }

    /// Reads blocks that were read one by one, near the head, again by range, now that they are deep: an endpoint may have
    /// said that a block has no logs because one of the machines behind it had not heard of the block. Gives the first block
    /// with logs that were left out, and the newest stored one below it. Many blocks at once, and before what follows them is
    /// read by range.
    async fn find_missed(
        &mut self,
        cursor: Block,
        next: BlockNumber,
        safe: BlockNumber,
    ) -> Result<Option<(Block, BlockNumber)>, FollowError> {
        let depth = self.confirmations.max(TAIL);
        // What an earlier process read of the blocks that were near the head then.
        let read = *self.read_by_range.get_or_insert(cursor.number.below(2 * depth));
        let mut first = read.next().max(self.start_block);
        let last = safe.min(cursor.number);
        let is_due = next <= safe || last.get() + 1 >= first.get() + TAIL;
        while is_due && first <= last {
            let batch = self.read_range(first, last).await?;
            let Some(end) = batch.blocks.last().map(|block| block.number) else {
                break;
            };
            let known = self.ledger.recorded_events(first, end).await?;
            let known: BTreeSet<_> = known.into_iter().collect();
            let missed = batch
                .events
                .iter()
                .filter(|event| !known.contains(&(event.block_hash, event.position)));
            if let Some(missed) = missed.min_by_key(|event| event.block) {
                let stored = self.ledger.newest_blocks(u32::MAX).await?;
                if let Some(ancestor) = stored.into_iter().find(|stored| stored.number < missed.block) {
                    // What is above is read by range the next time.
                    self.read_by_range = Some(ancestor.number);
                    return Ok(Some((ancestor, missed.block)));
                }
                tracing::error!(block = %missed.block, "an endpoint had left out logs of a block that is too old to be read again");
            }
            self.read_by_range = Some(end);
            first = end.next();
        }
        Ok(None)
    }

    /// Blocks deep enough that ranges are safe. Only the last one's header is stored: forks don't reach between them
    /// without reaching it too.
    async fn read_range(&mut self, first: BlockNumber, safe: BlockNumber) -> Result<Batch, FollowError> {
        loop {
            let end = first.get().saturating_add(self.range.blocks() - 1).min(safe.get());
            let end = BlockNumber::new(end);
            let last = self.must_have(end).await?;
            let logs = match self.chain.logs(first, last, &self.wanted).await {
                Ok(logs) => logs,
                Err(error @ ChainError::Refused { .. }) => {
                    // Which limit was hit is told in as many ways as there are endpoints.
                    if self.range.refused() {
                        tracing::debug!(blocks = self.range.blocks(), %error, "asking for fewer blocks' logs at once");
                        continue;
                    }
                    return Err(error.into());
                }
                Err(error) => {
                    // It may have been too much to answer in time.
                    self.range.refused();
                    return Err(error.into());
                }
            };
            self.range.succeeded();
            let mut events = Vec::new();
            for log in logs.iter().filter(|log| self.wanted.matches(log)) {
                events.extend(self.emitters.read(log)?);
            }
            return Ok(Batch {
                blocks: vec![last],
                events,
            });
        }
    }

    /// Blocks near the head, each linked to the one before and its logs asked for by its hash. Stops where the chain
    /// changes underneath: the next step finds the fork.
    async fn read_tail(&self, cursor: Block, next: BlockNumber, head: Block) -> Result<Batch, FollowError> {
        let mut batch = Batch::default();
        let mut parent = (next == cursor.number.next()).then_some(cursor.hash);
        let last = next.get().saturating_add(TAIL_BATCH - 1).min(head.number.get());
        for number in next.get()..=last {
            let block = if number == head.number.get() {
                head
            } else {
                match self.chain.block(BlockNumber::new(number)).await? {
                    Some(block) => block,
                    None => break,
                }
            };
            if parent.is_some_and(|parent| parent != block.parent) {
                break;
            }
            let logs = match self.chain.logs_of_block(block.hash, &self.wanted).await {
                Ok(logs) => logs,
                // Another endpoint, or the same one after a fork, doesn't know this block.
                Err(ChainError::Refused { .. }) if !batch.blocks.is_empty() => break,
                Err(error) => return Err(error.into()),
            };
            for log in &logs {
                if log.block_hash == Some(block.hash) && self.wanted.matches(log) {
                    batch.events.extend(self.emitters.read(log)?);
                }
            }
            parent = Some(block.hash);
            batch.blocks.push(block);
        }
        Ok(batch)
    }

    async fn must_have(&self, number: BlockNumber) -> Result<Block, ChainError> {
        self.chain.block(number).await?.ok_or(ChainError::Malformed {
            operation: "eth_getBlockByNumber",
            reason: format!("block {number} is missing below the head"),
        })
    }
}

#[derive(Default)]
struct Batch {
    blocks: Vec<Block>,
    events: Vec<ChainEvent>,
}

#[cfg(test)]
mod tests;
