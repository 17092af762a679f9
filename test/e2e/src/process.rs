use std::{
    ffi::OsStr,
    fmt::Write as _,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use eyre::{Result, WrapErr, bail, eyre};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, prlimit};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::wait::LIMIT;

/// How much of a process's output is shown when something went wrong.
const LINES_SHOWN: usize = 60;

/// A child process in a process group of its own. The whole group is killed, by its id, when the guard is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    group: Pid,
    stdout: Output,
    stderr: Output,
    reaped: bool,
}

/// What a process that ended left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All it printed.
    pub stdout: String,
    /// All it complained about.
    pub stderr: String,
}

impl Finished {
    /// The exit code, unless a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Process {
    /// Starts `program` with `arguments` and `environment` (added to this process's own), stdin closed.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn start(
        name: impl Into<String>,
        program: impl AsRef<OsStr>,
        arguments: &[String],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let name = name.into();
        let mut child = Command::new(&program)
            .args(arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .wrap_err_with(|| format!("starting {name} ({})", program.as_ref().to_string_lossy()))?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| eyre!("{name} has no process id"))?;
        let stdout = Output::of(child.stdout.take());
        let stderr = Output::of(child.stderr.take());
        Ok(Self {
            name,
            child,
            group,
            stdout,
            stderr,
            reaped: false,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for a line of stdout that `wanted` makes something of, looking at the lines already there too.
    ///
    /// # Errors
    /// When the process ends, or [`LIMIT`] passes, without such a line.
    pub async fn line<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        self.find(&self.stdout, what, wanted).await
    }

    /// [`line`](Self::line), on stderr.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub async fn complaint<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        self.find(&self.stderr, what, wanted).await
    }

