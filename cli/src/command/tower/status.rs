use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::SystemTime,
};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::{AppointmentRecord, Ledger, LedgerError, TowerRecord, ValueAtRisk};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use serde::Serialize;

use crate::{
    answer::printable,
    date::utc,
    delegating::configured_towers,
    failure::{Kind, OrFail as _, Result},
    onchain::parse_channel,
    output::{Align, Report, Table, shortened, write_pairs},
    session::Session,
    watching::payee,
};

/// Appointments read at once.
const PAGE: u32 = 1_024;

/// Show what towers have promised to defend, what nobody covers, and which tower lied
///
/// Reads this home's store alone; `tower ping` asks the towers themselves. With --channel it prints what each tower has
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
    problem: Option<String>,
    fault: Option<String>,
    fault_at: Option<UnixSeconds>,
}

impl Report for Status {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        write_pairs(
            out,
            &[
                ("Paid to", self.payee.to_string()),
                (
                    "Claimable",
                    format!("{} on {} channels", self.risk.claimable_display, self.risk.channels),
                ),
                ("Covered", self.risk.covered_display.clone()),
                (
                    "Not covered",
                    format!(
                        "{} on {} channels",
                        self.risk.uncovered_display, self.risk.uncovered_channels
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
            let state = match (&line.fault, &line.problem, line.configured) {
                (Some(_), _, _) => "LIED",
                (None, Some(_), _) => "in trouble",
                (None, None, false) => "not configured any more",
                (None, None, true) if line.heard_at.is_none() => "never heard",
                (None, None, true) => "fine",
            };
            table.row([
                line.tower.to_string(),
                line.channels.to_string(),
                line.heard_at.map_or_else(|| "never".to_owned(), utc),
                state.to_owned(),
            ]);
        }
        table.write(out)?;
        for line in &self.towers {
            if let (Some(fault), Some(at)) = (&line.fault, line.fault_at) {
                let (fault, at) = (printable(fault), utc(at));
                writeln!(out, "\n{} lied at {at}: {fault}", line.tower)?;
            }
            if let Some(problem) = &line.problem {
                writeln!(out, "\n{} can't be used: {}", line.tower, printable(problem))?;
            }
        }
        Ok(())
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
    session.config()?;
    let ledger = session.read_store().await?;
    if let Some(channel) = &arguments.channel {
        return show_channel(session, ledger.as_ref(), parse_channel(channel)?).await;
    }
    let payee = payee(session)?;
    let token = &session.network.token;
    let read = async {
        let Some(ledger) = &ledger else {
            return Ok((ValueAtRisk::default(), BTreeMap::new()));
        };
        let now = UnixSeconds::from(SystemTime::now());
        let risk = ledger.value_at_risk(payee, token.address, now).await?;
        let mut towers = BTreeMap::new();
        for record in ledger.towers().await? {
            let channels = count_channels(ledger, record.address).await?;
            towers.insert(record.address, (record, channels));
        }
        Ok((risk, towers))
    };
    let read: std::result::Result<_, LedgerError> = read.await;
    let (risk, mut known) = read.or_fail(Kind::Store, || "cannot read what towers have signed".to_owned())?;
    let mut towers = Vec::new();
    for configured in configured_towers(session)? {
        let record = known.remove(&configured.tower);
        towers.push(line(configured.tower, Some(configured.at.to_string()), record));
    }
    // What others have signed before stands all the same.
    for (tower, record) in known {
        towers.push(line(tower, None, Some(record)));
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

fn line(tower: Address, at: Option<String>, record: Option<(TowerRecord, u64)>) -> Line {
    let (record, channels) = record.map_or((None, 0), |(record, channels)| (Some(record), channels));
    let fault = record.as_ref().and_then(|record| record.fault.clone());
    Line {
        tower,
        configured: at.is_some(),
        at,
        channels,
        heard_at: record.as_ref().and_then(|record| record.heard_at),
        problem: record.and_then(|record| record.problem),
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
