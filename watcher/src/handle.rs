use std::time::Duration;

use alloy::primitives::B256;
use lloom_ledger::{Block, ClaimBy, LedgerError};
use lloom_receipts::{BlockNumber, ChannelId, TokenAmount, UnixSeconds};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    batch::RowRefused, chain::EndpointHealth, deferral::DeferralCounts, explanation::Explanation,
    metrics::WatcherMetrics, planner::Plan, quarantine::QuarantinedRow, sender::SendError, settler::ClaimFilter,
    stall::Stall,
};

/// Orders that wait to be taken up.
pub(crate) const MAX_WAITING_ORDERS: usize = 32;

/// Gives orders to a running [`Watcher`](crate::Watcher). Clones give orders to the same one.
#[derive(Clone, Debug)]
pub struct WatcherHandle {
    pub(crate) orders: mpsc::Sender<Command>,
    pub(crate) status: watch::Receiver<WatcherStatus>,
    pub(crate) metrics: WatcherMetrics,
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, HandleError>>;

#[derive(Debug)]
pub(crate) enum Command {
    Claim {
        filter: ClaimFilter,
        reply: Reply<ClaimReport>,
    },
    Plan {
        filter: ClaimFilter,
        reply: Reply<Plan>,
    },
    Explain {
        channel: ChannelId,
        reply: Reply<Explanation>,
    },
    Close {
        channel: ChannelId,
        reply: Reply<CloseReport>,
    },
    Sync {
        reply: Reply<Block>,
    },
}

impl Command {
    pub(crate) fn fail(self, error: HandleError) {
        // Whoever stopped waiting needs no answer.
        match self {
            Self::Claim { reply, .. } => drop(reply.send(Err(error))),
            Self::Plan { reply, .. } => drop(reply.send(Err(error))),
            Self::Explain { reply, .. } => drop(reply.send(Err(error))),
            Self::Close { reply, .. } => drop(reply.send(Err(error))),
            Self::Sync { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// Where a watcher stands. A watcher whose `last_progress` stays behind is silent, whatever else it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatcherStatus {
    /// The newest block an endpoint has shown.
    pub head: Option<Block>,
    /// When that was shown first, by this machine's clock.
    pub head_since: Option<UnixSeconds>,
    /// The newest block whose events are in the ledger.
    pub cursor: Option<Block>,
    /// The newest block that counts as final.
    pub confirmed: Option<BlockNumber>,
    /// When a round was last completed; until the head was reached once, when blocks were last applied.
    pub last_progress: Option<UnixSeconds>,
    /// Whether the head was reached since this process began.
    pub caught_up: bool,
    /// Sent transactions whose fate is unknown, those of earlier leaders' keys among them.
    pub pending_transactions: usize,
    /// Closes that payers have asked for and that are not dealt with for good.
    pub obligations: usize,
    /// The first deadline of those in which anything is unclaimed, or is still to be billed.
    pub next_deadline: Option<UnixSeconds>,
    /// Whether another watcher on the same store leads, and this one waits to take over. It still looks whether the
    /// store keeps up with the chain, which is its progress then.
    pub standing_by: bool,
    /// Channels that could be claimed and wait.
    pub deferred: usize,
    /// How often that was so, and why.
    pub deferrals: DeferralCounts,
    /// Channels whose rows failed, and when they are tried again.
    pub quarantined: Vec<QuarantinedRow>,
    /// Channels that are due and of which no claim goes forward, if there are any.
    pub stalled: Option<Stall>,
    /// How the chain's endpoints do, in the order they are configured.
    pub endpoints: Vec<EndpointHealth>,
    /// What went wrong last, until a round succeeds: the chain does not answer, or gas money is missing.
    pub problem: Option<String>,
}

impl WatcherStatus {
    /// Another watcher leads from now on: what this one led with is that one's. What it sees of the chain, and what it
    /// counted, stays.
    pub(crate) fn stand_by(&mut self) {
        self.standing_by = true;
        self.problem = None;
        self.pending_transactions = 0;
        self.obligations = 0;
        self.next_deadline = None;
        self.deferred = 0;
        self.quarantined.clear();
        self.stalled = None;
    }

    /// Takes what an endpoint shows as the newest block.
    pub(crate) fn see(&mut self, head: Block, now: UnixSeconds) {
        if self.head.is_none_or(|before| before.hash != head.hash) {
            self.head_since = Some(now);
        }
        self.head = Some(head);
    }

    /// The head, and how old it is, where that is more than `limit`; never without one, as where a chain may stand still.
    /// An endpoint that has lost its peers goes on to answer, with the same head: what happens on the chain is not seen.
    ///
    /// A head is as old as it says, or as long as nothing newer was shown: the one is wrong where this machine's clock is
    /// behind, the other where an endpoint is only now catching up.
    pub fn old_head(&self, now: UnixSeconds, limit: Option<Duration>) -> Option<(Block, Duration)> {
        let head = self.head?;
        let shown = self.head_since.map_or(Duration::ZERO, |since| now.since(since));
        let age = now.since(head.timestamp).max(shown);
        limit.is_some_and(|limit| age > limit).then_some((head, age))
    }

    /// How many blocks the ledger is behind the head.
    pub fn behind(&self) -> u64 {
        match (self.head, self.cursor) {
            (Some(head), Some(cursor)) => head.number.get().saturating_sub(cursor.number.get()),
            (Some(head), None) => head.number.get(),
            (None, _) => 0,
        }
    }
}

/// What came of an order to claim, once all of it is final.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimReport {
    /// The transactions, in the order they were sent.
    pub transactions: Vec<ClaimTransaction>,
    /// Their rows.
    pub rows: Vec<ClaimedRow>,
    /// Channels that were left out because the chain would have skipped them.
    pub refused: Vec<RowRefused>,
    /// Why the rest was not sent, if it wasn't.
    pub failure: Option<String>,
}

/// One transaction of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTransaction {
    /// The hash it was mined under; a replacement's, if that was it.
    pub hash: B256,
    /// What authorized it.
    pub by: ClaimBy,
    /// How many channels it carried: fewer than were ordered, if a part took its place.
    pub rows: usize,
    /// How it ended; `None` when a stranger's transaction used its nonce.
    pub mined: Option<MinedClaim>,
}

/// How a transaction ended in a final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinedClaim {
    /// The block.
    pub block: BlockNumber,
    /// Whether it ran through.
    pub succeeded: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// What it paid, wei per gas.
    pub gas_price: u128,
}

/// What came of one channel of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedRow {
    /// The channel.
    pub channel: ChannelId,
    /// What was to be settled, base units.
    pub target: TokenAmount,
    /// What is settled, base units. Whoever settled it: from the target on, the claim has reached its end.
    pub settled: TokenAmount,
}

