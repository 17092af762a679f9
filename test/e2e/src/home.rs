use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy::primitives::Address;
use eyre::{Result, WrapErr, ensure, eyre};
use lloom_ledger::Ledger;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Finished, Lloomctl, Process, Settings, SmallDisk};

/// Every test key's password.
const PASSWORD: &str = "correct horse battery staple";

/// A person's or a node's own directory with its key, and the `lloomctl` that works in it. Deleted with this guard.
#[derive(Debug)]
pub struct Home {
    name: String,
    directory: TempDir,
    lloomctl: Lloomctl,
    address: Address,
}

/// How a command failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The exit code.
    pub code: i32,
    /// What `--json` says about it.
    pub error: Value,
}

impl Failure {
    /// The error with its causes, as one text.
    pub fn text(&self) -> String {
        let causes = self.error["causes"].as_array().cloned().unwrap_or_default();
        let causes = causes.iter().filter_map(Value::as_str);
        let message = self.error["message"].as_str().unwrap_or_default();
        std::iter::once(message).chain(causes).collect::<Vec<_>>().join(": ")
    }
}

impl Home {
    /// A new home with a new key, in the role `executor` or `client`, configured by `settings`.
    ///
    /// # Errors
    /// When `lloomctl init` fails.
    pub async fn create(name: &str, settings: &Settings) -> Result<Self> {
        let mut home = Self {
            name: name.to_owned(),
            directory: TempDir::with_prefix("lloom-").wrap_err("making a home")?,
            lloomctl: Lloomctl::find().await?,
            address: Address::ZERO,
        };
        let made = home
            .json(&["init", "--role", "client", "--network", "devnet", "--insecure-fast-kdf"])
            .await?;
        let address = made["address"]
            .as_str()
            .ok_or_else(|| eyre!("init names no address: {made}"))?;
        home.address = address.parse().wrap_err("init's address")?;
        home.configure(settings)?;
        Ok(home)
    }

    /// Another home with the same key and configuration, and no store.
    ///
    /// # Errors
    /// When the files can't be copied.
    pub fn twin(&self, name: &str) -> Result<Self> {
        let twin = Self {
            name: name.to_owned(),
            directory: TempDir::with_prefix("lloom-").wrap_err("making a home")?,
            lloomctl: self.lloomctl.clone(),
            address: self.address,
        };
        fs::create_dir(twin.path("keystore")).wrap_err("making a keystore")?;
        for file in ["config.toml", "keystore/hot.json"] {
            fs::copy(self.path(file), twin.path(file)).wrap_err_with(|| format!("copying {file}"))?;
        }
        Ok(twin)
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its key's address.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// A file in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Writes its `config.toml` anew.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn configure(&self, settings: &Settings) -> Result<()> {
        fs::write(self.path("config.toml"), settings.to_toml()).wrap_err("writing config.toml")
    }

    /// Its store, for reading, beside whoever writes it.
    ///
    /// # Errors
    /// When there is none or it can't be read.
    pub async fn store(&self) -> Result<Ledger> {
        let store = Ledger::open_read_only(&self.path("lloom.db")).await;
        store.wrap_err_with(|| format!("opening the store of {}", self.name))
    }

