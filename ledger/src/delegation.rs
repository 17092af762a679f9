//! A tower takes delegations on.

use std::collections::{HashMap, HashSet};

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Signature, Signed, TokenAmount, TowerAppointment, UnixSeconds, Voucher};

use crate::{
    CLAIM_TAKES, ChannelRecord, CommittedAppointment, Delegation, DelegationRefusal, HELD_VOUCHER_BYTES,
    HELD_VOUCHERS_PER_CHANNEL, HeldTerms, HeldTotals, Ledger, LedgerError, Outcome, TakeOn,
    channel::{find_channel, find_operators},
    claim::readable,
    column::{Put as _, Read as _, Row, sql},
    follow::newest_block,
    held::{find_totals, read_terms},
    obligation::remember_close,
    session::Session,
    writer::Operation,
};

impl Ledger {
    /// Takes delegations on, each by itself: what is acceptable is in the store when this returns, and may be signed.
    /// One that is no better than what is held is passed over, and answered with what is held. An appointment whose
    /// term is half over is renewed.
    ///
    /// The caller has checked what can be told without the store: who brings it, and that the vouchers' signers are the
    /// payer sides of their channels.
    ///
    /// # Errors
    /// When the store fails; then nothing was taken on.
    pub async fn take_on(
        &self,
        take_on: TakeOn,
    ) -> Result<Vec<Result<CommittedAppointment, DelegationRefusal>>, LedgerError> {
        self.submit(take_on).await
    }
}

impl Operation for TakeOn {
    const NAME: &'static str = "take delegations on";
    type Output = Vec<Result<CommittedAppointment, DelegationRefusal>>;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Self::Output, LedgerError> {
        let mut room = Room::find(session, self).await?;
        // A deadline passes by the chain's time, which a clock that is slow is behind.
        let head = newest_block(session).await?;
        let now = head.map_or(self.now, |block| self.now.max(block.timestamp));
        let mut payees = HashMap::new();
        let mut answers = Vec::with_capacity(self.delegations.len());
        for delegation in &self.delegations {
            answers.push(self.consider(session, delegation, now, &mut room, &mut payees).await?);
        }
        Ok(answers)
    }
}

type Answer = Result<Result<CommittedAppointment, DelegationRefusal>, LedgerError>;

impl TakeOn {
    async fn consider(
        &self,
        session: &mut Session,
        delegation: &Delegation,
        now: UnixSeconds,
        room: &mut Room,
        payees: &mut HashMap<Address, bool>,
    ) -> Answer {
        let channel = delegation.voucher.document().channel;
        let Some(record) = find_channel(session, channel).await? else {
            return Ok(Err(DelegationRefusal::UnknownChannel));
        };
        if !self.speaks_for(session, record.parameters.payee, payees).await? {
            return Ok(Err(DelegationRefusal::NotOperator {
                payee: record.parameters.payee,
                operator: self.operator,
            }));
        }
        if let Err(refusal) = self.judge(delegation, &record, now) {
            return Ok(Err(refusal));
        }
        let held = find_best(session, &record).await?;
        if let Some(held) = &held
            && held.claim >= delegation.claim
        {
            return self.renew(session, channel, held).await.map(Ok);
        }
        if let Some(known) = find_row(session, channel, delegation.claim).await?
            && known.unusable
            && known.ceiling == delegation.voucher.document().amount
        {
            return Ok(Err(DelegationRefusal::Unusable));
        }
        if let Err(refusal) = room.make(session, self, channel).await? {
            return Ok(Err(refusal));
        }
        let appointment = TowerAppointment {
            channel,
            tower: self.tower,
            operator: self.operator,
            ceiling: delegation.voucher.document().amount,
            claim: delegation.claim,
            minimum_value: self.terms.minimum_value,
            max_fee_per_gas: self.terms.max_fee_per_gas,
            taken_at: self.now,
            expires_at: self.now.plus(self.terms.term),
        };
        insert(session, &appointment, delegation).await?;
        if record.latest.is_some_and(|state| state.close_requested_at.is_some()) {
            remember_close(session, channel, self.grace).await?;
        }
        Ok(Ok(CommittedAppointment {
            appointment,
            voucher: delegation.voucher.clone(),
            outcome: Outcome::Recorded,
        }))
    }

    async fn speaks_for(
        &self,
        session: &mut Session,
        payee: Address,
        payees: &mut HashMap<Address, bool>,
    ) -> Result<bool, LedgerError> {
        if payee == self.operator {
            return Ok(true);
        }
        if let Some(known) = payees.get(&payee) {
            return Ok(*known);
        }
        let operators = find_operators(session, payee).await?;
        let named = operators.contains(&(self.operator, true));
        payees.insert(payee, named);
        Ok(named)
    }

