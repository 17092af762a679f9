//! An executor's side of towers: what they have signed, and what is still to be handed to them.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Signed, TokenAmount, TowerAppointment, UnixSeconds, Verified, Voucher};

use crate::{
    AppointmentRecord, Delegation, Ledger, LedgerError, Outcome, TOWER_SILENCE, TowerRecord, Undelegated, ValueAtRisk,
    channel::{channel_columns, read_channel},
    claim::readable,
    column::{Put as _, Read as _, Row, sql},
    session::Session,
    statement::Statement,
    writer::Operation,
};

macro_rules! select_appointments {
    ($rest:literal) => {
        concat!(
            "SELECT tower, channel, operator, claim, ceiling, minimum_value, max_fee_per_gas, taken_at, expires_at,
                    signature, lost_at FROM appointments ",
            $rest
        )
    };
}

impl Ledger {
    /// The payee's channels whose newest authorization `tower` has not acknowledged, or only until `renew_before`, in
    /// the order of their ids, after `after`. What a receipt alone covers can't be handed over. Where a voucher can't be read,
    /// the best that can takes its place. Fewer than `limit` are all there are.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn undelegated(
        &self,
        tower: Address,
        payee: Address,
        renew_before: UnixSeconds,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<Undelegated>, LedgerError> {
        let lacking = Lacking {
            tower,
            payee,
            renew_before,
        };
        let mut session = self.snapshot("list what to hand to a tower").await?;
        let (mut found, mut after, mut wanted) = (Vec::new(), after, limit);
        loop {
            let rows = session.rows(lacking.page(after, wanted)).await?;
            for row in &rows {
                let channel = row.read("id")?;
                after = Some(channel);
                found.extend(match readable(channel, read_undelegated(row).map(Some))? {
                    None => lacking.next_best(&mut session, channel, row).await?,
                    read => read,
                });
            }
            // Channels without a voucher that can be read make no page shorter than what is left.
            let is_last = rows.len() < wanted as usize;
            wanted = left_of(limit, &found);
            if is_last || wanted == 0 {
                return Ok(found);
            }
        }
    }

