//! Setting aside what is delivered, and taking in what pays for it.

use lloom_receipts::{BillError, ChannelId, RequestHash, Signed, TokenAmount, Verified, Voucher};

use crate::{
    ChannelRecord, ExposurePolicy, Ledger, LedgerError, Outcome, Progress, ServeError,
    account::{Side, Standing, account_of, find_standing, minus, plus},
    column::{Put as _, Read as _, sql},
    document::{StoredRequest, find_request, insert_voucher},
    session::Session,
    transaction::PendingCloses,
    writer::Operation,
};

impl Ledger {
    /// Sets aside what the request costs up to a point, **before** it is delivered up to there. `total` is the cost of
    /// this request alone; a total at or below what is set aside already changes nothing.
    ///
    /// # Errors
    /// [`ServeError::Uncovered`] names the voucher that would cover it; the stream waits for it. Also refused once the
    /// channel is closing, or the request billed or waived.
    pub async fn reserve(
        &self,
        request: RequestHash,
        total: TokenAmount,
        exposure: ExposurePolicy,
    ) -> Result<(), ServeError> {
        self.submit(Reserve {
            request,
            total,
            exposure,
        })
        .await
    }

    /// Records what the client says it has received, and its voucher. Less than was recorded before, or a voucher that
    /// adds nothing, is passed over.
    ///
    /// # Errors
    /// [`ServeError`]: an unknown request, more tokens than it allows, a voucher over the deposit or of another channel.
    pub async fn acknowledge(
        &self,
        progress: Progress,
        voucher: Option<Signed<Voucher, Verified>>,
    ) -> Result<Outcome, ServeError> {
        self.submit(Acknowledge { progress, voucher }).await
    }

    /// Records a voucher, in the place of lesser ones: only the best few of a channel are kept. One that is kept is
    /// [`Outcome::AlreadyKnown`] again.
    ///
    /// # Errors
    /// [`ServeError::VoucherNotIncreasing`], [`ServeError::VoucherOverDeposit`], or what is wrong with the channel.
    pub async fn accept_voucher(&self, voucher: Signed<Voucher, Verified>) -> Result<Outcome, ServeError> {
        self.submit(AcceptVoucher { voucher }).await
    }

    /// Gives a request up that will have no bill, and frees what was set aside for it.
    ///
    /// # Errors
    /// [`ServeError::UnknownRequest`], [`ServeError::AlreadyBilled`].
    pub async fn waive(&self, request: RequestHash, reason: String) -> Result<Outcome, ServeError> {
        self.submit(Waive { request, reason }).await
    }
}

struct Reserve {
    request: RequestHash,
    total: TokenAmount,
    exposure: ExposurePolicy,
}

impl Operation for Reserve {
    const NAME: &'static str = "reserve an increment";
    type Output = ();
    type Error = ServeError;

