//! What a client does: everything it signs is recorded here before it is sent.

use lloom_receipts::{ChannelId, InferenceRequest, RequestHash, Signed, TokenAmount, UnixSeconds, Verified, Voucher};

use crate::{
    Account, Budget, BuyError, Ledger, LedgerError, NewChannel, Outcome, OwnRequestRecord,
    account::{Side, Standing, account_of, find_standing, minus, plus},
    budget::{count_signed, replace_cost},
    column::{Put as _, Read as _, sql},
    document::{StoredRequest, find_request, insert_voucher, read_request, request_columns, unlist_unbilled},
    session::Session,
    writer::Operation,
};

impl Ledger {
    /// Records a channel this client is about to open, before the opening transaction is sent: whatever happens then,
    /// its parameters are known, and with them its money.
    ///
    /// # Errors
    /// [`LedgerError::OtherSide`] when this process serves the channel.
    pub async fn record_channel(&self, channel: NewChannel) -> Result<ChannelId, BuyError> {
        let id = channel.parameters.id(self.domain());
        self.submit(RecordChannel { id, channel }).await
    }

    /// Records a voucher for a request that is under way, before it is sent. `authorized_for_request` is what of it is
    /// for this request, base units; it never falls.
    ///
    /// # Errors
    /// [`BuyError`] says which rule is broken; then the voucher may not be sent.
    pub async fn authorize(
        &self,
        voucher: Signed<Voucher, Verified>,
        request: RequestHash,
        authorized_for_request: TokenAmount,
        budget: Budget,
        now: UnixSeconds,
    ) -> Result<Outcome, BuyError> {
        self.submit(Authorize {
            voucher,
            request,
            authorized: authorized_for_request,
            budget,
            now,
        })
        .await
    }

    /// A request of this client.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn own_request(&self, request: RequestHash) -> Result<Option<OwnRequestRecord>, LedgerError> {
        let stored = find_request(&mut self.reader("read an own request").await?, request).await?;
        Ok(stored.map(OwnRequestRecord::from))
    }

    /// The channel's requests that are neither linked nor abandoned, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unbilled_requests(&self, channel: ChannelId) -> Result<Vec<OwnRequestRecord>, LedgerError> {
        let statement = sql(concat!(
            "SELECT ",
            request_columns!(),
            " FROM unbilled_requests u JOIN requests r ON r.hash = u.request LEFT JOIN bills b ON b.request = r.hash
              WHERE r.channel = $1 ORDER BY r.begun_at, r.hash"
        ))
        .put(channel);
        let rows = self.reader("list unbilled requests").await?.rows(statement).await?;
        rows.iter().map(|row| Ok(read_request(row)?.into())).collect()
    }

    /// Gives a request up that was refused or never answered, and frees the budget it held beyond what is signed. A bill
    /// for it can still be linked later.
    ///
    /// # Errors
    /// [`BuyError::UnknownRequest`], [`BuyError::AlreadyLinked`].
    pub async fn abandon(&self, request: RequestHash, reason: String) -> Result<Outcome, BuyError> {
        self.submit(Abandon { request, reason }).await
    }

    /// The channel's money as this client keeps count; all zero when it does not buy on it.
    ///
    /// The next voucher is over `spent` and what the next increment costs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn purchases(&self, channel: ChannelId) -> Result<Account, LedgerError> {
        let standing = find_standing(&mut self.reader("read purchases").await?, channel).await?;
        Ok(standing
            .filter(|standing| standing.side == Some(Side::Buying))
            .map_or_else(Account::default, |standing| standing.account))
    }

    /// The voucher over most that this client has signed on the channel.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn newest_voucher(&self, channel: ChannelId) -> Result<Option<Signed<Voucher, Verified>>, LedgerError> {
        let statement = sql(concat!(
            "SELECT amount, signature FROM vouchers WHERE account = ",
            account_of!("$1"),
            " ORDER BY amount DESC LIMIT 1"
        ))
        .put(channel);
        let row = self.reader("read the newest voucher").await?.row(statement).await?;
        row.map(|row| {
            let amount = row.read("amount")?;
            Ok(Signed::recall(Voucher { channel, amount }, row.read("signature")?))
        })
        .transpose()
    }
}

impl From<StoredRequest> for OwnRequestRecord {
    fn from(stored: StoredRequest) -> Self {
        Self {
            request: stored.request,
            content_salt: stored.content_salt,
            authorized: stored.reserved,
            billed: stored.billed.is_some(),
            abandoned: stored.dropped,
            begun_at: stored.begun_at,
        }
    }
}

struct RecordChannel {
    id: ChannelId,
    channel: NewChannel,
}

impl Operation for RecordChannel {
    const NAME: &'static str = "record a channel";
    type Output = ChannelId;
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<ChannelId, BuyError> {
        if let Some(standing) = find_standing(session, self.id).await? {
            standing.check_side(Side::Buying)?;
        }
        let parameters = &self.channel.parameters;
        session
            .write(
                sql(
                    "INSERT INTO channels (id, payer, payee, token, salt, authorized_signer, operator, client_random,
                                           planned_deposit)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                     ON CONFLICT (id) DO UPDATE SET operator = $7, client_random = $8, planned_deposit = $9",
                )
                .put(self.id)
                .put(parameters.payer)
                .put(parameters.payee)
                .put(parameters.token)
                .put(parameters.salt)
                .put(parameters.authorized_signer)
                .put(self.channel.operator)
                .put(self.channel.client_random)
                .put(self.channel.deposit),
            )
            .await?;
        let standing = find_buying(session, self.id).await?;
        standing.store(session, Side::Buying).await?;
        Ok(self.id)
    }
}

