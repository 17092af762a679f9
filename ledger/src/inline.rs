//! Connections for reading that answer on the thread that asks: what a store with a [`Disk`](crate::Disk) has in place of a
//! pool, whose connections come back in their own time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::{ConnectOptions as _, Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::environment::block_on;

/// Opens connections, and keeps those that nobody uses.
pub(crate) struct InlineReaders {
    options: Box<SqliteConnectOptions>,
    idle: Arc<Idle>,
}

type Idle = Mutex<Vec<SqliteConnection>>;

/// A connection that goes back when it is dropped.
pub(crate) struct InlineReader {
    /// `None` only while it is dropped.
    connection: Option<SqliteConnection>,
    in_transaction: bool,
    idle: Arc<Idle>,
}

impl InlineReaders {
    pub(crate) fn new(options: SqliteConnectOptions) -> Self {
        Self {
            options: Box::new(options),
            idle: Arc::default(),
        }
    }

    /// A connection for one statement.
    pub(crate) fn take(&self) -> Result<InlineReader, sqlx::Error> {
        let known = lock(&self.idle).pop();
        let connection = match known {
            Some(connection) => connection,
            None => block_on(self.options.connect())?,
        };
        Ok(InlineReader {
            connection: Some(connection),
            in_transaction: false,
            idle: Arc::clone(&self.idle),
        })
    }

    /// A connection for several statements, which all see what was committed when it began.
    pub(crate) fn begin(&self) -> Result<InlineReader, sqlx::Error> {
        let mut reader = self.take()?;
        reader.execute("BEGIN")?;
        reader.in_transaction = true;
        Ok(reader)
    }

    pub(crate) fn close(&self) {
        for connection in std::mem::take(&mut *lock(&self.idle)) {
            // It only read: there is nothing to lose.
            let _ = block_on(connection.close());
        }
    }
}

impl InlineReader {
    pub(crate) const fn connection(&mut self) -> Option<&mut SqliteConnection> {
        self.connection.as_mut()
    }

    fn execute(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        match &mut self.connection {
            Some(connection) => block_on(connection.execute(statement)).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for InlineReader {
    fn drop(&mut self) {
        if self.in_transaction && self.execute("ROLLBACK").is_err() {
            return;
        }
        lock(&self.idle).extend(self.connection.take());
    }
}

fn lock(idle: &Idle) -> MutexGuard<'_, Vec<SqliteConnection>> {
    // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
