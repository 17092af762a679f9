use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use lloom_bindings::ChannelEscrow;
use lloom_ledger::{Block, Leadership, Ledger, LedgerError, ObligationPolicy, SettleError};
use lloom_receipts::{BlockNumber, Domain, Keypair, UnixSeconds, Verifier};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    books::Books,
    chain::{Chain, ChainError, StateAt},
    defence::DefencePolicy,
    deferral::Deferrals,
    event::Emitters,
    explanation,
    fees::{FeePolicy, REPLACEMENTS_BEFORE_DEADLINE},
    follower::{Change, FollowError, Follower, Step},
    handle::{Command, HandleError, MAX_WAITING_ORDERS, WatcherHandle, WatcherStatus},
    lost_records::LostRecords,
    obligation,
    order::{ClaimOrder, CloseOrder},
    outbox::Outbox,
    payees::Payees,
    planner::PlannerPolicy,
    quarantine::Quarantine,
    sender::{Heights, RECENT_TRANSACTIONS, SendError, Sender},
    settler::{ClaimFilter, Settler},
    stall::Stalls,
    view::read,
};

mod closing;
mod due;
mod sent;
mod standby;
mod trouble;
mod unfollowed;
mod yielding;

use due::DueClaims;
use trouble::{RoundError, Trouble};

/// Steps of the follower in one round at most: the rest of the work must not wait for a chain that outruns it.
const MAX_STEPS: usize = 4_096;
/// The longest wait between two tries while the chain does not answer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// Whom a watcher works for, and how.
#[derive(Clone, Debug)]
pub struct WatcherConfig {
    /// The contracts that settle, and their chain.
    pub domain: Domain,
    /// The contract that names operators.
    pub registry: Address,
    /// No event of the contracts lies before this block.
    pub start_block: BlockNumber,
    /// Whose channels are claimed, and in which token. For whom else the store serves channels, they are claimed in the same
    /// tokens.
    pub payees: Vec<(Address, Address)>,
    /// How many blocks have to lie on top of one until it counts as final.
    pub confirmations: u64,
    /// How often the chain is looked at.
    pub poll_interval: Duration,
    /// Whether to claim without being ordered to.
    pub auto_claim: bool,
    /// For how long a leader's rounds may fail, what is due get nowhere, or its head be too old, until it lets another
    /// watcher of the store lead, which may have a better endpoint, or the gas money.
    pub yields_after: Duration,
    /// How old the newest block may be before the endpoint is taken to stand still; `None` where a chain may.
    pub max_head_age: Option<Duration>,
    /// When a claim is worth it.
    pub planner: PlannerPolicy,
    /// What is paid for gas.
    pub fees: FeePolicy,
}

/// Follows the chain, claims, closes and meets deadlines, until it is cancelled.
///
/// It may be stopped at any moment, also by `kill -9`: what it has decided is in the ledger before it acts, and the
/// next watcher on the same ledger goes on from there. Of several watchers on one store, one leads and the others stand
/// by.
pub struct Watcher<C> {
    config: WatcherConfig,
    chain: C,
    ledger: Ledger,
    sender: Sender<C>,
    defence: Option<DefencePolicy>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<WatcherStatus>,
    /// When it made room for another leader because its own rounds failed, unless one has succeeded since.
    yielded_at: Option<Instant>,
    /// What got nowhere when it last made room, and when that was.
    remembered: Option<(Instant, Stalls)>,
}

