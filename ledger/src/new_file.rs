//! A file that is there whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process,
};

/// A file under a temporary name beside the one it gets once it is complete. Dropped before that, it is gone.
///
/// Only its owner may read it.
#[derive(Debug)]
pub(crate) struct NewFile {
    temporary: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// Begins the file that is to lie at `path`. It is empty.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Self::beside(path)
    }

    /// Begins one that is to take the place of whatever lies at `path`.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let temporary = with_suffix(path, &format!(".{}{SUFFIX}", process::id()));
        let mut options = OpenOptions::new();
        // What an earlier process of this id left is nobody's.
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&temporary)?;
        Ok(Self {
            temporary,
            path: path.to_owned(),
        })
    }

    /// Where it lies now.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Waits until it is on disk, and gives it its name, unless another file has that.
    pub(crate) fn publish(self) -> io::Result<()> {
        self.sync()?;
        match fs::hard_link(&self.temporary, &self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // A file system without links.
            Err(_) if !self.path.exists() => fs::rename(&self.temporary, &self.path)?,
            Err(error) => return Err(error),
        }
        sync_directory_of(&self.path)
    }

    /// The same, in the place of whatever has its name.
    pub(crate) fn replace(self) -> io::Result<()> {
        self.sync()?;
        fs::rename(&self.temporary, &self.path)?;
        sync_directory_of(&self.path)
    }

    fn sync(&self) -> io::Result<()> {
        OpenOptions::new().write(true).open(&self.temporary)?.sync_all()
    }
}

/// What the temporary names end with.
pub(crate) const SUFFIX: &str = ".new";

impl Drop for NewFile {
    fn drop(&mut self) {
        // It is gone already where it was renamed.
        for beside in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(with_suffix(&self.temporary, beside));
        }
    }
}

/// `path` with `suffix` appended to its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Waits until names made or changed beside `path` are on disk.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let count = || fs::read_dir(directory.path()).unwrap().count();
        let file = NewFile::begin(&path).unwrap();
        fs::write(file.temporary(), "half").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(count(), 0);

        let (file, late) = (NewFile::begin(&path).unwrap(), NewFile::begin(&path).unwrap());
        fs::write(file.temporary(), "whole").unwrap();
        file.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(NewFile::begin(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(late);
        assert_eq!(count(), 1);
    }

    #[test]
    fn whoever_is_late_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let late = NewFile::begin(&path).unwrap();
        fs::write(&path, "first").unwrap();
        assert_eq!(late.publish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[cfg(unix)]
    #[test]
    fn it_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        NewFile::begin(&path).unwrap().publish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
