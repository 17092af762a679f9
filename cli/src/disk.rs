//! The disk that the store is on.

use std::path::Path;

/// Bytes that the file system of `path`, or of its directory, has left for this user; `None` where it doesn't tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path)
        .or_else(|error| path.parent().map_or(Err(error), rustix::fs::statvfs))
        .ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// A length as people read it: `4.2 MB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB"] {
        if value < 999.5 {
            let decimals = usize::from(unit != "B" && value < 99.95);
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1_000.0;
    }
    format!("{value:.1} GB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_999, "1.0 MB"),
            (4_200_000_000, "4.2 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_on_its_directorys_disk() {
        let directory = tempfile::tempdir().unwrap();
        assert!(free_bytes(&directory.path().join("lloom.db")) > Some(0));
        assert_eq!(free_bytes(Path::new("/nowhere/at/all")), None);
    }
}