/// Why a watcher stopped. A chain that does not answer is no reason: it waits for that.
#[derive(Debug, thiserror::Error)]
pub enum WatcherError {
    /// The endpoints serve another chain.
    #[error("cannot follow the chain")]
    Chain(#[source] ChainError),
    /// The store was written for another chain.
    #[error("none of the stored blocks, from {oldest} on, is in the endpoint's chain: the store is another chain's")]
    ForeignChain {
        /// The oldest stored block.
        oldest: BlockNumber,
    },
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store refuses what was settled.
    #[error("the store refuses what was settled")]
    Settle(#[source] SettleError),
    /// A stored transaction is damaged.
    #[error(transparent)]
    Send(SendError),
}

impl<C: Chain> Watcher<C> {
    /// A watcher that signs and pays its transactions with `operator`: an active operator of the payees, or the payee
    /// itself. While it is neither, it claims by vouchers alone, which anyone may, and closes nothing.
    pub fn new(config: WatcherConfig, chain: C, ledger: Ledger, operator: Keypair) -> (Self, WatcherHandle) {
        let (orders, commands) = mpsc::channel(MAX_WAITING_ORDERS);
        let (status, receiver) = watch::channel(WatcherStatus::default());
        let sender = Sender::new(
            chain.clone(),
            ledger.clone(),
            operator,
            config.domain.chain_id(),
            config.fees.clone(),
        );
        let watcher = Self {
            config,
            chain,
            ledger,
            sender,
            defence: None,
            commands,
            status,
            yielded_at: None,
            remembered: None,
        };
        let handle = WatcherHandle {
            orders,
            status: receiver,
            metrics: watcher.sender.metrics().clone(),
        };
        (watcher, handle)
    }

    /// Makes it a tower, too: it defends what its ledger holds for others ([`Ledger::take_on`]). For that its key has to
    /// be nobody's operator: anyone may claim by vouchers, because it pays the payee alone.
    #[must_use]
    pub fn defending(mut self, policy: DefencePolicy) -> Self {
        self.defence = Some(policy);
        self
    }

    /// An outbox of the operator's key, for other transactions of the same process. An outbox made apart
    /// from this watcher would give the same nonces out twice.
    pub fn outbox(&self) -> Outbox<C> {
        Outbox::beside(
            self.chain.clone(),
            self.ledger.clone(),
            self.sender.clone(),
            self.config.confirmations,
            self.config.poll_interval,
        )
    }

    /// Works until `cancel` is cancelled.
    ///
    /// # Errors
    /// [`WatcherError`] when going on would be wrong. Whoever runs it must not serve on without it.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), WatcherError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            stopped = self.work() => match stopped {
                Ok(never) => match never {},
                Err(error) => Err(error),
            },
        }
    }

    async fn work(mut self) -> Result<Infallible, WatcherError> {
        let mut backoff = Backoff::new(self.config.poll_interval, LONGEST_BACKOFF);
        let mut rounds: Option<Rounds<C>> = None;
        let mut commands = Vec::new();
        let mut leadership: Option<Leadership> = None;
        let mut leads_since = Instant::now();
        let mut failing_since = None;
        loop {
            let mut began = Instant::now();
            let outcome = match &mut rounds {
                Some(rounds) if leadership.as_ref().is_some_and(|held| !held.is_lost()) => {
                    rounds.round(&mut commands).await
                }
                _ => {
                    // What a leader before this one did is in the ledger, and only there.
                    self.hand_over(&mut rounds);
                    leadership = None;
                    let elected = self.stand_by(&mut commands).await;
                    // Standing by is part of no round, and may take days.
                    began = Instant::now();
                    leads_since = began;
                    match elected {
                        Ok(elected) => {
                            leadership = Some(elected);
                            match self.begin().await {
                                Ok(begun) => {
                                    let begun = rounds.insert(begun);
                                    begun.stalls = self.recall();
                                    begun.round(&mut commands).await
                                }
                                Err(error) => Err(error),
                            }
                        }
                        Err(error) => Err(error.into()),
                    }
                }
            };
            let endpoints = self.chain.endpoints();
            self.status.send_modify(|status| status.endpoints = endpoints);
            self.sender.metrics().round(outcome.is_ok(), began.elapsed());
            let is_contested = leadership.as_ref().is_some_and(Leadership::is_contested);
            let wait = match outcome.map_err(Trouble::sort) {
                Ok(()) => {
                    backoff.succeeded();
                    failing_since = None;
                    self.yielded_at = None;
                    match self.gets_nowhere(leads_since, is_contested).await {
                        None => self.config.poll_interval,
                        Some(reason) => {
                            tracing::error!(reason, "letting another watcher of this store lead");
                            self.hand_over(&mut rounds);
                            leadership = None;
                            self.aside()
                        }
                    }
                }
                Err(Trouble::Deposed) => {
                    tracing::warn!("another watcher of this store was elected");
                    self.hand_over(&mut rounds);
                    leadership = None;
                    self.config.poll_interval
                }
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Passing(reason)) => {
                    tracing::warn!(reason, "a round failed; trying again");
                    for command in commands.drain(..) {
                        command.fail(HandleError::Unavailable { reason: reason.clone() });
                    }
                    self.status.send_modify(|status| status.problem = Some(reason));
                    let since = *failing_since.get_or_insert(began);
                    if is_contested && since.elapsed() >= self.config.yields_after {
                        tracing::error!("rounds have failed for too long: letting another watcher of this store lead");
                        self.hand_over(&mut rounds);
                        leadership = None;
                        failing_since = None;
                        backoff.succeeded();
                        self.yielded_at = Some(Instant::now());
                        self.aside()
                    } else {
                        self.no_longer_than_allowed(backoff.failed())
                    }
                }
            };
            tokio::select! {
                biased;
                Some(command) = self.commands.recv() => commands.push(command),
                () = tokio::time::sleep(wait) => {}
            }
            while let Ok(command) = self.commands.try_recv() {
                commands.push(command);
            }
        }
    }

    /// A wait, cut to a tenth of the time until the next deadline: what doesn't answer now may answer then.
    fn no_longer_than_allowed(&self, wait: Duration) -> Duration {
        let Some(deadline) = self.status.borrow().next_deadline else {
            return wait;
        };
        // Deadlines are the chain's: its time counts where it is ahead.
        let cursor = self.status.borrow().cursor;
        let now = self
            .ledger
            .now()
            .max(cursor.map_or(UnixSeconds::default(), |block| block.timestamp));
        let part = deadline.since(now) / REPLACEMENTS_BEFORE_DEADLINE;
        wait.min(part.max(self.config.poll_interval))
    }

    async fn begin(&self) -> Result<Rounds<C>, RoundError> {
        let config = &self.config;
        let view = ChannelEscrow::CLOSE_GRACE_PERIODCall {};
        let grace = Duration::from_secs(read(&self.chain, config.domain.escrow(), &view).await?);
        let mut planner = config.planner.clone();
        if let Some(defence) = &self.defence {
            // What is due for others presses like one's own: the planner asks for no profit of it.
            planner.safety_margin = planner.safety_margin.max(defence.margin(grace));
        }
        let emitters = Emitters {
            escrow: config.domain.escrow(),
            settlement: config.domain.settlement(),
            registry: config.registry,
        };
        let obligations = ObligationPolicy {
            payees: config.payees.iter().map(|(payee, _)| *payee).collect(),
            grace,
        };
        Ok(Rounds {
            resumed: false,
            lost_records: LostRecords::begin(self.chain.clone(), self.ledger.clone(), self.sender.account()).await?,
            follower: Follower::new(
                self.chain.clone(),
                self.ledger.clone(),
                emitters,
                config.start_block,
                config.confirmations,
                obligations,
            ),
            settler: Settler {
                chain: self.chain.clone(),
                ledger: self.ledger.clone(),
                domain: config.domain,
                emitters,
                policy: planner,
                sender: self.sender.clone(),
                verifier: Verifier::default(),
                at: StateAt::Latest,
                quarantine: Quarantine::restore(&self.ledger.transactions(RECENT_TRANSACTIONS).await?),
                deferrals: Deferrals::default(),
            },
            payees: Payees::new(config.payees.clone()),
            config: config.clone(),
            defence: self.defence,
            grace,
            status: self.status.clone(),
            claims: Vec::new(),
            closes: Vec::new(),
            stalls: Stalls::default(),
        })
    }
}