impl ClaimedRow {
    /// Whether the channel's `settled` got where the claim wanted it.
    pub fn is_reached(&self) -> bool {
        self.settled >= self.target
    }
}

/// What came of an order to close a channel, once it is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// The channel.
    pub channel: ChannelId,
    /// The transaction that closed it.
    pub transaction: B256,
    /// How it ended.
    pub mined: MinedClaim,
    /// The claim that had to go before it, if one had to.
    pub claimed_first: Option<B256>,
    /// What the channel paid in all, base units.
    pub settled: TokenAmount,
    /// What was billed and no authorization covered, base units: given up with the close.
    pub forfeited: TokenAmount,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The watcher is not running any more.
    #[error("the watcher has stopped")]
    Stopped,
    /// The chain can't be followed at the moment.
    #[error("the chain can't be followed: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Another watcher on the same store leads: it claims and closes.
    #[error("another watcher of this store leads; this one stands by and neither claims nor closes")]
    StandsBy,
    /// Another watcher on the same store leads from now on. What was sent of the order goes its way, and that one looks
    /// after it.
    #[error(
        "another watcher of this store leads now; what was sent of this order is in its hands, and is not reported here"
    )]
    HandedOver,
    /// The transaction can't be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The channel can't be closed.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why a channel can't be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// The ledger doesn't know it.
    #[error("the channel {channel} is not known here")]
    Unknown {
        /// The channel.
        channel: ChannelId,
    },
    /// It pays somebody whose operator this watcher's key is not.
    #[error("the channel {channel} pays {payee}, who does not name this watcher's key as its operator")]
    NotOurs {
        /// The channel.
        channel: ChannelId,
        /// Whom it pays.
        payee: alloy::primitives::Address,
    },
    /// It is over already, or was never opened.
    #[error("the channel {channel} is not open")]
    NotOpen {
        /// The channel.
        channel: ChannelId,
    },
    /// A request of it is still being served: its bill would be forfeited.
    #[error("a request of the channel {channel} is still being served")]
    Busy {
        /// The channel.
        channel: ChannelId,
    },
    /// The transactions ended without closing it.
    #[error("the channel {channel} is still open after {attempts} attempts")]
    StillOpen {
        /// The channel.
        channel: ChannelId,
        /// How many transactions were tried.
        attempts: u32,
    },
}

