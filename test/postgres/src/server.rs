use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use eyre::{Result, WrapErr as _, bail, eyre};
use tempfile::TempDir;

use crate::{
    Certificate,
    nobody::{as_nobody, give_to_nobody, is_root},
    programs,
};

/// The superuser of every server.
const USER: &str = "lloom";
/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process that starts the server waits for its standard input to end, which it does with the process that holds the
/// other end, also when that is killed. Then it stops the server and leaves nothing behind.
///
/// A terminal's Ctrl-C reaches all of them; the trap, which does nothing, keeps the keeper until it has tidied up.
const KEEPER: &str = r#"
trap : INT HUP TERM
directory=$1; shift
"$@" < /dev/null & server=$!
echo "$server"
while read -r signal; do
    [ -z "$signal" ] || kill "-$signal" "$server"
done
kill -QUIT "$server" 2> /dev/null
wait "$server"
rm -rf "$directory"
"#;

/// A server on a UNIX socket of its own, and on a port of this machine where that is asked for. It ends with this guard, or
/// with the process.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    programs: PathBuf,
    settings: Vec<String>,
    port: Option<u16>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process_id: u32,
    keeper: Child,
    /// What the keeper waits on.
    alive: Option<ChildStdin>,
}

impl Server {
    /// Starts one that keeps its promises: nothing is acknowledged before it is on disk.
    ///
    /// # Errors
    /// When no PostgreSQL is found, or it doesn't start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with these settings of `postgresql.conf`, such as `fsync=off`.
    ///
    /// # Errors
    /// When no PostgreSQL is found, or it doesn't start.
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self::start_as(settings, None, None)
    }

    /// Starts one that also listens on a port of this machine, for [`network_url`](Self::network_url): with a certificate
    /// it speaks TLS there.
    ///
    /// # Errors
    /// When no PostgreSQL is found, or it doesn't start.
    pub fn start_on_network(certificate: Option<&Certificate>) -> Result<Self> {
        // Somebody else may take the port before the server does: then it doesn't start.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).wrap_err("looking for a free port")?;
        let port = listener.local_addr()?.port();
        drop(listener);
        let settings = vec![
            format!("listen_addresses={}", Ipv4Addr::LOCALHOST),
            format!("port={port}"),
        ];
        Self::start_as(settings, Some(port), certificate)
    }

    fn start_as(mut settings: Vec<String>, port: Option<u16>, certificate: Option<&Certificate>) -> Result<Self> {
        let directory = TempDir::with_prefix("lloom-postgres-").wrap_err("a directory for PostgreSQL")?;
        if is_root()? {
            // PostgreSQL refuses to run as root.
            give_to_nobody(directory.path())?;
        }
        let programs = readable(programs::directory()?, directory.path())?;
        if let Some(certificate) = certificate {
            settings.extend(certificate.install(directory.path())?);
        }
        let mut server = Self {
            directory: directory.keep(),
            programs,
            settings,
            port,
            running: None,
        };
        server.initialize()?;
        server.resume()?;
        Ok(server)
    }

    /// The URL of a database on it, which need not exist.
    pub fn url(&self, database: &str) -> String {
        // The port is in the socket's name.
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        format!(
            "postgres://{USER}@localhost{port}/{database}?host={}",
            self.directory.display()
        )
    }

    /// The URL of a database on it over the network, with these parameters, such as `sslmode=require`.
    ///
    /// # Panics
    /// When it does not listen there.
    pub fn network_url(&self, database: &str, parameters: &str) -> String {
        let port = self.port();
        format!("postgres://{USER}@localhost:{port}/{database}?{parameters}")
    }

    /// The port it listens on.
    ///
    /// # Panics
    /// When it listens on none.
    pub fn port(&self) -> u16 {
        self.port.expect("this server is not on the network")
    }

    /// Its process id.
    pub fn process_id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.process_id)
    }

    /// Stops it as `pg_ctl stop -m immediate` does: at once, so that it has to recover from what is on disk.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_immediately(&mut self) -> Result<()> {
        self.stop("QUIT")
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn resume(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        // A server that was killed leaves this, and its process id may be somebody else's by now.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        let mut arguments: Vec<OsString> = vec![
            self.programs.join("postgres").into(),
            "-D".into(),
            self.data().into(),
            "-k".into(),
            self.directory.clone().into(),
        ];
        let fixed = [
            "listen_addresses=",
            "max_connections=500",
            "shared_buffers=64MB",
            "max_wal_size=256MB",
            "timezone=UTC",
            "logging_collector=off",
        ];
        for setting in fixed.into_iter().chain(self.settings.iter().map(String::as_str)) {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let log = fs::File::create(self.directory.join("log"))?;
        let mut keeper = as_nobody("sh")?
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.directory)
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .wrap_err("starting PostgreSQL")?;
        let alive = keeper.stdin.take();
        let mut lines = BufReader::new(keeper.stdout.take().ok_or_else(|| eyre!("no output"))?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        // What else it says goes nowhere, and a full pipe would stop it.
        std::thread::spawn(move || {
            let mut rest = Vec::new();
            lines.read_to_end(&mut rest)
        });
        let process_id = line.trim().parse().wrap_err("PostgreSQL's process id")?;
        self.running = Some(Running {
            process_id,
            keeper,
            alive,
        });
        self.wait_until_ready()
    }

    /// Stops what runs, and keeps what is on disk.
    fn stop(&mut self, signal: &str) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        // Its keeper would tidy up behind it.
        running.keeper.kill()?;
        running.keeper.wait()?;
        drop(running.alive.take());
        let process_id = running.process_id.to_string();
        Command::new("kill")
            .args([&format!("-{signal}"), &process_id])
            .status()?;
        let deadline = Instant::now() + PATIENCE;
        while is_running(&process_id) {
            if Instant::now() > deadline {
                bail!("PostgreSQL does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn initialize(&self) -> Result<()> {
        let made = as_nobody(self.programs.join("initdb"))?
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg(format!("--username={USER}"))
            .arg("--pgdata")
            .arg(self.data())
            .current_dir(&self.directory)
            .output()
            .wrap_err("running initdb")?;
        if made.status.success() {
            return Ok(());
        }
        bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr))
    }

    /// The server writes its state into the last line of this file.
    fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("PostgreSQL does not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.running.take() {
            Some(mut running) => {
                drop(running.alive.take());
                let _ = running.keeper.wait();
            }
            None => drop(fs::remove_dir_all(&self.directory)),
        }
    }
}

fn is_running(process_id: &str) -> bool {
    Command::new("kill")
        .args(["-0", process_id])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Where the programs can be run from by the user that runs them: a copy, when the way to them is closed to it.
fn readable(programs: PathBuf, directory: &Path) -> Result<PathBuf> {
    let runs = as_nobody(programs.join("postgres"))?
        .arg("--version")
        .current_dir(directory)
        .output();
    if runs.is_ok_and(|answer| answer.status.success()) {
        return Ok(programs);
    }
    let package = programs
        .parent()
        .ok_or_else(|| eyre!("PostgreSQL's programs lie nowhere"))?;
    let copy = directory.join("postgresql");
    let copied = Command::new("cp").arg("-r").arg(package).arg(&copy).status()?;
    if !copied.success() {
        bail!("PostgreSQL's programs in {} can't be copied", programs.display());
    }
    Command::new("chmod").args(["-R", "a+rX"]).arg(&copy).status()?;
    Ok(copy.join("bin"))
}
