//! A tower's side: what it holds for executors.

use std::collections::{HashMap, HashSet};

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Signature, Signed, TokenAmount, TowerAppointment, UnixSeconds, Voucher};

use crate::{
    ChannelRecord, Claimable, CommittedAppointment, Delegation, DelegationRefusal, HELD_VOUCHER_BYTES,
    HELD_VOUCHERS_PER_CHANNEL, Held, HeldClaim, HeldTerms, HeldTotals, Ledger, LedgerError, Outcome, SettleError,
    TakeOn,
    channel::{channel_columns, find_channel, find_operators, read_channel},
    column::{Put as _, Read as _, Row, sql},
    obligation::remember_close,
    session::Session,
    writer::Operation,
};

/// Channels with the best of their held vouchers that is usable within the newest deposit.
macro_rules! select_held {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            channel_columns!(),
            ", h.claim, h.ceiling, h.signature, h.minimum_value, h.max_fee_per_gas
             FROM channels c JOIN held_vouchers h ON h.channel = c.id
             WHERE h.claim = (SELECT b.claim FROM held_vouchers b
                              WHERE b.channel = c.id AND b.unusable IS NULL AND b.claim <= c.latest_deposit
                              ORDER BY b.claim DESC LIMIT 1) AND ",
            $condition
        )
    };
}

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

    /// The held channels whose payers have asked for their close, as the newest block says: what has to be defended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_closing(&self) -> Result<Vec<Held>, LedgerError> {
        let statement = sql(select_held!(
            "c.latest_close_requested_at IS NOT NULL AND c.latest_finalized = 0 ORDER BY c.id"
        ));
        let rows = self
            .snapshot("list what has to be defended")
            .await?
            .rows(statement)
            .await?;
        rows.iter().map(read_held).collect()
    }

    /// What is held of one channel, also when it is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_channel(&self, channel: ChannelId) -> Result<Option<Held>, LedgerError> {
        let statement = sql(select_held!("c.id = $1")).put(channel);
        let row = self.snapshot("read what is held").await?.row(statement).await?;
        row.as_ref().map(read_held).transpose()
    }

    /// What is held for `operator`, in the order of the channels' ids, after `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_for(
        &self,
        operator: Address,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<HeldClaim>, LedgerError> {
        let statement = sql("SELECT h.channel, h.claim, h.expires_at FROM held_vouchers h
             WHERE h.operator = $1 AND ($2 IS NULL OR h.channel > $2)
               AND h.claim = (SELECT b.claim FROM held_vouchers b
                              WHERE b.channel = h.channel AND b.unusable IS NULL ORDER BY b.claim DESC LIMIT 1)
             ORDER BY h.channel LIMIT $3")
        .put(operator)
        .put_optional(after)
        .put(i64::from(limit));
        let rows = self.reader("list what is held").await?.rows(statement).await?;
        rows.iter()
            .map(|row| {
                Ok(HeldClaim {
                    channel: row.read("channel")?,
                    claim: row.read("claim")?,
                    expires_at: row.read("expires_at")?,
                })
            })
            .collect()
    }

    /// How many channels are held for `operator`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_channels_of(&self, operator: Address) -> Result<u64, LedgerError> {
        let statement =
            sql("SELECT count(DISTINCT channel) AS count FROM held_vouchers WHERE operator = $1").put(operator);
        let row = self.reader("count what is held").await?.row(statement).await?;
        let count: i64 = row.map_or(Ok(0), |row| row.read("count"))?;
        Ok(count.unsigned_abs())
    }

    /// All that is held.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_totals(&self) -> Result<HeldTotals, LedgerError> {
        find_totals(&mut self.reader("sum up what is held").await?).await
    }

    /// The most that a standing appointment promises to offer for gas, wei.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn highest_fee_promised(&self) -> Result<Option<u128>, LedgerError> {
        let statement = sql("SELECT max_fee_per_gas FROM held_vouchers ORDER BY max_fee_per_gas DESC LIMIT 1");
        let row = self.reader("read what was promised").await?.row(statement).await?;
        row.map(|row| row.read("max_fee_per_gas")).transpose()
    }

    /// Takes a held voucher out of what is claimed: the chain refuses it. The next best counts.
    ///
    /// # Errors
    /// [`SettleError::UnknownAuthorization`].
    pub async fn set_held_unusable(
        &self,
        channel: ChannelId,
        ceiling: TokenAmount,
        reason: String,
    ) -> Result<Outcome, SettleError> {
        let operation = SetHeldUnusable {
            channel,
            ceiling,
            reason,
        };
        self.submit(operation).await
    }

    /// Lets go of what is of no use any more: of channels that are over, of amounts that are settled (both confirmed),
    /// and of appointments that have expired without a close request. Returns how many vouchers.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prune_held(&self, now: UnixSeconds) -> Result<u64, LedgerError> {
        self.submit(PruneHeld { now }).await
    }
}