    /// Keeps what a tower has signed, after its signature was checked, and notes that it was heard. Of each channel, the
    /// appointment over most, and the latest of these, is kept, and what the tower refused of it is moot.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn record_appointments(
        &self,
        tower: Address,
        appointments: Vec<Signed<TowerAppointment, Verified>>,
        now: UnixSeconds,
    ) -> Result<Outcome, LedgerError> {
        let operation = RecordAppointments {
            tower,
            appointments,
            now,
        };
        self.submit(operation).await
    }

    /// Notes that `tower` does not hold what it has signed for `operator` of these channels any more: it is asked again, and
    /// what it signed stays as proof. What it has signed for another operator since stands.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mark_appointments_lost(
        &self,
        tower: Address,
        operator: Address,
        channels: Vec<ChannelId>,
        now: UnixSeconds,
    ) -> Result<Outcome, LedgerError> {
        let operation = MarkLost {
            tower,
            operator,
            channels,
            now,
        };
        self.submit(operation).await
    }

    /// Notes why a tower can't be used at the moment. Its next good answer ends that.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn record_tower_problem(&self, tower: Address, problem: String) -> Result<Outcome, LedgerError> {
        let note = Note::Problem(problem);
        self.submit(RecordNote { tower, note }).await
    }

    /// Notes what an honest tower would never have said.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn record_tower_fault(
        &self,
        tower: Address,
        fault: String,
        now: UnixSeconds,
    ) -> Result<Outcome, LedgerError> {
        let note = Note::Fault(fault, now);
        self.submit(RecordNote { tower, note }).await
    }

    /// Every tower that was ever spoken to, in the order of their addresses.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn towers(&self) -> Result<Vec<TowerRecord>, LedgerError> {
        let statement = sql("SELECT address, heard_at, problem, fault, fault_at FROM towers ORDER BY address");
        let rows = self.reader("list towers").await?.rows(statement).await?;
        rows.iter()
            .map(|row| {
                let fault: Option<String> = row.read_optional("fault")?;
                Ok(TowerRecord {
                    address: row.read("address")?,
                    heard_at: row.read_optional("heard_at")?,
                    problem: row.read_optional("problem")?,
                    fault: fault.zip(row.read_optional("fault_at")?),
                })
            })
            .collect()
    }

    /// What `tower` has signed, of channels that are not over, in the order of their ids, after `after`. What can't be read
    /// proves nothing, and is passed over. Fewer than `limit` are all there are.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn appointments(
        &self,
        tower: Address,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<AppointmentRecord>, LedgerError> {
        let mut session = self.snapshot("list appointments").await?;
        let (mut found, mut after, mut wanted) = (Vec::new(), after, limit);
        loop {
            let statement = sql(select_appointments!(
                "WHERE tower = $1 AND ($2 IS NULL OR channel > $2)
                   AND channel IN (SELECT id FROM channels WHERE NOT latest_finalized)
                 ORDER BY channel LIMIT $3"
            ))
            .put(tower)
            .put_optional(after)
            .put(i64::from(wanted));
            let rows = session.rows(statement).await?;
            for row in &rows {
                let channel = row.read("channel")?;
                after = Some(channel);
                found.extend(readable(channel, read_appointment(row).map(Some))?);
            }
            let is_last = rows.len() < wanted as usize;
            wanted = left_of(limit, &found);
            if is_last || wanted == 0 {
                return Ok(found);
            }
        }
    }

    /// What every tower has signed of one channel, also when it is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn appointments_of(&self, channel: ChannelId) -> Result<Vec<AppointmentRecord>, LedgerError> {
        let statement = sql(select_appointments!("WHERE channel = $1 ORDER BY tower")).put(channel);
        let rows = self
            .reader("list a channel's appointments")
            .await?
            .rows(statement)
            .await?;
        rows.iter().map(read_appointment).collect()
    }

    /// What `payee` would lose in `token` if its executors stayed away while every payer left, and what of it towers
    /// have promised to claim. A tower that was not heard for longer than [`TOWER_SILENCE`](crate::TOWER_SILENCE) may not
    /// be there any more, so its word counts for nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn value_at_risk(
        &self,
        payee: Address,
        token: Address,
        now: UnixSeconds,
    ) -> Result<ValueAtRisk, LedgerError> {
        let statement = sql(
            "SELECT c.id, c.latest_settled, a.billed, a.authorized, p.claim, p.minimum_value
             FROM channels c JOIN accounts a ON a.channel = c.id
                 LEFT JOIN appointments p ON p.channel = c.id AND p.lost_at IS NULL AND p.expires_at > $3
                     AND p.tower IN (SELECT address FROM towers WHERE heard_at >= $4)
             WHERE c.payee = $1 AND c.token = $2 AND a.side = 'serving' AND NOT c.latest_finalized
               AND c.latest_settled < a.billed AND c.latest_settled < a.authorized",
        )
        .put(payee)
        .put(token)
        .put(now)
        .put(now.minus(TOWER_SILENCE));
        let rows = self.snapshot("sum up what is at risk").await?.rows(statement).await?;
        // What each channel could bring, and the most that a tower has promised of it.
        let mut channels: BTreeMap<ChannelId, (TokenAmount, TokenAmount)> = BTreeMap::new();
        for row in &rows {
            let settled: TokenAmount = row.read("latest_settled")?;
            let amount = row.read::<TokenAmount>("billed")?.min(row.read("authorized")?);
            let value = amount.saturating_sub(settled);
            let entry = channels.entry(row.read("id")?).or_insert((value, TokenAmount::ZERO));
            let (Some(claim), Some(minimum)) = (
                row.read_optional::<TokenAmount>("claim")?,
                row.read_optional::<TokenAmount>("minimum_value")?,
            ) else {
                continue;
            };
            let promised = claim.min(amount).saturating_sub(settled);
            if promised >= minimum {
                entry.1 = entry.1.max(promised);
            }
        }
        let mut risk = ValueAtRisk::default();
        for (value, promised) in channels.into_values() {
            risk.channels += 1;
            risk.uncovered_channels += u64::from(promised < value);
            risk.claimable = risk.claimable.saturating_add(value);
            risk.covered = risk.covered.saturating_add(promised);
        }
        Ok(risk)
    }
}

