use std::io::{self, Write};

use alloy::primitives::{Address, U256};
use clap::Args;
use lloom_ledger::ChannelFilter;
use lloom_receipts::TokenAmount;
use serde::Serialize;

use crate::{
    failure::{Kind, OrFail as _, Result},
    money::show_coins,
    onchain::parse_address,
    output::{Report, write_pairs},
    session::Session,
};

/// Show what an account holds, and where
#[derive(Debug, Args)]
pub struct BalanceArgs {
    /// Whose [default: this home's key]
    #[arg(value_name = "ADDRESS", value_parser = parse_address)]
    pub account: Option<Address>,
}

#[derive(Serialize)]
struct Balance {
    account: Address,
    network: String,
    token: Address,
    wallet: TokenAmount,
    wallet_display: String,
    escrow: TokenAmount,
    escrow_display: String,
    /// What open channels hold for this account as payer and haven't paid out.
    in_channels: TokenAmount,
    in_channels_display: String,
    channels: usize,
    #[serde(serialize_with = "crate::money::serialize_wei")]
    coins_wei: U256,
    #[serde(skip)]
    coins: String,
}

impl Report for Balance {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} on {}\n", self.account, self.network)?;
        let channels = match self.channels {
            0 => "0".to_owned(),
            1 => format!("{}  (not paid out, in 1 open channel)", self.in_channels_display),
            count => format!("{}  (not paid out, in {count} open channels)", self.in_channels_display),
        };
        write_pairs(
            out,
            &[
                ("Wallet", self.wallet_display.clone()),
                ("Escrow, free", self.escrow_display.clone()),
                ("Channels", channels),
                ("Gas money", self.coins.clone()),
            ],
        )
    }
}

/// Shows it.
///
/// # Errors
/// When the chain doesn't answer.
pub async fn run(session: &Session, arguments: BalanceArgs) -> Result {
    let network = &session.network;
    let token = &network.token;
    let account = match arguments.account {
        Some(account) => account,
        None => session.address()?,
    };
    let on_chain = session.on_chain().await?;
    let wallet = on_chain.wallet_balance(account).await?;
    let escrow = on_chain.escrow_balance(account).await?;
    let coins = on_chain.coins(account).await?;
    let mut in_channels = TokenAmount::ZERO;
    let mut channels = 0;
    if let Some(ledger) = session.read_store().await? {
        let filter = ChannelFilter {
            payer: Some(account),
            ..ChannelFilter::default()
        };
        let records = ledger
            .channels(filter)
            .await
            .or_fail(Kind::Store, || "cannot list the channels".to_owned())?;
        for record in records {
            if let Some(channel) = on_chain.channel(record.id).await?
                && !channel.finalized
            {
                channels += 1;
                in_channels = in_channels.saturating_add(channel.remaining());
            }
        }
        ledger.close().await;
    }
    session.output.print(&Balance {
        account,
        network: network.name.clone(),
        token: token.address,
        wallet,
        wallet_display: token.show(wallet),
        escrow,
        escrow_display: token.show(escrow),
        in_channels,
        in_channels_display: token.show(in_channels),
        channels,
        coins_wei: coins,
        coins: show_coins(coins, &network.coin),
    })
}
