//! The one writer.
//!
//! Operations queue up for it; it runs what is queued in one transaction, commits, and only then answers: one `fsync`
//! for all of them. An operation decides by reading before it writes, so one that is refused leaves nothing behind and
//! does not disturb the others. If SQLite itself fails, the whole batch is rolled back and each operation runs alone.

use std::{any::Any, time::Instant};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::{
    LedgerError,
    column::{Read, sql},
    error::Failure,
    lock::StoreLock,
    metrics::LedgerMetrics,
    session::Session,
};

/// Operations that may wait. Callers beyond wait for room in the queue.
pub(crate) const QUEUE_LIMIT: usize = 4_096;
/// Operations committed together at most, so that the first of a batch does not wait for too many others.
const BATCH_LIMIT: usize = 1_024;

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
        Err(error) => !session.wrote() && !matches!(error.ledger(), Some(LedgerError::Sql { .. })),
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
                    Order::Close(done) => {
                        // What is queued already is still done; what comes later is refused.
                        self.queue.close();
                        closing = Some(done);
                    }
                }
            }
            self.run_batch(jobs).await;
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
        while let Some(mut batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.attempt(&mut batch).await {
                Ok(()) => batch.into_iter().for_each(|job| job.answer()),
                Err(failed) => {
                    self.metrics.rolled_back();
                    // Refused when SQLite has rolled back by itself already; either way no transaction is open then.
                    let _ = self.session.control(sql("ROLLBACK")).await;
                    let mut singly: Vec<_> = batch.into_iter().flat_map(|job| job.split()).collect();
                    match (singly.pop(), failed) {
                        (Some(job), Failed::Operation) if singly.is_empty() => job.answer(),
                        (Some(job), Failed::Transaction(error)) if singly.is_empty() => job.fail(error),
                        (last, _) => {
                            tracing::debug!(others = singly.len(), "a batch failed; its operations run one by one");
                            // The last in goes first, so the order stays the callers'.
                            batches.extend(last.into_iter().chain(singly.into_iter().rev()).map(|job| vec![job]));
                        }
                    }
                }
            }
        }
    }

    /// Runs `jobs` in one transaction and commits it.
    async fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let began = Instant::now();
        let operations = jobs.iter().map(|job| job.operations()).sum();
        let mut wrote = false;
        self.session.start("begin a transaction");
        self.session.control(sql("BEGIN IMMEDIATE")).await?;
        for job in jobs {
            if !job.attempt(&mut self.session).await {
                return Err(Failed::Operation);
            }
            wrote |= self.session.wrote();
        }
        self.session.start("commit a transaction");
        if !wrote {
            self.session.control(sql("ROLLBACK")).await?;
            return Ok(());
        }
        // One round trip, and `rows` runs the statements to their end.
        let counted = self
            .session
            .rows(sql(
                "UPDATE store SET generation = generation + 1 RETURNING generation; COMMIT",
            ))
            .await?;
        let generation: i64 = counted
            .first()
            .ok_or(LedgerError::Inconsistent {
                what: "it has no row that says what it is for",
            })?
            .read("generation")?;
        self.lock.record(generation);
        self.metrics.committed(operations, began.elapsed());
        Ok(())
    }
}

/// Why a transaction was not committed.
enum Failed {
    /// An operation failed after it wrote, or in SQLite; its result says how.
    Operation,
    /// The transaction itself failed.
    Transaction(LedgerError),
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self::Transaction(error)
    }
}
