use std::io::{self, Write};

use alloy::primitives::Address;
use clap::{Args, Subcommand};
use lloom_bindings::ExecutorRegistry;
use lloom_watcher::Call;
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    onchain::{OnChain, OperatorStatus, parse_address},
    output::{Align, Report, Table},
    session::Session,
    transact::{Done, Step, describe, send},
};

/// Commands of `operator`.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Let a node's key sign, claim and close for this key's payee
    ///
    /// Run it with the payee's key, which needs to be on no node. An operator can't redirect earnings; a stolen one can
    /// close channels early and forfeit what is unclaimed.
    Add(ChangeArgs),
    /// Take that away again; what the operator signed stays claimable
    Remove(ChangeArgs),
    /// Show a payee's operators
    List(ListArgs),
}

/// Arguments of `operator add` and `operator remove`.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// The node's address, as `lloomctl init` printed it
    #[arg(value_parser = parse_address)]
    pub operator: Address,
    /// The payee is this splitter, and this key its host's
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub splitter: Option<Address>,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `operator list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Whose [default: config.toml's payee, or this key's own]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub payee: Option<Address>,
}

#[derive(Serialize)]
struct Changed {
    payee: Address,
    operator: Address,
    status: &'static str,
    transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for Changed {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "The operator {} of {} is {}.",
            self.operator, self.payee, self.status
        )
    }
}

#[derive(Serialize)]
struct Operators {
    payee: Address,
    operators: Vec<Operator>,
}

#[derive(Serialize)]
struct Operator {
    operator: Address,
    status: &'static str,
}

impl Report for Operators {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Operators of {}", self.payee)?;
        if self.operators.is_empty() {
            return writeln!(out, "none known here; a payee's own key needs no naming");
        }
        let mut table = Table::new(&[("OPERATOR", Align::Left), ("STATUS", Align::Left)]);
        for operator in &self.operators {
            table.row([operator.operator.to_string(), operator.status.to_owned()]);
        }
        table.write(out)
    }
}

/// Runs one.
///
/// # Errors
/// When the chain refuses.
pub async fn run(session: &Session, command: OperatorCommand) -> Result {
    match command {
        OperatorCommand::Add(arguments) => change(session, arguments, OperatorStatus::Active).await,
        OperatorCommand::Remove(arguments) => change(session, arguments, OperatorStatus::Retired).await,
        OperatorCommand::List(arguments) => list(session, arguments).await,
    }
}

async fn change(session: &Session, arguments: ChangeArgs, wanted: OperatorStatus) -> Result {
    let network = &session.network;
    session.config()?;
    let own = session.address()?;
    let operator = arguments.operator;
    let on_chain = session.on_chain().await?;
    // A splitter passes its host's word on to the registry, by calls of the same names.
    let (payee, names) = match arguments.splitter {
        Some(splitter) => {
            check_host(&on_chain, splitter, own).await?;
            (splitter, splitter)
        }
        None => (own, network.contracts.registry),
    };
    let mut transactions = Vec::new();
    if on_chain.operator_status(payee, operator).await? != wanted {
        let (label, call) = if wanted == OperatorStatus::Active {
            (
                format!("name {operator} as an operator of {payee}"),
                Call::contract(names, &ExecutorRegistry::addOperatorCall { operator }),
            )
        } else {
            (
                format!("retire the operator {operator} of {payee}"),
                Call::contract(names, &ExecutorRegistry::removeOperatorCall { operator }),
            )
        };
        let steps = vec![Step {
            label,
            call,
            usual_gas: 0,
        }];
        transactions = send(session, &on_chain, steps, arguments.yes).await?;
    }
    session.output.print(&Changed {
        payee,
        operator,
        status: wanted.name(),
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}

async fn check_host(on_chain: &OnChain, splitter: Address, own: Address) -> Result {
    let [host, ..] = on_chain.splitter(splitter).await?.parties;
    if host.account == own {
        return Ok(());
    }
    let failure = Failure::new(
        Kind::Refused,
        format!("{own} is not the host of the splitter {splitter}"),
    );
    Err(failure.hint(format!("its host is {}: use that key (--key or --home)", host.account)))
}

async fn list(session: &Session, arguments: ListArgs) -> Result {
    let configured = session
        .config()
        .ok()
        .and_then(|config| config.executor.as_ref())
        .and_then(|executor| executor.payee);
    let own = session.address().ok();
    let payee = match arguments.payee.or(configured) {
        Some(payee) => payee,
        None => session.address()?,
    };
    let on_chain = session.on_chain().await?;
    // The registry keeps no list; the node's store has what its follower saw.
    let mut candidates: Vec<Address> = match session.read_store().await? {
        Some(ledger) => {
            let known = ledger
                .operators(payee)
                .await
                .or_fail(Kind::Store, || "cannot list the operators".to_owned())?;
            ledger.close().await;
            known.into_iter().map(|(operator, _)| operator).collect()
        }
        None => Vec::new(),
    };
    if let Some(own) = own.filter(|own| !candidates.contains(own) && *own != payee) {
        candidates.push(own);
    }
    let mut operators = Vec::new();
    for operator in candidates {
        let status = on_chain.operator_status(payee, operator).await?.name();
        operators.push(Operator { operator, status });
    }
    session.output.print(&Operators { payee, operators })
}
