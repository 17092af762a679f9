//! The lock file: one process of a home writes, and a restored backup is noticed.
//!
//! The file names the process that holds it, and repeats the store's generation (its number of commits) at this home's
//! newest one. A store that does not know that commit is an older copy that was put back. The file therefore must not be
//! part of a backup, and it is not made unseen: one that was missing says so until what follows from that is done.
//!
//! Beside a file of SQLite it lies next to it, and says which file it is itself, in the file system: where it is another
//! one, it was copied or put back, and the store with it. For a database of PostgreSQL it lies in the home, says in whose name the
//! home writes, and keeps only processes of the same home apart.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant, UNIX_EPOCH},
};

use alloy::primitives::B128;

use crate::{OpenError, StoreUrl, new_file::NewFile, url::Place};

/// How long after one commit that waited for the disk the next one does. What comes between, the system writes in its own
/// time. A copy of the store that is made before that, and put back after a power cut, is not told from the store itself.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// What a lock file says that was made where there was none. It is written over from its beginning.
const UNRECOGNIZED: &str = "recognized 0\n";

/// In whose name a home writes to a store that others write to as well: chosen at random when it is first opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriterId(B128);

impl WriterId {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        B128::try_from(bytes).ok().map(Self)
    }

    pub(crate) fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }

    pub(crate) fn to_hex(self) -> String {
        format!("{:x}", self.0).trim_start_matches("0x").to_owned()
    }

    fn from_hex(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

/// What a lock file knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    holder: Option<u32>,
    /// The store's generation at the newest commit.
    pub(crate) generation: Option<i64>,
    pub(crate) writer: Option<WriterId>,
    /// Which file it was when it was written.
    origin: Option<Origin>,
    /// Whether it is another file now: a copy, beside whatever was copied with it.
    pub(crate) lies_elsewhere: bool,
    /// Whether it was made where there was none, and nobody has said since whose the store is: what was committed to one
    /// that is there already, it can't know.
    pub(crate) is_unrecognized: bool,
}

/// Which file a file is: what a copy of it has no share in, however faithful it is. Renaming it, or its directory,
/// changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    inode: u64,
    /// When it came into being, nanoseconds. File systems that don't keep this may number files as they like.
    born: u64,
}

impl Origin {
    fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        let born = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self {
            inode,
            born: u64::try_from(born.as_nanos()).ok()?,
        })
    }
}

/// The store's exclusive lock, held while this lives.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
    path: PathBuf,
    writer: Option<WriterId>,
    /// The newest generation that was written down.
    generation: i64,
    is_recognized: bool,
    /// `None` for a database: which files a home has says nothing of what was committed to it.
    origin: Option<Origin>,
    /// When the disk was last waited for.
    flushed: Option<Instant>,
}

