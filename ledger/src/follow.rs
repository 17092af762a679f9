//! What the follower writes: blocks, events and what follows from them, in one transaction each.

use std::{collections::BTreeMap, time::Duration};

use alloy::primitives::{Address, B256};
use lloom_receipts::{BlockNumber, ChannelId, Domain};

use tokio::sync::broadcast;

use crate::{
    Block, ChainEvent, ChainEventKind, ChannelState, EventPosition, Ledger, LedgerError, Outcome,
    account::refresh_authorized,
    channel::{find_channel, read_event_kind},
    claim::is_served,
    closings,
    column::{Put as _, Read as _, Row, sql, to_json},
    error::Failure,
    held::is_held,
    obligation::insert_obligation,
    session::Session,
    writer::Operation,
};

/// Blocks kept below the confirmed one, for finding forks deeper than the confirmations.
const BLOCKS_KEPT: u64 = 1_024;

/// From a block on that is always given: a condition that may not hold would read all events there are.
pub(crate) const SELECT_NEWLY_CONFIRMED: &str = "
SELECT channel, data FROM events WHERE channel IS NOT NULL AND block >= $1 AND block <= $2 ORDER BY block, position";

/// Which requested closes become obligations, beside those of channels that are served here, or held for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObligationPolicy {
    /// Those of channels of these payees, though nothing was served on them yet.
    pub payees: Vec<Address>,
    /// How long a payer waits between asking for the close and withdrawing: the escrow's `CLOSE_GRACE_PERIOD`.
    pub grace: Duration,
}

impl Ledger {
    /// The newest block whose events are recorded: where following goes on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cursor(&self) -> Result<Option<Block>, LedgerError> {
        newest_block(&mut self.reader("read the cursor").await?).await
    }

    /// The block recorded at `number`, if one is. Blocks without events may be skipped, and old ones are forgotten.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn block(&self, number: BlockNumber) -> Result<Option<Block>, LedgerError> {
        block_at(&mut self.reader("read a block").await?, number).await
    }

    /// The newest recorded blocks, newest first: where to look for the fork.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn newest_blocks(&self, limit: u32) -> Result<Vec<Block>, LedgerError> {
        let statement = sql("SELECT number, hash, parent, timestamp FROM blocks ORDER BY number DESC LIMIT $1")
            .put(i64::from(limit));
        let rows = self.reader("list blocks").await?.rows(statement).await?;
        rows.iter().map(read_block).collect()
    }

    /// The newest block that counts as confirmed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn confirmed_block(&self) -> Result<Option<BlockNumber>, LedgerError> {
        confirmed_block(&mut self.reader("read the confirmed block").await?).await
    }

    /// Which events are recorded of the blocks from `first` up to `last`: their blocks' hashes and their positions, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recorded_events(
        &self,
        first: BlockNumber,
        last: BlockNumber,
    ) -> Result<Vec<(B256, EventPosition)>, LedgerError> {
        let statement = sql(
            "SELECT block_hash, position FROM events WHERE block >= $1 AND block <= $2
             ORDER BY block, position",
        )
        .put(first)
        .put(last);
        let rows = self.reader("list recorded events").await?.rows(statement).await?;
        rows.iter()
            .map(|row| Ok((row.read("block_hash")?, row.read("position")?)))
            .collect()
    }

    /// Records blocks and their events, moves the cursor to the last of them and the confirmed block to `confirmed`
    /// (never back), and derives channels' states and obligations: all in one transaction.
    ///
    /// Blocks come in ascending order. Runs of blocks without events may be left out; blocks that follow each other
    /// directly must name each other as parents. Events lie in `(cursor, last block]`. Recording the same again, after
    /// an answer was lost, says [`Outcome::AlreadyKnown`].
    ///
    /// # Errors
    /// [`ApplyError`] when the blocks don't connect to what is recorded; then nothing is.
    pub async fn apply_blocks(
        &self,
        blocks: Vec<Block>,
        events: Vec<ChainEvent>,
        confirmed: BlockNumber,
        policy: ObligationPolicy,
    ) -> Result<Outcome, ApplyError> {
        let domain = *self.domain();
        let closing: Vec<ChannelId> = events.iter().filter_map(|event| event.kind.closes()).collect();
        let outcome = self
            .submit_leading(ApplyBlocks {
                blocks,
                events,
                confirmed,
                policy,
                domain,
            })
            .await?;
        for channel in closing {
            // Nobody has to be listening.
            let _ = self.inner.closing.send(channel);
        }
        Ok(outcome)
    }

    /// Tells of each channel whose close was requested, or which is over, as soon as the event is recorded: streams on it
    /// stop then (design, section 4, "Follower"). What was recorded before is not told again.
    pub fn closing_channels(&self) -> broadcast::Receiver<ChannelId> {
        self.inner.closing.subscribe()
    }
}

