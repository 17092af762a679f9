//! What is paid with: coins for gas, tokens to buy with, and the right to claim.

use alloy::primitives::{Address, U256};

use super::diagnosis::Checks;
use crate::{
    config::Config,
    failure::{Failure, Kind, Result},
    money::show_coins,
    onchain::OnChain,
    session::Session,
    watching::{check_operator, payee},
};

/// Gas that a claim may take: less than what this costs is too little.
const GAS_OF_A_CLAIM: u64 = 300_000;
/// Coins for fewer claims than this are little.
const FEW_CLAIMS: u64 = 20;

/// Looks at the money of `address`.
///
/// # Errors
/// When the chain doesn't answer.
pub async fn check(
    session: &Session,
    on_chain: &OnChain,
    address: Address,
    config: Option<&Config>,
    checks: &mut Checks,
) -> Result {
    let sells = config.is_some_and(|config| config.executor.is_some());
    let is_tower = config.is_some_and(Config::is_tower);
    check_gas(session, on_chain, address, sells || is_tower, checks).await?;
    if is_tower {
        return Ok(());
    }
    if sells {
        let payee = payee(session)?;
        match check_operator(on_chain, payee, address).await {
            Ok(()) => checks.good("operator", format!("{address} may sign for {payee}")),
            Err(failure) => checks.bad("operator", &failure),
        }
        return Ok(());
    }
    let token = &session.network.token;
    let wallet = on_chain.wallet_balance(address).await?;
    let escrow = on_chain.escrow_balance(address).await?;
    let finding = format!(
        "{} in the escrow, {} in the wallet",
        token.show(escrow),
        token.show(wallet)
    );
    if escrow.is_zero() {
        checks.warn(
            "balance",
            finding,
            "`lloomctl deposit` puts money into the escrow, to pay from",
        );
    } else {
        checks.good("balance", finding);
    }
    Ok(())
}

async fn check_gas(
    session: &Session,
    on_chain: &OnChain,
    address: Address,
    claims: bool,
    checks: &mut Checks,
) -> Result {
    let network = &session.network;
    let coins = on_chain.coins(address).await?;
    let shown = show_coins(coins, &network.coin);
    let gas_price = lloom_watcher::Chain::fees(on_chain.chain())
        .await
        .map_or(0, lloom_watcher::FeeQuote::gas_price);
    let one_claim = U256::from(gas_price) * U256::from(GAS_OF_A_CLAIM);
    let hint = if network.development {
        "`lloomctl faucet` gives some".to_owned()
    } else {
        format!("send some {} to {address}", network.coin)
    };
    if coins < one_claim && claims {
        let needed = show_coins(one_claim, &network.coin);
        let failure = Failure::new(
            Kind::Chain,
            format!("{shown}: too little to claim with, which takes {needed}"),
        );
        checks.bad("gas money", &failure.hint(hint));
    } else if coins < one_claim {
        checks.warn("gas money", format!("{shown}: too little for a transaction"), hint);
    } else if claims && coins < one_claim.saturating_mul(U256::from(FEW_CLAIMS)) {
        checks.warn(
            "gas money",
            format!("{shown}: enough for fewer than {FEW_CLAIMS} claims"),
            hint,
        );
    } else {
        checks.good("gas money", shown);
    }
    Ok(())
}
