use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::SystemTime,
};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::{AppointmentRecord, Ledger, LedgerError, StandingRefusal, TowerRecord, ValueAtRisk};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use serde::Serialize;

use crate::{
    answer::printable,
    date::{minutes, utc},
    delegating::configured_towers,
    failure::{Kind, OrFail as _, Result},
    money::Token,
    onchain::parse_channel,
    output::{Align, Report, Table, counted, shortened, write_pairs},
    session::Session,
    watching::payee,
};

/// Appointments and refusals read at once.
const PAGE: u32 = 1_024;
/// Refused channels that are shown of one tower; --json has them all.
const SHOWN_REFUSALS: usize = 10;

/// Show what towers have promised to defend, what nobody covers, and which tower lied
///
/// Reads this home's store alone; `tower ping` asks the towers themselves. A running node asks each of them at least once
/// a minute whether it is there: one that was not heard for ten minutes covers nothing, whatever it has signed. A channel
/// that a tower refuses is shown until the tower takes it or there is nothing left to defend. In a tower's own home it
/// lists what the tower holds, for whom and until when. With --channel it prints what each tower has
/// signed for the channel: with the tower's signature, it proves that a tower slept.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// What was signed for this channel
    #[arg(long, value_name = "ID")]
    pub channel: Option<String>,
}

#[derive(Serialize)]
struct Status {
    payee: Address,
    #[serde(flatten)]
    risk: Risk,
    towers: Vec<Line>,
}

#[derive(Serialize)]
struct Risk {
    /// What could be claimed now.
    claimable: TokenAmount,
    claimable_display: String,
    /// What of it a tower has promised to claim.
    covered: TokenAmount,
    covered_display: String,
    /// What nobody has.
    uncovered: TokenAmount,
    uncovered_display: String,
    channels: u64,
    uncovered_channels: u64,
}

#[derive(Serialize)]
struct Line {
    tower: Address,
    /// Whether config.toml names it.
    configured: bool,
    at: Option<String>,
    /// Channels that are not over and that it has signed for.
    channels: u64,
    heard_at: Option<UnixSeconds>,
    /// Whether that was lately enough to count on what it has signed.
    heard: bool,
    problem: Option<String>,
    /// Channels that it does not take on.
    refusals: Vec<Refusal>,
    fault: Option<String>,
    fault_at: Option<UnixSeconds>,
}

#[derive(Serialize)]
struct Refusal {
    channel: ChannelId,
    claim: TokenAmount,
    claim_display: String,
    reason: String,
    since: UnixSeconds,
}

impl Line {
    /// How it stands, in a word or two.
    fn state(&self) -> &'static str {
        if self.fault.is_some() {
            "LIED"
        } else if self.problem.is_some() {
            "in trouble"
        } else if !self.configured {
            "not configured any more"
        } else if self.heard_at.is_none() {
            "never heard"
        } else if !self.heard {
            "silent"
        } else if !self.refusals.is_empty() {
            "refuses channels"
        } else {
            "fine"
        }
    }

    /// What is to be said of it beside that.
    fn write_findings(&self, out: &mut dyn Write) -> io::Result<()> {
        let tower = self.tower;
        if let (Some(fault), Some(at)) = (&self.fault, self.fault_at) {
            let (fault, at) = (printable(fault), utc(at));
            writeln!(out, "\n{tower} lied at {at}: {fault}")?;
        }
        if let Some(problem) = &self.problem {
            writeln!(out, "\n{tower} can't be used: {}", printable(problem))?;
        }
        if let (Some(at), false) = (self.heard_at, self.heard) {
            writeln!(
                out,
                "\n{tower} was not heard for {}: what it has signed is not counted on",
                minutes(UnixSeconds::from(SystemTime::now()).since(at))
            )?;
        }
        if !self.refusals.is_empty() {
            writeln!(
                out,
                "\n{tower} refuses {}:",
                counted(self.refusals.len() as u64, "channel")
            )?;
        }
        for refusal in self.refusals.iter().take(SHOWN_REFUSALS) {
            let Refusal {
                channel, claim_display, ..
            } = refusal;
            let (since, reason) = (utc(refusal.since), printable(&refusal.reason));
            writeln!(out, "  {channel}, {claim_display}, since {since}: {reason}")?;
        }
        match self.refusals.len().saturating_sub(SHOWN_REFUSALS) {
            0 => Ok(()),
            more => writeln!(out, "  and {more} more; --json has them all"),
        }
    }
}

