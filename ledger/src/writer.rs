//! The one writer.
//!
//! Operations queue up for it; it runs what is queued in one transaction, commits, and only then answers: one `fsync`
//! for all of them. An operation decides by reading before it writes, so one that is refused leaves nothing behind and
//! does not disturb the others. If the store itself fails, the whole batch is rolled back and each operation runs alone; if
//! the connection to it is lost, the whole batch runs again.

use std::{any::Any, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    LedgerError, error::Failure, lock::StoreLock, metrics::LedgerMetrics, postgres::Committed, session::Session,
};

/// Operations that may wait. Callers beyond wait for room in the queue.
pub(crate) const QUEUE_LIMIT: usize = 4_096;
/// Operations committed together at most, so that the first of a batch does not wait for too many others.
const BATCH_LIMIT: usize = 1_024;
/// For how long batches run again because the connection was lost, before their callers are told.
const RUN_AGAIN_FOR: Duration = Duration::from_secs(30);

/// Something to be done to the store, in one transaction.
///
/// It may run twice (the second time alone, when its batch failed), so it decides from what it reads and from `self`.
pub(crate) trait Operation: Send + 'static {
    /// A verb phrase for errors: "the store failed to …".
    const NAME: &'static str;
    type Output: Send + 'static;
    type Error: Failure + Send + 'static;

    fn run(&self, session: &mut Session) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// What the caller of an [`Operation`] gets.
type Answer<O> = Result<<O as Operation>::Output, <O as Operation>::Error>;

/// The order that goes through the queue.
pub(crate) enum Order {
    Run(Box<dyn Job>),
    /// Has the lock file say that it knows the store.
    Recognize(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// An [`Operation`] with the caller that waits for it, or several of one kind.
pub(crate) trait Job: Any + Send {
    /// Whether the transaction it ran in may be committed.
    fn attempt<'a>(&'a mut self, session: &'a mut Session) -> BoxFuture<'a, bool>;
    /// Tells the caller what the attempt found: its success is durable now.
    fn answer(self: Box<Self>);
    /// Tells the caller that nothing was recorded.
    fn fail(self: Box<Self>, error: LedgerError);

    /// Takes in a job that queued up right after it, or gives it back when the two can't be done as one.
    fn gather(&mut self, other: Box<dyn Job>) -> Option<Box<dyn Job>> {
        Some(other)
    }

    /// How many operations it is.
    fn operations(&self) -> usize {
        1
    }

    /// Undoes [`gather`](Self::gather): the jobs it consists of, in order.
    fn split(self: Box<Self>) -> Vec<Box<dyn Job>>;
}

/// Whether a transaction in which an operation came to `result` may be committed: it succeeded, or it left no trace.
pub(crate) fn may_commit<T, E: Failure>(result: &Result<T, E>, session: &Session) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => !session.wrote() && !error.ledger().is_some_and(LedgerError::is_of_the_store),
    }
}

pub(crate) struct Pending<O: Operation> {
    operation: O,
    result: Option<Answer<O>>,
    caller: oneshot::Sender<Answer<O>>,
}

impl<O: Operation> Pending<O> {
    pub(crate) fn new(operation: O) -> (Box<Self>, oneshot::Receiver<Answer<O>>) {
        let (caller, answer) = oneshot::channel();
        let pending = Self {
            operation,
            result: None,
            caller,
        };
        (Box::new(pending), answer)
    }
}

impl<O: Operation + Sync> Job for Pending<O> {
    fn attempt<'a>(&'a mut self, session: &'a mut Session) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            session.start(O::NAME);
            let result = self.operation.run(session).await;
            let sound = may_commit(&result, session);
            self.result = Some(result);
            sound
        })
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // A caller that stopped waiting loses the answer, not the record.
            let _ = self.caller.send(result);
        }
    }

    fn fail(self: Box<Self>, error: LedgerError) {
        let _ = self.caller.send(Err(error.into()));
    }

    fn split(self: Box<Self>) -> Vec<Box<dyn Job>> {
        vec![self]
    }
}

/// What the writer owns. The lock goes last.
pub(crate) struct Writer {
    session: Session,
    queue: mpsc::Receiver<Order>,
    lock: StoreLock,
    metrics: LedgerMetrics,
}

impl Writer {
    pub(crate) const fn new(
        session: Session,
        queue: mpsc::Receiver<Order>,
        lock: StoreLock,
        metrics: LedgerMetrics,
    ) -> Self {
        Self {
            session,
            queue,
            lock,
            metrics,
        }
    }