/// What lives from round to round. All of it could be lost: the ledger has what counts.
struct Rounds<C> {
    /// What an earlier process sent is sent again.
    resumed: bool,
    lost_records: LostRecords<C>,
    config: WatcherConfig,
    payees: Payees,
    defence: Option<DefencePolicy>,
    follower: Follower<C>,
    settler: Settler<C>,
    grace: Duration,
    status: watch::Sender<WatcherStatus>,
    claims: Vec<ClaimOrder>,
    closes: Vec<CloseOrder>,
    stalls: Stalls,
}

impl<C: Chain> Rounds<C> {
    /// Follows the chain to its head, looks after what was sent, claims what is due, and carries out `commands`.
    async fn round(&mut self, commands: &mut Vec<Command>) -> Result<(), RoundError> {
        let step = match self.follow().await {
            Ok(step) => step,
            Err(error) => {
                if matches!(&error, RoundError::Follow(FollowError::Chain(error)) if error.is_transient()) {
                    self.claim_unfollowed().await?;
                }
                return Err(error);
            }
        };
        let cursor = step.cursor;
        self.settler.at = StateAt::Block(cursor.hash);
        let ledger = self.settler.ledger.clone();
        let Some(confirmed) = self.confirmed_block().await? else {
            // Nothing is final yet, so there is nothing to do.
            self.status
                .send_modify(|status| status.last_progress = Some(ledger.now()));
            return Ok(());
        };
        let heights = Heights {
            head: cursor,
            confirmed,
        };
        // Deadlines are the chain's: its time counts where it is ahead.
        let now = ledger.now().max(cursor.timestamp);
        self.payees.look(&ledger, self.settler.sender.account(), now).await?;

        if !self.resumed {
            // Not before the blocks were compared: another chain of the same id would execute it.
            self.settler.sender.rebroadcast_all(now).await?;
            self.resumed = true;
        }
        let books = self.books_of_sent(now).await?;
        let advanced = self.look_after_sent(heights, now, books.as_ref()).await?;
        self.review(confirmed).await?;
        // After the review, which wants to see that what was held is settled.
        if self.defence.is_some() {
            self.settler.let_damaged_held_go().await?;
            // By the chain's time alone: a machine's clock that jumps ahead must not make promises expire.
            let gone = ledger.prune_held(cursor.timestamp).await?;
            if gone > 0 {
                tracing::debug!(vouchers = gone, "let go of what is settled, over or expired");
            }
        }

        let mut outcome = DueClaims::default();
        // Planned on an old state, a claim would be simulated on a state that endpoints have forgotten.
        if self.config.auto_claim && step.is_at_head() {
            outcome = self.claim_due(now).await?;
        }
        // It is one to say that the round failed.
        advanced?;
        // Orders are carried out on the newest state, or wait for it.
        if step.is_at_head() {
            // One by one: those behind one that fails stay, and are told.
            let mut next = 0;
            while next < commands.len() {
                // Whoever waits for this must not go on with a store that may be an old copy, nor with an old head: what was
                // done since is not seen there.
                let is_in_sight = || !self.lost_records.is_behind() && !self.is_head_old();
                if matches!(commands[next], Command::Sync { .. }) && !is_in_sight() {
                    next += 1;
                    continue;
                }
                let command = commands.remove(next);
                self.carry_out(command, cursor, now).await?;
            }
        }
        self.continue_orders(now).await?;

        let pending = ledger.pending_transactions().await?;
        let DueClaims { problem, unsent } = outcome;
        let stalled = match step.is_at_head() {
            true => self.stalled(unsent, &pending, books.as_ref(), now),
            // Nothing was tried.
            false => self.status.borrow().stalled.clone(),
        };
        let (deferrals, quarantined) = (&self.settler.deferrals, self.settler.quarantine.list());
        self.status.send_modify(|status| {
            status.confirmed = Some(confirmed.number);
            status.last_progress = Some(ledger.now());
            status.pending_transactions = pending.len();
            status.deferred = deferrals.channels();
            status.deferrals = deferrals.counts;
            status.quarantined = quarantined;
            status.stalled = stalled;
            status.problem = problem;
        });
        Ok(())
    }

