//! What a client does: everything it signs is recorded here before it is sent.

use alloy::primitives::Address;
use lloom_receipts::{
    ChannelId, InferenceRequest, Receipt, RequestHash, Signed, TokenAmount, UnixSeconds, Verified, Voucher,
};

use crate::{
    Account, BuyError, Ledger, LedgerError, NewChannel, Outcome, OwnRequest, OwnRequestRecord,
    account::{Side, Standing, find_standing, minus, plus},
    budget::{check_budget, release, spend},
    column::{Put as _, Read as _, sql},
    document::{
        StoredRequest, bill_columns, find_request, insert_bill, insert_receipt, insert_request, insert_voucher,
        newest_receipt, read_receipt, read_request, receipt_columns, request_columns, request_with_nonce,
    },
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

    /// Records a request and its voucher, before they are sent, if the budget has room for the most it can cost.
    ///
    /// # Errors
    /// [`BuyError`] says which rule is broken; then nothing may be sent.
    pub async fn begin_request(&self, request: OwnRequest) -> Result<(), BuyError> {
        let hash = request.request.document().hash();
        self.submit(BeginRequest { hash, request }).await
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
    ) -> Result<Outcome, BuyError> {
        self.submit(Authorize {
            voucher,
            request,
            authorized: authorized_for_request,
        })
        .await
    }

    /// Records the client's own receipt and the voucher that goes with it, before they are sent.
    ///
    /// # Errors
    /// [`BuyError::DoesNotExtend`] carries the own head: another request was linked meanwhile.
    pub async fn link(
        &self,
        receipt: Receipt<Verified>,
        voucher: Option<Signed<Voucher, Verified>>,
    ) -> Result<Outcome, BuyError> {
        self.submit(Link { receipt, voucher }).await
    }

    /// Records that the executor has the receipt with this sequence, and with it all before it.
    ///
    /// # Errors
    /// [`BuyError::UnknownChannel`].
    pub async fn confirm_receipt(&self, channel: ChannelId, sequence: u64) -> Result<Outcome, BuyError> {
        self.submit(ConfirmReceipt { channel, sequence }).await
    }

    /// The own receipts that the executor is not known to have, in order: to be sent again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unconfirmed_receipts(&self, channel: ChannelId) -> Result<Vec<Receipt<Verified>>, LedgerError> {
        let statement = sql(concat!(
            "SELECT ",
            receipt_columns!(),
            " FROM receipts p JOIN bills b ON b.channel = p.channel AND b.request = p.request
              JOIN accounts a ON a.channel = p.channel
              WHERE p.channel = ?1 AND a.side = 'buying' AND p.sequence > a.confirmed_sequence ORDER BY p.sequence"
        ))
        .put(channel);
        let rows = self
            .snapshot("list unconfirmed receipts")
            .await?
            .rows(statement)
            .await?;
        rows.iter().map(read_receipt).collect()
    }

    /// Takes over a newer head that bears the own signature: after a restore, the executor knows more than this store.
    ///
    /// # Errors
    /// [`BuyError::DoesNotExtend`] carries the own head, when the receipt is not newer than it.
    pub async fn adopt_head(&self, receipt: Receipt<Verified>) -> Result<Outcome, BuyError> {
        self.submit(AdoptHead { receipt }).await
    }

    /// A request of this client.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn own_request(&self, request: RequestHash) -> Result<Option<OwnRequestRecord>, LedgerError> {
        let stored = find_request(&mut self.snapshot("read an own request").await?, request).await?;
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
            " FROM requests r JOIN accounts a ON a.channel = r.channel
              LEFT JOIN bills b ON b.channel = r.channel AND b.request = r.hash
              WHERE r.channel = ?1 AND a.side = 'buying' AND b.request IS NULL AND r.dropped IS NULL
              ORDER BY r.begun_at, r.hash"
        ))
        .put(channel);
        let rows = self.snapshot("list unbilled requests").await?.rows(statement).await?;
        rows.iter().map(|row| Ok(read_request(row)?.into())).collect()
    }

    /// Gives a request up that was refused or never answered, and frees the budget it held. A bill for it can still be
    /// linked later.
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
        let standing = find_standing(&mut self.snapshot("read purchases").await?, channel).await?;
        Ok(standing
            .filter(|standing| standing.side == Some(Side::Buying))
            .map_or_else(Account::default, |standing| standing.account))
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
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                     ON CONFLICT (id) DO UPDATE SET operator = ?7, client_random = ?8, planned_deposit = ?9",
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

