use std::{
    io::{self, Write},
    time::SystemTime,
};

use clap::Args;
use lloom_bindings::ChannelEscrow;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use lloom_watcher::Call;
use serde::Serialize;

use super::request_close::wait;
use crate::{
    failure::{Failure, Kind, Result},
    onchain::parse_channel,
    output::Report,
    session::Session,
    transact::{Done, Step, describe, send},
};

/// Client: take out what a channel hasn't paid out, once the grace period is over
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    /// The channel's id
    pub channel: String,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Serialize)]
struct Withdrawn {
    channel: ChannelId,
    refunded: TokenAmount,
    refunded_display: String,
    to_balance: bool,
    transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for Withdrawn {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        let place = if self.to_balance {
            "your balance in the escrow"
        } else {
            "your wallet"
        };
        writeln!(
            out,
            "Channel {} is closed; {} returned to {place}.",
            self.channel, self.refunded_display
        )
    }
}

/// Takes the rest out.
///
/// # Errors
/// When the grace period isn't over.
pub async fn run(session: &Session, arguments: WithdrawArgs) -> Result {
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
        ));
    }
    let Some(requested_at) = channel.close_requested_at else {
        return Err(Failure::new(Kind::Refused, "nobody asked for the channel's close")
            .hint(format!("first `lloomctl channel request-close {id}`")));
    };
    let head = on_chain.head_time().await?;
    let ready = requested_at.plus(on_chain.grace_period().await?);
    if head < ready {
        let now = UnixSeconds::from(SystemTime::now()).max(head);
        return Err(Failure::new(
            Kind::Refused,
            "the grace period isn't over: the executor may still claim what it is owed",
        )
        .hint(format!("{}: try again", wait(ready, now))));
    }
    let steps = vec![Step {
        label: "take the rest out of the channel".to_owned(),
        call: Call::contract(
            network.contracts.escrow,
            &ChannelEscrow::withdrawCall { channelId: id.hash() },
        ),
        usual_gas: 0,
    }];
    let transactions = send(session, &on_chain, steps, arguments.yes).await?;
    session.output.print(&Withdrawn {
        channel: id,
        refunded: channel.remaining(),
        refunded_display: network.token.show(channel.remaining()),
        to_balance: channel.refunds_to_balance,
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}