struct ApplyBlocks {
    blocks: Vec<Block>,
    events: Vec<ChainEvent>,
    confirmed: BlockNumber,
    policy: ObligationPolicy,
    domain: Domain,
}

impl Operation for ApplyBlocks {
    const NAME: &'static str = "apply blocks";
    type Output = Outcome;
    type Error = ApplyError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, ApplyError> {
        let cursor = newest_block(session).await?;
        let Some(last) = self.blocks.last() else {
            return Err(ApplyError::Unordered);
        };
        let known = self.check_blocks(session, cursor.as_ref()).await?;
        if known {
            return Ok(Outcome::AlreadyKnown);
        }
        let from = cursor.as_ref().map(|block| block.number);
        self.check_events(from, last.number)?;

        let mut events: Vec<&ChainEvent> = self.events.iter().collect();
        events.sort_by_key(|event| (event.block, event.position));
        for block in self.blocks.iter().filter(|block| Some(block.number) > from) {
            session
                .write(
                    sql("INSERT INTO blocks (number, hash, parent, timestamp) VALUES ($1, $2, $3, $4)")
                        .put(block.number)
                        .put(block.hash)
                        .put(block.parent)
                        .put(block.timestamp),
                )
                .await?;
        }
        let mut latest = BTreeMap::new();
        for event in events {
            if insert_event(session, event).await? {
                self.derive(session, event, &mut latest).await?;
            }
        }
        for (channel, state) in &latest {
            store_state(session, Height::Latest, *channel, *state).await?;
        }
        self.advance_confirmed(session, last.number).await?;
        closings::tell(session, self.events.iter().filter_map(|event| event.kind.closes())).await?;
        Ok(Outcome::Recorded)
    }
}

impl ApplyBlocks {
    /// Whether all of the blocks are recorded already.
    async fn check_blocks(&self, session: &mut Session, cursor: Option<&Block>) -> Result<bool, ApplyError> {
        for pair in self.blocks.windows(2) {
            if pair[1].number <= pair[0].number {
                return Err(ApplyError::Unordered);
            }
            if pair[1].number == pair[0].number.next() && pair[1].parent != pair[0].hash {
                return Err(ApplyError::DoesNotConnect { block: pair[1].number });
            }
        }
        let Some(cursor) = cursor else {
            return Ok(false);
        };
        let mut known = true;
        for block in &self.blocks {
            if block.number > cursor.number {
                known = false;
                if block.number == cursor.number.next() && block.parent != cursor.hash {
                    return Err(ApplyError::DoesNotConnect { block: block.number });
                }
            } else if block_at(session, block.number)
                .await?
                .is_none_or(|recorded| recorded.hash != block.hash)
            {
                return Err(ApplyError::DoesNotConnect { block: block.number });
            }
        }
        Ok(known)
    }

