use std::io::{self, Write};

use clap::Args;
use lloom_bindings::ChannelEscrow;
use lloom_ledger::{ChannelRecord, Ledger, NewChannel};
use lloom_receipts::{ChannelId, TokenAmount};
use lloom_watcher::Call;
use serde::Serialize;

use crate::{
    command::deposit,
    failure::{Failure, Kind, OrFail as _, Result},
    onchain::{OnChain, parse_channel},
    output::Report,
    session::Session,
    transact::{Done, Step, Transactor, describe},
};

const TOP_UP_GAS: u64 = 80_000;

/// Put more money into a channel
#[derive(Debug, Args)]
pub struct TopUpArgs {
    /// The channel's id
    pub channel: String,
    /// How much to add, in the token's units
    #[arg(allow_hyphen_values = true)]
    pub amount: String,
    /// Take the money from the wallet instead of the escrow balance
    #[arg(long)]
    pub from_wallet: bool,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Serialize)]
struct ToppedUp {
    channel: ChannelId,
    added: TokenAmount,
    added_display: String,
    deposit: TokenAmount,
    deposit_display: String,
    transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for ToppedUp {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "Added {}; channel {} now holds {} in all.",
            self.added_display, self.channel, self.deposit_display
        )
    }
}

/// Adds.
///
/// # Errors
/// When the amount is wrong, the channel isn't open, or the money isn't there.
pub async fn run(session: &Session, arguments: TopUpArgs) -> Result {
    let network = &session.network;
    let token = &network.token;
    let amount = token.parse_positive(&arguments.amount)?;
    let id = parse_channel(&arguments.channel)?;
    session.config()?;
    let address = session.address()?;
    let on_chain = session.on_chain().await?;
    let channel = on_chain.known_channel(id).await?;
    let additional = amount.base_units();
    let deposit = channel.deposit.checked_add(amount).ok_or_else(|| {
        Failure::new(Kind::Usage, "the channel can't hold that much").hint("it holds at most 2^128 - 1 base units")
    })?;
    let label = format!("add {} to the channel", token.show(amount));
    let mut steps = Vec::new();
    let call = if arguments.from_wallet {
        deposit::cover(session, &on_chain, address, amount).await?;
        if on_chain.allowance(address).await? < alloy::primitives::U256::from(additional) {
            steps.push(deposit::approve_step(session, amount));
        }
        Call::contract(
            network.contracts.escrow,
            &ChannelEscrow::topUpCall {
                channelId: id.hash(),
                additionalDeposit: additional,
            },
        )
    } else {
        let free = on_chain.escrow_balance(address).await?;
        if free < amount {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "the escrow holds {} for {address}, and {} are needed",
                    token.show(free),
                    token.show(amount)
                ),
            )
            .while_(format!("cannot {label}"))
            .hint("`lloomctl deposit` adds to it; --from-wallet takes the wallet's"));
        }
        Call::contract(
            network.contracts.escrow,
            &ChannelEscrow::topUpFromBalanceCall {
                channelId: id.hash(),
                additionalDeposit: additional,
            },
        )
    };
    steps.push(Step {
        label,
        call,
        usual_gas: TOP_UP_GAS,
    });
    let key = session.unlock()?;
    let ledger = session.open_store().await?;
    let transactor = Transactor::new(session, on_chain.clone(), ledger.clone(), key).await?;
    transactor.agree(&steps, arguments.yes).await?;
    let transactions = transactor.send_all(steps).await?;
    remember(&ledger, id, deposit).await?;
    ledger.close().await;
    session.output.print(&ToppedUp {
        channel: id,
        added: amount,
        added_display: token.show(amount),
        deposit,
        deposit_display: token.show(deposit),
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}

/// Adds to a channel from the escrow balance, without asking.
///
/// # Errors
/// When the money isn't there, or the chain refuses.
pub async fn add(
    session: &Session,
    on_chain: &OnChain,
    ledger: &Ledger,
    transactor: &Transactor<'_>,
    channel: ChannelId,
    amount: TokenAmount,
) -> Result {
    let network = &session.network;
    let step = Step {
        label: format!("add {} to the channel", network.token.show(amount)),
        call: Call::contract(
            network.contracts.escrow,
            &ChannelEscrow::topUpFromBalanceCall {
                channelId: channel.hash(),
                additionalDeposit: amount.base_units(),
            },
        ),
        usual_gas: TOP_UP_GAS,
    };
    transactor.send(step).await?;
    remember(ledger, channel, on_chain.known_channel(channel).await?.deposit).await
}

/// Writes a channel's new deposit down, once it is mined: vouchers may be signed up to what the ledger knows.
///
/// # Errors
/// When the store fails.
pub async fn remember(ledger: &Ledger, channel: ChannelId, deposit: TokenAmount) -> Result {
    let record = ledger
        .channel(channel)
        .await
        .or_fail(Kind::Store, || "cannot read the channel".to_owned())?;
    if let Some(ChannelRecord {
        parameters,
        operator: Some(operator),
        client_random: Some(client_random),
        ..
    }) = record
    {
        ledger
            .record_channel(NewChannel {
                parameters,
                operator,
                client_random,
                deposit,
            })
            .await
            .or_fail(Kind::Store, || "cannot record the channel's new deposit".to_owned())?;
    }
    Ok(())
}
