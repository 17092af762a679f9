//! Who follows the chain, claims and closes, where several processes share a store.
//!
//! One of them leads: it holds a lock of the server, for as long as the connection that took it lives, and the others
//! stand by for it. Whoever gets the lock raises the store's epoch, and what only the leader may do compares epochs in its
//! own transaction. So a leader that lost the lock without noticing (it was suspended, or cut off) writes nothing any
//! more, whatever it still believes; and as nothing is sent that was not written first, it sends nothing new either.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::{Executor as _, PgConnection};
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    Ledger, LedgerError,
    column::{Read as _, sql},
    migration::APPLICATION_ID,
    open::Inner,
    postgres::{self, ConnectError, is_lost},
    session::Session,
    url::Place,
    writer::Operation,
};

/// How often one that stands by tries to lead.
const STANDBY_INTERVAL: Duration = Duration::from_millis(500);
/// How often the leader looks whether it still holds the lock.
const HOLD_INTERVAL: Duration = Duration::from_secs(1);
/// How long the server may take to say so.
const HOLD_WITHIN: Duration = Duration::from_secs(5);

/// A leader that stands still, but whose system keeps its connection up, is given up by the server.
const LET_GO_OF_THE_SILENT: &str = "SET idle_session_timeout = '10s'";

/// Counts elections. What only the leader may do is refused under any but the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(pub(crate) i64);

/// While this lives, this process leads: its handles on the store may record what only the leader may. Of a store that is
/// one process's alone, that process always leads. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership {
    held: Option<Arc<Held>>,
}

#[derive(Debug)]
pub(crate) struct Held {
    epoch: Epoch,
    /// What the process's handles go by.
    won: Arc<AtomicI64>,
    lost: watch::Receiver<bool>,
    holding: AbortHandle,
}

impl Leadership {
    /// Waits until another process may have been elected.
    pub async fn lost(&self) {
        let Some(held) = &self.held else {
            return std::future::pending().await;
        };
        // An error says that the task is gone, and the lock with it.
        let _ = held.lost.clone().wait_for(|lost| *lost).await;
    }

    /// Whether other processes could lead in this one's place.
    pub const fn is_contested(&self) -> bool {
        self.held.is_some()
    }

    /// Whether another process may have been elected.
    pub fn is_lost(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_lost())
    }
}

impl Held {
    fn is_lost(&self) -> bool {
        *self.lost.borrow() || self.won.load(Ordering::SeqCst) != self.epoch.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A later election of this process's stays.
        let _ = self
            .won
            .compare_exchange(self.epoch.0, 0, Ordering::SeqCst, Ordering::SeqCst);
        self.holding.abort();
    }
}

impl Inner {
    /// The election this process won last.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        match self.epoch.load(Ordering::SeqCst) {
            0 => None,
            epoch => Some(Epoch(epoch)),
        }
    }
}

impl Ledger {
    /// Stands by until no other process leads, and leads then. Only the leader records blocks, transactions, what became
    /// of them, and what follows for obligations and authorizations: with any other, these operations answer
    /// [`LedgerError::NotLeading`].
    ///
    /// When a leader dies, one that stands by leads within a second; when it stands still, or its machine vanishes, once
    /// the server has given its connection up (about ten seconds).
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the store can't be reached.
    pub async fn lead(&self) -> Result<Leadership, LedgerError> {
        const OPERATION: &str = "stand by";
        if self.leads_alone()? {
            return Ok(Leadership { held: None });
        }
        let mut mine = self.inner.leading.lock().await;
        if let Some(held) = still_held(&mine) {
            return Ok(Leadership { held: Some(held) });
        }
        let mut candidate = self.candidate(OPERATION).await?;
        while !take_lock(&mut candidate, OPERATION).await? {
            tokio::time::sleep(STANDBY_INTERVAL).await;
        }
        let held = self.begin_to_lead(candidate).await?;
        *mine = Arc::downgrade(&held);
        Ok(Leadership { held: Some(held) })
    }

    /// Leads, unless another process does, or this one stands by for it.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the store can't be reached.
    pub async fn try_lead(&self) -> Result<Option<Leadership>, LedgerError> {
        const OPERATION: &str = "begin to lead";
        if self.leads_alone()? {
            return Ok(Some(Leadership { held: None }));
        }
        let Ok(mut mine) = self.inner.leading.try_lock() else {
            return Ok(None);
        };
        if let Some(held) = still_held(&mine) {
            return Ok(Some(Leadership { held: Some(held) }));
        }
        let mut candidate = self.candidate(OPERATION).await?;
        if !take_lock(&mut candidate, OPERATION).await? {
            return Ok(None);
        }
        let held = self.begin_to_lead(candidate).await?;
        *mine = Arc::downgrade(&held);
        Ok(Some(Leadership { held: Some(held) }))
    }