impl StoreLock {
    /// Takes the lock of a store. Also gives what its file knows.
    pub(crate) fn acquire(store: &StoreUrl) -> Result<(Self, Known), OpenError> {
        let path = path_of(store);
        let failed = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let opened = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path).and_then(|()| options.open(&path)),
            opened => opened,
        };
        let mut file = opened.map_err(failed)?;
        let held = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        };
        let origin = match &store.0 {
            Place::Sqlite(_) => Origin::of(&file),
            Place::Postgres(_) => None,
        };
        let mut text = String::new();
        let known = match file.read_to_string(&mut text) {
            Ok(_) => parse(&text).found_in(origin),
            // Not ours to judge when it is somebody's; ours to overwrite when it is nobody's.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Known::default(),
            Err(source) => return Err(failed(source)),
        };
        if held {
            return Err(OpenError::Locked {
                store: store.clone(),
                holder: known.holder,
            });
        }
        let lock = Self {
            file,
            path,
            writer: known.writer,
            generation: known.generation.unwrap_or_default(),
            is_recognized: !known.is_unrecognized,
            origin,
            flushed: None,
        };
        Ok((lock, known))
    }

    /// Writes down in whose name this home writes from now on, not [recognized](Self::recognize) yet, and waits for the
    /// disk: forgotten, it would be another home.
    pub(crate) fn name(&mut self, writer: WriterId, generation: i64) -> Result<(), OpenError> {
        self.writer = Some(writer);
        self.is_recognized = false;
        self.write(generation)
            .and_then(|()| self.file.sync_all())
            .map_err(|source| OpenError::Io {
                path: self.path.clone(),
                source,
            })
    }

    /// Writes down that the file knows the store from now on, and waits for the disk: it was new with it, or what follows
    /// from its having been missing is done.
    pub(crate) fn recognize(&mut self, generation: i64) {
        self.is_recognized = true;
        self.flushed = None;
        self.record(generation);
    }

    pub(crate) const fn is_recognized(&self) -> bool {
        self.is_recognized
    }

    /// The newest generation that was written down.
    pub(crate) const fn generation(&self) -> i64 {
        self.generation
    }

    /// Writes the generation down. The disk is waited for only now and then: where a power cut takes the newest lines, the
    /// store is the newer one, and nothing is wrong with that unless an old copy is put in its place as well.
    pub(crate) fn record(&mut self, generation: i64) {
        let written = self.write(generation).and_then(|()| match self.is_due(Instant::now()) {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "the lock file can't be written; a restored backup may go unnoticed");
        }
    }

    /// Whether the disk has to be waited for at `now`, and notes that it is.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self
            .flushed
            .is_none_or(|flushed| now.saturating_duration_since(flushed) >= FLUSH_EVERY);
        if is_due {
            self.flushed = Some(now);
        }
        is_due
    }

    /// Lets others in. The file stays: it knows the generation.
    pub(crate) fn release(self) {
        if let Err(error) = self.file.sync_all().and_then(|()| self.file.unlock()) {
            tracing::warn!(%error, path = %self.path.display(), "the lock file can't be released before its process ends");
        }
    }

    fn write(&mut self, generation: i64) -> io::Result<()> {
        self.generation = generation;
        // Of fixed width, so that it can be overwritten in place.
        let mut line = format!(
            "pid {:010} generation {generation:020} recognized {}",
            process::id(),
            u8::from(self.is_recognized)
        );
        if let Some(Origin { inode, born }) = self.origin {
            line.push_str(&format!(" inode {inode:020} born {born:020}"));
        }
        if let Some(writer) = self.writer {
            line.push_str(" writer ");
            line.push_str(&writer.to_hex());
        }
        line.push('\n');
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(line.as_bytes())
    }
}

/// What the lock file of a store says: the file beside it, or the witness file of the home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockState {
    /// Whether a process of this home has the store open for writing.
    pub is_held: bool,
    /// The process that has it, or had it last.
    pub holder: Option<u32>,
    /// The store's generation at this home's newest commit: a store that doesn't know that commit is an older copy.
    pub generation: Option<i64>,
    /// Whether it is a copy of the file that was written, as all of a directory that was copied or put back is.
    pub is_copied: bool,
    /// Whether there is none, or one that was made where there was none and does not know the store yet: one that is there
    /// already is a copy that was put there without it.
    pub is_unrecognized: bool,
}

impl LockState {
    /// Looks at the lock of `store`, and changes nothing.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn of(store: &StoreUrl) -> io::Result<Self> {
        let mut file = match File::open(path_of(store)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    is_unrecognized: true,
                    ..Self::default()
                });
            }
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
        let known = parse(&String::from_utf8_lossy(&text)).found_in(Origin::of(&file));
        Ok(Self {
            is_held,
            holder: known.holder,
            generation: known.generation,
            is_copied: known.lies_elsewhere,
            is_unrecognized: known.is_unrecognized,
        })
    }
}

/// Where a store's lock file is: its path with `.lock` appended, or the witness file of the home.
fn path_of(store: &StoreUrl) -> PathBuf {
    match &store.0 {
        Place::Sqlite(path) => beside(path),
        Place::Postgres(place) => place.witness.clone(),
    }
}

