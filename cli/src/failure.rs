//! What a command answers when it can't do its work: the failed operation, its causes, a hint, and an exit code.

use std::{
    error::Error as StdError,
    io::{self, Write},
};

use serde_json::json;

/// What a command returns.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// The kinds of failure, each with its exit code. The codes are part of the interface: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything without a kind of its own.
    Failed,
    /// The command line asks for something that can't be.
    Usage,
    /// A configuration file is missing or wrong.
    Configuration,
    /// A key or its password.
    Key,
    /// The chain, or the RPC endpoint it is reached by.
    Chain,
    /// The store.
    Store,
    /// The peer-to-peer network, or a peer.
    Network,
    /// The other side, or a contract, answered with a refusal.
    Refused,
    /// Ctrl-C.
    Interrupted,
}

impl Kind {
    /// Every kind, in the order of its code.
    pub const ALL: [Self; 9] = [
        Self::Failed,
        Self::Usage,
        Self::Configuration,
        Self::Key,
        Self::Chain,
        Self::Store,
        Self::Network,
        Self::Refused,
        Self::Interrupted,
    ];

    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Key => 4,
            Self::Chain => 5,
            Self::Store => 6,
            Self::Network => 7,
            Self::Refused => 8,
            Self::Interrupted => 130,
        }
    }

    /// The kind's name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Configuration => "configuration",
            Self::Key => "key",
            Self::Chain => "chain",
            Self::Store => "store",
            Self::Network => "network",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }

    /// What the code means, in a line.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Failed => "the command failed, for none of the reasons below",
            Self::Usage => "the command line is wrong",
            Self::Configuration => "a configuration file is missing or wrong",
            Self::Key => "a key can't be used: missing, or its password is wrong",
            Self::Chain => "the chain, or the RPC endpoint it is reached by",
            Self::Store => "the store can't be used: in use, damaged, or newer than this program",
            Self::Network => "the peer-to-peer network, or a peer",
            Self::Refused => "the other side, or a contract, refused, or the money does not suffice",
            Self::Interrupted => "interrupted by Ctrl-C",
        }
    }
}

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    report: eyre::Report,
    hints: Vec<String>,
}

impl Failure {
    /// A failure that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            report: eyre::Report::msg(message.into()),
            hints: Vec::new(),
        }
    }

    /// A failure that says what `error` and its sources say.
    pub fn of(kind: Kind, error: impl StdError + Send + Sync + 'static) -> Self {
        Self {
            kind,
            report: eyre::Report::new(error),
            hints: Vec::new(),
        }
    }

    /// The same failure of a larger operation.
    #[must_use]
    pub fn while_(mut self, operation: impl Into<String>) -> Self {
        self.report = self.report.wrap_err(operation.into());
        self
    }

    /// The same failure with a piece of advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What kind it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its outermost message.
    #[cfg(test)]
    pub fn message(&self) -> String {
        self.report.to_string()
    }

    /// Its messages, outermost first, joined: for a place that has one line.
    pub fn one_line(&self) -> String {
        self.messages().join(": ")
    }

    /// Its advice.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The messages from the outermost to the innermost; an error that repeats its source's text is printed once.
    fn messages(&self) -> Vec<String> {
        let mut messages: Vec<String> = Vec::new();
        for cause in self.report.chain() {
            let text = cause.to_string();
            match messages.last() {
                Some(last) if last.ends_with(&text) => {}
                _ => messages.push(text),
            }
        }
        messages
    }

    /// Writes it for a person: `Error:`, `Caused by:`, `Hint:`.
    ///
    /// # Errors
    /// When `out` can't be written.
    pub fn write_human(&self, out: &mut impl Write) -> io::Result<()> {
        let messages = self.messages();
        let mut messages = messages.iter();
        if let Some(first) = messages.next() {
            writeln!(out, "Error: {first}")?;
        }
        for cause in messages {
            writeln!(out, "Caused by: {cause}")?;
        }
        for hint in &self.hints {
            writeln!(out, "Hint: {hint}")?;
        }
        Ok(())
    }

    /// Writes it as one JSON object on a line.
    ///
    /// # Errors
    /// When `out` can't be written.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let messages = self.messages();
        let (message, causes) = messages
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first, rest));
        let object = json!({ "error": {
            "kind": self.kind.name(),
            "exit_code": self.kind.exit_code(),
            "message": message,
            "causes": causes,
            "hints": self.hints,
        }});
        writeln!(out, "{object}")
    }
}

/// Turns other errors into failures.
pub trait OrFail<T> {
    /// On an error: a failure of `kind` of this `operation`, caused by it.
    ///
    /// # Errors
    /// The failure.
    fn or_fail(self, kind: Kind, operation: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: StdError + Send + Sync + 'static> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, kind: Kind, operation: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::of(kind, error).while_(operation()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the plate is hot")]
    struct Hot;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot cook: {source}")]
    struct Cook {
        source: Hot,
    }

    fn failure() -> Failure {
        Failure::of(Kind::Chain, Cook { source: Hot })
            .while_("cannot serve dinner")
            .hint("wait a minute")
    }

    #[test]
    fn says_each_cause_once_and_then_the_hint() {
        let mut text = Vec::new();
        failure().write_human(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "Error: cannot serve dinner\nCaused by: cannot cook: the plate is hot\nHint: wait a minute\n"
        );
    }

    #[test]
    fn is_one_json_object_for_programs() {
        let mut text = Vec::new();
        failure().write_json(&mut text).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            value,
            json!({"error": {
                "kind": "chain", "exit_code": 5, "message": "cannot serve dinner",
                "causes": ["cannot cook: the plate is hot"], "hints": ["wait a minute"],
            }})
        );
    }

    #[test]
    fn codes_differ() {
        let mut codes: Vec<_> = Kind::ALL.iter().map(|kind| kind.exit_code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
    }
}
