use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::{ChannelFilter, ChannelRecord, Ledger};
use lloom_receipts::{ChannelId, TokenAmount};
use serde::Serialize;

use crate::{
    failure::{Kind, OrFail as _, Result},
    onchain::ChannelOnChain,
    output::{Align, Report, Table, shortened},
    session::Session,
};

/// List this home's channels
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Closed ones, too
    #[arg(long)]
    pub all: bool,
}

/// A channel, as the store and the chain know it together.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelLine {
    channel: ChannelId,
    status: &'static str,
    payer: Address,
    payee: Address,
    operator: Option<Address>,
    deposit: TokenAmount,
    deposit_display: String,
    settled: TokenAmount,
    settled_display: String,
    /// What was used: the sum of the bills.
    billed: TokenAmount,
    billed_display: String,
    /// What receipts link.
    linked: TokenAmount,
    linked_display: String,
}

impl ChannelLine {
    /// Reads what both know. A channel that was recorded and never opened has the status `not opened`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(
        session: &Session,
        ledger: &Ledger,
        record: &ChannelRecord,
        on_chain: Option<&ChannelOnChain>,
    ) -> Result<Self> {
        let account = ledger.account(record.id).await.or_fail(Kind::Store, || {
            format!("cannot read the account of the channel {}", record.id)
        })?;
        let token = &session.network.token;
        let deposit = on_chain.map_or(TokenAmount::ZERO, |channel| channel.deposit);
        let settled = on_chain.map_or(TokenAmount::ZERO, |channel| channel.settled);
        Ok(Self {
            channel: record.id,
            status: on_chain.map_or("not opened", ChannelOnChain::status),
            payer: record.parameters.payer,
            payee: record.parameters.payee,
            operator: record.operator,
            deposit,
            deposit_display: token.show(deposit),
            settled,
            settled_display: token.show(settled),
            billed: account.billed,
            billed_display: token.show(account.billed),
            linked: account.linked,
            linked_display: token.show(account.linked),
        })
    }

    /// Whether money can still move in it.
    pub fn is_over(&self) -> bool {
        matches!(self.status, "closed" | "not opened")
    }

    /// Its fields, for people.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("Channel", self.channel.to_string()),
            ("Status", self.status.to_owned()),
            ("Payer", self.payer.to_string()),
            ("Payee", self.payee.to_string()),
        ];
        if let Some(operator) = self.operator {
            pairs.push(("Executor", operator.to_string()));
        }
        pairs.extend([
            ("Deposit", self.deposit_display.clone()),
            ("Used", self.billed_display.clone()),
            ("  of it in receipts", self.linked_display.clone()),
            ("Settled on chain", self.settled_display.clone()),
        ]);
        pairs
    }
}

#[derive(Serialize)]
struct Channels {
    channels: Vec<ChannelLine>,
}

impl Report for Channels {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.channels.is_empty() {
            return writeln!(
                out,
                "No channels. `lloomctl channel open` or `lloomctl chat` opens one."
            );
        }
        let mut table = Table::new(&[
            ("CHANNEL", Align::Left),
            ("STATUS", Align::Left),
            ("PAYER", Align::Left),
            ("PAYEE", Align::Left),
            ("DEPOSIT", Align::Right),
            ("USED", Align::Right),
            ("SETTLED", Align::Right),
        ]);
        for line in &self.channels {
            table.row([
                shortened(&line.channel.to_string()),
                line.status.to_owned(),
                shortened(&line.payer.to_string()),
                shortened(&line.payee.to_string()),
                line.deposit_display.clone(),
                line.billed_display.clone(),
                line.settled_display.clone(),
            ]);
        }
        table.write(out)
    }
}

/// Lists them.
///
/// # Errors
/// When store or chain can't be read.
pub async fn run(session: &Session, arguments: ListArgs) -> Result {
    let mut channels = Vec::new();
    if let Some(ledger) = session.read_store().await? {
        let on_chain = session.on_chain().await?;
        let records = ledger
            .channels(ChannelFilter::default())
            .await
            .or_fail(Kind::Store, || "cannot list the channels".to_owned())?;
        for record in records {
            let state = on_chain.channel(record.id).await?;
            let line = ChannelLine::read(session, &ledger, &record, state.as_ref()).await?;
            if arguments.all || !line.is_over() {
                channels.push(line);
            }
        }
        ledger.close().await;
    }
    session.output.print(&Channels { channels })
}