    fn judge(
        &self,
        delegation: &Delegation,
        record: &ChannelRecord,
        now: UnixSeconds,
    ) -> Result<(), DelegationRefusal> {
        if record.parameters.token != self.terms.token {
            return Err(DelegationRefusal::OtherToken {
                token: self.terms.token,
            });
        }
        let claim = delegation.claim;
        let ceiling = delegation.voucher.document().amount;
        let (Some(confirmed), Some(latest)) = (record.confirmed, record.latest) else {
            return Err(DelegationRefusal::NotConfirmed);
        };
        if latest.finalized {
            return Err(DelegationRefusal::Finalized);
        }
        if claim > ceiling {
            return Err(DelegationRefusal::AboveCeiling { ceiling });
        }
        if claim > confirmed.deposit {
            return Err(DelegationRefusal::AboveDeposit {
                deposit: confirmed.deposit,
            });
        }
        if claim <= latest.settled {
            return Err(DelegationRefusal::Settled {
                settled: latest.settled,
            });
        }
        let value = claim.saturating_sub(latest.settled);
        if value < self.terms.minimum_value {
            return Err(DelegationRefusal::BelowMinimum {
                minimum: self.terms.minimum_value,
                value,
            });
        }
        // Within the tower's margin it claims at once. What can't be mined in time would only be proof against it.
        let deadline = latest.close_requested_at.map(|requested| requested.plus(self.grace));
        if let Some(deadline) = deadline
            && deadline.since(now) < CLAIM_TAKES
        {
            return Err(DelegationRefusal::TooLate { deadline });
        }
        Ok(())
    }

    /// Answers with what is held: for longer where half of its term is over, and at today's terms where they are better.
    /// Nothing promised is taken back.
    async fn renew(
        &self,
        session: &mut Session,
        channel: ChannelId,
        held: &HeldRow,
    ) -> Result<CommittedAppointment, LedgerError> {
        let mut appointment = TowerAppointment {
            channel,
            tower: self.tower,
            operator: held.operator,
            ceiling: held.ceiling,
            claim: held.claim,
            minimum_value: held.terms.minimum_value,
            max_fee_per_gas: held.terms.max_fee_per_gas,
            taken_at: held.taken_at,
            expires_at: held.expires_at,
        };
        let voucher = Voucher {
            channel,
            amount: held.ceiling,
        };
        let voucher = Signed::recall(voucher, held.signature);
        let is_theirs = held.operator == self.operator;
        let as_good = held.terms.minimum_value <= self.terms.minimum_value
            && held.terms.max_fee_per_gas >= self.terms.max_fee_per_gas;
        if is_theirs && as_good && held.expires_at >= self.now.plus(self.terms.term / 2) {
            return Ok(CommittedAppointment {
                appointment,
                voucher,
                outcome: Outcome::AlreadyKnown,
            });
        }
        appointment.operator = self.operator;
        appointment.minimum_value = held.terms.minimum_value.min(self.terms.minimum_value);
        appointment.max_fee_per_gas = held.terms.max_fee_per_gas.max(self.terms.max_fee_per_gas);
        appointment.taken_at = self.now;
        appointment.expires_at = held.expires_at.max(self.now.plus(self.terms.term));
        session
            .write(
                sql(
                    "UPDATE held_vouchers SET operator = $3, minimum_value = $4, max_fee_per_gas = $5, taken_at = $6,
                                              expires_at = $7
                     WHERE channel = $1 AND claim = $2",
                )
                .put(channel)
                .put(held.claim)
                .put(appointment.operator)
                .put(appointment.minimum_value)
                .put(appointment.max_fee_per_gas)
                .put(appointment.taken_at)
                .put(appointment.expires_at),
            )
            .await?;
        Ok(CommittedAppointment {
            appointment,
            voucher,
            outcome: Outcome::Recorded,
        })
    }
}

/// What is left of the quotas.
struct Room {
    totals: HeldTotals,
    /// Of the operator who asks.
    channels: HashSet<ChannelId>,
}

impl Room {
    async fn find(session: &mut Session, take_on: &TakeOn) -> Result<Self, LedgerError> {
        let totals = find_totals(session).await?;
        let rows = session
            .rows(sql("SELECT DISTINCT channel FROM held_vouchers WHERE operator = $1").put(take_on.operator))
            .await?;
        Ok(Self {
            totals,
            channels: rows.iter().map(|row| row.read("channel")).collect::<Result<_, _>>()?,
        })
    }

