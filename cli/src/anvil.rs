//! A local development chain: Foundry's anvil, as a child of this process.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    network::DEVNET_CHAIN_ID,
};

/// How long anvil may take to listen.
const START: Duration = Duration::from_secs(20);

/// A running anvil. It ends with this value.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    port: u16,
}

impl Anvil {
    /// Starts it on `port`, or on any free one.
    ///
    /// # Errors
    /// When it is not installed, or doesn't start.
    pub async fn start(port: Option<u16>, block_time: Option<u64>) -> Result<Self> {
        let program = find()?;
        let mut command = Command::new(&program);
        command
            .args(["--host", "127.0.0.1", "--chain-id", &DEVNET_CHAIN_ID.to_string()])
            .args(["--port", &port.unwrap_or(0).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        if let Some(seconds) = block_time {
            // Blocks come by the clock, and at once when there is something for them.
            command.args(["--block-time", &seconds.to_string(), "--mixed-mining"]);
        }
        // Ctrl-C goes to a terminal's whole process group: this process decides when anvil ends.
        #[cfg(unix)]
        command.process_group(0);
        let operation = || format!("cannot start {}", program.display());
        let mut child = command.spawn().or_fail(Kind::Failed, operation)?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        let port = match tokio::time::timeout(START, listening_port(lines)).await {
            Ok(Some(port)) => port,
            Ok(None) => {
                return Err(Failure::new(Kind::Failed, "anvil ended before it listened")
                    .while_(operation())
                    .hint("is the port free? --port names another one"));
            }
            Err(_) => {
                return Err(Failure::new(
                    Kind::Failed,
                    format!("anvil does not listen after {} s", START.as_secs()),
                )
                .while_(operation()));
            }
        };
        Ok(Self { child, port })
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until it ends by itself, which it shouldn't.
    ///
    /// # Errors
    /// Always, one way or another.
    pub async fn ended(&mut self) -> Failure {
        match self.child.wait().await {
            Ok(status) => Failure::new(Kind::Failed, format!("anvil ended with {status}")),
            Err(error) => Failure::of(Kind::Failed, error).while_("cannot wait for anvil"),
        }
    }

    /// Ends it, and waits until it is gone.
    pub async fn stop(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::debug!(%error, "anvil was gone already");
        }
    }
}

/// Reads anvil's banner up to the line that names its port, and leaves the rest to be thrown away.
async fn listening_port(lines: Option<tokio::io::Lines<BufReader<tokio::process::ChildStdout>>>) -> Option<u16> {
    let mut lines = lines?;
    loop {
        let line = lines.next_line().await.ok()??;
        if let Some(address) = line.trim().strip_prefix("Listening on ") {
            let port = address.rsplit_once(':')?.1.parse().ok()?;
            // A pipe that nobody reads fills up, and anvil would stand still.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(port);
        }
    }
}

/// `LLOOM_ANVIL`, then the project's own `node_modules`, then `PATH`.
fn find() -> Result<PathBuf> {
    if let Some(given) = env::var_os("LLOOM_ANVIL") {
        return Ok(without_wrapper(given.into()));
    }
    let local = env::current_dir().ok().and_then(|directory| {
        directory
            .ancestors()
            .map(|ancestor| ancestor.join("node_modules/.bin/anvil"))
            .find(|path| path.exists())
    });
    local.or_else(in_path).map(without_wrapper).ok_or_else(|| {
        Failure::new(Kind::Failed, "anvil, which a local chain needs, is not installed").hint(
            "`npm ci` in the project's directory brings it, or install Foundry; LLOOM_ANVIL names it where it is elsewhere",
        )
    })
}

fn in_path() -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths)
        .map(|directory: PathBuf| directory.join("anvil"))
        .find(|path: &PathBuf| Path::is_file(path))
}

/// npm installs a script that starts the real program as a child of its own, which would outlive its parent's end. The
/// real one lies in a package beside the script's.
fn without_wrapper(program: PathBuf) -> PathBuf {
    let real = || {
        let script = program.canonicalize().ok()?;
        if script.extension()? != "mjs" {
            return None;
        }
        let scope = script.parent()?.parent()?;
        std::fs::read_dir(scope)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|package| {
                package
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("anvil-"))
            })
            .map(|package| package.join("bin/anvil"))
            .find(|path| path.is_file())
    };
    real().unwrap_or(program)
}
