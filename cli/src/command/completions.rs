use std::io;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{cli::Cli, failure::Result};

/// Print a shell's completions
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell's
    pub shell: Shell,
}

/// Prints them.
///
/// # Errors
/// Never: clap writes to stdout itself.
pub fn run(arguments: &CompletionsArgs) -> Result {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "lloomctl", &mut text);
    crate::output::finish(io::Write::write_all(&mut io::stdout().lock(), &text))
}
