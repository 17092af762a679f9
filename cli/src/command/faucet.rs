use std::io::{self, Write};

use alloy::primitives::{Address, U256};
use clap::Args;
use lloom_bindings::DevToken;
use lloom_receipts::TokenAmount;
use lloom_watcher::Call;
use serde::Serialize;

use crate::{
    command::deploy,
    failure::{Failure, Kind, Result},
    money::show_coins,
    network::{DEVNET_CHAIN_ID, Network},
    onchain::{OnChain, chain_failure, parse_address, unlocked_accounts},
    output::Report,
    session::Session,
    transact::{Step, Transactor},
};

/// What an account is given when nobody says how much, in whole tokens.
pub const GRANT_UNITS: u128 = 1_000;
/// Gas money that an account is brought up to, in whole coins.
const COINS: u64 = 10;
const MINT_GAS: u64 = 60_000;

/// Get tokens and gas money on a development network
#[derive(Debug, Args)]
pub struct FaucetArgs {
    /// How many tokens
    #[arg(default_value = "1000", allow_hyphen_values = true)]
    pub amount: String,
    /// Who gets them [default: this home's key]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub to: Option<Address>,
}

#[derive(Serialize)]
struct Given {
    account: Address,
    amount: TokenAmount,
    amount_display: String,
    #[serde(serialize_with = "crate::money::serialize_wei")]
    coins_wei: U256,
    #[serde(skip)]
    coins: String,
}

impl Report for Given {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Gave {} to {}.", self.amount_display, self.account)?;
        writeln!(out, "It has {} for gas.", self.coins)
    }
}

/// Gives.
///
/// # Errors
/// On a network whose money is worth something.
pub async fn run(session: &Session, arguments: FaucetArgs) -> Result {
    let network = &session.network;
    if !network.development {
        return Err(Failure::new(
            Kind::Refused,
            format!("'{}' is no development network: there is no faucet", network.name),
        )
        .hint("`--network devnet` is one"));
    }
    let amount = network.token.parse_positive(&arguments.amount)?;
    let account = match arguments.to {
        Some(account) => account,
        None => session.address()?,
    };
    let on_chain = session.on_chain().await?;
    match giver(&on_chain).await? {
        Some(giver) => give(session, &on_chain, giver, account, amount).await?,
        // A public development network: whoever asks pays the gas.
        None => {
            let key = session.unlock()?;
            let ledger = session.open_store().await?;
            let transactor = Transactor::new(session, on_chain.clone(), ledger.clone(), key).await?;
            transactor.send(mint_step(network, account, amount)).await?;
            ledger.close().await;
        }
    }
    let coins = on_chain.coins(account).await?;
    session.output.print(&Given {
        account,
        amount,
        amount_display: network.token.show(amount),
        coins_wei: coins,
        coins: show_coins(coins, &network.coin),
    })
}

/// The account that pays for a local chain's faucet: one of the chain's own, which signs without being asked.
///
/// # Errors
/// When the chain doesn't answer.
pub async fn giver(on_chain: &OnChain) -> Result<Option<Address>> {
    Ok(unlocked_accounts(on_chain.chain()).await?.first().copied())
}

/// Gives `account` tokens, and gas money where it lacks some.
///
/// # Errors
/// When the chain refuses.
pub async fn give(
    session: &Session,
    on_chain: &OnChain,
    giver: Address,
    account: Address,
    amount: TokenAmount,
) -> Result {
    if session.network.chain_id == DEVNET_CHAIN_ID {
        give_coins(on_chain, account).await?;
    }
    if amount.is_zero() {
        return Ok(());
    }
    deploy::send_unlocked(on_chain.chain(), giver, &mint_step(&session.network, account, amount)).await
}

/// Brings `account` up to some gas money.
///
/// # Errors
/// When the chain is no development chain.
pub async fn give_coins(on_chain: &OnChain, account: Address) -> Result {
    let wanted = U256::from(COINS) * U256::from(10).pow(U256::from(18));
    if on_chain.coins(account).await? >= wanted {
        return Ok(());
    }
    on_chain
        .chain()
        .request::<_, serde_json::Value>("anvil_setBalance", (account, wanted))
        .await
        .map(|_| ())
        .map_err(|error| chain_failure(error, format!("cannot give gas money to {account}")))
}

/// The transaction that mints tokens.
pub fn mint_step(network: &Network, to: Address, amount: TokenAmount) -> Step {
    Step {
        label: format!("mint {} for {to}", network.token.symbol),
        call: Call::contract(
            network.token.address,
            &DevToken::mintCall {
                to,
                amount: U256::from(amount.base_units()),
            },
        ),
        usual_gas: MINT_GAS,
    }
}