    /// Brings the ledger to the head. Returns how far it came.
    async fn follow(&mut self) -> Result<Step, RoundError> {
        let mut steps = 0;
        loop {
            let step = self.follower.step().await?;
            match step.change {
                Some(Change::Reorged { ancestor, old }) => {
                    tracing::warn!(%ancestor, old = %old.number, "the chain forked; took back what was on the old fork");
                }
                Some(Change::Missed { ancestor, block }) => {
                    tracing::error!(%block, %ancestor, "an endpoint had left out logs of a block; reading the blocks from there on again");
                }
                Some(Change::Committed { last, events }) if events > 0 => {
                    tracing::debug!(block = %last.number, events, "applied events");
                }
                _ => {}
            }
            // Whoever waits for the head must not go on with a store that the chain proves to be an old copy.
            self.lost_records.look(&step).await?;
            let now = self.settler.ledger.now();
            self.status.send_modify(|status| {
                status.see(step.head, now);
                status.cursor = Some(step.cursor);
                // Blocks come in whatever else fails: once the head was reached, only whole rounds are progress.
                if step.change.is_some() && !status.caught_up {
                    status.last_progress = Some(now);
                }
                status.caught_up |= step.is_at_head();
            });
            steps += 1;
            if step.is_at_head() || step.change.is_none() || steps >= MAX_STEPS {
                return Ok(step);
            }
        }
    }

