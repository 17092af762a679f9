use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use lloom_bindings::RevenueSplitter;
use lloom_receipts::TokenAmount;
use lloom_watcher::Call;
use serde::Serialize;

use crate::{
    failure::Result,
    onchain::parse_address,
    output::Report,
    session::Session,
    transact::{Done, Step, describe, send},
};

/// Gas of a release that can't be asked for because the money comes in only before it: measured, rounded up.
const RELEASE_GAS: u64 = 120_000;

/// Pay out what a splitter owes those who share
///
/// Anyone may: the money only goes where it is due. What the escrow keeps for the splitter is brought in first.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The splitter
    #[arg(value_parser = parse_address)]
    pub splitter: Address,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Serialize)]
struct Released {
    splitter: Address,
    released: Vec<Payment>,
    transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

#[derive(Serialize)]
struct Payment {
    account: Address,
    amount: TokenAmount,
    amount_display: String,
}

impl Report for Released {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        if self.released.is_empty() {
            return writeln!(out, "Nothing is due to anybody.");
        }
        for payment in &self.released {
            writeln!(out, "Released {} to {}.", payment.amount_display, payment.account)?;
        }
        Ok(())
    }
}

pub async fn run(session: &Session, arguments: ReleaseArgs) -> Result {
    let network = &session.network;
    let token = network.token.address;
    session.config()?;
    let on_chain = session.on_chain().await?;
    let before = on_chain.splitter(arguments.splitter).await?;
    let mut steps = Vec::new();
    if !before.in_escrow.is_zero() {
        steps.push(Step {
            label: format!("bring in {} from the escrow", network.token.show(before.in_escrow)),
            call: Call::contract(arguments.splitter, &RevenueSplitter::collectCall { token }),
            usual_gas: 0,
        });
    }
    for account in before.accounts_due() {
        steps.push(Step {
            label: format!("release what is due to {account}"),
            call: Call::contract(arguments.splitter, &RevenueSplitter::releaseCall { token, account }),
            usual_gas: if before.in_escrow.is_zero() { 0 } else { RELEASE_GAS },
        });
    }
    let mut transactions = Vec::new();
    let mut released = Vec::new();
    if !steps.is_empty() {
        let held = on_chain.wallet_balances(before.accounts_due()).await?;
        transactions = send(session, &on_chain, steps, arguments.yes).await?;
        for (account, before) in held {
            let amount = on_chain.wallet_balance(account).await?.saturating_sub(before);
            released.push(Payment {
                account,
                amount,
                amount_display: network.token.show(amount),
            });
        }
    }
    session.output.print(&Released {
        splitter: arguments.splitter,
        released,
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}