/// How many more than `found` make a page of `limit`.
fn left_of<T>(limit: u32, found: &[T]) -> u32 {
    limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit))
}

/// What is to be handed to a tower.
struct Lacking {
    tower: Address,
    payee: Address,
    renew_before: UnixSeconds,
}

impl Lacking {
    fn page(&self, after: Option<ChannelId>, limit: u32) -> Statement {
        self.select(after, None, None, limit)
    }

    /// Channels after `after`, or `only` that one, each with its best voucher, or the best `below` an amount.
    fn select(
        &self,
        after: Option<ChannelId>,
        only: Option<ChannelId>,
        below: Option<TokenAmount>,
        limit: u32,
    ) -> Statement {
        sql(concat!(
            "SELECT ",
            channel_columns!(),
            ", a.billed, v.amount AS ceiling, v.signature
             FROM channels c JOIN accounts a ON a.channel = c.id JOIN vouchers v ON v.account = a.id
                 LEFT JOIN appointments p ON p.channel = c.id AND p.tower = $1
             WHERE c.payee = $2 AND a.side = 'serving' AND NOT c.latest_finalized
               AND v.amount = (SELECT w.amount FROM vouchers w
                               WHERE w.account = a.id AND w.unusable IS NULL AND ($6 IS NULL OR w.amount < $6)
                               ORDER BY w.amount DESC LIMIT 1)
               AND c.latest_settled < a.billed AND c.latest_settled < v.amount AND c.latest_settled < c.confirmed_deposit
               AND (p.claim IS NULL OR p.lost_at IS NOT NULL OR p.expires_at < $3
                    OR (p.claim < a.billed AND p.claim < v.amount AND p.claim < c.confirmed_deposit))
               AND ($4 IS NULL OR c.id > $4) AND ($5 IS NULL OR c.id = $5)
             ORDER BY c.id LIMIT $7"
        ))
        .put(self.tower)
        .put(self.payee)
        .put(self.renew_before)
        .put_optional(after)
        .put_optional(only)
        .put_optional(below)
        .put(i64::from(limit))
    }

    /// What to hand over of a channel instead of the voucher in `row`, which can't be read.
    async fn next_best(
        &self,
        session: &mut Session,
        channel: ChannelId,
        row: &Row,
    ) -> Result<Option<Undelegated>, LedgerError> {
        let mut below: TokenAmount = row.read("ceiling")?;
        loop {
            let statement = self.select(None, Some(channel), Some(below), 1);
            let Some(row) = session.row(statement).await? else {
                return Ok(None);
            };
            let found = readable(channel, read_undelegated(&row).map(Some))?;
            if found.is_some() {
                return Ok(found);
            }
            below = row.read("ceiling")?;
        }
    }
}

fn read_undelegated(row: &Row) -> Result<Undelegated, LedgerError> {
    let channel = read_channel(row)?;
    let voucher = Voucher {
        channel: channel.id,
        amount: row.read("ceiling")?,
    };
    let billed: TokenAmount = row.read("billed")?;
    let deposit = channel.confirmed.map_or(TokenAmount::ZERO, |state| state.deposit);
    Ok(Undelegated {
        delegation: Delegation {
            claim: billed.min(voucher.amount).min(deposit),
            voucher: Signed::recall(voucher, row.read("signature")?),
        },
        channel,
    })
}

/// Appointments in the order of their towers and channels, after `after`.
pub(crate) async fn page_of_appointments(
    session: &mut Session,
    after: Option<(Address, ChannelId)>,
    limit: u32,
) -> Result<Vec<Signed<TowerAppointment, Verified>>, LedgerError> {
    let statement = sql(select_appointments!(
        "WHERE $1 IS NULL OR tower > $1 OR (tower = $1 AND channel > $2) ORDER BY tower, channel LIMIT $3"
    ));
    let (tower, channel) = after.unzip();
    let statement = statement
        .put_optional(tower)
        .put_optional(channel)
        .put(i64::from(limit));
    let rows = session.rows(statement).await?;
    rows.iter().map(|row| Ok(read_appointment(row)?.appointment)).collect()
}

