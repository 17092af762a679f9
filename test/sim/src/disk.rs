//! The disk below a process's store, and what a crash, a power cut or a restored backup leaves of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use lloom_ledger::Disk;

use crate::{choices::Choices, fault::Fault, flaw::Flaw, life::Life, world::Shared};

/// The store's file, and those beside it that belong to it.
pub const STORE: &str = "lloom.db";
const LOG: &str = "lloom.db-wal";
/// The file by which a copy that was put back is told.
pub const LOCK: &str = "lloom.db.lock";

/// What it says of a store that was there before it.
const UNRECOGNIZED: &str = "recognized 0";

/// Commits that a power cut may take from the lock file, which nobody waits for.
const LOCK_LAG: u64 = 40;

/// The directory of one life's store, and how much of it is durable.
#[derive(Clone, Debug)]
pub struct SimDisk {
    directory: PathBuf,
    world: Shared,
    life: Arc<Life>,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    /// How long the write-ahead log is, up to the last commit that was answered.
    durable: u64,
    /// Its length before a commit that a flaw doesn't make durable, and how many came after it.
    recorded: Option<(u64, u64)>,
    /// What the open transaction has done.
    records_transaction: bool,
    applies_blocks: bool,
    generation: i64,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process dies: what it has written is in the files.
    Kill,
    /// The machine loses power: what nobody waited for may be lost.
    PowerCut,
}

/// A copy of a store as it was once: a backup, without the lock file, as it must be.
#[derive(Clone, Debug)]
pub struct Backup {
    directory: PathBuf,
    /// When it was made, milliseconds.
    pub made_at: u64,
}

impl SimDisk {
    /// The disk at `directory`, which is made if it isn't there.
    ///
    /// # Errors
    /// The file system's.
    pub fn new(directory: PathBuf, world: Shared, life: Arc<Life>) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let durable = length(&directory.join(LOG));
        let log = Log {
            durable,
            ..Log::default()
        };
        Ok(Self {
            directory,
            world,
            life,
            log: Arc::new(Mutex::new(log)),
        })
    }

    /// Where the store is.
    pub fn store(&self) -> PathBuf {
        self.directory.join(STORE)
    }

    /// Moves what `end` leaves of the store to `directory`. Nobody has it open any more.
    ///
    /// # Errors
    /// The file system's.
    pub fn leave(&self, end: End, directory: &Path, choices: &mut Choices) -> io::Result<()> {
        fs::rename(&self.directory, directory)?;
        let mut log = self.log();
        if self.life.take_broadcast() {
            log.recorded = None;
        }
        let path = directory.join(LOG);
        let written = length(&path);
        let kept = match (end, log.recorded) {
            // Nothing else was committed since, so only this commit is lost.
            (_, Some((before, 0))) => before,
            (End::Kill, _) => written,
            (End::PowerCut, _) => choices.between(log.durable.min(written), written),
        };
        if kept < written {
            if end == End::PowerCut {
                self.world.lock().faults.count(Fault::LostCommits);
            }
            fs::OpenOptions::new().write(true).open(&path)?.set_len(kept)?;
        }
        // One that was made where there was none is on disk, and so is what it says once it knows its store.
        let is_unrecognized = fs::read_to_string(directory.join(LOCK)).is_ok_and(|line| line.contains(UNRECOGNIZED));
        if end == End::PowerCut && !is_unrecognized {
            let behind = choices.below(LOCK_LAG) as i64;
            let line = lock_line((log.generation - behind).max(0));
            // An empty file is what a journal may leave of one that was never flushed.
            let line = if choices.chance(300) { String::new() } else { line };
            fs::write(directory.join(LOCK), line)?;
        }
        Ok(())
    }

    /// Makes a backup at `directory`: a legal one, which is the store at one moment.
    ///
    /// # Errors
    /// The file system's.
    pub fn back_up(&self, directory: PathBuf, millis: u64) -> io::Result<Backup> {
        fs::create_dir_all(&directory)?;
        copy(&self.directory, &directory, &[STORE, LOG])?;
        Ok(Backup {
            directory,
            made_at: millis,
        })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backup {
    /// Puts the copy in the place of the store at `directory`. Its lock file stays, or `lock_is_lost`, as on a new machine.
    ///
    /// # Errors
    /// The file system's.
    pub fn restore(&self, directory: &Path, lock_is_lost: bool) -> io::Result<()> {
        let gone = if lock_is_lost {
            &[STORE, LOG, LOCK][..]
        } else {
            &[STORE, LOG]
        };
        for file in gone {
            match fs::remove_file(directory.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        copy(&self.directory, directory, &[STORE, LOG])
    }
}

/// Lets nothing beside the store at `directory` say how far it had come: for [`Flaw::TrustCopy`].
///
/// # Errors
/// The file system's.
pub fn forge_lock(directory: &Path) -> io::Result<()> {
    fs::write(directory.join(LOCK), lock_line(0))
}

/// The lock file of a process that has ended.
fn lock_line(generation: i64) -> String {
    format!("pid {:010} generation {generation:020}\n", 1)
}

impl Disk for SimDisk {
    fn before(&self, operation: &'static str) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Most of what is read is in memory.
            if self.life.choose(|choices| choices.chance(120)) {
                self.life.wait(1, 6).await;
            }
            self.life.step(operation).await;
            let mut log = self.log();
            match operation {
                "record a transaction" => log.records_transaction = true,
                "apply blocks" => log.applies_blocks = true,
                _ => {}
            }
        })
    }

    fn committed(&self, generation: i64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Written, and perhaps not flushed yet: nobody was told.
            self.life.step("flush").await;
            self.life.wait(0, 4).await;
            self.life.step("flush").await;
            let mut world = self.world.lock();
            let millis = self.life.millis();
            let mut log = self.log();
            let before = log.durable;
            log.durable = length(&self.directory.join(LOG));
            log.generation = generation;
            if self.life.take_broadcast() {
                log.recorded = None;
            }
            if let Some((_, since)) = &mut log.recorded {
                *since += 1;
            }
            if std::mem::take(&mut log.records_transaction) && world.flaw == Some(Flaw::PersistAfterBroadcast) {
                log.recorded = Some((before, 0));
            }
            if std::mem::take(&mut log.applies_blocks) {
                world.forget_fetched(self.life.process());
            }
            world.note_at(millis, self.life.name(), format_args!("commits {generation}"));
        })
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn copy(from: &Path, to: &Path, files: &[&str]) -> io::Result<()> {
    for file in files {
        match fs::copy(from.join(file), to.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
