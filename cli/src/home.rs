//! The home directory: where everything of one node or one client lies.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::failure::{Failure, Kind, OrFail as _, Result};

/// The directory named by `--home`, `LLOOM_HOME`, or `~/.lloom`.
///
/// ```text
/// config.toml          what the owner chose
/// keystore/<name>.json keys, encrypted
/// networks/<name>.toml networks beyond the built-in ones
/// lloom.db             the store, unless config.toml names another
/// archive/             receipts of channels that are long over, unless config.toml names another directory
/// lloom.witness        what this home committed to a store in PostgreSQL
/// control.sock         orders to the running node
/// ```
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The directory given, or the default one.
    ///
    /// # Errors
    /// When none is given and the user has no home directory.
    pub fn resolve(given: Option<PathBuf>) -> Result<Self> {
        let root = match given {
            Some(root) => root,
            None => std::env::home_dir()
                .ok_or_else(|| {
                    Failure::new(Kind::Configuration, "the user has no home directory")
                        .hint("name a directory with --home or LLOOM_HOME")
                })?
                .join(".lloom"),
        };
        Ok(Self { root })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `keystore/<name>.json`.
    pub fn key(&self, name: &str) -> PathBuf {
        self.root.join("keystore").join(format!("{name}.json"))
    }

    /// `networks/<name>.toml`.
    pub fn network(&self, name: &str) -> PathBuf {
        self.root.join("networks").join(format!("{name}.toml"))
    }

    /// `lloom.db`.
    pub fn store(&self) -> PathBuf {
        self.root.join("lloom.db")
    }

    /// `control.sock`.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// Whether somebody ran `init` here.
    pub fn is_initialized(&self) -> bool {
        self.config().exists()
    }

    /// Makes the directory where it is missing, and keeps others out of one in which nothing lies yet: keys and
    /// receipts are about to.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(&self) -> Result {
        let failed = || format!("cannot make the home {}", self.root.display());
        create_private_directory(&self.root).or_fail(Kind::Configuration, failed)?;
        #[cfg(unix)]
        if fs::read_dir(&self.root)
            .or_fail(Kind::Configuration, failed)?
            .next()
            .is_none()
        {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(&self.root, private).or_fail(Kind::Configuration, failed)?;
        }
        Ok(())
    }

    /// Writes a file whole or not at all, for the owner's eyes only, and its directory first where it is missing.
    ///
    /// # Errors
    /// When the file system refuses, or when the file exists and may not be replaced.
    pub fn write(&self, path: &Path, content: &[u8], replace: bool) -> Result {
        let failed = || format!("cannot write {}", path.display());
        if !replace && path.exists() {
            return Err(Failure::new(
                Kind::Configuration,
                format!("{} exists already", path.display()),
            ));
        }
        write_atomically(path, content).or_fail(Kind::Configuration, failed)
    }
}

/// Begins a store's file where it is missing, for the owner's eyes only: SQLite gives the files beside it the same
/// permissions.
///
/// # Errors
/// When the file system refuses.
pub fn begin_store(path: &Path) -> Result {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Failure::of(Kind::Store, error).while_(format!("cannot make the store {}", path.display())))
        }
        _ => Ok(()),
    }
}

/// A name that becomes a file's: a key's or a network's.
///
/// # Errors
/// When it could mean something to a file system.
pub fn check_name(what: &str, name: &str) -> Result {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        return Err(Failure::new(Kind::Usage, format!("'{name}' can't be a {what}'s name"))
            .hint("use up to 64 letters, digits, '-' and '_'"));
    }
    Ok(())
}

fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    create_private_directory(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = directory.join(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        // The original error says more than a failed clean-up could.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // The rename is on disk once the directory is.
    fs::File::open(directory)?.sync_all()
}

fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_and_not_replaced_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(directory.path().join("home"))).unwrap();
        let path = home.key("hot");
        home.write(&path, b"one", false).unwrap();
        assert_eq!(
            home.write(&path, b"two", false).unwrap_err().kind(),
            Kind::Configuration
        );
        assert_eq!(fs::read(&path).unwrap(), b"one");
        home.write(&path, b"three", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn homes_and_stores_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("home");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let home = Home::resolve(Some(root.clone())).unwrap();
        home.create().unwrap();
        assert_eq!(mode(&root), 0o700);
        begin_store(&home.store()).unwrap();
        assert_eq!(mode(&home.store()), 0o600);
        fs::write(home.store(), "kept").unwrap();
        begin_store(&home.store()).unwrap();
        assert_eq!(fs::read(home.store()).unwrap(), b"kept");
        // A directory that holds something is its owner's to arrange.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        home.create().unwrap();
        assert_eq!(mode(&root), 0o755);
    }

    #[test]
    fn names_stay_in_their_directory() {
        check_name("key", "hot-1_A").unwrap();
        for name in ["", "..", "a/b", "a.b", "ü", &"a".repeat(65)] {
            assert!(check_name("key", name).is_err(), "{name}");
        }
    }
}