struct BeginRequest {
    hash: RequestHash,
    request: OwnRequest,
}

impl Operation for BeginRequest {
    const NAME: &'static str = "begin a request";
    type Output = ();
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<(), BuyError> {
        let document = self.request.request.document();
        let mut standing = find_buying(session, document.channel).await?;
        if request_with_nonce(session, document).await?.is_some() {
            return Err(BuyError::NonceUsed);
        }
        let maximum = maximum_of(document)?;
        if self.request.authorized > maximum {
            return Err(BuyError::OverMaximum { maximum });
        }
        let token = standing.channel.parameters.token;
        check_budget(
            session,
            &self.request.budget,
            token,
            document.operator,
            maximum,
            self.request.now,
        )
        .await?;
        let voucher = match &self.request.voucher {
            Some(voucher) => sign(&mut standing, voucher)?,
            None => None,
        };
        standing.account.spent = plus(standing.account.spent, self.request.authorized)?;

        standing.store(session, Side::Buying).await?;
        if let Some(voucher) = voucher {
            insert_voucher(session, voucher).await?;
        }
        insert_request(
            session,
            self.hash,
            &self.request.request,
            self.request.content_salt,
            self.request.authorized,
            self.request.now,
        )
        .await?;
        spend(session, token, document.operator, self.request.now, maximum).await?;
        Ok(())
    }
}

struct Authorize {
    voucher: Signed<Voucher, Verified>,
    request: RequestHash,
    authorized: TokenAmount,
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
        let voucher = sign(&mut standing, &self.voucher)?;
        let authorized = request.reserved.max(self.authorized);
        if voucher.is_none() && authorized == request.reserved {
            return Ok(Outcome::AlreadyKnown);
        }
        standing.account.spent = plus(minus(standing.account.spent, request.reserved)?, authorized)?;
        standing.store(session, Side::Buying).await?;
        if let Some(voucher) = voucher {
            insert_voucher(session, voucher).await?;
        }
        session
            .write(
                sql("UPDATE requests SET reserved = ?2 WHERE hash = ?1")
                    .put(self.request)
                    .put(authorized),
            )
            .await?;
        Ok(Outcome::Recorded)
    }
}

struct Link {
    receipt: Receipt<Verified>,
    voucher: Option<Signed<Voucher, Verified>>,
}

impl Operation for Link {
    const NAME: &'static str = "link a receipt";
    type Output = Outcome;
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, BuyError> {
        let receipt = self.receipt.receipt();
        let hash = receipt.hash();
        let mut standing = find_buying(session, receipt.channel).await?;
        let request = find_request(session, receipt.bill.request)
            .await?
            .ok_or(BuyError::UnknownRequest)?;
        if request.channel() != receipt.channel {
            return Err(BuyError::UnknownRequest);
        }
        let voucher = match &self.voucher {
            Some(voucher) => sign(&mut standing, voucher)?,
            None => None,
        };
        if request.billed.is_some() {
            if receipt_hash_at(session, receipt.channel, receipt.sequence).await? != Some(hash) {
                return Err(BuyError::AlreadyLinked);
            }
            if let Some(voucher) = voucher {
                standing.store(session, Side::Buying).await?;
                insert_voucher(session, voucher).await?;
            }
            return Ok(Outcome::AlreadyKnown);
        }
        if standing.head.check_extends(receipt).is_err() {
            let head = newest_receipt(session, receipt.channel).await?.map(Box::new);
            return Err(BuyError::DoesNotExtend { head });
        }
        let amount = receipt.bill.amount;
        // An abandoned request holds nothing any more.
        standing.account.spent = plus(minus(standing.account.spent, request.reserved)?, amount)?;
        standing.account.billed = plus(standing.account.billed, amount)?;
        standing.account.authorized = standing.account.authorized.max(receipt.cumulative_amount);
        standing.head = lloom_receipts::ReceiptHead::at(receipt);

        standing.store(session, Side::Buying).await?;
        insert_bill(session, &receipt.bill).await?;
        insert_receipt(session, &self.receipt, hash, voucher).await?;
        let document = request.request.document();
        let token = standing.channel.parameters.token;
        if request.dropped.is_none() {
            release(
                session,
                token,
                document.operator,
                request.begun_at,
                maximum_of(document)?,
            )
            .await?;
        }
        spend(session, token, document.operator, request.begun_at, amount).await?;
        Ok(Outcome::Recorded)
    }
}