fn read_appointment(row: &Row) -> Result<AppointmentRecord, LedgerError> {
    let appointment = TowerAppointment {
        channel: row.read("channel")?,
        tower: row.read("tower")?,
        operator: row.read("operator")?,
        ceiling: row.read("ceiling")?,
        claim: row.read("claim")?,
        minimum_value: row.read("minimum_value")?,
        max_fee_per_gas: row.read("max_fee_per_gas")?,
        taken_at: row.read("taken_at")?,
        expires_at: row.read("expires_at")?,
    };
    Ok(AppointmentRecord {
        appointment: Signed::recall(appointment, row.read("signature")?),
        lost_at: row.read_optional("lost_at")?,
    })
}

struct RecordAppointments {
    tower: Address,
    appointments: Vec<Signed<TowerAppointment, Verified>>,
    now: UnixSeconds,
}

impl Operation for RecordAppointments {
    const NAME: &'static str = "record appointments";
    type Output = Outcome;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, LedgerError> {
        for signed in &self.appointments {
            let appointment = signed.document();
            session
                .write(
                    sql(
                        "INSERT INTO appointments (tower, channel, operator, claim, ceiling, minimum_value,
                                                   max_fee_per_gas, taken_at, expires_at, signature)
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                         ON CONFLICT (tower, channel) DO UPDATE SET
                             operator = $3, claim = $4, ceiling = $5, minimum_value = $6, max_fee_per_gas = $7,
                             taken_at = $8, expires_at = $9, signature = $10, lost_at = NULL
                         WHERE appointments.claim < $4 OR (appointments.claim = $4 AND appointments.taken_at <= $8)
                            OR appointments.lost_at IS NOT NULL",
                    )
                    .put(self.tower)
                    .put(appointment.channel)
                    .put(appointment.operator)
                    .put(appointment.claim)
                    .put(appointment.ceiling)
                    .put(appointment.minimum_value)
                    .put(appointment.max_fee_per_gas)
                    .put(appointment.taken_at)
                    .put(appointment.expires_at)
                    .put(*signed.signature()),
                )
                .await?;
            session
                .write(
                    sql("DELETE FROM tower_refusals WHERE tower = $1 AND channel = $2")
                        .put(self.tower)
                        .put(appointment.channel),
                )
                .await?;
        }
        session
            .write(
                sql("INSERT INTO towers (address, heard_at) VALUES ($1, $2)
                     ON CONFLICT (address) DO UPDATE SET heard_at = $2, problem = NULL")
                .put(self.tower)
                .put(self.now),
            )
            .await?;
        Ok(Outcome::Recorded)
    }
}

struct MarkLost {
    tower: Address,
    operator: Address,
    channels: Vec<ChannelId>,
    now: UnixSeconds,
}

impl Operation for MarkLost {
    const NAME: &'static str = "note that appointments are lost";
    type Output = Outcome;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, LedgerError> {
        for channel in &self.channels {
            session
                .write(
                    sql("UPDATE appointments SET lost_at = $4
                         WHERE tower = $1 AND operator = $2 AND channel = $3 AND lost_at IS NULL")
                    .put(self.tower)
                    .put(self.operator)
                    .put(*channel)
                    .put(self.now),
                )
                .await?;
        }
        Ok(Outcome::Recorded)
    }
}

enum Note {
    Problem(String),
    Fault(String, UnixSeconds),
}

struct RecordNote {
    tower: Address,
    note: Note,
}

impl Operation for RecordNote {
    const NAME: &'static str = "note how a tower did";
    type Output = Outcome;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, LedgerError> {
        let statement = match &self.note {
            Note::Problem(problem) => sql("INSERT INTO towers (address, problem) VALUES ($1, $2)
                 ON CONFLICT (address) DO UPDATE SET problem = $2")
            .put(self.tower)
            .put(problem.clone()),
            Note::Fault(fault, at) => sql("INSERT INTO towers (address, fault, fault_at) VALUES ($1, $2, $3)
                 ON CONFLICT (address) DO UPDATE SET fault = $2, fault_at = $3")
            .put(self.tower)
            .put(fault.clone())
            .put(*at),
        };
        session.write(statement).await?;
        Ok(Outcome::Recorded)
    }
}