    async fn run(&self, session: &mut Session) -> Result<(), ServeError> {
        let (request, mut standing) = find_served(session, self.request).await?;
        check_unbilled(&request)?;
        check_serving(&standing.channel)?;
        if self.total <= request.reserved {
            return Ok(());
        }
        standing.account.spent = plus(minus(standing.account.spent, request.reserved)?, self.total)?;
        cover(session, &standing, self.exposure).await?;
        session
            .write(
                sql("UPDATE requests SET reserved = $2 WHERE hash = $1;
                     UPDATE accounts SET spent = $4 WHERE channel = $3")
                .put(self.request)
                .put(self.total)
                .put(standing.channel.id)
                .put(standing.account.spent),
            )
            .await?;
        Ok(())
    }
}

struct Acknowledge {
    progress: Progress,
    voucher: Option<Signed<Voucher, Verified>>,
}

impl Operation for Acknowledge {
    const NAME: &'static str = "acknowledge progress";
    type Output = Outcome;
    type Error = ServeError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, ServeError> {
        let (request, mut standing) = find_served(session, self.progress.request).await?;
        let document = request.request.document();
        let usage = self.progress.usage;
        if usage.input > document.max_input || usage.output > document.max_output {
            return Err(BillError::OverLimit { usage }.into());
        }
        let mut outcome = Outcome::AlreadyKnown;
        if let Some(voucher) = &self.voucher
            && matches!(admit(session, &mut standing, voucher).await?, Admission::New)
        {
            standing.store(session, Side::Serving).await?;
            insert_voucher(session, voucher).await?;
            outcome = Outcome::Recorded;
        }
        let further = request.received.is_none_or(|before| {
            (usage.input, usage.output) != (before.usage.input, before.usage.output)
                && usage.input >= before.usage.input
                && usage.output >= before.usage.output
        });
        if further && request.billed.is_none() && request.dropped.is_none() {
            session
                .write(
                    sql(
                        "UPDATE requests SET received_input = $2, received_output = $3, received_hash = $4
                         WHERE hash = $1",
                    )
                    .put(self.progress.request)
                    .put(usage.input)
                    .put(usage.output)
                    .put(self.progress.response_hash),
                )
                .await?;
            outcome = Outcome::Recorded;
        }
        Ok(outcome)
    }
}

struct AcceptVoucher {
    voucher: Signed<Voucher, Verified>,
}

impl Operation for AcceptVoucher {
    const NAME: &'static str = "accept a voucher";
    type Output = Outcome;
    type Error = ServeError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, ServeError> {
        let mut standing = find_standing(session, self.voucher.document().channel)
            .await?
            .ok_or(ServeError::UnknownChannel)?;
        standing.check_side(Side::Serving)?;
        match admit(session, &mut standing, &self.voucher).await? {
            Admission::Known => return Ok(Outcome::AlreadyKnown),
            Admission::Stale { best } => return Err(ServeError::VoucherNotIncreasing { best }),
            Admission::New => {}
        }
        // A channel that is closing can still be claimed on; one that is over can't.
        if let Err(error @ ServeError::ChannelFinalized) = check_serving(&standing.channel) {
            return Err(error);
        }
        standing.store(session, Side::Serving).await?;
        insert_voucher(session, &self.voucher).await?;
        Ok(Outcome::Recorded)
    }
}

struct Waive {
    request: RequestHash,
    reason: String,
}

impl Operation for Waive {
    const NAME: &'static str = "waive a request";
    type Output = Outcome;
    type Error = ServeError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, ServeError> {
        let (request, standing) = find_served(session, self.request).await?;
        if request.billed.is_some() {
            return Err(ServeError::AlreadyBilled);
        }
        if request.dropped.is_some() {
            return Ok(Outcome::AlreadyKnown);
        }
        session
            .write(
                sql("UPDATE requests SET dropped = $2, reserved = $5 WHERE hash = $1;
                     DELETE FROM open_requests WHERE request = $1;
                     UPDATE accounts SET spent = $4 WHERE channel = $3")
                .put(self.request)
                .put(self.reason.clone())
                .put(standing.channel.id)
                .put(minus(standing.account.spent, request.reserved)?)
                .put(TokenAmount::ZERO),
            )
            .await?;
        Ok(Outcome::Recorded)
    }
}

/// What a voucher is to a channel.
pub(crate) enum Admission {
    /// Above all that are held: to be stored, and it authorizes its amount.
    New,
    /// Held.
    Known,
    /// It adds nothing to the best one that is held.
    Stale { best: TokenAmount },
}

/// The channel's vouchers, as far as a new one is judged by them.
#[derive(Default)]
pub(crate) struct HeldVouchers {
    /// Whether one over the very amount is held, and usable.
    pub(crate) known: Option<bool>,
    /// The best usable one.
    pub(crate) best: Option<TokenAmount>,
}

/// Judges a voucher, and raises what is authorized when it is new. Reads only.
pub(crate) async fn admit(
    session: &mut Session,
    standing: &mut Standing,
    voucher: &Signed<Voucher, Verified>,
) -> Result<Admission, ServeError> {
    let statement = sql(concat!(
        "SELECT
             (SELECT unusable IS NULL FROM vouchers WHERE account = ",
        account_of!("$1"),
        " AND amount = $2) AS known,
             (SELECT amount FROM vouchers WHERE account = ",
        account_of!("$1"),
        " AND unusable IS NULL ORDER BY amount DESC LIMIT 1) AS best"
    ))
    .put(standing.channel.id)
    .put(voucher.document().amount);
    let held = match session.row(statement).await? {
        Some(row) => HeldVouchers {
            known: row.read_optional("known")?,
            best: row.read_optional("best")?,
        },
        None => HeldVouchers::default(),
    };
    let deposit = standing.channel.confirmed.map(|state| state.deposit);
    let admission = judge(standing.channel.id, deposit, voucher, held)?;
    if matches!(admission, Admission::New) {
        let closes = PendingCloses::read(session).await?;
        closes.check(standing.channel.id, voucher.document().amount)?;
        standing.account.authorized = standing.account.authorized.max(voucher.document().amount);
    }
    Ok(admission)
}

/// Judges a voucher for `of`, which has this much deposited and confirmed, by what is held of its vouchers.
pub(crate) fn judge(
    of: ChannelId,
    deposit: Option<TokenAmount>,
    voucher: &Signed<Voucher, Verified>,
    held: HeldVouchers,
) -> Result<Admission, ServeError> {
    let Voucher { channel, amount } = *voucher.document();
    if channel != of {
        return Err(ServeError::OtherChannel { channel });
    }
    let deposit = deposit.ok_or(ServeError::Unconfirmed)?;
    if amount > deposit {
        return Err(ServeError::VoucherOverDeposit { deposit });
    }
    let best = held.best.unwrap_or(TokenAmount::ZERO);
    match held.known {
        Some(true) => Ok(Admission::Known),
        Some(false) => Ok(Admission::Stale { best }),
        None if amount <= best => Ok(Admission::Stale { best }),
        None => Ok(Admission::New),
    }
}

/// Whether what `standing` says is spent is covered: by the channel's authorizations, or, within the payer's limit over
/// all its channels, by trust. Never beyond the deposit, which nothing could ever claim.
pub(crate) async fn cover(
    session: &mut Session,
    standing: &Standing,
    exposure: ExposurePolicy,
) -> Result<(), ServeError> {
    let (spent, authorized) = (standing.account.spent, standing.account.authorized);
    if spent <= authorized {
        return Ok(());
    }
    let deposit = standing.deposit();
    let parameters = &standing.channel.parameters;
    let elsewhere = session
        .rows(
            sql(
                "SELECT a.spent, a.authorized FROM channels c JOIN accounts a ON a.channel = c.id
                 WHERE c.payer = $1 AND c.token = $2 AND c.id <> $3
                   AND a.side = 'serving' AND a.spent > a.authorized",
            )
            .put(parameters.payer)
            .put(parameters.token)
            .put(standing.channel.id),
        )
        .await?;
    let mut exposed = TokenAmount::ZERO;
    for row in &elsewhere {
        let (spent, authorized): (TokenAmount, TokenAmount) = (row.read("spent")?, row.read("authorized")?);
        exposed = exposed.saturating_add(spent.saturating_sub(authorized));
    }
    let volume = settled_volume(session, parameters.payer, parameters.token).await?;
    let free = exposure.limit(volume).saturating_sub(exposed);
    if spent > deposit {
        return Err(ServeError::Uncovered {
            required: spent,
            authorized,
            deposit,
        });
    }
    if spent.saturating_sub(authorized) > free {
        return Err(ServeError::Uncovered {
            required: spent.saturating_sub(free),
            authorized,
            deposit,
        });
    }
    Ok(())
}

/// What the payer's channels served here have paid, confirmed. Channels with others don't count: a payer could settle
/// any volume with itself.
pub(crate) async fn settled_volume(
    session: &mut Session,
    payer: alloy::primitives::Address,
    token: alloy::primitives::Address,
) -> Result<TokenAmount, LedgerError> {
    let rows = session
        .rows(
            sql(
                "SELECT c.confirmed_settled FROM channels c JOIN accounts a ON a.channel = c.id
                 WHERE c.payer = $1 AND c.token = $2 AND a.side = 'serving' AND c.confirmed_settled IS NOT NULL",
            )
            .put(payer)
            .put(token),
        )
        .await?;
    rows.iter().try_fold(TokenAmount::ZERO, |volume, row| {
        Ok(volume.saturating_add(row.read("confirmed_settled")?))
    })
}

/// Whether anything may be delivered on the channel: it is open and confirmed to be, and not closing even at the newest block.
pub(crate) fn check_serving(channel: &ChannelRecord) -> Result<(), ServeError> {
    let states = [channel.confirmed, channel.latest];
    if states.iter().flatten().any(|state| state.finalized) {
        return Err(ServeError::ChannelFinalized);
    }
    if channel.latest.is_some_and(|state| state.close_requested_at.is_some()) {
        return Err(ServeError::ChannelClosing);
    }
    match channel.confirmed {
        // That a close was called off has to be as certain as a deposit: a fork may have the withdrawal in its place.
        Some(confirmed) if confirmed.close_requested_at.is_none() => Ok(()),
        _ => Err(ServeError::Unconfirmed),
    }
}

pub(crate) fn check_unbilled(request: &StoredRequest) -> Result<(), ServeError> {
    if request.billed.is_some() {
        return Err(ServeError::AlreadyBilled);
    }
    match &request.dropped {
        Some(reason) => Err(ServeError::Waived { reason: reason.clone() }),
        None => Ok(()),
    }
}

/// A request that was accepted here, and its channel.
pub(crate) async fn find_served(
    session: &mut Session,
    request: RequestHash,
) -> Result<(StoredRequest, Standing), ServeError> {
    let request = find_request(session, request)
        .await?
        .ok_or(ServeError::UnknownRequest)?;
    let standing = standing_of(session, request.channel()).await?;
    standing.check_side(Side::Serving)?;
    Ok((request, standing))
}

async fn standing_of(session: &mut Session, channel: ChannelId) -> Result<Standing, LedgerError> {
    find_standing(session, channel).await?.ok_or(LedgerError::Inconsistent {
        what: "a request's channel is missing",
    })
}