impl Operation for TakeOn {
    const NAME: &'static str = "take delegations on";
    type Output = Vec<Result<CommittedAppointment, DelegationRefusal>>;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Self::Output, LedgerError> {
        let mut room = Room::find(session, self).await?;
        let mut payees = HashMap::new();
        let mut answers = Vec::with_capacity(self.delegations.len());
        for delegation in &self.delegations {
            answers.push(self.consider(session, delegation, &mut room, &mut payees).await?);
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
        if let Err(refusal) = self.judge(delegation, &record) {
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

    fn judge(&self, delegation: &Delegation, record: &ChannelRecord) -> Result<(), DelegationRefusal> {
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

fn read_terms(row: &Row) -> Result<HeldTerms, LedgerError> {
    Ok(HeldTerms {
        minimum_value: row.read("minimum_value")?,
        max_fee_per_gas: row.read("max_fee_per_gas")?,
    })
}

fn read_held(row: &Row) -> Result<Held, LedgerError> {
    let channel = read_channel(row)?;
    let voucher = Voucher {
        channel: channel.id,
        amount: row.read("ceiling")?,
    };
    Ok(Held {
        terms: read_terms(row)?,
        claimable: Claimable {
            billed: row.read("claim")?,
            voucher: Some(Signed::recall(voucher, row.read("signature")?)),
            receipt: None,
            linked: TokenAmount::ZERO,
            channel,
        },
    })
}

/// The best usable voucher within the newest deposit.
async fn find_best(session: &mut Session, record: &ChannelRecord) -> Result<Option<HeldRow>, LedgerError> {
    let deposit = record.latest.map_or(TokenAmount::ZERO, |state| state.deposit);
    let statement = sql(
        "SELECT claim, ceiling, signature, operator, minimum_value, max_fee_per_gas, taken_at, expires_at, unusable
         FROM held_vouchers WHERE channel = $1 AND unusable IS NULL AND claim <= $2 ORDER BY claim DESC LIMIT 1",
    );
    let row = session.row(statement.put(record.id).put(deposit)).await?;
    row.as_ref().map(read_row).transpose()
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
    let row = session.row(statement.put(channel).put(claim)).await?;
    row.as_ref().map(read_row).transpose()
}

async fn count_rows(session: &mut Session, channel: ChannelId) -> Result<i64, LedgerError> {
    let statement = sql("SELECT count(*) AS count FROM held_vouchers WHERE channel = $1").put(channel);
    let row = session.row(statement).await?;
    row.map_or(Ok(0), |row| row.read("count"))
}

async fn find_totals(session: &mut Session) -> Result<HeldTotals, LedgerError> {
    let statement = sql(
        "SELECT count(*) AS vouchers, count(DISTINCT operator) AS operators, count(DISTINCT channel) AS channels
         FROM held_vouchers",
    );
    let Some(row) = session.row(statement).await? else {
        return Ok(HeldTotals::default());
    };
    let count = |column| -> Result<u64, LedgerError> { Ok(row.read::<i64>(column)?.unsigned_abs()) };
    Ok(HeldTotals {
        operators: count("operators")?,
        channels: count("channels")?,
        bytes: count("vouchers")?.saturating_mul(HELD_VOUCHER_BYTES),
    })
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
                     (SELECT min(b.claim) FROM (SELECT claim FROM held_vouchers
                      WHERE channel = $1 AND unusable IS NULL ORDER BY claim DESC LIMIT $2) b)")
            .put(appointment.channel)
            .put(i64::from(HELD_VOUCHERS_PER_CHANNEL)),
        )
        .await?;
    Ok(())
}

/// Whether a voucher of the channel is held for somebody else.
pub(crate) async fn is_held(session: &mut Session, channel: ChannelId) -> Result<bool, LedgerError> {
    let statement = sql("SELECT 1 FROM held_vouchers WHERE channel = $1 LIMIT 1").put(channel);
    Ok(session.row(statement).await?.is_some())
}

struct SetHeldUnusable {
    channel: ChannelId,
    ceiling: TokenAmount,
    reason: String,
}

impl Operation for SetHeldUnusable {
    const NAME: &'static str = "set a held voucher aside";
    type Output = Outcome;
    type Error = SettleError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, SettleError> {
        let statement = sql("SELECT unusable FROM held_vouchers WHERE channel = $1 AND ceiling = $2")
            .put(self.channel)
            .put(self.ceiling);
        let rows = session.rows(statement).await?;
        if rows.is_empty() {
            return Err(SettleError::UnknownAuthorization);
        }
        let mut usable = false;
        for row in &rows {
            usable |= row.read_optional::<String>("unusable")?.is_none();
        }
        if !usable {
            return Ok(Outcome::AlreadyKnown);
        }
        session
            .write(
                sql("UPDATE held_vouchers SET unusable = $3 WHERE channel = $1 AND ceiling = $2")
                    .put(self.channel)
                    .put(self.ceiling)
                    .put(self.reason.clone()),
            )
            .await?;
        Ok(Outcome::Recorded)
    }
}

struct PruneHeld {
    now: UnixSeconds,
}

impl Operation for PruneHeld {
    const NAME: &'static str = "let go of what is settled";
    type Output = u64;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<u64, LedgerError> {
        // Looked for first: an operation that writes nothing costs no commit.
        let rows = session
            .rows(
                sql(
                    "SELECT h.channel, h.claim FROM held_vouchers h JOIN channels c ON c.id = h.channel
                     WHERE c.confirmed_finalized = 1 OR h.claim <= c.confirmed_settled
                        OR (h.expires_at < $1 AND c.latest_close_requested_at IS NULL)",
                )
                .put(self.now),
            )
            .await?;
        for row in &rows {
            session
                .write(
                    sql("DELETE FROM held_vouchers WHERE channel = $1 AND claim = $2")
                        .put(row.read::<ChannelId>("channel")?)
                        .put(row.read::<TokenAmount>("claim")?),
                )
                .await?;
        }
        Ok(rows.len() as u64)
    }
}
