use std::io::{self, Write};

use alloy::primitives::{Address, U256};
use clap::Args;
use lloom_bindings::ChannelEscrow;
use lloom_receipts::TokenAmount;
use lloom_watcher::Call;
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, Result},
    onchain::parse_address,
    output::Report,
    session::Session,
    transact::{Done, Step, describe, send},
};

/// Take free tokens out of the escrow
///
/// Money in channels isn't free: `channel close` (the executor's side) or `channel request-close` and `channel
/// withdraw` (yours) free it first.
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    /// How much, in the token's units, or `all`
    #[arg(allow_hyphen_values = true)]
    pub amount: String,
    /// Who gets it [default: this key's own wallet]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub to: Option<Address>,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Serialize)]
struct Withdrawn {
    to: Address,
    amount: TokenAmount,
    amount_display: String,
    balance: TokenAmount,
    balance_display: String,
    transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for Withdrawn {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "Withdrew {} to {}; the escrow keeps {}.",
            self.amount_display, self.to, self.balance_display
        )
    }
}

/// Withdraws.
///
/// # Errors
/// When the amount is wrong, or more than is free.
pub async fn run(session: &Session, arguments: WithdrawArgs) -> Result {
    let network = &session.network;
    let token = &network.token;
    let wanted = match arguments.amount.as_str() {
        "all" => None,
        text => Some(token.parse_positive(text)?),
    };
    session.config()?;
    let address = session.address()?;
    let to = arguments.to.unwrap_or(address);
    let on_chain = session.on_chain().await?;
    let free = on_chain.escrow_balance(address).await?;
    let amount = wanted.unwrap_or(free);
    if amount.is_zero() || amount > free {
        return Err(Failure::new(
            Kind::Refused,
            format!("the escrow holds {} that are free for {address}", token.show(free)),
        )
        .hint("what channels hold is shown by `lloomctl channel list`"));
    }
    let steps = vec![Step {
        label: format!("withdraw {} to {to}", token.show(amount)),
        call: Call::contract(
            network.contracts.escrow,
            &ChannelEscrow::withdrawBalanceCall {
                token: token.address,
                amount: U256::from(amount.base_units()),
                to,
            },
        ),
        usual_gas: 0,
    }];
    let transactions = send(session, &on_chain, steps, arguments.yes).await?;
    let balance = on_chain.escrow_balance(address).await?;
    session.output.print(&Withdrawn {
        to,
        amount,
        amount_display: token.show(amount),
        balance,
        balance_display: token.show(balance),
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}
