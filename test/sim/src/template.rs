//! A store that was just made, to be copied: most of what it takes to make one is the same for all.

use std::{fs, io, path::Path, sync::OnceLock};

use lloom_ledger::{Ledger, StoreDeployment};
use lloom_receipts::UnixSeconds;
use tempfile::TempDir;

use crate::{
    chain::{Genesis, START},
    disk::{LOCK, STORE},
};

/// Puts the files of a new store into `directory`, which is made.
///
/// # Errors
/// The file system's.
///
/// # Panics
/// When no store can be made.
pub fn copy_to(directory: &Path) -> io::Result<()> {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    let file = MADE.get_or_init(|| make().expect("a store can be made"));
    fs::create_dir_all(directory)?;
    fs::write(directory.join(LOCK), "")?;
    fs::write(directory.join(STORE), file)
}

/// The file of a store that was closed in peace: there is nothing beside it but the lock.
fn make() -> io::Result<Vec<u8>> {
    let home = TempDir::with_prefix("lloom-sim-template-")?;
    let path = home.path().join(STORE);
    let deployment = StoreDeployment::from(&Genesis::deployed().domain());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let ledger = Ledger::open_at(&path, &deployment, UnixSeconds::new(START))
            .await
            .map_err(io::Error::other)?;
        ledger.close().await;
        fs::read(&path)
    })
}
