use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::ChannelEarnings;
use lloom_receipts::{ChannelId, TokenAmount};
use serde::Serialize;

use crate::{
    failure::{Kind, OrFail as _, Result},
    money::Token,
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
    /// In the network's token.
    #[serde(flatten)]
    total: Sums,
    /// In each token, the network's first: units of several make no sum.
    tokens: Vec<Total>,
    channels: Vec<Line>,
}

#[derive(Serialize)]
struct Total {
    token: Address,
    #[serde(flatten)]
    sums: Sums,
}

#[derive(Clone, Serialize)]
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
    token: Address,
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
        for (index, total) in self.tokens.iter().enumerate() {
            let name = match (self.tokens.len(), index) {
                (1, _) => String::new(),
                (_, 0) => "in the network's token".to_owned(),
                _ => format!("in {}", shortened(&total.token.to_string())),
            };
            table.row(cells("total".to_owned(), name, &total.sums));
        }
        table.write(out)
    }
}

/// What was earned on a channel, or on several in one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amounts {
    billed: TokenAmount,
    linked: TokenAmount,
    claimable: TokenAmount,
    settled: TokenAmount,
    receipts: u64,
}

impl Amounts {
    fn of(earned: &ChannelEarnings) -> Self {
        Self {
            billed: earned.billed,
            linked: earned.linked,
            claimable: earned.claimable,
            settled: earned.settled,
            receipts: earned.receipts,
        }
    }

    fn add(&mut self, more: Self) {
        self.billed = self.billed.saturating_add(more.billed);
        self.linked = self.linked.saturating_add(more.linked);
        self.claimable = self.claimable.saturating_add(more.claimable);
        self.settled = self.settled.saturating_add(more.settled);
        self.receipts += more.receipts;
    }

    fn show(self, own: &Token, token: Address) -> Sums {
        let show = |amount| own.show_of(token, amount);
        Sums {
            billed: self.billed,
            billed_display: show(self.billed),
            linked: self.linked,
            linked_display: show(self.linked),
            claimable: self.claimable,
            claimable_display: show(self.claimable),
            settled: self.settled,
            settled_display: show(self.settled),
            receipts: self.receipts,
        }
    }
}

/// Shows them, from the store alone.
///
/// # Errors
/// When the store can't be read.
pub async fn run(session: &Session, _arguments: EarningsArgs) -> Result {
    session.config()?;
    let payee = payee(session)?;
    let own = &session.network.token;
    let mut total = Amounts::default();
    let mut others: BTreeMap<Address, Amounts> = BTreeMap::new();
    let mut channels = Vec::new();
    if let Some(ledger) = session.read_store().await? {
        let earnings = ledger
            .earnings(payee)
            .await
            .or_fail(Kind::Store, || "cannot read the earnings".to_owned())?;
        for earned in earnings.channels {
            let amounts = Amounts::of(&earned);
            let token = earned.channel.parameters.token;
            match token == own.address {
                true => total.add(amounts),
                false => others.entry(token).or_default().add(amounts),
            }
            channels.push(Line {
                channel: earned.channel.id,
                payer: earned.channel.parameters.payer,
                token,
                sums: amounts.show(own, token),
            });
        }
        ledger.close().await;
    }
    let total = total.show(own, own.address);
    let mut tokens = vec![Total {
        token: own.address,
        sums: total.clone(),
    }];
    tokens.extend(others.into_iter().map(|(token, amounts)| Total {
        token,
        sums: amounts.show(own, token),
    }));
    session.output.print(&Earned {
        payee,
        total,
        tokens,
        channels,
    })
}
