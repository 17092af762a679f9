use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use lloom_receipts::{ChannelId, TokenAmount};
use serde::Serialize;

use crate::{
    failure::{Kind, OrFail as _, Result},
    output::{Align, Report, Table, shortened},
    session::Session,
    watching::payee,
};

/// Show what was earned, and what of it has arrived
#[derive(Debug, Args)]
pub struct EarningsArgs {}

#[derive(Serialize)]
struct Earned {
    payee: Address,
    #[serde(flatten)]
    total: Sums,
    channels: Vec<Line>,
}

#[derive(Serialize)]
struct Sums {
    /// The sum of the bills.
    billed: TokenAmount,
    billed_display: String,
    /// What receipts link.
    linked: TokenAmount,
    linked_display: String,
    /// What could be claimed now.
    claimable: TokenAmount,
    claimable_display: String,
    /// What arrived.
    settled: TokenAmount,
    settled_display: String,
    receipts: u64,
}

#[derive(Serialize)]
struct Line {
    channel: ChannelId,
    payer: Address,
    #[serde(flatten)]
    sums: Sums,
}

impl Report for Earned {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Earnings of {}\n", self.payee)?;
        if self.channels.is_empty() {
            return writeln!(out, "Nobody has opened a channel yet.");
        }
        let mut table = Table::new(&[
            ("CHANNEL", Align::Left),
            ("PAYER", Align::Left),
            ("RECEIPTS", Align::Right),
            ("BILLED", Align::Right),
            ("CLAIMABLE", Align::Right),
            ("ARRIVED", Align::Right),
        ]);
        let cells = |first: String, second: String, sums: &Sums| {
            [
                first,
                second,
                sums.receipts.to_string(),
                sums.billed_display.clone(),
                sums.claimable_display.clone(),
                sums.settled_display.clone(),
            ]
        };
        for line in &self.channels {
            table.row(cells(
                shortened(&line.channel.to_string()),
                shortened(&line.payer.to_string()),
                &line.sums,
            ));
        }
        table.row(cells("total".to_owned(), String::new(), &self.total));
        table.write(out)
    }
}

/// Shows them, from the store alone.
///
/// # Errors
/// When the store can't be read.
pub async fn run(session: &Session, _arguments: EarningsArgs) -> Result {
    session.config()?;
    let payee = payee(session)?;
    let token = &session.network.token;
    let sums = |billed, linked, claimable, settled, receipts| Sums {
        billed,
        billed_display: token.show(billed),
        linked,
        linked_display: token.show(linked),
        claimable,
        claimable_display: token.show(claimable),
        settled,
        settled_display: token.show(settled),
        receipts,
    };
    let mut total = [TokenAmount::ZERO; 4];
    let mut receipts = 0;
    let mut channels = Vec::new();
    if let Some(ledger) = session.read_store().await? {
        let earnings = ledger
            .earnings(payee)
            .await
            .or_fail(Kind::Store, || "cannot read the earnings".to_owned())?;
        for earned in earnings.channels {
            let amounts = [earned.billed, earned.linked, earned.claimable, earned.settled];
            for (sum, amount) in total.iter_mut().zip(amounts) {
                *sum = sum.saturating_add(amount);
            }
            receipts += earned.receipts;
            channels.push(Line {
                channel: earned.channel.id,
                payer: earned.channel.parameters.payer,
                sums: sums(
                    earned.billed,
                    earned.linked,
                    earned.claimable,
                    earned.settled,
                    earned.receipts,
                ),
            });
        }
        ledger.close().await;
    }
    let [billed, linked, claimable, settled] = total;
    session.output.print(&Earned {
        payee,
        total: sums(billed, linked, claimable, settled, receipts),
        channels,
    })
}
