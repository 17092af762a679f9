//! The disk that the store is on.

use std::path::Path;

/// Bytes that the file system of `path`, or of its directory, has left for this user; `None` where it doesn't tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path)
        .or_else(|error| path.parent().map_or(Err(error), rustix::fs::statvfs))
        .ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_yet_is_on_its_directorys_disk() {
        let directory = tempfile::tempdir().unwrap();
        assert!(free_bytes(&directory.path().join("lloom.db")) > Some(0));
        assert_eq!(free_bytes(Path::new("/nowhere/at/all")), None);
    }
}
