use std::io::{self, Write};

use serde::Serialize;

use crate::{
    failure::{Kind, Result},
    output::{Output, Report},
};

/// The table, for `lloomctl help exit-codes`.
pub fn long_about() -> String {
    let mut text = "Explain the exit codes.\n\n    0  done\n".to_owned();
    for kind in Kind::ALL {
        text.push_str(&format!("{:>5}  {}\n", kind.exit_code(), kind.meaning()));
    }
    text
}

#[derive(Serialize)]
struct Codes(Vec<Code>);

#[derive(Serialize)]
struct Code {
    exit_code: u8,
    kind: &'static str,
    meaning: &'static str,
}

impl Report for Codes {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for code in &self.0 {
            writeln!(out, "{:>5}  {}", code.exit_code, code.meaning)?;
        }
        Ok(())
    }
}

/// Prints them.
///
/// # Errors
/// When stdout can't be written.
pub fn run(json: bool) -> Result {
    let done = Code {
        exit_code: 0,
        kind: "done",
        meaning: "done",
    };
    let codes = Kind::ALL.into_iter().map(|kind| Code {
        exit_code: kind.exit_code(),
        kind: kind.name(),
        meaning: kind.meaning(),
    });
    Output::new(json).print(&Codes(std::iter::once(done).chain(codes).collect()))
}