impl Report for Status {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        write_pairs(
            out,
            &[
                ("Paid to", self.payee.to_string()),
                (
                    "Claimable",
                    format!(
                        "{} on {}",
                        self.risk.claimable_display,
                        counted(self.risk.channels, "channel")
                    ),
                ),
                ("Covered", self.risk.covered_display.clone()),
                (
                    "Not covered",
                    format!(
                        "{} on {}",
                        self.risk.uncovered_display,
                        counted(self.risk.uncovered_channels, "channel")
                    ),
                ),
            ],
        )?;
        if self.towers.is_empty() {
            return writeln!(out, "\nNo tower is configured: config.toml's [towers] names them.");
        }
        writeln!(out)?;
        let mut table = Table::new(&[
            ("TOWER", Align::Left),
            ("CHANNELS", Align::Right),
            ("HEARD", Align::Left),
            ("STATE", Align::Left),
        ]);
        for line in &self.towers {
            table.row([
                line.tower.to_string(),
                line.channels.to_string(),
                line.heard_at.map_or_else(|| "never".to_owned(), utc),
                line.state().to_owned(),
            ]);
        }
        table.write(out)?;
        self.towers.iter().try_for_each(|line| line.write_findings(out))
    }
}

#[derive(Serialize)]
struct Signed {
    channel: ChannelId,
    appointments: Vec<Appointment>,
}

#[derive(Serialize)]
struct Appointment {
    #[serde(flatten)]
    document: lloom_receipts::TowerAppointment,
    signature: lloom_receipts::Signature,
    lost_at: Option<UnixSeconds>,
    #[serde(skip)]
    claim_display: String,
}

impl Report for Signed {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.appointments.is_empty() {
            return writeln!(out, "No tower has signed for the channel {}.", self.channel);
        }
        let mut table = Table::new(&[
            ("TOWER", Align::Left),
            ("CLAIMS", Align::Right),
            ("TAKEN ON", Align::Left),
            ("UNTIL", Align::Left),
            ("SIGNATURE", Align::Left),
        ]);
        for appointment in &self.appointments {
            let document = &appointment.document;
            let until = match appointment.lost_at {
                Some(lost_at) => format!("lost, {}", utc(lost_at)),
                None => utc(document.expires_at),
            };
            table.row([
                document.tower.to_string(),
                appointment.claim_display.clone(),
                utc(document.taken_at),
                until,
                shortened(&appointment.signature.to_string()),
            ]);
        }
        table.write(out)?;
        writeln!(out, "--json prints them in full.")
    }
}

/// Shows it.
///
/// # Errors
/// When the store can't be read.
pub async fn run(session: &Session, arguments: StatusArgs) -> Result {
    let is_tower = session.config()?.is_tower();
    let ledger = session.read_store().await?;
    if is_tower {
        let channel = arguments.channel.as_deref().map(parse_channel).transpose()?;
        return super::holding::show(session, ledger, channel).await;
    }
    if let Some(channel) = &arguments.channel {
        return show_channel(session, ledger.as_ref(), parse_channel(channel)?).await;
    }
    let payee = payee(session)?;
    let token = &session.network.token;
    let now = UnixSeconds::from(SystemTime::now());
    let read = async {
        let Some(ledger) = &ledger else {
            return Ok((ValueAtRisk::default(), BTreeMap::new()));
        };
        let risk = ledger.value_at_risk(payee, token.address, now).await?;
        let mut towers = BTreeMap::new();
        for record in ledger.towers().await? {
            let kept = Kept {
                channels: count_channels(ledger, record.address).await?,
                refusals: all_refusals(ledger, record.address).await?,
                record,
            };
            towers.insert(kept.record.address, kept);
        }
        Ok((risk, towers))
    };
    let read: std::result::Result<_, LedgerError> = read.await;
    let (risk, mut known) = read.or_fail(Kind::Store, || "cannot read what towers have signed".to_owned())?;
    let mut towers = Vec::new();
    for configured in configured_towers(session)? {
        let kept = known.remove(&configured.tower);
        towers.push(line(
            configured.tower,
            Some(configured.at.to_string()),
            kept,
            token,
            now,
        ));
    }
    // What others have signed before stands all the same.
    for (tower, kept) in known {
        towers.push(line(tower, None, Some(kept), token, now));
    }
    if let Some(ledger) = ledger {
        ledger.close().await;
    }
    session.output.print(&Status {
        payee,
        risk: Risk {
            claimable: risk.claimable,
            claimable_display: token.show(risk.claimable),
            covered: risk.covered,
            covered_display: token.show(risk.covered),
            uncovered: risk.uncovered(),
            uncovered_display: token.show(risk.uncovered()),
            channels: risk.channels,
            uncovered_channels: risk.uncovered_channels,
        },
        towers,
    })
}

