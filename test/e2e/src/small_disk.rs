use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use eyre::{Result, WrapErr, bail, ensure};
use tempfile::TempDir;

use crate::Process;

/// How much it holds, bytes: a home with a store that has sold some hundred units, a few times over.
const SIZE: u64 = 32 << 20;
/// What has to be `1` in the environment where a system lets users have no namespaces.
const WITHOUT_NAMESPACES: &str = "LLOOM_WITHOUT_NAMESPACES";
/// What it is filled with at a time: one page.
const PAGE: usize = 4096;

/// A file system of its own, small enough to be filled to its last page (`ENOSPC`): a tmpfs in a mount namespace that only
/// processes [started on it](crate::Home::start_on) are in. It needs no privileges, but a system that lets users have
/// namespaces. Gone with this guard.
#[derive(Debug)]
pub struct SmallDisk {
    mounted_at: TempDir,
    /// Keeps the namespace, and does nothing.
    keeper: Process,
}

impl SmallDisk {
    /// Whether to test with one: not where [`WITHOUT_NAMESPACES`] says that this system forbids it.
    ///
    /// # Errors
    /// When this system forbids it, and nobody said so: what is not tested must not look as if it was. And when there is no
    /// `unshare` (util-linux).
    pub fn is_expected() -> Result<bool> {
        let is_excused = std::env::var_os(WITHOUT_NAMESPACES).is_some_and(|value| value == "1");
        if is_excused {
            eprintln!("not tested: {WITHOUT_NAMESPACES}=1");
        } else {
            ensure!(
                Self::is_allowed()?,
                "this system allows no namespaces, and so no disk that can be filled: {WITHOUT_NAMESPACES}=1 does without"
            );
        }
        Ok(!is_excused)
    }

    fn is_allowed() -> Result<bool> {
        let mut trial = Command::new("unshare");
        trial.args(["--user", "--map-root-user", "--mount"]);
        trial.args(["mount", "-t", "tmpfs", "none", "/tmp"]);
        let status = trial.stderr(Stdio::null()).status().wrap_err("running unshare")?;
        Ok(status.success())
    }

    /// Makes an empty one.
    ///
    /// # Errors
    /// When the system doesn't allow it.
    pub async fn new() -> Result<Self> {
        let mounted_at = TempDir::with_prefix("lloom-disk-").wrap_err("making a mount point")?;
        let script = format!("mount -t tmpfs -o size={SIZE} none \"$0\" && echo mounted && exec sleep infinity");
        let directory = mounted_at.path().display().to_string();
        let arguments = ["--user", "--map-root-user", "--mount", "sh", "-c", &script, &directory];
        let keeper = Process::start("small disk", "unshare", &arguments.map(str::to_owned), &[])?;
        keeper
            .line("mounted disk", |line| (line == "mounted").then_some(()))
            .await?;
        Ok(Self { mounted_at, keeper })
    }

    /// The path that processes on it know it by.
    pub(crate) fn path(&self) -> &Path {
        self.mounted_at.path()
    }

    /// What a program and its arguments are started with to be on it.
    pub(crate) fn entrance(&self) -> [String; 6] {
        let keeper = self.keeper.id().to_string();
        [
            "nsenter",
            "--target",
            &keeper,
            "--user",
            "--mount",
            "--preserve-credentials",
        ]
        .map(str::to_owned)
    }

    /// Copies `directory`, which holds files and directories of files, onto it.
    ///
    /// # Errors
    /// When it is full, or the files can't be read.
    pub(crate) fn take(&self, directory: &Path) -> Result<()> {
        copy(directory, &self.seen_from_here())
    }

    /// Copies everything back to `directory`, over what is there.
    ///
    /// # Errors
    /// When the files can't be copied.
    pub(crate) fn give_back(&self, directory: &Path) -> Result<()> {
        self.empty()?;
        copy(&self.seen_from_here(), directory)
    }

    /// Fills it: not a byte more can be stored, until it is [emptied](Self::empty).
    ///
    /// # Errors
    /// When it doesn't get full.
    pub fn fill(&self) -> Result<()> {
        let mut filling = File::create(self.filling()).wrap_err("filling a disk")?;
        for _ in 0..=SIZE / PAGE as u64 {
            match filling.write_all(&[1; PAGE]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).wrap_err("filling a disk"),
            }
        }
        bail!("the disk takes more than it holds")
    }

    /// Takes out again what it was filled with.
    ///
    /// # Errors
    /// The file system's.
    pub fn empty(&self) -> Result<()> {
        match fs::remove_file(self.filling()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).wrap_err("emptying a disk"),
            _ => Ok(()),
        }
    }

    fn filling(&self) -> PathBuf {
        self.seen_from_here().join("filling")
    }

    /// Its path for this process, which is not in the namespace.
    fn seen_from_here(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        let below_root = self.path().strip_prefix("/").unwrap_or(self.path());
        root.join(below_root)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).wrap_err_with(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target).wrap_err_with(|| format!("making {}", target.display()))?;
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).wrap_err_with(|| format!("copying {}", source.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn takes_nothing_while_it_is_full() -> Result<()> {
        if !SmallDisk::is_expected()? {
            return Ok(());
        }
        let disk = SmallDisk::new().await?;
        let file = disk.seen_from_here().join("file");
        disk.fill()?;
        let error = fs::write(&file, "a word").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.empty()?;
        fs::write(&file, "a word")?;
        let elsewhere = TempDir::new()?;
        disk.give_back(elsewhere.path())?;
        assert_eq!(fs::read_to_string(elsewhere.path().join("file"))?, "a word");
        assert!(!disk.path().join("file").exists(), "it is mounted for everybody");
        Ok(())
    }
}