    /// Counts one more voucher of `channel`, if there is room for it.
    async fn make(
        &mut self,
        session: &mut Session,
        take_on: &TakeOn,
        channel: ChannelId,
    ) -> Result<Result<(), DelegationRefusal>, LedgerError> {
        let quotas = take_on.quotas;
        let is_new = !self.channels.contains(&channel);
        if is_new && self.channels.is_empty() && self.totals.operators >= u64::from(quotas.operators) {
            return Ok(Err(DelegationRefusal::TooManyOperators {
                limit: quotas.operators,
            }));
        }
        if is_new && self.channels.len() >= quotas.channels_per_operator as usize {
            return Ok(Err(DelegationRefusal::TooManyChannels {
                limit: quotas.channels_per_operator,
            }));
        }
        // A channel that has all its places keeps as many: the newcomer takes the least one's.
        let grows = is_new || count_rows(session, channel).await? < i64::from(HELD_VOUCHERS_PER_CHANNEL);
        if grows {
            let bytes = self.totals.bytes.saturating_add(HELD_VOUCHER_BYTES);
            if bytes > quotas.bytes {
                return Ok(Err(DelegationRefusal::Full { limit: quotas.bytes }));
            }
            self.totals.bytes = bytes;
        }
        if self.channels.is_empty() {
            self.totals.operators += 1;
        }
        self.channels.insert(channel);
        Ok(Ok(()))
    }
}

/// A held voucher.
struct HeldRow {
    claim: TokenAmount,
    ceiling: TokenAmount,
    signature: Signature,
    operator: Address,
    terms: HeldTerms,
    taken_at: UnixSeconds,
    expires_at: UnixSeconds,
    unusable: bool,
}

fn read_row(row: &Row) -> Result<HeldRow, LedgerError> {
    Ok(HeldRow {
        claim: row.read("claim")?,
        ceiling: row.read("ceiling")?,
        signature: row.read("signature")?,
        operator: row.read("operator")?,
        terms: read_terms(row)?,
        taken_at: row.read("taken_at")?,
        expires_at: row.read("expires_at")?,
        unusable: row.read_optional::<String>("unusable")?.is_some(),
    })
}

/// The best usable voucher within the newest deposit, of those that can be read.
async fn find_best(session: &mut Session, record: &ChannelRecord) -> Result<Option<HeldRow>, LedgerError> {
    let deposit = record.latest.map_or(TokenAmount::ZERO, |state| state.deposit);
    let statement = sql(
        "SELECT claim, ceiling, signature, operator, minimum_value, max_fee_per_gas, taken_at, expires_at, unusable
         FROM held_vouchers WHERE channel = $1 AND unusable IS NULL AND claim <= $2 ORDER BY claim DESC",
    );
    for row in session.rows(statement.put(record.id).put(deposit)).await? {
        let found = readable(record.id, read_row(&row).map(Some))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

async fn find_row(
    session: &mut Session,
    channel: ChannelId,
    claim: TokenAmount,
) -> Result<Option<HeldRow>, LedgerError> {
    let statement = sql(
        "SELECT claim, ceiling, signature, operator, minimum_value, max_fee_per_gas, taken_at, expires_at, unusable
         FROM held_vouchers WHERE channel = $1 AND claim = $2",
    );
    // What can't be read is taken on anew.
    let row = session.row(statement.put(channel).put(claim)).await?;
    readable(channel, row.as_ref().map(read_row).transpose())
}

async fn count_rows(session: &mut Session, channel: ChannelId) -> Result<i64, LedgerError> {
    let statement = sql("SELECT count(*) AS count FROM held_vouchers WHERE channel = $1").put(channel);
    let row = session.row(statement).await?;
    row.map_or(Ok(0), |row| row.read("count"))
}

async fn insert(
    session: &mut Session,
    appointment: &TowerAppointment,
    delegation: &Delegation,
) -> Result<(), LedgerError> {
    session
        .write(
            sql(
                "INSERT INTO held_vouchers (channel, claim, ceiling, signature, operator, minimum_value,
                                            max_fee_per_gas, taken_at, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 ON CONFLICT (channel, claim) DO UPDATE SET
                     ceiling = $3, signature = $4, operator = $5, minimum_value = $6, max_fee_per_gas = $7,
                     taken_at = $8, expires_at = $9, unusable = NULL",
            )
            .put(appointment.channel)
            .put(appointment.claim)
            .put(appointment.ceiling)
            .put(*delegation.voucher.signature())
            .put(appointment.operator)
            .put(appointment.minimum_value)
            .put(appointment.max_fee_per_gas)
            .put(appointment.taken_at)
            .put(appointment.expires_at),
        )
        .await?;
    // Unusable ones are counted neither as the best nor as what it falls back to.
    session
        .write(
            sql("DELETE FROM held_vouchers WHERE channel = $1 AND claim <
                     (SELECT b.claim FROM held_vouchers b WHERE b.channel = $1 AND b.unusable IS NULL
                      ORDER BY b.claim DESC LIMIT 1 OFFSET $2)")
            .put(appointment.channel)
            .put(i64::from(HELD_VOUCHERS_PER_CHANNEL) - 1),
        )
        .await?;
    Ok(())
}