    /// Starts `lloomctl` in it, with `--json`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        self.start_with(arguments, &[])
    }

    /// The same, with more in its environment.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_with(&self, arguments: &[&str], more: &[(String, String)]) -> Result<Process> {
        let environment = [&self.environment(), more].concat();
        let program = self.lloomctl.program();
        Process::start(self.title(arguments), program, &with_json(arguments), &environment)
    }

    /// The same, for a process whose files are going to be [limited](Process::limit_files): a write beyond the limit fails
    /// then, and does not kill it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_limited(&self, arguments: &[&str]) -> Result<Process> {
        let program = self.lloomctl.program().display().to_string();
        // What is ignored stays ignored in the program that takes the shell's place.
        let shell = ["-c".to_owned(), "trap '' XFSZ; exec \"$0\" \"$@\"".to_owned(), program];
        let arguments_of_shell = [&shell, with_json(arguments).as_slice()].concat();
        Process::start(self.title(arguments), "sh", &arguments_of_shell, &self.environment())
    }

    /// Copies everything in it to `disk`, where `lloomctl` can be [started](Self::start_on).
    ///
    /// # Errors
    /// When the disk has no room.
    pub fn move_to(&self, disk: &SmallDisk) -> Result<()> {
        disk.take(self.directory.path())
    }

    /// Copies everything from `disk` to where it was before.
    ///
    /// # Errors
    /// When the files can't be copied.
    pub fn move_back(&self, disk: &SmallDisk) -> Result<()> {
        disk.give_back(self.directory.path())
    }

    /// [`start`](Self::start), on what [was moved](Self::move_to) to `disk`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_on(&self, disk: &SmallDisk, arguments: &[&str]) -> Result<Process> {
        let [first, entrance @ ..] = disk.entrance();
        let program = self.lloomctl.program().display().to_string();
        let all = [&entrance[..], &[program], with_json(arguments).as_slice()].concat();
        Process::start(self.title(arguments), first, &all, &self.environment_in(disk.path()))
    }

    fn environment(&self) -> [(String, String); 3] {
        self.environment_in(self.directory.path())
    }

    fn environment_in(&self, home: &Path) -> [(String, String); 3] {
        [
            ("LLOOM_HOME", home.display().to_string()),
            ("LLOOM_PASSWORD", PASSWORD.to_owned()),
            (
                "LLOOM_LOG",
                std::env::var("LLOOM_LOG").unwrap_or_else(|_| "info".to_owned()),
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value))
    }

    fn title(&self, arguments: &[&str]) -> String {
        format!(
            "{}: lloomctl {}",
            self.name,
            arguments.first().copied().unwrap_or_default()
        )
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it can't be started or doesn't end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Finished> {
        self.start(arguments)?.finish().await
    }

    /// Runs a command that has to succeed, and gives its answer, the last line it prints.
    ///
    /// # Errors
    /// When it fails, or answers no JSON.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let answers = self.json_lines(arguments).await?;
        Ok(answers.into_iter().next_back().unwrap_or(Value::Null))
    }

    /// Runs a command that has to succeed, and gives all its answers, one a line.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub async fn json_lines(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let finished = self.run(arguments).await?;
        ensure!(
            finished.code() == Some(0),
            "{}: lloomctl {} ended with {}\n{}{}",
            self.name,
            arguments.join(" "),
            finished.status,
            finished.stdout,
            finished.stderr
        );
        finished.answers()
    }

    /// Runs a command that has to fail, and says how it did.
    ///
    /// # Errors
    /// When it succeeds, dies of a signal, or fails without a word.
    pub async fn failure(&self, arguments: &[&str]) -> Result<Failure> {
        let finished = self.run(arguments).await?;
        let code = finished.code().filter(|&code| code != 0);
        let code = code.ok_or_else(|| eyre!("lloomctl {} ended with {}", arguments.join(" "), finished.status))?;
        let last = finished
            .stderr
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<Value>(line).ok());
        let error = last.map(|mut object| object["error"].take()).unwrap_or_default();
        ensure!(
            error["message"].is_string(),
            "lloomctl {} failed without a word: {}",
            arguments.join(" "),
            finished.stderr
        );
        Ok(Failure { code, error })
    }
}

fn with_json(arguments: &[&str]) -> Vec<String> {
    let arguments = std::iter::once("--json").chain(arguments.iter().copied());
    arguments.map(str::to_owned).collect()
}

impl Finished {
    /// The lines of stdout as JSON.
    ///
    /// # Errors
    /// When a line isn't.
    pub fn answers(&self) -> Result<Vec<Value>> {
        let lines = self.stdout.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| serde_json::from_str(line).wrap_err_with(|| format!("this is no JSON: {line}")))
            .collect()
    }
}
