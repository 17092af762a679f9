//! The lock file beside the store: one process writes, and a restored backup is noticed.
//!
//! The file names the process that holds it, and repeats the store's generation (its number of commits). A store whose
//! generation is behind the file's is an older copy that was put back. The file therefore must not be part of a backup.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process,
};

use crate::OpenError;

/// The store's exclusive lock, held while this lives.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
    path: PathBuf,
}

impl StoreLock {
    /// Takes the lock of the store at `store`. Also gives the newest generation the file knows of, if it knows one.
    pub(crate) fn acquire(store: &Path) -> Result<(Self, Option<i64>), OpenError> {
        let path = path_of(store);
        let failed = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let held = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        };
        let mut text = String::new();
        let known = match file.read_to_string(&mut text) {
            Ok(_) => parse(&text),
            // Not ours to judge when it is somebody's; ours to overwrite when it is nobody's.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(source) => return Err(failed(source)),
        };
        if held {
            return Err(OpenError::Locked {
                path: store.to_owned(),
                holder: known.map(|(holder, _)| holder),
            });
        }
        let lock = Self { file, path };
        Ok((lock, known.map(|(_, generation)| generation)))
    }

    /// Writes the generation down, without waiting for the disk: a lost write only makes the file older than the store.
    pub(crate) fn record(&self, generation: i64) {
        if let Err(error) = self.write(generation) {
            tracing::warn!(%error, path = %self.path.display(), "the lock file can't be written; a restored backup may go unnoticed");
        }
    }

    /// Lets others in. The file stays: it knows the generation.
    pub(crate) fn release(self) {
        if let Err(error) = self.file.sync_all().and_then(|()| self.file.unlock()) {
            tracing::warn!(%error, path = %self.path.display(), "the lock file can't be released before its process ends");
        }
    }

    fn write(&self, generation: i64) -> io::Result<()> {
        // Of fixed width, so that it can be overwritten in place.
        let line = format!("pid {:010} generation {generation:020}\n", process::id());
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(line.as_bytes())
    }
}

/// What the lock file beside a store says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockState {
    /// Whether a process has the store open for writing.
    pub is_held: bool,
    /// The process that has it, or had it last.
    pub holder: Option<u32>,
    /// How many commits the store had when the file was written last: a store with fewer is an older copy.
    pub generation: Option<i64>,
}

impl LockState {
    /// Looks at the lock of the store at `store`, and changes nothing. All empty where there is none.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn of(store: &Path) -> io::Result<Self> {
        let mut file = match File::open(path_of(store)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        // Shared, and let go at once: whoever opens the store in this very moment is told that it is in use.
        let is_held = match file.try_lock_shared() {
            Ok(()) => {
                file.unlock()?;
                false
            }
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let known = parse(&String::from_utf8_lossy(&text));
        Ok(Self {
            is_held,
            holder: known.map(|(holder, _)| holder),
            generation: known.map(|(_, generation)| generation),
        })
    }
}

/// Where the lock of the store at `store` is: its path with `.lock` appended.
pub(crate) fn path_of(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn parse(text: &str) -> Option<(u32, i64)> {
    let mut words = text.split_whitespace();
    match (words.next()?, words.next()?, words.next()?, words.next()?) {
        ("pid", holder, "generation", generation) => Some((holder.parse().ok()?, generation.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_generation_and_names_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("lloom.db");
        let (lock, generation) = StoreLock::acquire(&store).unwrap();
        assert_eq!(generation, None);
        lock.record(7);
        let OpenError::Locked { holder, .. } = StoreLock::acquire(&store).unwrap_err() else {
            panic!("the lock was given twice");
        };
        assert_eq!(holder, Some(process::id()));
        let state = LockState::of(&store).unwrap();
        assert_eq!((state.is_held, state.holder), (true, Some(process::id())));
        lock.record(1_234);
        lock.release();
        let state = LockState::of(&store).unwrap();
        assert_eq!((state.is_held, state.generation), (false, Some(1_234)));
        assert_eq!(StoreLock::acquire(&store).unwrap().1, Some(1_234));
    }

    #[test]
    fn a_file_of_garbage_knows_no_generation() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("lloom.db");
        std::fs::write(path_of(&store), b"\xff\xfe pid x").unwrap();
        assert_eq!(StoreLock::acquire(&store).unwrap().1, None);
    }
}
