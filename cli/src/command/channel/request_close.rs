use std::{
    io::{self, Write},
    time::SystemTime,
};

use clap::Args;
use lloom_bindings::ChannelEscrow;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use lloom_watcher::Call;
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, Result},
    onchain::parse_channel,
    output::Report,
    session::Session,
    transact::{Done, Step, describe, send},
};

/// Client: ask for what a channel hasn't paid out; it comes after the grace period
///
/// The executor has a grace period to claim what it is owed; then `channel withdraw` brings the rest. Executors stop
/// serving the channel at once.
#[derive(Debug, Args)]
pub struct RequestCloseArgs {
    /// The channel's id
    pub channel: String,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Serialize)]
struct Requested {
    channel: ChannelId,
    remaining: TokenAmount,
    remaining_display: String,
    withdraw_from: UnixSeconds,
    transactions: Vec<Done>,
    #[serde(skip)]
    wait: String,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for Requested {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "Channel {} is closing; {} are not paid out yet.",
            self.channel, self.remaining_display
        )?;
        writeln!(out, "{}: `lloomctl channel withdraw {}`", self.wait, self.channel)
    }
}

/// Asks.
///
/// # Errors
/// When the channel isn't open, or is somebody else's.
pub async fn run(session: &Session, arguments: RequestCloseArgs) -> Result {
    let network = &session.network;
    let id = parse_channel(&arguments.channel)?;
    session.config()?;
    let address = session.address()?;
    let on_chain = session.on_chain().await?;
    let channel = on_chain.known_channel(id).await?;
    if channel.finalized {
        return Err(
            Failure::new(Kind::Refused, format!("the channel {id} is closed already"))
                .hint("what it hadn't paid out was returned; `lloomctl balance` shows it"),
        );
    }
    if channel.payer != address {
        return Err(Failure::new(
            Kind::Refused,
            format!("the channel's payer is {}, not {address}", channel.payer),
        )
        .hint("the executor's side closes with `lloomctl channel close`"));
    }
    let mut transactions = Vec::new();
    if channel.close_requested_at.is_none() {
        let steps = vec![Step {
            label: "ask for the channel's close".to_owned(),
            call: Call::contract(
                network.contracts.escrow,
                &ChannelEscrow::requestCloseCall { channelId: id.hash() },
            ),
            usual_gas: 0,
        }];
        transactions = send(session, &on_chain, steps, arguments.yes).await?;
    }
    let channel = on_chain.known_channel(id).await?;
    let grace = on_chain.grace_period().await?;
    let now = UnixSeconds::from(SystemTime::now());
    let withdraw_from = channel.close_requested_at.unwrap_or(now).plus(grace);
    session.output.print(&Requested {
        channel: id,
        remaining: channel.remaining(),
        remaining_display: network.token.show(channel.remaining()),
        withdraw_from,
        wait: wait(withdraw_from, now),
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}

/// When the grace period is over, seen from `now`.
pub fn wait(until: UnixSeconds, now: UnixSeconds) -> String {
    let seconds = until.since(now).as_secs();
    if seconds == 0 {
        "Now".to_owned()
    } else {
        format!("In {} min", seconds.div_ceil(60))
    }
}
