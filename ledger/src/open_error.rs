use std::{io, path::PathBuf};

use crate::{StoreDeployment, StoreUrl};

/// Why a store was not opened. It is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open for writing.
    #[error("the store {store} is in use by {}", holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The store.
        store: StoreUrl,
        /// The other process's id, where its lock file tells.
        holder: Option<u32>,
    },
    /// A newer version of the program wrote it.
    #[error("the store {store} has schema {found}, and this program knows schemas up to {supported}")]
    NewerSchema {
        /// The store.
        store: StoreUrl,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        supported: u32,
    },
    /// It has to be opened for writing first, which brings its schema up to date.
    #[error("the store {store} still has schema {found}; opening it for writing brings it to {supported}")]
    OlderSchema {
        /// The store.
        store: StoreUrl,
        /// Its schema.
        found: u32,
        /// The newest schema known here.
        supported: u32,
    },
    /// It can't be read as a store.
    #[error("the store {store} is damaged: {detail}")]
    Damaged {
        /// The store.
        store: StoreUrl,
        /// What is wrong with it.
        detail: String,
    },
    /// It holds the records of another deployment.
    #[error("the store {store} belongs to the escrow {} on chain {}, not to {} on chain {}", found.escrow, found.chain_id, wanted.escrow, wanted.chain_id)]
    OtherDeployment {
        /// The store.
        store: StoreUrl,
        /// Whose records it holds.
        found: StoreDeployment,
        /// Whose were asked for.
        wanted: StoreDeployment,
    },
    /// There is none.
    #[error("there is no store at {store}")]
    Missing {
        /// Where it was looked for.
        store: StoreUrl,
    },
    /// The file system failed.
    #[error("the file {} can't be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Its server can't be relied on to keep what it acknowledges.
    #[error("the server of the store {store} can't be used: {reason}")]
    Unfit {
        /// The store.
        store: StoreUrl,
        /// Why.
        reason: &'static str,
    },
    /// SQLite or PostgreSQL failed.
    #[error("the store {store} can't be opened")]
    Sql {
        /// The store.
        store: StoreUrl,
        /// What it says.
        #[source]
        source: sqlx::Error,
    },
}