    /// Works until it is told to close or the last handle is gone.
    pub(crate) async fn run(mut self) {
        let mut closing = None;
        let mut orders = Vec::new();
        while closing.is_none() && self.queue.recv_many(&mut orders, BATCH_LIMIT).await > 0 {
            let mut jobs: Vec<Box<dyn Job>> = Vec::with_capacity(orders.len());
            for order in orders.drain(..) {
                match order {
                    Order::Run(job) => {
                        let apart = match jobs.last_mut() {
                            Some(last) => last.gather(job),
                            None => Some(job),
                        };
                        jobs.extend(apart);
                    }
                    Order::Recognize(done) => {
                        self.lock.recognize(self.lock.generation());
                        // Whoever asked may have stopped waiting.
                        let _ = done.send(());
                    }
                    Order::Close(done) => {
                        // What is queued already is still done; what comes later is refused.
                        self.queue.close();
                        closing = Some(done);
                    }
                }
            }
            self.run_batch(jobs).await;
            // Callers that were just answered often have more to do. They come first, and go into the next batch together
            // with those who waited: two halves taking turns would pay for twice as many commits.
            tokio::task::yield_now().await;
        }
        while let Some(order) = self.queue.recv().await {
            if let Order::Run(job) = order {
                self.run_batch(vec![job]).await;
            }
        }
        if let Err(error) = self.session.close().await {
            tracing::warn!(%error, "the store's connection did not close cleanly; nothing is lost");
        }
        self.lock.release();
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }

    async fn run_batch(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut batches = vec![jobs];
        let begun = Instant::now();
        while let Some(mut batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let failed = match self.attempt(&mut batch).await {
                Ok(()) => {
                    batch.into_iter().for_each(|job| job.answer());
                    continue;
                }
                Err(failed) => failed,
            };
            self.metrics.rolled_back();
            self.session.roll_back().await;
            match failed {
                Failed::Lost(error) if begun.elapsed() < RUN_AGAIN_FOR => {
                    tracing::warn!(%error, "the connection to the store was lost; its batch runs again");
                    batches.push(batch);
                }
                Failed::Lost(error) => fail_all(batch, &error),
                // Run one by one, they would all come to the same.
                Failed::Transaction(error) if !matches!(error, LedgerError::Sql { .. }) => fail_all(batch, &error),
                failed => batches.extend(part(batch, failed)),
            }
        }
    }

    /// Runs `jobs` in one transaction and commits it.
    async fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let began = Instant::now();
        let operations = jobs.iter().map(|job| job.operations()).sum();
        let mut wrote = false;
        self.session.start("begin a transaction");
        self.session.begin().await?;
        for job in jobs {
            let sound = job.attempt(&mut self.session).await;
            if self.session.is_lost() {
                let source = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
                return Err(Failed::Lost(LedgerError::unavailable("run a batch", source)));
            }
            if !sound {
                return Err(Failed::Operation);
            }
            wrote |= self.session.wrote();
        }
        self.session.start("commit a transaction");
        if !wrote {
            self.session.roll_back().await;
            return Ok(());
        }
        match self.session.commit().await? {
            Committed::Yes(generation) => {
                self.lock.record(generation);
                self.metrics.committed(operations, began.elapsed());
                Ok(())
            }
            Committed::No(lost) => Err(Failed::Lost(LedgerError::unavailable("commit a transaction", lost))),
        }
    }
}

/// What a failed batch is tried again as, the first to be tried last; a single job gets its answer instead.
fn part(batch: Vec<Box<dyn Job>>, failed: Failed) -> Vec<Vec<Box<dyn Job>>> {
    let mut singly: Vec<_> = batch.into_iter().flat_map(|job| job.split()).collect();
    if singly.len() > 1 {
        tracing::debug!(
            operations = singly.len(),
            "a batch failed; its operations run one by one"
        );
        // The last in goes first, so the order stays the callers'.
        return singly.into_iter().rev().map(|job| vec![job]).collect();
    }
    if let Some(job) = singly.pop() {
        match failed {
            Failed::Operation => job.answer(),
            Failed::Transaction(error) | Failed::Lost(error) => job.fail(error),
        }
    }
    Vec::new()
}

fn fail_all(batch: Vec<Box<dyn Job>>, error: &LedgerError) {
    for job in batch.into_iter().flat_map(|job| job.split()) {
        job.fail(error.again());
    }
}

/// Why a transaction was not committed.
enum Failed {
    /// An operation failed after it wrote, or in the store; its result says how.
    Operation,
    /// The transaction itself failed.
    Transaction(LedgerError),
    /// The connection was lost, and nothing is recorded.
    Lost(LedgerError),
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self::Transaction(error)
    }
}
