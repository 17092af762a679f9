use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use alloy::primitives::{Address, B256, U256, b256, keccak256};
use alloy::sol_types::SolValue as _;
use clap::Args;
use lloom_bindings::{ChannelEscrow, DevToken};
use lloom_receipts::{Keypair, TokenAmount, UnixSeconds};
use lloom_watcher::Call;
use serde::Serialize;

use crate::{
    command::faucet,
    failure::{Failure, Kind, Result},
    onchain::{OnChain, parse_address},
    output::Report,
    session::Session,
    transact::{Done, Step, Transactor, describe},
};

/// `keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")` (EIP-2612).
const PERMIT_TYPEHASH: B256 = b256!("0x6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9");
/// How long a permit may wait for its block.
const PERMIT_LIFE: Duration = Duration::from_secs(3_600);
const DEPOSIT_GAS: u64 = 95_000;

/// Put tokens into the escrow, to pay from
///
/// Approval and deposit are one transaction where the token has permits (EIP-2612), two otherwise. Says first what it
/// costs. The money stays yours: `withdraw` takes out what no channel holds.
#[derive(Debug, Args)]
pub struct DepositArgs {
    /// How much, in the token's units, such as 12.5
    #[arg(allow_hyphen_values = true)]
    pub amount: String,
    /// Whose balance it becomes [default: this key's own]
    #[arg(long = "for", value_name = "ADDRESS", value_parser = parse_address)]
    pub account: Option<Address>,
    /// Don't use a permit: approve, then deposit
    #[arg(long)]
    pub no_permit: bool,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Serialize)]
struct Deposited {
    account: Address,
    amount: TokenAmount,
    amount_display: String,
    balance: TokenAmount,
    balance_display: String,
    transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for Deposited {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "Deposited {}; the escrow now holds {} for {}.",
            self.amount_display, self.balance_display, self.account
        )
    }
}

/// Deposits.
///
/// # Errors
/// When the amount is wrong, or the wallet can't pay.
pub async fn run(session: &Session, arguments: DepositArgs) -> Result {
    let network = &session.network;
    let token = &network.token;
    let amount = token.parse_positive(&arguments.amount)?;
    session.config()?;
    let address = session.address()?;
    let account = arguments.account.unwrap_or(address);
    let on_chain = session.on_chain().await?;
    let key = session.unlock()?;
    let ledger = session.open_store().await?;
    // Before the permit is signed: an earlier deposit uses its nonce up.
    let transactor = Transactor::new(session, on_chain.clone(), ledger.clone(), key.clone()).await?;
    cover(session, &on_chain, address, amount).await?;
    let steps = steps(session, &on_chain, &key, account, amount, arguments.no_permit).await?;
    transactor.agree(&steps, arguments.yes).await?;
    let transactions = transactor.send_all(steps).await?;
    let balance = on_chain.escrow_balance(account).await?;
    ledger.close().await;
    session.output.print(&Deposited {
        account,
        amount,
        amount_display: token.show(amount),
        balance,
        balance_display: token.show(balance),
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}

/// Checks that the wallet holds `amount`. On a development network the faucet gives what is missing.
///
/// # Errors
/// When it doesn't.
pub async fn cover(session: &Session, on_chain: &OnChain, address: Address, amount: TokenAmount) -> Result {
    let token = &session.network.token;
    let held = on_chain.wallet_balance(address).await?;
    let missing = amount.saturating_sub(held);
    if session.network.development
        && (!missing.is_zero() || on_chain.coins(address).await?.is_zero())
        && let Some(giver) = faucet::giver(on_chain).await?
    {
        session.output.note(format!(
            "'{}' is a development network: its faucet gives what is missing.",
            session.network.name
        ));
        return faucet::give(session, on_chain, giver, address, missing).await;
    }
    if held < amount {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "the wallet {address} holds {}, and {} are needed",
                token.show(held),
                token.show(amount)
            ),
        )
        .hint(if session.network.development {
            "`lloomctl faucet` gives some".to_owned()
        } else {
            format!("send {} on {} to that address", token.symbol, session.network.name)
        }));
    }
    Ok(())
}

async fn steps(
    session: &Session,
    on_chain: &OnChain,
    key: &Keypair,
    account: Address,
    amount: TokenAmount,
    no_permit: bool,
) -> Result<Vec<Step>> {
    let network = &session.network;
    let escrow = network.contracts.escrow;
    let token = network.token.address;
    let base_units = U256::from(amount.base_units());
    let label = format!("deposit {}", network.token.show(amount));
    let own = account == key.address();
    let deposit = if own {
        Call::contract(
            escrow,
            &ChannelEscrow::depositCall {
                token,
                amount: base_units,
            },
        )
    } else {
        Call::contract(
            escrow,
            &ChannelEscrow::depositForCall {
                account,
                token,
                amount: base_units,
            },
        )
    };
    let deposit = Step {
        label: label.clone(),
        call: deposit,
        usual_gas: DEPOSIT_GAS,
    };
    if on_chain.allowance(key.address()).await? >= base_units {
        return Ok(vec![deposit]);
    }
    if own
        && !no_permit
        && let Some((separator, nonce)) = on_chain.permit(key.address()).await?
    {
        let deadline = U256::from(UnixSeconds::from(SystemTime::now()).plus(PERMIT_LIFE).get());
        let digest = permit_digest(separator, key.address(), escrow, base_units, nonce, deadline);
        let bytes = key.sign_digest(digest).to_bytes();
        return Ok(vec![Step {
            label: format!("{label} with a permit"),
            call: Call::contract(
                escrow,
                &ChannelEscrow::depositWithPermitCall {
                    token,
                    amount: base_units,
                    deadline,
                    v: bytes[64],
                    r: B256::from_slice(&bytes[..32]),
                    s: B256::from_slice(&bytes[32..64]),
                },
            ),
            usual_gas: DEPOSIT_GAS,
        }]);
    }
    Ok(vec![approve_step(session, amount), deposit])
}

/// Lets the escrow take exactly `amount`.
pub fn approve_step(session: &Session, amount: TokenAmount) -> Step {
    let network = &session.network;
    Step {
        label: format!("let the escrow take {}", network.token.show(amount)),
        call: Call::contract(
            network.token.address,
            &DevToken::approveCall {
                spender: network.contracts.escrow,
                value: U256::from(amount.base_units()),
            },
        ),
        usual_gas: 50_000,
    }
}

fn permit_digest(separator: B256, owner: Address, spender: Address, value: U256, nonce: U256, deadline: U256) -> B256 {
    let permit = keccak256((PERMIT_TYPEHASH, owner, spender, value, nonce, deadline).abi_encode());
    let mut preimage = [0; 66];
    preimage[..2].copy_from_slice(&[0x19, 0x01]);
    preimage[2..34].copy_from_slice(separator.as_slice());
    preimage[34..].copy_from_slice(permit.as_slice());
    keccak256(preimage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permit_type_is_the_standards() {
        let text = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)";
        assert_eq!(keccak256(text), PERMIT_TYPEHASH);
    }
}