    fn is_head_old(&self) -> bool {
        let (now, limit) = (self.settler.ledger.now(), self.config.max_head_age);
        self.status.borrow().old_head(now, limit).is_some()
    }

    async fn confirmed_block(&self) -> Result<Option<Block>, RoundError> {
        let Some(number) = self.settler.ledger.confirmed_block().await? else {
            return Ok(None);
        };
        if let Some(block) = self.settler.ledger.block(number).await? {
            return Ok(Some(block));
        }
        // Far behind the head, blocks without events are not stored.
        Ok(self.settler.chain.block(number).await?)
    }

    /// Resolves obligations, and says what stands before anything of the round can fail: how long the next one waits
    /// depends on it.
    async fn review(&self, confirmed: Block) -> Result<(), RoundError> {
        let obligations = obligation::review(&self.settler.ledger, confirmed).await?;
        self.settler.sender.metrics().lost(obligations.lost);
        self.status.send_modify(|status| {
            status.obligations = obligations.standing;
            status.next_deadline = obligations.next_deadline;
        });
        Ok(())
    }

    async fn books(&self, now: UnixSeconds) -> Result<Books, LedgerError> {
        let (ledger, payees) = (&self.settler.ledger, &self.payees.all());
        let account = self.settler.sender.account();
        let mut books = Books::open(ledger, payees, self.grace, account, now, self.defence.as_ref()).await?;
        books.use_vouchers_for(self.payees.strangers());
        Ok(books)
    }

    async fn carry_out(&mut self, command: Command, cursor: Block, now: UnixSeconds) -> Result<(), RoundError> {
        match command {
            Command::Sync { reply } => drop(reply.send(Ok(cursor))),
            Command::Plan { filter, reply } => {
                let books = self.books(now).await?;
                let plan = self.settler.plan(&books, &filter, false, now).await;
                drop(reply.send(plan.map_err(HandleError::from)));
            }
            Command::Explain { channel, reply } => {
                let books = self.books(now).await?;
                // Of all channels: they share the fee of a claim.
                match self.settler.plan(&books, &ClaimFilter::default(), false, now).await {
                    Err(error) => drop(reply.send(Err(error.into()))),
                    Ok(plan) => {
                        let ledger = &self.settler.ledger;
                        let explained = explanation::explain(ledger, &books, &self.settler, &plan, channel).await?;
                        drop(reply.send(Ok(explained)));
                    }
                }
            }
            Command::Claim { filter, reply } => {
                let books = self.books(now).await?;
                match self.settler.plan(&books, &filter, true, now).await {
                    Err(error) => drop(reply.send(Err(error.into()))),
                    Ok(plan) => {
                        let claimed = self.settler.claim(&plan, &books, now).await;
                        match claimed.failure {
                            Some(error) if claimed.sent.is_empty() => drop(reply.send(Err(error.into()))),
                            _ => self.claims.push(ClaimOrder::new(claimed, reply)),
                        }
                    }
                }
            }
            Command::Close { channel, reply } => self.begin_close(channel, reply, now).await?,
        }
        Ok(())
    }

    async fn continue_orders(&mut self, now: UnixSeconds) -> Result<(), RoundError> {
        for order in std::mem::take(&mut self.claims) {
            self.claims.extend(order.answer(&self.settler.ledger).await?);
        }
        self.continue_closes(now).await
    }
}
