//! The commands of `channel`.

pub mod close;
pub mod list;
pub mod open;
pub mod request_close;
pub mod show;
pub mod top_up;
pub mod withdraw;

use clap::{Args, Subcommand};

use crate::{failure::Result, session::Session};

/// Commands of `channel`.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    Open(open::OpenArgs),
    List(list::ListArgs),
    Show(ChannelArg),
    TopUp(top_up::TopUpArgs),
    Close(close::CloseArgs),
    RequestClose(request_close::RequestCloseArgs),
    Withdraw(withdraw::WithdrawArgs),
}

/// Show everything about a channel
#[derive(Debug, Args)]
pub struct ChannelArg {
    /// The channel's id
    pub channel: String,
}

/// Runs one.
///
/// # Errors
/// What it fails with.
pub async fn run(session: &Session, command: ChannelCommand) -> Result {
    match command {
        ChannelCommand::Open(arguments) => open::run(session, arguments).await,
        ChannelCommand::List(arguments) => list::run(session, arguments).await,
        ChannelCommand::Show(arguments) => show::run(session, arguments).await,
        ChannelCommand::TopUp(arguments) => top_up::run(session, arguments).await,
        ChannelCommand::Close(arguments) => close::run(session, arguments).await,
        ChannelCommand::RequestClose(arguments) => request_close::run(session, arguments).await,
        ChannelCommand::Withdraw(arguments) => withdraw::run(session, arguments).await,
    }
}