    fn check_events(&self, after: Option<BlockNumber>, last: BlockNumber) -> Result<(), ApplyError> {
        let hashes: BTreeMap<BlockNumber, B256> = self.blocks.iter().map(|block| (block.number, block.hash)).collect();
        for event in &self.events {
            let inside = Some(event.block) > after && event.block <= last;
            if !inside || hashes.get(&event.block).is_some_and(|hash| *hash != event.block_hash) {
                return Err(ApplyError::StrayEvent {
                    block: event.block,
                    position: event.position,
                });
            }
            if let ChainEventKind::ChannelOpened {
                channel, parameters, ..
            } = &event.kind
                && parameters.id(&self.domain) != *channel
            {
                return Err(ApplyError::WrongChannelId { channel: *channel });
            }
        }
        Ok(())
    }

    /// What follows from one event, seen at the newest block.
    async fn derive(
        &self,
        session: &mut Session,
        event: &ChainEvent,
        latest: &mut BTreeMap<ChannelId, Option<ChannelState>>,
    ) -> Result<(), LedgerError> {
        let Some(channel) = event.kind.channel() else {
            return Ok(());
        };
        if let ChainEventKind::ChannelOpened {
            parameters,
            refunds_to_balance,
            ..
        } = &event.kind
        {
            session
                .write(
                    sql("INSERT INTO channels (id, payer, payee, token, salt, authorized_signer, opened_in, refunds_to_balance)
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                         ON CONFLICT (id) DO UPDATE SET opened_in = $7, refunds_to_balance = $8")
                    .put(channel)
                    .put(parameters.payer)
                    .put(parameters.payee)
                    .put(parameters.token)
                    .put(parameters.salt)
                    .put(parameters.authorized_signer)
                    .put(event.block)
                    .put(*refunds_to_balance),
                )
                .await?;
        }
        let before = match latest.get(&channel) {
            Some(state) => *state,
            None => find_channel(session, channel).await?.and_then(|record| record.latest),
        };
        let after = ChannelState::after(before, &event.kind);
        latest.insert(channel, after);
        if let (ChainEventKind::CloseRequested { requested_at, .. }, Some(_)) = (&event.kind, after) {
            let payee = find_channel(session, channel)
                .await?
                .map(|record| record.parameters.payee);
            let is_ours = payee.is_some_and(|payee| self.policy.payees.contains(&payee));
            if is_ours || is_served(session, channel).await? || is_held(session, channel).await? {
                insert_obligation(
                    session,
                    channel,
                    *requested_at,
                    self.policy.grace,
                    (event.block_hash, event.position),
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Brings what is derived at the confirmed block up to the new one.
    async fn advance_confirmed(&self, session: &mut Session, last: BlockNumber) -> Result<(), LedgerError> {
        let before = confirmed_block(session).await?;
        let confirmed = self.confirmed.min(last);
        if Some(confirmed) <= before {
            return Ok(());
        }
        let newly = session
            .rows(
                sql(SELECT_NEWLY_CONFIRMED)
                    .put(before.map_or(BlockNumber::default(), BlockNumber::next))
                    .put(confirmed),
            )
            .await?;
        let mut states: BTreeMap<ChannelId, Option<ChannelState>> = BTreeMap::new();
        for row in &newly {
            let channel = row.read("channel")?;
            let before = match states.get(&channel) {
                Some(state) => *state,
                None => find_channel(session, channel)
                    .await?
                    .and_then(|record| record.confirmed),
            };
            states.insert(channel, ChannelState::after(before, &read_event_kind(row)?));
        }
        for (channel, state) in &states {
            store_state(session, Height::Confirmed, *channel, *state).await?;
            refresh_authorized(session, *channel).await?;
        }
        session
            .write(
                sql("UPDATE store SET confirmed = $1;
                     DELETE FROM blocks
                     WHERE number < $2 AND number < (SELECT number FROM blocks ORDER BY number DESC LIMIT 1)")
                .put(confirmed)
                .put(confirmed.below(BLOCKS_KEPT)),
            )
            .await?;
        Ok(())
    }
}

pub(crate) enum Height {
    Confirmed,
    Latest,
}

pub(crate) async fn store_state(
    session: &mut Session,
    height: Height,
    channel: ChannelId,
    state: Option<ChannelState>,
) -> Result<(), LedgerError> {
    let statement = match height {
        Height::Confirmed => sql(
            "UPDATE channels SET confirmed_deposit = $2, confirmed_settled = $3, confirmed_close_requested_at = $4,
                                 confirmed_finalized = $5 WHERE id = $1",
        ),
        Height::Latest => sql(
            "UPDATE channels SET latest_deposit = $2, latest_settled = $3, latest_close_requested_at = $4,
                                 latest_finalized = $5 WHERE id = $1",
        ),
    };
    session
        .write(
            statement
                .put(channel)
                .put_optional(state.map(|state| state.deposit))
                .put_optional(state.map(|state| state.settled))
                .put_optional(state.and_then(|state| state.close_requested_at))
                .put_optional(state.map(|state| state.finalized)),
        )
        .await?;
    Ok(())
}

/// Whether the event is new: endpoints repeat themselves.
async fn insert_event(session: &mut Session, event: &ChainEvent) -> Result<bool, LedgerError> {
    let data = to_json(&event.kind)?;
    let inserted = session
        .write(
            sql(
                "INSERT INTO events (block_hash, position, block, transaction_hash, channel, account, name, data)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            )
            .put(event.block_hash)
            .put(event.position)
            .put(event.block)
            .put(event.transaction)
            .put_optional(event.kind.channel())
            .put_optional(event.kind.account())
            .put(event.kind.name().to_owned())
            .put(data),
        )
        .await?;
    Ok(inserted > 0)
}

pub(crate) async fn confirmed_block(session: &mut Session) -> Result<Option<BlockNumber>, LedgerError> {
    match session.row(sql("SELECT confirmed FROM store")).await? {
        Some(row) => row.read_optional("confirmed"),
        None => Ok(None),
    }
}

pub(crate) async fn newest_block(session: &mut Session) -> Result<Option<Block>, LedgerError> {
    let statement = sql("SELECT number, hash, parent, timestamp FROM blocks ORDER BY number DESC LIMIT 1");
    session.row(statement).await?.as_ref().map(read_block).transpose()
}

async fn block_at(session: &mut Session, number: BlockNumber) -> Result<Option<Block>, LedgerError> {
    let statement = sql("SELECT number, hash, parent, timestamp FROM blocks WHERE number = $1").put(number);
    session.row(statement).await?.as_ref().map(read_block).transpose()
}

fn read_block(row: &Row) -> Result<Block, LedgerError> {
    Ok(Block {
        number: row.read("number")?,
        hash: row.read("hash")?,
        parent: row.read("parent")?,
        timestamp: row.read("timestamp")?,
    })
}

/// Why blocks are not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// There are none, or they don't ascend.
    #[error("the blocks are not in ascending order")]
    Unordered,
    /// A block is not the child of the one before it, or another block is recorded in its place: a fork.
    #[error("the block {block} does not connect to the chain recorded so far")]
    DoesNotConnect {
        /// Its height.
        block: BlockNumber,
    },
    /// An event lies outside the blocks, or in another block of the same height.
    #[error("the event {position} of block {block} lies in none of the blocks")]
    StrayEvent {
        /// Its block.
        block: BlockNumber,
        /// Its place in it.
        position: EventPosition,
    },
    /// A channel's id is not the hash of its parameters on this deployment: the endpoint lies.
    #[error("the channel {channel} was opened with parameters of another id")]
    WrongChannelId {
        /// The id.
        channel: ChannelId,
    },
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Failure for ApplyError {
    fn ledger(&self) -> Option<&LedgerError> {
        match self {
            Self::Ledger(error) => Some(error),
            _ => None,
        }
    }
}
