use std::{
    io::{self, Write},
    time::{Duration, Instant, SystemTime},
};

use alloy::primitives::Address;
use clap::Args;
use lloom_node::{
    NetworkHandle,
    tower::{Deployment, TowerAnswer, TowerProfile, TowerQuestion},
};
use lloom_receipts::{TokenAmount, UnixSeconds};
use serde::Serialize;

use super::some_towers;
use crate::{
    delegating::ConfiguredTower,
    failure::{Failure, Kind, Result},
    onchain::parse_address,
    output::{Report, counted, write_pairs},
    peers::{join_as_nobody, network_failure},
    progress::Progress,
    session::Session,
};

/// How long a tower may take to answer, its dial included.
const PATIENCE: Duration = Duration::from_secs(25);

/// Ask towers whether they are there, what they promise, and how far they see
///
/// Fails when one of them doesn't answer, works elsewhere, doesn't see the chain, or can't pay for a claim.
#[derive(Debug, Args)]
pub struct PingArgs {
    /// Only this one, by its address [default: all that config.toml names]
    #[arg(value_name = "TOWER", value_parser = parse_address)]
    pub tower: Option<Address>,
}

#[derive(Serialize)]
struct Pinged {
    towers: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    tower: Address,
    at: String,
    /// Whether it can be relied on now.
    ok: bool,
    /// Why not.
    problem: Option<String>,
    #[serde(flatten)]
    answer: Option<Said>,
}

#[derive(Serialize)]
struct Said {
    milliseconds: u64,
    minimum_value: TokenAmount,
    minimum_value_display: String,
    /// Wei, as a decimal string.
    max_fee_per_gas: String,
    term_secs: u64,
    max_operators: u32,
    max_channels: u32,
    messages_per_minute: u32,
    head: Option<u64>,
    /// How old that block is.
    head_age_secs: Option<u64>,
    agent: String,
}

impl Report for Pinged {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        for (index, line) in self.towers.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            let mut pairs = vec![("Tower", line.tower.to_string()), ("At", line.at.clone())];
            if let Some(said) = &line.answer {
                pairs.push(("Answered", format!("in {} ms", said.milliseconds)));
                let head = match (said.head, said.head_age_secs) {
                    (Some(head), Some(age)) => format!("block {head}, {age} s old"),
                    _ => "nothing".to_owned(),
                };
                pairs.push(("Sees", head));
                pairs.push((
                    "Holds",
                    format!(
                        "at most {} of one operator",
                        counted(said.max_channels.into(), "channel")
                    ),
                ));
                pairs.push(("Claims", format!("from {} on", said.minimum_value_display)));
                pairs.push(("Signs for", counted(said.term_secs / 86_400, "day")));
            }
            if let Some(problem) = &line.problem {
                pairs.push(("Problem", crate::answer::printable(problem)));
            }
            write_pairs(out, &pairs)?;
        }
        Ok(())
    }
}

/// Asks them.
///
/// # Errors
/// When one can't be relied on.
pub async fn run(session: &Session, arguments: PingArgs) -> Result {
    let mut towers = some_towers(session)?;
    if let Some(tower) = arguments.tower {
        towers.retain(|known| known.tower == tower);
        if towers.is_empty() {
            return Err(Failure::new(Kind::Usage, format!("config.toml names no tower {tower}"))
                .hint("`lloomctl tower list` shows those it names"));
        }
    }
    let network = join_as_nobody(session).await?;
    let progress = Progress::spinner(session.output, "Asking");
    let asked = towers.iter().map(|tower| ask(session, &network, tower));
    let lines = futures::future::join_all(asked).await;
    drop(progress);
    network.shutdown().await;
    let bad = lines.iter().filter(|line| !line.ok).count();
    let all = lines.len();
    session.output.print(&Pinged { towers: lines })?;
    if bad > 0 {
        return Err(Failure::new(
            Kind::Network,
            format!("{bad} of {} can't be relied on now", counted(all as u64, "tower")),
        )
        .hint("what was earned is handed over when they are back; more towers make that matter less"));
    }
    Ok(())
}

async fn ask(session: &Session, network: &NetworkHandle, tower: &ConfiguredTower) -> Line {
    let began = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, network.ask_tower(&tower.at, TowerQuestion::Terms)).await;
    let mut line = Line {
        tower: tower.tower,
        at: tower.at.to_string(),
        ok: false,
        problem: None,
        answer: None,
    };
    match answer {
        Ok(Ok(TowerAnswer::Terms(profile))) => {
            line.problem = judge(session, tower, &profile);
            line.ok = line.problem.is_none();
            line.answer = Some(said(session, *profile, began.elapsed()));
        }
        Ok(Ok(TowerAnswer::Refused(refusal))) => line.problem = Some(refusal.to_string()),
        Ok(Ok(_)) => line.problem = Some("it answered something else than it was asked".to_owned()),
        Ok(Err(error)) => line.problem = Some(network_failure(error, "it doesn't answer").one_line()),
        Err(_) => line.problem = Some(format!("it did not answer within {} s", PATIENCE.as_secs())),
    }
    line
}

fn judge(session: &Session, tower: &ConfiguredTower, profile: &TowerProfile) -> Option<String> {
    let here = Deployment::from(&session.network.domain());
    if profile.tower != tower.tower {
        return Some(format!("it introduces itself as {}", profile.tower));
    }
    if profile.deployment != here {
        let there = profile.deployment;
        return Some(format!(
            "it works for the escrow {} on the chain {}, not for {} on {}",
            there.escrow, there.chain_id, here.escrow, here.chain_id
        ));
    }
    let token = &session.network.token;
    if profile.token != token.address {
        return Some(format!(
            "it defends channels in {}, not in {}",
            profile.token, token.symbol
        ));
    }
    profile.impediment.map(|impediment| format!("it {impediment}"))
}

fn said(session: &Session, profile: TowerProfile, took: Duration) -> Said {
    let now = UnixSeconds::from(SystemTime::now());
    Said {
        milliseconds: took.as_millis().try_into().unwrap_or(u64::MAX),
        minimum_value: profile.minimum_value,
        minimum_value_display: session.network.token.show(profile.minimum_value),
        max_fee_per_gas: profile.max_fee_per_gas.to_string(),
        term_secs: profile.term_secs,
        max_operators: profile.max_operators,
        max_channels: profile.max_channels,
        messages_per_minute: profile.messages_per_minute,
        head: profile.head.map(|head| head.number.get()),
        head_age_secs: profile.head.map(|head| now.since(head.timestamp).as_secs()),
        agent: crate::answer::printable(&profile.agent),
    }
}