struct ConfirmReceipt {
    channel: ChannelId,
    sequence: u64,
}

impl Operation for ConfirmReceipt {
    const NAME: &'static str = "confirm a receipt";
    type Output = Outcome;
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, BuyError> {
        let mut standing = find_buying(session, self.channel).await?;
        // The executor can't have what was never signed, whatever it says.
        let sequence = self.sequence.min(standing.head.sequence);
        if sequence <= standing.confirmed_sequence {
            return Ok(Outcome::AlreadyKnown);
        }
        standing.confirmed_sequence = sequence;
        standing.store(session, Side::Buying).await?;
        Ok(Outcome::Recorded)
    }
}

struct AdoptHead {
    receipt: Receipt<Verified>,
}

impl Operation for AdoptHead {
    const NAME: &'static str = "adopt a newer head";
    type Output = Outcome;
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, BuyError> {
        let receipt = self.receipt.receipt();
        let hash = receipt.hash();
        let mut standing = find_buying(session, receipt.channel).await?;
        if receipt_hash_at(session, receipt.channel, receipt.sequence).await? == Some(hash) {
            return Ok(Outcome::AlreadyKnown);
        }
        let newer = receipt.sequence > standing.head.sequence && receipt.cumulative_amount >= standing.head.amount;
        if !newer {
            let head = newest_receipt(session, receipt.channel).await?.map(Box::new);
            return Err(BuyError::DoesNotExtend { head });
        }
        // Its request may be one that this store knows and holds budget for.
        let request = find_request(session, receipt.bill.request).await?;
        if request.as_ref().is_some_and(|request| request.billed.is_some()) {
            return Err(BuyError::AlreadyLinked);
        }
        let grown = minus(receipt.cumulative_amount, standing.head.amount)?;
        let held = request.as_ref().map_or(TokenAmount::ZERO, |request| request.reserved);
        standing.account.spent = plus(minus(standing.account.spent, held)?, grown)?;
        standing.account.billed = plus(standing.account.billed, grown)?;
        standing.account.authorized = standing.account.authorized.max(receipt.cumulative_amount);
        standing.head = lloom_receipts::ReceiptHead::at(receipt);
        standing.confirmed_sequence = receipt.sequence;
        standing.store(session, Side::Buying).await?;
        insert_bill(session, &receipt.bill).await?;
        insert_receipt(session, &self.receipt, hash, None).await?;
        if let Some(request) = request {
            let document = request.request.document();
            let token = standing.channel.parameters.token;
            if request.dropped.is_none() {
                release(
                    session,
                    token,
                    document.operator,
                    request.begun_at,
                    maximum_of(document)?,
                )
                .await?;
            }
            spend(session, token, document.operator, request.begun_at, receipt.bill.amount).await?;
        }
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
                sql("UPDATE requests SET dropped = ?2, reserved = zeroblob(16) WHERE hash = ?1")
                    .put(self.request)
                    .put(self.reason.clone()),
            )
            .await?;
        let document = request.request.document();
        let token: Address = standing.channel.parameters.token;
        let begun_at: UnixSeconds = request.begun_at;
        release(session, token, document.operator, begun_at, maximum_of(document)?).await?;
        Ok(Outcome::Recorded)
    }
}

/// A channel this client buys on.
async fn find_buying(session: &mut Session, channel: ChannelId) -> Result<Standing, BuyError> {
    let mut standing = find_standing(session, channel).await?.ok_or(BuyError::UnknownChannel)?;
    standing.check_side(Side::Buying)?;
    if standing.planned_deposit.is_none() {
        return Err(BuyError::UnknownChannel);
    }
    standing.side = Some(Side::Buying);
    Ok(standing)
}

/// Counts a voucher as signed. `None` when one over as much was signed before.
fn sign<'v>(
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

fn maximum_of(request: &InferenceRequest) -> Result<TokenAmount, BuyError> {
    request.maximum().map_err(|_| BuyError::OverMaximum {
        maximum: TokenAmount::MAX,
    })
}

async fn receipt_hash_at(
    session: &mut Session,
    channel: ChannelId,
    sequence: u64,
) -> Result<Option<lloom_receipts::ReceiptHash>, LedgerError> {
    let statement = sql("SELECT hash FROM receipts WHERE channel = ?1 AND sequence = ?2")
        .put(channel)
        .put(sequence);
    session.row(statement).await?.map(|row| row.read("hash")).transpose()
}
