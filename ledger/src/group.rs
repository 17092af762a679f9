//! Operations of one kind that are done as a set.

use std::any::Any;

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::{
    LedgerError,
    error::Failure,
    session::Session,
    writer::{Job, may_commit},
};

/// Something that is done so often that what has queued up of it is done together: with as many statements for all as
/// for one, because each statement is a round trip to SQLite's thread.
///
/// It may run twice (the second time alone, when its batch failed), so it decides from what it reads and from `self`.
pub(crate) trait Grouped: Send + Sync + Sized + 'static {
    /// A verb phrase for errors: "the store failed to …".
    const NAME: &'static str;
    type Output: Send + 'static;
    type Error: Failure + Send + 'static;

    /// Does what doing `operations` one by one would do, in order, and gives each one's answer, in order. A refused one
    /// writes nothing.
    ///
    /// An error is of all of them: they run one by one then.
    fn run(operations: &[Self], session: &mut Session) -> impl Future<Output = Answers<Self>> + Send;
}

/// What the callers get, or what kept all of them from an answer.
pub(crate) type Answers<O> = Result<Vec<Answer<O>>, LedgerError>;

type Answer<O> = Result<<O as Grouped>::Output, <O as Grouped>::Error>;

/// Operations that queued up one right after the other, with the callers that wait for them.
pub(crate) struct Group<O: Grouped> {
    operations: Vec<O>,
    callers: Vec<oneshot::Sender<Answer<O>>>,
    /// One for each, once they ran.
    answers: Vec<Answer<O>>,
}

impl<O: Grouped> Group<O> {
    /// A group of one, to begin with.
    pub(crate) fn new(operation: O) -> (Box<Self>, oneshot::Receiver<Answer<O>>) {
        let (caller, answer) = oneshot::channel();
        (Box::new(Self::of_one(operation, caller)), answer)
    }

    fn of_one(operation: O, caller: oneshot::Sender<Answer<O>>) -> Self {
        Self {
            operations: vec![operation],
            callers: vec![caller],
            answers: Vec::new(),
        }
    }
}

impl<O: Grouped> Job for Group<O> {
    fn attempt<'a>(&'a mut self, session: &'a mut Session) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            session.start(O::NAME);
            let run = O::run(&self.operations, session).await;
            if self.operations.len() == 1 {
                let answer = run.map_err(O::Error::from).and_then(|mut answers| {
                    answers.pop().unwrap_or_else(|| {
                        Err(O::Error::from(LedgerError::Inconsistent {
                            what: "an operation ended without an answer",
                        }))
                    })
                });
                let sound = may_commit(&answer, session);
                self.answers = vec![answer];
                return sound;
            }
            match run {
                Ok(answers) if answers.len() == self.callers.len() => self.answers = answers,
                _ => return false,
            }
            true
        })
    }

    fn answer(self: Box<Self>) {
        for (caller, answer) in self.callers.into_iter().zip(self.answers) {
            // A caller that stopped waiting loses the answer, not the record.
            let _ = caller.send(answer);
        }
    }

    fn fail(self: Box<Self>, error: LedgerError) {
        let mut callers = self.callers.into_iter();
        if let Some(caller) = callers.next() {
            let _ = caller.send(Err(error.into()));
        }
        // The writer fails a job only after it split it, so there are no others; they would learn that it is closed.
    }

    fn gather(&mut self, mut other: Box<dyn Job>) -> Option<Box<dyn Job>> {
        let any: &mut dyn Any = &mut *other;
        if let Some(same) = any.downcast_mut::<Self>() {
            self.operations.append(&mut same.operations);
            self.callers.append(&mut same.callers);
            return None;
        }
        Some(other)
    }

    fn operations(&self) -> usize {
        self.operations.len()
    }

    fn split(self: Box<Self>) -> Vec<Box<dyn Job>> {
        if self.operations.len() == 1 {
            return vec![self];
        }
        let parts = self.operations.into_iter().zip(self.callers);
        parts
            .map(|(operation, caller)| -> Box<dyn Job> { Box::new(Self::of_one(operation, caller)) })
            .collect()
    }
}
