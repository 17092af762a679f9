use std::{path::PathBuf, process::Command};

use eyre::{Result, WrapErr, ensure};
use tempfile::TempDir;

/// A wall clock that can be set, for single processes: a library preloaded before libc. Nothing else of such a process is
/// different, and its time since boot goes on as it does.
#[derive(Debug)]
pub struct Clock {
    directory: TempDir,
}

impl Clock {
    /// A clock that is right, to begin with.
    ///
    /// # Errors
    /// When the C compiler, which SQLite and libsecp256k1 are built with too, does not make the library.
    pub fn new() -> Result<Self> {
        let clock = Self {
            directory: TempDir::with_prefix("lloom-clock-").wrap_err("making a clock")?,
        };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clock.c");
        let mut compile = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compile
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(clock.library())
            .arg(source)
            .arg("-ldl");
        ensure!(
            compile.status().wrap_err("running the C compiler")?.success(),
            "the clock doesn't compile"
        );
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it to so many seconds after the right time, or before it.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set(&self, offset: i64) -> Result<()> {
        // At once: a process that reads it between two writes would see the right time.
        let written = self.directory.path().join("next");
        std::fs::write(&written, offset.to_string()).wrap_err("setting the clock")?;
        std::fs::rename(written, self.offset()).wrap_err("setting the clock")
    }

    /// What a process that goes by it has in its environment.
    pub fn environment(&self) -> [(String, String); 2] {
        let text = |path: PathBuf| path.display().to_string();
        [
            ("LD_PRELOAD".to_owned(), text(self.library())),
            ("LLOOM_TEST_CLOCK".to_owned(), text(self.offset())),
        ]
    }

    fn library(&self) -> PathBuf {
        self.directory.path().join("clock.so")
    }

    fn offset(&self) -> PathBuf {
        self.directory.path().join("offset")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Process;

    #[tokio::test]
    async fn moves_the_wall_clock_of_a_running_process() {
        let clock = Clock::new().unwrap();
        let script = "while true; do date +%s; sleep 0.05; done".to_owned();
        let process = Process::start("dates", "sh", &["-c".to_owned(), script], &clock.environment()).unwrap();
        let real = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        for offset in [0, 86_400, -86_400_i64] {
            clock.set(offset).unwrap();
            let wanted = real.saturating_add_signed(offset);
            let near = |line: &str| line.parse().ok().filter(|shown: &u64| shown.abs_diff(wanted) < 600);
            process.line("time as set", near).await.unwrap();
        }
    }
}
