//! `tower status` in a tower's own home.

use std::io::{self, Write};

use alloy::primitives::Address;
use lloom_ledger::{HeldClaim, HeldTotals, Ledger, LedgerError};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use serde::Serialize;

use crate::{
    date::utc,
    failure::{Kind, OrFail as _, Result},
    output::{Align, Report, Table, counted},
    session::Session,
};

/// Channels read at once.
const PAGE: u32 = 1_024;
/// Channels that are shown; --json has them all.
const SHOWN: usize = 100;

#[derive(Serialize)]
struct Holding {
    operators: u64,
    channels: u64,
    /// What their vouchers take of `max_store_mib`.
    bytes: u64,
    held: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    channel: ChannelId,
    /// Whom it was taken on for.
    operator: Address,
    claim: TokenAmount,
    claim_display: String,
    expires_at: UnixSeconds,
}

impl Report for Holding {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let (channels, operators) = (counted(self.channels, "channel"), counted(self.operators, "operator"));
        writeln!(out, "Holds {channels} of {operators}, in {} bytes", self.bytes)?;
        if self.held.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        let mut table = Table::new(&[
            ("CHANNEL", Align::Left),
            ("CLAIMS", Align::Right),
            ("FOR", Align::Left),
            ("UNTIL", Align::Left),
        ]);
        for line in self.held.iter().take(SHOWN) {
            table.row([
                line.channel.to_string(),
                line.claim_display.clone(),
                line.operator.to_string(),
                utc(line.expires_at),
            ]);
        }
        table.write(out)?;
        match self.held.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "and {more} more; --json has them all"),
        }
    }
}

/// Shows what this tower has promised to claim: all of it, or of one channel.
pub(super) async fn show(session: &Session, ledger: Option<Ledger>, channel: Option<ChannelId>) -> Result {
    let read = async {
        let Some(ledger) = &ledger else {
            return Ok((HeldTotals::default(), Vec::new()));
        };
        let mut held = all_held(ledger).await?;
        held.retain(|(_, held)| channel.is_none_or(|channel| held.channel == channel));
        Ok((ledger.held_totals().await?, held))
    };
    let read: std::result::Result<_, LedgerError> = read.await;
    let (totals, held) = read.or_fail(Kind::Store, || "cannot read what is held".to_owned())?;
    if let Some(ledger) = ledger {
        ledger.close().await;
    }
    let held = held.into_iter().map(|(operator, held)| Line {
        channel: held.channel,
        operator,
        claim: held.claim,
        claim_display: session.network.token.show(held.claim),
        expires_at: held.expires_at,
    });
    session.output.print(&Holding {
        operators: totals.operators,
        channels: totals.channels,
        bytes: totals.bytes,
        held: held.collect(),
    })
}

async fn all_held(ledger: &Ledger) -> std::result::Result<Vec<(Address, HeldClaim)>, LedgerError> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map(|(_, held): &(Address, HeldClaim)| held.channel);
        let page = ledger.held(after, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}
