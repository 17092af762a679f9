use std::io::{self, Write};

use serde::Serialize;

use crate::{
    failure::{Failure, Kind, Result},
    output::Report,
};

/// Everything that was found, worst first.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    healthy: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    finding: String,
    hints: Vec<String>,
    #[serde(skip)]
    kind: Option<Kind>,
}

/// The worst is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Bad,
    Warning,
    Good,
}

impl Report for Diagnosis {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &self.checks {
            let mark = match check.state {
                State::Good => "ok",
                State::Warning => "!!",
                State::Bad => "BAD",
            };
            write!(out, "{mark:<3}  {:<width$}  {}", check.name, check.finding)?;
            for hint in &check.hints {
                write!(out, " → {hint}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// A person reads lines; what a library says may have several, and draw the place of a mistake into them.
fn one_line(text: String) -> String {
    let drawn = |line: &&str| {
        line.trim_start_matches(|first: char| first.is_ascii_digit() || first == ' ')
            .starts_with('|')
    };
    let lines = text.lines().filter(|line| !drawn(line)).map(str::trim);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
}

/// What is found, as it is found.
#[derive(Debug, Default)]
pub struct Checks(Vec<Check>);

impl Checks {
    /// All is well with it.
    pub fn good(&mut self, name: &'static str, finding: impl Into<String>) {
        self.push(name, State::Good, finding, Vec::new(), None);
    }

    /// It works, but somebody should know.
    pub fn warn(&mut self, name: &'static str, finding: impl Into<String>, hint: impl Into<String>) {
        self.push(name, State::Warning, finding, vec![hint.into()], None);
    }

    /// It is wrong.
    pub fn bad(&mut self, name: &'static str, failure: &Failure) {
        self.push(
            name,
            State::Bad,
            failure.one_line(),
            failure.hints().to_vec(),
            Some(failure.kind()),
        );
    }

    fn push(
        &mut self,
        name: &'static str,
        state: State,
        finding: impl Into<String>,
        hints: Vec<String>,
        kind: Option<Kind>,
    ) {
        self.0.push(Check {
            name,
            state,
            finding: one_line(finding.into()),
            hints: hints.into_iter().map(one_line).collect(),
            kind,
        });
    }

    /// Everything, worst first and otherwise in the order it was found, and the failure that it amounts to.
    pub fn conclude(mut self) -> (Diagnosis, Result) {
        self.0.sort_by_key(|check| check.state);
        let bad = self.0.iter().filter(|check| check.state == State::Bad).count();
        let result = match self.0.iter().find_map(|check| check.kind) {
            None => Ok(()),
            Some(kind) => Err(Failure::new(
                kind,
                format!("{bad} thing{} wrong", if bad == 1 { " is" } else { "s are" }),
            )),
        };
        let diagnosis = Diagnosis {
            healthy: result.is_ok(),
            checks: self.0,
        };
        (diagnosis, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_decides_the_exit_code() {
        let mut checks = Checks::default();
        checks.good("key", "there");
        checks.warn("clock", "fast", "set it");
        checks.bad(
            "store",
            &Failure::new(Kind::Store, "it is\n  |\n3 | damaged\n  | ^^^\n\ndamaged").hint("restore it"),
        );
        checks.bad("gas money", &Failure::new(Kind::Chain, "none").hint("send some"));
        let (diagnosis, result) = checks.conclude();
        let failure = result.unwrap_err();
        assert_eq!(
            (failure.kind(), failure.one_line().as_str()),
            (Kind::Store, "2 things are wrong")
        );
        let mut text = Vec::new();
        diagnosis.write_human(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "BAD  store      it is: damaged → restore it\n\
             BAD  gas money  none → send some\n\
             !!   clock      fast → set it\n\
             ok   key        there\n"
        );
    }
}