/// What the store knows of one tower.
struct Kept {
    record: TowerRecord,
    /// Channels that it has signed for.
    channels: u64,
    refusals: Vec<StandingRefusal>,
}

fn line(tower: Address, at: Option<String>, kept: Option<Kept>, token: &Token, now: UnixSeconds) -> Line {
    let channels = kept.as_ref().map_or(0, |kept| kept.channels);
    let (record, refusals) = kept.map_or((None, Vec::new()), |kept| (Some(kept.record), kept.refusals));
    let fault = record.as_ref().and_then(|record| record.fault.clone());
    let refusals = refusals.into_iter().map(|refusal| Refusal {
        channel: refusal.channel,
        claim: refusal.claim,
        claim_display: token.show(refusal.claim),
        reason: refusal.reason,
        since: refusal.since,
    });
    Line {
        tower,
        configured: at.is_some(),
        at,
        channels,
        heard_at: record.as_ref().and_then(|record| record.heard_at),
        heard: record.as_ref().is_some_and(|record| record.is_heard(now)),
        problem: record.and_then(|record| record.problem),
        refusals: refusals.collect(),
        fault_at: fault.as_ref().map(|(_, at)| *at),
        fault: fault.map(|(fault, _)| fault),
    }
}

async fn count_channels(ledger: &Ledger, tower: Address) -> std::result::Result<u64, LedgerError> {
    let mut count = 0;
    let mut after = None;
    loop {
        let page: Vec<AppointmentRecord> = ledger.appointments(tower, after, PAGE).await?;
        count += page.iter().filter(|record| record.lost_at.is_none()).count() as u64;
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some(last.appointment.document().channel),
            _ => return Ok(count),
        }
    }
}

async fn all_refusals(ledger: &Ledger, tower: Address) -> std::result::Result<Vec<StandingRefusal>, LedgerError> {
    let mut refusals = Vec::new();
    loop {
        let after = refusals.last().map(|last: &StandingRefusal| last.channel);
        let page = ledger.refusals(tower, after, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        refusals.extend(page);
        if is_last {
            return Ok(refusals);
        }
    }
}

async fn show_channel(session: &Session, ledger: Option<&Ledger>, channel: ChannelId) -> Result {
    let unknown = || crate::session::unknown_channel(channel);
    let ledger = ledger.ok_or_else(unknown)?;
    let failed = || "cannot read what towers have signed".to_owned();
    let known = ledger.channel(channel).await.or_fail(Kind::Store, failed)?;
    known.ok_or_else(unknown)?;
    let signed = ledger.appointments_of(channel).await.or_fail(Kind::Store, failed)?;
    let appointments = signed.into_iter().map(|record| {
        let (document, signature) = record.appointment.into_parts();
        Appointment {
            claim_display: session.network.token.show(document.claim),
            document,
            signature,
            lost_at: record.lost_at,
        }
    });
    session.output.print(&Signed {
        channel,
        appointments: appointments.collect(),
    })
}
