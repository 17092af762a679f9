//! Homes in temporary directories, and the program run in them.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The password of every key here.
pub const PASSWORD: &str = "correct horse";

/// A home of its own.
pub struct Home {
    directory: TempDir,
    rpc_url: Option<String>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The answer as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The failure as JSON: its exit code has to be the process's.
    #[track_caller]
    pub fn failure(&self) -> Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(value["error"]["exit_code"], self.code, "{self:?}");
        value["error"].clone()
    }
}

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            rpc_url: None,
        }
    }

    /// An empty one, for the chain at `rpc_url`.
    pub fn empty(rpc_url: &str) -> Self {
        Self {
            rpc_url: Some(rpc_url.to_owned()),
            ..Self::new()
        }
    }

    /// A client's, on the chain at `rpc_url`.
    pub fn client(rpc_url: &str) -> Self {
        Self::of("client", rpc_url, &[])
    }

    /// An executor's, in front of no server.
    pub fn executor(rpc_url: &str) -> Self {
        let offer = [
            "--backend",
            "http://localhost:9/v1",
            "--model",
            "none",
            "--price",
            "1/1",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
        ];
        Self::of("executor", rpc_url, &offer)
    }

    /// A tower's.
    pub fn tower(rpc_url: &str) -> Self {
        Self::of("tower", rpc_url, &["--listen", "/ip4/127.0.0.1/tcp/0"])
    }

    fn of(role: &str, rpc_url: &str, arguments: &[&str]) -> Self {
        let mut home = Self::new();
        home.rpc_url = Some(rpc_url.to_owned());
        let init = ["init", "--role", role, "--no-mdns", "--insecure-fast-kdf"];
        let made = home.run(&[&init, arguments].concat());
        assert_eq!(made.code, 0, "{made:?}");
        home
    }

    /// Sets its section of monitoring to `text`.
    pub fn monitor(&self, text: &str) {
        let path = self.path().join("config.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let (before, after) = config.split_once("[monitoring]").unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        std::fs::write(path, format!("{before}[monitoring]\n{text}\n{after}")).unwrap();
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its store.
    pub fn store(&self) -> PathBuf {
        self.path().join("lloom.db")
    }

    /// The command, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lloomctl"));
        command
            .args(arguments)
            .env_clear()
            .env("LLOOM_HOME", self.path())
            .env("LLOOM_PASSWORD", PASSWORD)
            .env("LLOOM_ANVIL", anvil())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        if let Some(url) = &self.rpc_url {
            command.env("LLOOM_RPC_URL", url);
        }
        command
    }

    /// Runs it.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        end(self.command(arguments))
    }

    /// Runs it for JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).json()
    }

    /// Its key's address.
    pub fn address(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("keystore/hot.json")).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        format!("0x{}", file["address"].as_str().unwrap())
    }

    /// Everything in it, by path and content: to see that nothing changed. Without the files that SQLite needs beside a
    /// database to read it, as long as they hold nothing.
    pub fn content(&self) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        let mut directories = vec![self.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                let content = std::fs::read(&path).unwrap_or_default();
                let name = path.to_string_lossy();
                if name.ends_with("-shm") || (name.ends_with("-wal") && content.is_empty()) {
                    continue;
                }
                // The whole of it, shortened for whoever reads a failure.
                files.push((path, alloy::primitives::keccak256(content).to_string()));
            }
        }
        files.sort();
        files
    }
}

/// Runs `command` to its end.
pub fn end(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A running `lloomctl`. It dies with this guard.
pub struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    /// Starts it.
    pub fn start(command: Command) -> Self {
        Self::start_logging(command, Stdio::null())
    }

    /// Starts it, and has it log there.
    pub fn start_logging(mut command: Command, log: impl Into<Stdio>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line, as JSON.
    pub fn json(&mut self) -> Value {
        let line = self.lines.next().expect("the process ended").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Asks it to end, and waits until it did.
    pub fn terminate(mut self) -> i32 {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(asked.success());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever has ended gave its id back, perhaps to somebody else.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // `devnet` ends its anvil when it is asked to; killed, it could not.
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

/// A development chain, started by the program itself.
pub struct Devnet {
    /// Where it answers.
    pub url: String,
    _home: Home,
    _process: Running,
}

impl Devnet {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let home = Home::new();
        let mut process = Running::start(home.command(&["devnet", "--port", "0", "--json"]));
        let ready = process.json();
        assert_eq!(ready["ready"], true);
        Self {
            url: ready["rpc_url"].as_str().unwrap().to_owned(),
            _home: home,
            _process: process,
        }
    }

    /// Asks it anything.
    pub fn call(&self, method: &str, parameters: &Value) -> Value {
        call(&self.url, method, parameters)
    }
}

/// How long anything may take. Nothing waits for it to pass.
const LIMIT: Duration = Duration::from_secs(60);

/// Looks again and again until there is what is looked for.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A GET over HTTP, by hand: the status and the body; `None` when nobody answers.
pub fn get(url: &str, path: &str) -> Option<(u16, String)> {
    let address = url.strip_prefix("http://").unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, &request).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A JSON-RPC call, by hand.
pub fn call(url: &str, method: &str, parameters: &Value) -> Value {
    let address = url.strip_prefix("http://").unwrap();
    let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address, &request).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let value: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    value["result"].clone()
}

/// The one the user names, or the repository's.
fn anvil() -> PathBuf {
    if let Some(given) = std::env::var_os("LLOOM_ANVIL") {
        return given.into();
    }
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node_modules/.bin/anvil");
    if local.exists() { local } else { "anvil".into() }
}