/// Makes the lock file at `path`, unless somebody is faster. It is there with what it says or not at all: an empty one is
/// what a power cut may leave of one that knew its store.
fn make(path: &Path) -> io::Result<()> {
    let made = NewFile::begin(path).and_then(|file| {
        std::fs::write(file.temporary(), UNRECOGNIZED)?;
        file.publish()
    });
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn beside(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

impl Known {
    /// The same, read from the file that is `origin`.
    fn found_in(mut self, origin: Option<Origin>) -> Self {
        self.lies_elsewhere = self.origin.zip(origin).is_some_and(|(then, now)| then != now);
        self
    }
}

fn parse(text: &str) -> Known {
    let mut known = Known::default();
    let (mut inode, mut born) = (None, None);
    let mut words = text.split_whitespace();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        match key {
            "pid" => known.holder = value.parse().ok(),
            "generation" => known.generation = value.parse().ok(),
            "writer" => known.writer = WriterId::from_hex(value),
            "inode" => inode = value.parse().ok(),
            "born" => born = value.parse().ok(),
            // Missing from those of earlier versions, which know their stores.
            "recognized" => known.is_unrecognized = value == "0",
            _ => return Known::default(),
        }
    }
    known.origin = inode.zip(born).map(|(inode, born)| Origin { inode, born });
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_generation_and_names_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let store = StoreUrl::file(&directory.path().join("lloom.db"));
        let (mut lock, known) = StoreLock::acquire(&store).unwrap();
        assert_eq!((known.holder, known.generation, known.writer), (None, None, None));
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
        let (mut lock, known) = StoreLock::acquire(&store).unwrap();
        assert_eq!((known.generation, known.writer), (Some(1_234), None));
        let writer = WriterId(B128::repeat_byte(0xa7));
        lock.name(writer, 1_235).unwrap();
        lock.record(1_236);
        lock.release();
        let (_, known) = StoreLock::acquire(&store).unwrap();
        assert_eq!((known.generation, known.writer), (Some(1_236), Some(writer)));
    }

    #[test]
    fn one_that_was_missing_says_so_until_it_is_recognized() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lloom.db");
        let store = StoreUrl::file(&path);
        let is_unrecognized = || {
            let told = LockState::of(&store).unwrap().is_unrecognized;
            let (lock, known) = StoreLock::acquire(&store).unwrap();
            drop(lock);
            assert_eq!(known.is_unrecognized, told);
            told
        };
        // Whoever looks again finds the file there, and that it knows nothing.
        assert!(is_unrecognized() && is_unrecognized());
        let (mut lock, _) = StoreLock::acquire(&store).unwrap();
        lock.record(7);
        drop(lock);
        assert!(
            is_unrecognized(),
            "that something was committed says nothing of what was before"
        );
        let (mut lock, _) = StoreLock::acquire(&store).unwrap();
        lock.recognize(8);
        lock.record(9);
        drop(lock);
        assert!(!is_unrecognized());
        let (mut lock, known) = StoreLock::acquire(&store).unwrap();
        assert_eq!(known.generation, Some(9));
        lock.name(WriterId(B128::repeat_byte(0xa7)), 0).unwrap();
        drop(lock);
        assert!(is_unrecognized(), "it is another home's now");

        // What a power cut leaves, and what earlier versions wrote.
        for known in ["", "pid 0000000001 generation 00000000000000000009\n"] {
            std::fs::write(beside(&path), known).unwrap();
            assert!(!is_unrecognized(), "{known}");
        }
    }

    #[test]
    fn the_disk_is_waited_for_at_first_and_then_now_and_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = StoreUrl::file(&directory.path().join("lloom.db"));
        let (mut lock, _) = StoreLock::acquire(&store).unwrap();
        let began = Instant::now();
        let due =
            [0, 1, 4_999, 5_000, 5_001, 9_999, 10_000].map(|millis| lock.is_due(began + Duration::from_millis(millis)));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn a_copy_knows_that_it_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let home = |name: &str| directory.path().join(name);
        let store = |name: &str| StoreUrl::file(&home(name).join("lloom.db"));
        let lies_elsewhere = |name: &str| {
            let (lock, known) = StoreLock::acquire(&store(name)).unwrap();
            drop(lock);
            assert_eq!(LockState::of(&store(name)).unwrap().is_copied, known.lies_elsewhere);
            known.lies_elsewhere
        };
        std::fs::create_dir(home("first")).unwrap();
        let (mut lock, _) = StoreLock::acquire(&store("first")).unwrap();
        if lock.origin.is_none() {
            eprintln!("this file system doesn't say when files came into being; skipped");
            return;
        }
        lock.record(7);
        lock.release();
        assert!(!lies_elsewhere("first"));
        std::fs::rename(home("first"), home("moved")).unwrap();
        assert!(!lies_elsewhere("moved"), "it was only renamed");

        std::fs::create_dir(home("copy")).unwrap();
        std::fs::copy(
            beside(&home("moved").join("lloom.db")),
            beside(&home("copy").join("lloom.db")),
        )
        .unwrap();
        assert!(lies_elsewhere("copy"));
        let (mut lock, known) = StoreLock::acquire(&store("copy")).unwrap();
        assert_eq!(known.generation, Some(7));
        lock.record(8);
        lock.release();
        assert!(!lies_elsewhere("copy"), "what followed from it is done");
        assert!(!lies_elsewhere("moved"));
    }

    #[test]
    fn a_file_of_garbage_knows_no_generation() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("lloom.db");
        for garbage in [&b"\xff\xfe pid x"[..], b"what is this", b"pid x generation y"] {
            std::fs::write(beside(&store), garbage).unwrap();
            let (_, known) = StoreLock::acquire(&StoreUrl::file(&store)).unwrap();
            assert_eq!(known, Known::default());
        }
    }
}
