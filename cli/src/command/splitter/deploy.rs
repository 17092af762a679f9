use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use lloom_bindings::SplitterTerms;
use serde::Serialize;

use crate::{
    command::deploy::creation,
    failure::{Failure, Kind, Result},
    onchain::parse_address,
    output::{Report, write_pairs},
    session::Session,
    transact::{Done, describe, send},
};

const BASIS_POINTS: u16 = 10_000;

/// Deploy a payee that shares what an executor earns with validators and a treasury
///
/// Parties and shares can never be changed. The host alone names the executor's operators (`operator add --splitter`).
/// The address follows from the parties and shares: where it is already, nothing is sent.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The validators' account
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub validators: Address,
    /// The treasury's account
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub treasury: Address,
    /// The host's account [default: this key's own]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub host: Option<Address>,
    /// What host, validators and treasury get, in hundredths of a percent; together 10000
    #[arg(long, value_name = "HOST,VALIDATORS,TREASURY", default_value = "7000,2000,1000", value_parser = parse_shares)]
    pub shares: Shares,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

/// Basis points of host, validators and treasury.
#[derive(Clone, Copy, Debug)]
pub struct Shares([u16; 3]);

fn parse_shares(text: &str) -> std::result::Result<Shares, String> {
    let parts: Vec<u16> = text
        .split(',')
        .map(|part| {
            part.trim()
                .parse()
                .map_err(|_| format!("'{part}' is no number of basis points"))
        })
        .collect::<std::result::Result<_, _>>()?;
    let Ok(shares) = <[u16; 3]>::try_from(parts) else {
        return Err("three numbers are wanted, such as 7000,2000,1000".to_owned());
    };
    let sum: u32 = shares.iter().map(|&share| u32::from(share)).sum();
    if sum != u32::from(BASIS_POINTS) {
        return Err(format!("the shares make {sum}, and have to make {BASIS_POINTS}"));
    }
    Ok(Shares(shares))
}

#[derive(Serialize)]
struct Deployed {
    splitter: Address,
    host: Address,
    transactions: Vec<Done>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Report for Deployed {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        if self.transactions.is_empty() {
            writeln!(out, "It is deployed already.")?;
        }
        write_pairs(
            out,
            &[("Splitter", self.splitter.to_string()), ("Host", self.host.to_string())],
        )?;
        writeln!(
            out,
            "\nNext, with the host's key:\n  lloomctl operator add <NODE'S ADDRESS> --splitter {splitter}\n\
             and on the node, `lloomctl init --role executor --payee {splitter} …`, or in the config.toml it has already:\n  \
             [executor]\n  payee = \"{splitter}\"",
            splitter = self.splitter
        )
    }
}

pub async fn run(session: &Session, arguments: DeployArgs) -> Result {
    let network = &session.network;
    session.config()?;
    let host = match arguments.host {
        Some(host) => host,
        None => session.address()?,
    };
    if [host, arguments.validators, arguments.treasury].contains(&Address::ZERO) {
        return Err(Failure::new(
            Kind::Usage,
            "the zero address shares nothing: nobody could spend it",
        ));
    }
    let terms = SplitterTerms {
        host,
        validators: arguments.validators,
        treasury: arguments.treasury,
        shares: arguments.shares.0,
    };
    let splitter = terms.address(&network.contracts);
    let on_chain = session.on_chain().await?;
    let mut transactions = Vec::new();
    if !on_chain.has_code(splitter).await? {
        let steps = vec![creation(
            format!("deploy a splitter at {splitter}"),
            terms.creation_call(&network.contracts),
            0,
        )];
        transactions = send(session, &on_chain, steps, arguments.yes).await?;
    }
    session.output.print(&Deployed {
        splitter,
        host,
        lines: transactions.iter().map(|done| describe(network, done)).collect(),
        transactions,
    })
}
