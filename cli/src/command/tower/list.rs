use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use serde::Serialize;

use super::some_towers;
use crate::{
    failure::Result,
    output::{Align, Report, Table},
    session::Session,
};

/// Show the towers that config.toml names
#[derive(Debug, Args)]
pub struct ListArgs {}

#[derive(Serialize)]
struct Towers {
    towers: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    tower: Address,
    at: String,
}

impl Report for Towers {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&[("TOWER", Align::Left), ("AT", Align::Left)]);
        for line in &self.towers {
            table.row([line.tower.to_string(), line.at.clone()]);
        }
        table.write(out)
    }
}

/// Shows them.
///
/// # Errors
/// When the configuration names none, or is wrong.
pub async fn run(session: &Session, _arguments: ListArgs) -> Result {
    let towers = some_towers(session)?.into_iter().map(|tower| Line {
        tower: tower.tower,
        at: tower.at.to_string(),
    });
    session.output.print(&Towers {
        towers: towers.collect(),
    })
}