    /// Makes sure that this process still leads, as the store says. What is sent without being recorded first asks this.
    ///
    /// # Errors
    /// [`LedgerError::NotLeading`].
    pub async fn check_leads(&self) -> Result<(), LedgerError> {
        match &self.inner.url.0 {
            Place::Sqlite(_) => Ok(()),
            Place::Postgres(_) => self.submit_leading(Nothing).await,
        }
    }

    /// Whether nobody else could lead.
    fn leads_alone(&self) -> Result<bool, LedgerError> {
        if self.is_read_only() {
            return Err(LedgerError::ReadOnly);
        }
        Ok(!self.inner.url.is_shared())
    }

    /// The connection that is to hold the lock.
    async fn candidate(&self, operation: &'static str) -> Result<PgConnection, LedgerError> {
        let Place::Postgres(place) = &self.inner.url.0 else {
            return Err(LedgerError::Inconsistent {
                what: "one process has it to itself, and yet another is to lead",
            });
        };
        let connected = async {
            let mut connection = postgres::connect(&postgres::options(&place.options)).await?;
            postgres::answered(connection.execute(sqlx::raw_sql(LET_GO_OF_THE_SILENT))).await?;
            Ok(connection)
        };
        connected.await.map_err(|error| match error {
            ConnectError::Unfit(unfit) => {
                LedgerError::unavailable(operation, sqlx::Error::Configuration(unfit.reason().into()))
            }
            ConnectError::Sql(source) => LedgerError::unavailable(operation, source),
        })
    }

    async fn begin_to_lead(&self, connection: PgConnection) -> Result<Arc<Held>, LedgerError> {
        let epoch = self.submit(Elect).await?;
        self.inner.epoch.store(epoch.0, Ordering::SeqCst);
        let (losing, lost) = watch::channel(false);
        let holding = tokio::spawn(hold(connection, losing)).abort_handle();
        tracing::info!(epoch = epoch.0, "this process leads now");
        Ok(Arc::new(Held {
            epoch,
            won: Arc::clone(&self.inner.epoch),
            lost,
            holding,
        }))
    }
}

fn still_held(held: &Weak<Held>) -> Option<Arc<Held>> {
    held.upgrade().filter(|held| !held.is_lost())
}

/// Takes the lock, if nobody has it. It is the connection's until that ends.
async fn take_lock(connection: &mut PgConnection, operation: &'static str) -> Result<bool, LedgerError> {
    // Each schema of a database may hold a store.
    let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock($1::integer, hashtext(current_schema()))");
    postgres::answered(lock.bind(APPLICATION_ID).fetch_one(connection))
        .await
        .map_err(|source| match is_lost(&source) {
            true => LedgerError::unavailable(operation, source),
            false => LedgerError::Sql { operation, source },
        })
}

/// Keeps the connection that holds the lock, and says when it is lost.
async fn hold(mut connection: PgConnection, losing: watch::Sender<bool>) {
    loop {
        tokio::time::sleep(HOLD_INTERVAL).await;
        let asked = sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut connection);
        match tokio::time::timeout(HOLD_WITHIN, asked).await {
            Ok(Ok(_)) => {}
            _ => {
                tracing::warn!("this process may no longer lead: it lost the connection that held the lock");
                losing.send_replace(true);
                return;
            }
        }
    }
}

struct Elect;

impl Operation for Elect {
    const NAME: &'static str = "begin to lead";
    type Output = Epoch;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Epoch, LedgerError> {
        let row = session
            .write_returning(sql("UPDATE store SET epoch = epoch + 1 RETURNING epoch"))
            .await?;
        Ok(Epoch(row.read("epoch")?))
    }
}

/// Compares epochs, and does nothing else.
struct Nothing;

impl Operation for Nothing {
    const NAME: &'static str = "make sure that this process leads";
    type Output = ();
    type Error = LedgerError;

    async fn run(&self, _: &mut Session) -> Result<(), LedgerError> {
        Ok(())
    }
}

/// What only the leader may do: refused, in its own transaction, when another process was elected since.
pub(crate) struct Led<O> {
    pub(crate) epoch: Option<Epoch>,
    pub(crate) operation: O,
}

impl<O: Operation + Sync> Operation for Led<O> {
    const NAME: &'static str = O::NAME;
    type Output = O::Output;
    type Error = O::Error;

    async fn run(&self, session: &mut Session) -> Result<O::Output, O::Error> {
        session.check_leads(self.epoch).map_err(O::Error::from)?;
        self.operation.run(session).await
    }
}
