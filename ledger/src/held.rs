//! A tower's side: what it holds for executors.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Signature, Signed, TokenAmount, UnixSeconds, Voucher};

use crate::{
    Claimable, HELD_VOUCHER_BYTES, Held, HeldClaim, HeldTerms, HeldTotals, Ledger, LedgerError, Outcome, SettleError,
    channel::{channel_columns, read_channel},
    claim::readable,
    column::{Put as _, Read as _, Row, sql},
    session::Session,
    writer::Operation,
};

/// Channels with their held vouchers that are usable within the newest deposit, the best first.
macro_rules! select_held {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            channel_columns!(),
            ", h.claim, h.ceiling, h.signature, h.minimum_value, h.max_fee_per_gas
             FROM channels c JOIN held_vouchers h ON h.channel = c.id
             WHERE h.unusable IS NULL AND h.claim <= c.latest_deposit AND ",
            $condition,
            " ORDER BY c.id, h.claim DESC"
        )
    };
}

const SELECT_CLOSING: &str = select_held!("c.latest_close_requested_at IS NOT NULL AND NOT c.latest_finalized");

impl Ledger {
    /// The held channels whose payers have asked for their close, as the newest block says: what has to be defended, by the
    /// best that can be read of each.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_closing(&self) -> Result<Vec<Held>, LedgerError> {
        let mut session = self.snapshot("list what has to be defended").await?;
        best_of_each(&session.rows(sql(SELECT_CLOSING)).await?)
    }

    /// What is held of one channel, also when it is over: the best that can be read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_channel(&self, channel: ChannelId) -> Result<Option<Held>, LedgerError> {
        let statement = sql(select_held!("c.id = $1")).put(channel);
        let rows = self.snapshot("read what is held").await?.rows(statement).await?;
        Ok(best_of_each(&rows)?.pop())
    }

    /// The vouchers of what has to be defended that lie in the store as no signature can be, though they were checked when
    /// they were taken on: the disk has changed them. By their channels and what is to be settled with them;
    /// [`held_closing`](Self::held_closing) passes over them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unreadable_held(&self) -> Result<Vec<(ChannelId, TokenAmount)>, LedgerError> {
        let mut session = self.snapshot("look for damaged vouchers").await?;
        let rows = session.rows(sql(SELECT_CLOSING)).await?;
        let damaged = rows.iter().filter(|row| row.read::<Signature>("signature").is_err());
        damaged.map(|row| Ok((row.read("id")?, row.read("claim")?))).collect()
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
        rows.iter().map(read_held_claim).collect()
    }

    /// What is held, and for which operator, in the order of the channels' ids, after `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held(&self, after: Option<ChannelId>, limit: u32) -> Result<Vec<(Address, HeldClaim)>, LedgerError> {
        let statement = sql(
            "SELECT h.operator, h.channel, h.claim, h.expires_at FROM held_vouchers h
             WHERE ($1 IS NULL OR h.channel > $1)
               AND h.claim = (SELECT b.claim FROM held_vouchers b
                              WHERE b.channel = h.channel AND b.unusable IS NULL ORDER BY b.claim DESC LIMIT 1)
             ORDER BY h.channel LIMIT $2",
        )
        .put_optional(after)
        .put(i64::from(limit));
        let rows = self.reader("list all that is held").await?.rows(statement).await?;
        rows.iter()
            .map(|row| Ok((row.read("operator")?, read_held_claim(row)?)))
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

    /// Lets go of what is held to settle `claim`, and nothing else: the disk has changed it. It may be signed by the voucher
    /// of another claim too, whose copy is sound, and whoever has it still may hand it over again.
    ///
    /// # Errors
    /// [`SettleError::UnknownAuthorization`].
    pub async fn let_damaged_held_go(&self, channel: ChannelId, claim: TokenAmount) -> Result<Outcome, SettleError> {
        self.submit(LetDamagedHeldGo { channel, claim }).await
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

pub(crate) fn read_terms(row: &Row) -> Result<HeldTerms, LedgerError> {
    Ok(HeldTerms {
        minimum_value: row.read("minimum_value")?,
        max_fee_per_gas: row.read("max_fee_per_gas")?,
    })
}

/// The first of each channel that can be read. What can't keeps nobody from the others.
fn best_of_each(rows: &[Row]) -> Result<Vec<Held>, LedgerError> {
    let mut best: Vec<Held> = Vec::new();
    for row in rows {
        let channel = row.read("id")?;
        if best.last().is_none_or(|held| held.claimable.channel.id != channel) {
            best.extend(readable(channel, read_held(row).map(Some))?);
        }
    }
    Ok(best)
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

fn read_held_claim(row: &Row) -> Result<HeldClaim, LedgerError> {
    Ok(HeldClaim {
        channel: row.read("channel")?,
        claim: row.read("claim")?,
        expires_at: row.read("expires_at")?,
    })
}

pub(crate) async fn find_totals(session: &mut Session) -> Result<HeldTotals, LedgerError> {
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

struct LetDamagedHeldGo {
    channel: ChannelId,
    claim: TokenAmount,
}

impl Operation for LetDamagedHeldGo {
    const NAME: &'static str = "let a damaged voucher go";
    type Output = Outcome;
    type Error = SettleError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, SettleError> {
        let known = sql("SELECT 1 FROM held_vouchers WHERE channel = $1 AND claim = $2");
        if session.row(known.put(self.channel).put(self.claim)).await?.is_none() {
            return Err(SettleError::UnknownAuthorization);
        }
        let gone = sql("DELETE FROM held_vouchers WHERE channel = $1 AND claim = $2");
        session.write(gone.put(self.channel).put(self.claim)).await?;
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
                     WHERE c.confirmed_finalized OR h.claim <= c.confirmed_settled
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
