use std::io::{self, Write};

use alloy::primitives::{Address, B256};
use clap::Args;
use lloom_bindings::ChannelEscrow;
use lloom_ledger::{Ledger, NewChannel};
use lloom_receipts::{ChannelId, ChannelParameters, TokenAmount, commitment_salt};
use lloom_watcher::Call;
use rand::TryRngCore as _;
use serde::Serialize;

use crate::{
    command::deposit,
    failure::{Failure, Kind, OrFail as _, Result},
    onchain::{OnChain, parse_address},
    output::Report,
    peers::{self, ExecutorName},
    session::Session,
    transact::{Done, Step, Transactor, describe},
};

const OPEN_GAS: u64 = 140_000;

/// Open a channel to an executor
///
/// The channel is committed to that one node. Its money comes from your balance in the escrow, and what isn't spent
/// returns there; with --from-wallet it comes from the wallet, and returns to the wallet.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// The executor: its multiaddress, peer id, or operator's address
    #[arg(long, value_name = "EXECUTOR")]
    pub executor: ExecutorName,
    /// How much to put in, in the token's units
    #[arg(allow_hyphen_values = true)]
    pub amount: String,
    /// The executor's payee, so that the executor needn't be asked (its operator's address has to be given then)
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub payee: Option<Address>,
    /// Take the money from the wallet instead of the escrow balance
    #[arg(long)]
    pub from_wallet: bool,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

/// A channel that was opened.
#[derive(Clone, Debug, Serialize)]
pub struct Opened {
    /// Its id.
    pub channel: ChannelId,
    operator: Address,
    payee: Address,
    deposit: TokenAmount,
    deposit_display: String,
    /// What was sent.
    pub transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for Opened {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "Opened channel {}", self.channel)?;
        writeln!(
            out,
            "with {} for the executor {} (paid to {}).",
            self.deposit_display, self.operator, self.payee
        )
    }
}

/// Opens one.
///
/// # Errors
/// When the amount is wrong, the executor can't be found, or the money isn't there.
pub async fn run(session: &Session, arguments: OpenArgs) -> Result {
    let amount = session.network.token.parse_positive(&arguments.amount)?;
    session.config()?;
    session.address()?;
    let on_chain = session.on_chain().await?;
    let key = session.unlock()?;
    let (operator, payee) = match (&arguments.executor, arguments.payee) {
        (ExecutorName::Operator(operator), Some(payee)) => (*operator, payee),
        (ExecutorName::At(_), Some(_)) => {
            return Err(Failure::new(
                Kind::Usage,
                "--payee needs the operator's address as --executor",
            ));
        }
        (name, None) => {
            let network = peers::join(session, &key, std::slice::from_ref(name)).await?;
            let found = peers::find(session, &network, name).await;
            network.shutdown().await;
            let (_, offer) = found?;
            if amount < offer.min_deposit {
                return Err(Failure::new(
                    Kind::Refused,
                    format!(
                        "the executor serves channels of {} and more",
                        session.network.token.show(offer.min_deposit)
                    ),
                ));
            }
            (offer.operator, offer.payee)
        }
    };
    let ledger = session.open_store().await?;
    let transactor = Transactor::new(session, on_chain.clone(), ledger.clone(), key).await?;
    let opening = Opening {
        operator,
        payee,
        amount,
        from_wallet: arguments.from_wallet,
    };
    let opened = open(session, &on_chain, &ledger, &transactor, opening, arguments.yes).await?;
    ledger.close().await;
    session.output.print(&opened)
}

/// What to open.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The executor's node.
    pub operator: Address,
    /// Who is paid.
    pub payee: Address,
    /// How much to put in.
    pub amount: TokenAmount,
    /// Whether the wallet pays.
    pub from_wallet: bool,
}

/// Records the channel, then opens it.
///
/// # Errors
/// When the money isn't there, or the chain refuses.
pub async fn open(
    session: &Session,
    on_chain: &OnChain,
    ledger: &Ledger,
    transactor: &Transactor<'_>,
    opening: Opening,
    yes: bool,
) -> Result<Opened> {
    let network = &session.network;
    let token = &network.token;
    let payer = transactor.account();
    let mut client_random = B256::ZERO;
    rand::rngs::OsRng
        .try_fill_bytes(client_random.as_mut_slice())
        .or_fail(Kind::Failed, || "the system gives no random bytes".to_owned())?;
    let parameters = ChannelParameters {
        payer,
        payee: opening.payee,
        token: token.address,
        salt: commitment_salt(opening.operator, client_random),
        authorized_signer: Address::ZERO,
    };
    let label = format!("open a channel with {}", token.show(opening.amount));
    let mut steps = Vec::new();
    let call = if opening.from_wallet {
        deposit::cover(session, on_chain, payer, opening.amount).await?;
        let allowed = on_chain.allowance(payer).await?;
        if allowed < alloy::primitives::U256::from(opening.amount.base_units()) {
            steps.push(deposit::approve_step(session, opening.amount));
        }
        Call::contract(
            network.contracts.escrow,
            &ChannelEscrow::openCall {
                payee: parameters.payee,
                token: parameters.token,
                amount: opening.amount.base_units(),
                salt: parameters.salt,
                authorizedSigner: parameters.authorized_signer,
            },
        )
    } else {
        let free = on_chain.escrow_balance(payer).await?;
        if free < opening.amount {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "the escrow holds {} for {payer}, and {} are needed",
                    token.show(free),
                    token.show(opening.amount)
                ),
            )
            .while_(format!("cannot {label}"))
            .hint(format!(
                "`lloomctl deposit {}` adds to it",
                opening.amount.saturating_sub(free).display(token.decimals)
            )));
        }
        Call::contract(
            network.contracts.escrow,
            &ChannelEscrow::openFromBalanceCall {
                payee: parameters.payee,
                token: parameters.token,
                amount: opening.amount.base_units(),
                salt: parameters.salt,
                authorizedSigner: parameters.authorized_signer,
            },
        )
    };
    steps.push(Step {
        label,
        call,
        usual_gas: OPEN_GAS,
    });
    transactor.agree(&steps, yes).await?;
    // Before anything is sent: whatever happens then, the channel's parameters are known, and with them its money.
    let channel = ledger
        .record_channel(NewChannel {
            parameters,
            operator: opening.operator,
            client_random,
            deposit: opening.amount,
        })
        .await
        .or_fail(Kind::Store, || "cannot record the channel".to_owned())?;
    let transactions = transactor.send_all(steps).await?;
    Ok(Opened {
        channel,
        operator: opening.operator,
        payee: opening.payee,
        deposit: opening.amount,
        deposit_display: token.show(opening.amount),
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}