impl WatcherHandle {
    /// Claims what `filter` selects, whatever it costs, and waits until that is final.
    ///
    /// # Errors
    /// [`HandleError`]. An order that is given up (by dropping this future) is carried out all the same.
    pub async fn claim_now(&self, filter: ClaimFilter) -> Result<ClaimReport, HandleError> {
        self.order(|reply| Command::Claim { filter, reply }).await
    }

    /// What would be claimed at this moment without an order: why now, and why not yet. Sends nothing.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn plan(&self, filter: ClaimFilter) -> Result<Plan, HandleError> {
        self.order(|reply| Command::Plan { filter, reply }).await
    }

    /// Why a channel would be claimed at this moment, or would not. Sends nothing.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn explain(&self, channel: ChannelId) -> Result<Explanation, HandleError> {
        self.order(|reply| Command::Explain { channel, reply }).await
    }

    /// Closes a channel with the best it holds, and waits until that is final. What only a voucher covers is claimed
    /// first, where usage is to be published.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn close_channel(&self, channel: ChannelId) -> Result<CloseReport, HandleError> {
        self.order(|reply| Command::Close { channel, reply }).await
    }

    /// Waits until the ledger has everything up to a head that was seen after this call. Returns that block.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn synced(&self) -> Result<Block, HandleError> {
        self.order(|reply| Command::Sync { reply }).await
    }

    /// Where the watcher stands, and how that changes.
    pub fn status(&self) -> watch::Receiver<WatcherStatus> {
        self.status.clone()
    }

    /// What the watcher and its sender do.
    pub const fn metrics(&self) -> &WatcherMetrics {
        &self.metrics
    }

    async fn order<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, HandleError> {
        let (reply, answer) = oneshot::channel();
        self.orders
            .send(command(reply))
            .await
            .map_err(|_| HandleError::Stopped)?;
        answer.await.map_err(|_| HandleError::Stopped)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_as_old_as_it_says_or_as_long_as_it_stands() {
        let block = |number: u8, timestamp| Block {
            number: BlockNumber::new(u64::from(number)),
            hash: B256::repeat_byte(number),
            parent: B256::repeat_byte(number - 1),
            timestamp: UnixSeconds::new(timestamp),
        };
        let at = UnixSeconds::new;
        let limit = Some(Duration::from_secs(100));
        let mut status = WatcherStatus::default();
        assert_eq!(status.old_head(at(1_000), limit), None, "nothing was shown yet");

        status.see(block(7, 1_000), at(1_000));
        status.see(block(7, 1_000), at(1_090));
        assert_eq!(status.old_head(at(1_100), limit), None);
        let old = |age| Some((block(7, 1_000), Duration::from_secs(age)));
        assert_eq!(status.old_head(at(1_101), limit), old(101));
        assert_eq!(status.old_head(at(9_000), None), None, "this chain may stand still");

        // An endpoint that is only now catching up shows ever newer heads of long ago.
        status.see(block(8, 1_002), at(1_110));
        assert_eq!(
            status.old_head(at(1_111), limit),
            Some((block(8, 1_002), Duration::from_secs(109)))
        );

        // To a clock that is an hour behind, no block is old.
        status.see(block(9, 4_700), at(1_111));
        assert_eq!(status.old_head(at(1_211), limit), None);
        assert_eq!(
            status.old_head(at(1_212), limit),
            Some((block(9, 4_700), Duration::from_secs(101)))
        );
    }

    #[test]
    fn whoever_stands_by_shows_nothing_of_what_it_led_with() {
        let seen = WatcherStatus {
            head: Some(Block {
                number: BlockNumber::new(7),
                hash: B256::repeat_byte(7),
                parent: B256::repeat_byte(6),
                timestamp: UnixSeconds::new(70),
            }),
            confirmed: Some(BlockNumber::new(5)),
            last_progress: Some(UnixSeconds::new(71)),
            deferrals: DeferralCounts {
                gas_money: 3,
                ..DeferralCounts::default()
            },
            ..WatcherStatus::default()
        };
        let mut status = WatcherStatus {
            pending_transactions: 2,
            obligations: 1,
            next_deadline: Some(UnixSeconds::new(80)),
            deferred: 4,
            quarantined: vec![QuarantinedRow {
                channel: ChannelId::new(B256::repeat_byte(1)),
                reason: "it failed".to_owned(),
                until: UnixSeconds::new(90),
                failures: 1,
            }],
            stalled: Some(Stall {
                channels: 1,
                since: UnixSeconds::new(70),
                reason: "gas money is missing".to_owned(),
            }),
            problem: Some("gas money is missing".to_owned()),
            ..seen.clone()
        };
        status.stand_by();
        let expected = WatcherStatus {
            standing_by: true,
            ..seen
        };
        assert_eq!(status, expected);
    }
}
