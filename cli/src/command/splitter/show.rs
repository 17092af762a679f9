use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use lloom_receipts::TokenAmount;
use serde::Serialize;

use crate::{
    failure::Result,
    onchain::{SplitterOnChain, parse_address},
    output::{Align, Report, Table},
    session::Session,
};

/// Show who shares a splitter's earnings, and what is due to each
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The splitter
    #[arg(value_parser = parse_address)]
    pub splitter: Address,
}

#[derive(Serialize)]
struct Shown {
    splitter: Address,
    /// In the escrow, where a payout goes whose transfer failed.
    in_escrow: TokenAmount,
    in_escrow_display: String,
    parties: Vec<Party>,
}

#[derive(Serialize)]
struct Party {
    role: &'static str,
    account: Address,
    basis_points: u16,
    due: TokenAmount,
    due_display: String,
}

impl Report for Shown {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&[
            ("ROLE", Align::Left),
            ("ACCOUNT", Align::Left),
            ("SHARE", Align::Right),
            ("DUE TO IT", Align::Right),
        ]);
        for party in &self.parties {
            table.row([
                party.role.to_owned(),
                party.account.to_string(),
                format!("{}.{:02} %", party.basis_points / 100, party.basis_points % 100),
                party.due_display.clone(),
            ]);
        }
        table.write(out)?;
        if !self.in_escrow.is_zero() {
            writeln!(
                out,
                "{} more are in the escrow; `lloomctl splitter release` brings them in.",
                self.in_escrow_display
            )?;
        }
        Ok(())
    }
}

pub async fn run(session: &Session, arguments: &ShowArgs) -> Result {
    let token = &session.network.token;
    let on_chain = session.on_chain().await?;
    let SplitterOnChain { parties, in_escrow } = on_chain.splitter(arguments.splitter).await?;
    session.output.print(&Shown {
        splitter: arguments.splitter,
        in_escrow,
        in_escrow_display: token.show(in_escrow),
        parties: parties
            .into_iter()
            .map(|party| Party {
                role: party.role,
                account: party.account,
                basis_points: party.basis_points,
                due: party.due,
                due_display: token.show(party.due),
            })
            .collect(),
    })
}
