use clap::Subcommand;

use crate::{failure::Result, session::Session};

mod deploy;
mod release;
mod show;

/// Commands of `splitter`.
#[derive(Debug, Subcommand)]
pub enum SplitterCommand {
    Deploy(deploy::DeployArgs),
    Show(show::ShowArgs),
    Release(release::ReleaseArgs),
}

/// Runs one.
///
/// # Errors
/// When the chain refuses.
pub async fn run(session: &Session, command: SplitterCommand) -> Result {
    match command {
        SplitterCommand::Deploy(arguments) => deploy::run(session, arguments).await,
        SplitterCommand::Show(arguments) => show::run(session, &arguments).await,
        SplitterCommand::Release(arguments) => release::run(session, arguments).await,
    }
}
