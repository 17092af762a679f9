//! The commands of `ledger`.

pub mod backup;
pub mod check;
pub mod compact;
pub mod moving;
pub mod restore;

use clap::Subcommand;

use crate::{failure::Result, session::Session};

/// Commands of `ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Check(check::CheckArgs),
    Compact(compact::CompactArgs),
    Move(moving::MoveArgs),
}

/// Runs one.
///
/// # Errors
/// What it fails with.
pub async fn run(session: &Session, command: LedgerCommand) -> Result {
    match command {
        LedgerCommand::Backup(arguments) => backup::run(session, arguments).await,
        LedgerCommand::Restore(arguments) => restore::run(session, arguments).await,
        LedgerCommand::Check(arguments) => check::run(session, arguments).await,
        LedgerCommand::Compact(arguments) => compact::run(session, arguments).await,
        LedgerCommand::Move(arguments) => moving::run(session, arguments).await,
    }
}