struct Authorize {
    voucher: Signed<Voucher, Verified>,
    request: RequestHash,
    authorized: TokenAmount,
    budget: Budget,
    now: UnixSeconds,
}

impl Operation for Authorize {
    const NAME: &'static str = "authorize an increment";
    type Output = Outcome;
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, BuyError> {
        let request = find_request(session, self.request)
            .await?
            .ok_or(BuyError::UnknownRequest)?;
        let mut standing = find_buying(session, request.channel()).await?;
        if request.billed.is_some() {
            return Err(BuyError::AlreadyLinked);
        }
        if let Some(reason) = request.dropped {
            return Err(BuyError::Abandoned { reason });
        }
        let maximum = maximum_of(request.request.document())?;
        if self.authorized > maximum {
            return Err(BuyError::OverMaximum { maximum });
        }
        let signed_before = standing.account.authorized;
        let voucher = sign(&mut standing, &self.voucher)?;
        let authorized = request.reserved.max(self.authorized);
        if voucher.is_none() && authorized == request.reserved {
            return Ok(Outcome::AlreadyKnown);
        }
        count_signed(session, &standing, signed_before, true, &self.budget, self.now).await?;
        standing.account.spent = plus(minus(standing.account.spent, request.reserved)?, authorized)?;
        standing.store(session, Side::Buying).await?;
        if let Some(voucher) = voucher {
            insert_voucher(session, voucher).await?;
        }
        session
            .write(
                sql("UPDATE requests SET reserved = $2 WHERE hash = $1")
                    .put(self.request)
                    .put(authorized),
            )
            .await?;
        Ok(Outcome::Recorded)
    }
}

struct Abandon {
    request: RequestHash,
    reason: String,
}

impl Operation for Abandon {
    const NAME: &'static str = "abandon a request";
    type Output = Outcome;
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, BuyError> {
        let request = find_request(session, self.request)
            .await?
            .ok_or(BuyError::UnknownRequest)?;
        let mut standing = find_buying(session, request.channel()).await?;
        if request.billed.is_some() {
            return Err(BuyError::AlreadyLinked);
        }
        if request.dropped.is_some() {
            return Ok(Outcome::AlreadyKnown);
        }
        standing.account.spent = minus(standing.account.spent, request.reserved)?;
        standing.store(session, Side::Buying).await?;
        session
            .write(
                sql("UPDATE requests SET dropped = $2, reserved = $3 WHERE hash = $1")
                    .put(self.request)
                    .put(self.reason.clone())
                    .put(TokenAmount::ZERO),
            )
            .await?;
        unlist_unbilled(session, self.request).await?;
        let held = maximum_of(request.request.document())?;
        replace_cost(session, &standing, &request, held, TokenAmount::ZERO).await?;
        Ok(Outcome::Recorded)
    }
}

/// A channel this client buys on.
pub(crate) async fn find_buying(session: &mut Session, channel: ChannelId) -> Result<Standing, BuyError> {
    let mut standing = find_standing(session, channel).await?.ok_or(BuyError::UnknownChannel)?;
    as_buying(&mut standing)?;
    Ok(standing)
}

/// Refuses a channel that this client does not buy on.
pub(crate) fn as_buying(standing: &mut Standing) -> Result<(), BuyError> {
    standing.check_side(Side::Buying)?;
    if standing.planned_deposit.is_none() {
        return Err(BuyError::UnknownChannel);
    }
    standing.side = Some(Side::Buying);
    Ok(())
}

/// Counts a voucher as signed. `None` when one over as much was signed before.
pub(crate) fn sign<'v>(
    standing: &mut Standing,
    voucher: &'v Signed<Voucher, Verified>,
) -> Result<Option<&'v Signed<Voucher, Verified>>, BuyError> {
    let Voucher { channel, amount } = *voucher.document();
    if channel != standing.channel.id {
        return Err(BuyError::UnknownChannel);
    }
    // What the newest block says, once it says anything: a top-up may be signed against at once, because the executor
    // waits for its confirmation anyway.
    let on_chain = standing
        .channel
        .latest
        .or(standing.channel.confirmed)
        .map(|state| state.deposit);
    let deposit = on_chain.or(standing.planned_deposit).unwrap_or(TokenAmount::ZERO);
    if amount > deposit {
        return Err(BuyError::VoucherOverDeposit { deposit });
    }
    if amount <= standing.voucher {
        return Ok(None);
    }
    standing.voucher = amount;
    standing.account.authorized = standing.account.authorized.max(amount);
    Ok(Some(voucher))
}

pub(crate) fn maximum_of(request: &InferenceRequest) -> Result<TokenAmount, BuyError> {
    request.maximum().map_err(|_| BuyError::OverMaximum {
        maximum: TokenAmount::MAX,
    })
}
