//! The commands of `tower`: an executor's view of the towers it has configured, and a tower's of what it holds.

mod holding;
mod list;
mod ping;
mod status;

use clap::Subcommand;

use crate::{
    delegating::{ConfiguredTower, configured_towers},
    failure::{Failure, Kind, Result},
    session::Session,
};

/// Commands of `tower`.
#[derive(Debug, Subcommand)]
pub enum TowerCommand {
    List(list::ListArgs),
    Ping(ping::PingArgs),
    Status(status::StatusArgs),
}

/// Runs one.
///
/// # Errors
/// When it fails.
pub async fn run(session: &Session, command: TowerCommand) -> Result {
    match command {
        TowerCommand::List(arguments) => list::run(session, arguments).await,
        TowerCommand::Ping(arguments) => ping::run(session, arguments).await,
        TowerCommand::Status(arguments) => status::run(session, arguments).await,
    }
}

/// The configured towers; a failure where there is none.
fn some_towers(session: &Session) -> Result<Vec<ConfiguredTower>> {
    let towers = configured_towers(session)?;
    if towers.is_empty() {
        return Err(
            Failure::new(Kind::Configuration, "config.toml's [towers] section names no tower")
                .hint("[towers] peers = [\"/ip4/…/tcp/…/p2p/…\"]: `lloomctl watch --tower` prints a tower's address"),
        );
    }
    Ok(towers)
}