    async fn find<T>(&self, output: &Output, what: &str, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        match timeout(LIMIT, output.find(wanted)).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => bail!("{} ended without {what}\n{}", self.name, self.tail()),
            Err(_) => bail!(
                "{} showed no {what} within {} s\n{}",
                self.name,
                LIMIT.as_secs(),
                self.tail()
            ),
        }
    }

    /// The lines of stdout so far.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.lines.borrow().all.clone()
    }

    /// The lines of stderr so far.
    pub fn complaints(&self) -> Vec<String> {
        self.stderr.lines.borrow().all.clone()
    }

    /// From now on, no file of it can be written beyond `bytes`: with 0, as if the disk were full. `None` lifts that.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(self.group), Resource::Fsize, limit).wrap_err_with(|| format!("limiting {}", self.name))?;
        Ok(())
    }

    /// Asks it to stop (SIGINT, to the process alone).
    ///
    /// # Errors
    /// When it is gone already.
    pub fn interrupt(&self) -> Result<()> {
        kill_process(self.group, Signal::INT).wrap_err_with(|| format!("interrupting {}", self.name))
    }

    /// `kill -9`, of the whole group, and waits until it is gone: nothing of it gets to run any more.
    ///
    /// # Errors
    /// When it had ended already.
    pub async fn kill(mut self) -> Result<()> {
        kill_process_group(self.group, Signal::KILL).wrap_err_with(|| format!("killing {}", self.name))?;
        self.child.wait().await?;
        self.reaped = true;
        Ok(())
    }

    /// Interrupts it and waits for it to end by itself.
    ///
    /// # Errors
    /// When it doesn't within [`LIMIT`].
    pub async fn stop(self) -> Result<Finished> {
        self.interrupt()?;
        self.finish().await
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it doesn't within [`LIMIT`].
    pub async fn finish(self) -> Result<Finished> {
        self.finish_within(LIMIT).await
    }

    /// [`finish`](Self::finish) with a limit of its own.
    ///
    /// # Errors
    /// When it doesn't end within `limit`.
    pub async fn finish_within(mut self, limit: Duration) -> Result<Finished> {
        let Ok(status) = timeout(limit, self.child.wait()).await else {
            bail!("{} still runs after {} s\n{}", self.name, limit.as_secs(), self.tail());
        };
        self.reaped = true;
        let (stdout, stderr) = (self.stdout.whole().await, self.stderr.whole().await);
        Ok(Finished {
            status: status.wrap_err_with(|| format!("waiting for {}", self.name))?,
            stdout,
            stderr,
        })
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines of both outputs, to be shown with an error.
    pub fn tail(&self) -> String {
        let mut tail = String::new();
        for (title, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let lines = output.lines.borrow();
            let skipped = lines.all.len().saturating_sub(LINES_SHOWN);
            for line in lines.all.iter().skip(skipped) {
                let _infallible = writeln!(tail, "  {} {title} | {line}", self.name);
            }
        }
        tail
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            // Not reaped, so its id can't have become another's. An error says that it ended by itself.
            let _gone = kill_process_group(self.group, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

#[derive(Default)]
struct Lines {
    all: Vec<String>,
    ended: bool,
}

/// The lines of one output, as they come.
struct Output {
    lines: Arc<watch::Sender<Lines>>,
    reader: JoinHandle<()>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Output({} lines)", self.lines.borrow().all.len())
    }
}

impl Output {
    fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let lines = Arc::new(watch::Sender::new(Lines::default()));
        let sender = Arc::clone(&lines);
        let reader = tokio::spawn(async move {
            if let Some(pipe) = pipe {
                let mut reader = BufReader::new(pipe);
                let mut bytes = Vec::new();
                while matches!(reader.read_until(b'\n', &mut bytes).await, Ok(length) if length > 0) {
                    let line = String::from_utf8_lossy(&bytes)
                        .trim_end_matches(['\r', '\n'])
                        .to_owned();
                    bytes.clear();
                    sender.send_modify(|lines| lines.all.push(line));
                }
            }
            sender.send_modify(|lines| lines.ended = true);
        });
        Self { lines, reader }
    }

    async fn find<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut receiver = self.lines.subscribe();
        let mut seen = 0;
        loop {
            {
                let lines = receiver.borrow_and_update();
                if let Some(found) = lines.all.iter().skip(seen).find_map(|line| wanted(line)) {
                    return Some(found);
                }
                if lines.ended {
                    return None;
                }
                seen = lines.all.len();
            }
            receiver.changed().await.ok()?;
        }
    }

    async fn whole(&mut self) -> String {
        // A grandchild may hold the pipe open; what is there by then is all there will be.
        let _late = timeout(LIMIT, &mut self.reader).await;
        let lines = self.lines.borrow();
        lines.all.iter().fold(String::new(), |mut whole, line| {
            whole.push_str(line);
            whole.push('\n');
            whole
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start("shell", "sh", &["-c".to_owned(), script.to_owned()], &[]).unwrap()
    }

    #[tokio::test]
    async fn shows_lines_and_the_exit_code() {
        let process = shell("echo one; echo two >&2; exit 3");
        assert_eq!(
            process.line("one", |line| (line == "one").then_some(1)).await.unwrap(),
            1
        );
        let finished = process.finish().await.unwrap();
        assert_eq!((finished.code(), finished.stderr.as_str()), (Some(3), "two\n"));
    }

    #[tokio::test]
    async fn an_ended_process_is_no_silent_one() {
        let error = shell("echo only this")
            .line("a ready line", |line| (line == "ready").then_some(()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("only this"), "{error}");
    }

    #[tokio::test]
    async fn its_children_die_with_it() {
        let process = shell("sh -c 'echo $$; read line < /dev/tty; cat /dev/zero > /dev/null' & wait");
        let child = process.line("a process id", |line| line.parse().ok()).await.unwrap();
        let child = Pid::from_raw(child).unwrap();
        drop(process);
        crate::wait::until("the grandchild's end", || async move {
            // Killed, it stays a zombie until its new parent looks after it.
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
            Ok(state.map_or(true, |state| state.contains(") Z ")).then_some(()))
        })
        .await
        .unwrap();
    }
}
