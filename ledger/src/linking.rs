//! The client's own chain of receipts.

use lloom_receipts::{
    ChannelId, Receipt, ReceiptHash, ReceiptHead, Signed, TokenAmount, UnixSeconds, Verified, Voucher,
};

use crate::{
    Budget, BuyError, Ledger, LedgerError, Outcome,
    account::{Side, Standing, account_of, minus, plus},
    budget::{count_signed, replace_cost},
    column::{Put as _, Read as _, sql},
    document::{
        StoredRequest, append_receipt, bill_columns, bill_fields, find_request, insert_bill, insert_voucher,
        newest_receipt, read_receipt, receipt_columns, receipt_fields, unlist_unbilled,
    },
    purchase::{find_buying, maximum_of, sign},
    session::Session,
    writer::Operation,
};

impl Ledger {
    /// Records the client's own receipt and the voucher that goes with it, before they are sent.
    ///
    /// # Errors
    /// [`BuyError::DoesNotExtend`] carries the own head: another request was linked meanwhile. [`BuyError::OverBudget`]
    /// where the bill is of a request that was abandoned, and the day has no room for it any more.
    pub async fn link(
        &self,
        receipt: Receipt<Verified>,
        voucher: Option<Signed<Voucher, Verified>>,
        budget: Budget,
        now: UnixSeconds,
    ) -> Result<Outcome, BuyError> {
        self.submit(Link {
            receipt,
            voucher,
            budget,
            now,
        })
        .await
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
            " FROM receipts p JOIN bills b ON b.id = p.bill JOIN accounts a ON a.id = p.account
              WHERE a.channel = $1 AND a.side = 'buying' AND p.sequence > a.confirmed_sequence ORDER BY p.sequence"
        ))
        .put(channel);
        let rows = self
            .snapshot("list unconfirmed receipts")
            .await?
            .rows(statement)
            .await?;
        rows.iter().map(read_receipt).collect()
    }

    /// Takes over receipts that bear the own signature and go on from the own head: after a restore, or beside another
    /// copy of this client, the executor knows more than this store. All of them in between are needed, not the newest
    /// alone: only so is it known which bills are linked, and none is linked twice. The executor has them. What this store
    /// did not know to be signed counts as signed at `now`, whatever the budget.
    ///
    /// # Errors
    /// [`BuyError::DoesNotExtend`] carries the own head, when one does not go on from what is before it; then none is
    /// taken over. [`BuyError::AlreadyLinked`] when one holds a bill that another receipt holds.
    pub async fn adopt_receipts(
        &self,
        channel: ChannelId,
        receipts: Vec<Receipt<Verified>>,
        now: UnixSeconds,
    ) -> Result<Outcome, BuyError> {
        self.submit(AdoptReceipts { channel, receipts, now }).await
    }
}

struct Link {
    receipt: Receipt<Verified>,
    voucher: Option<Signed<Voucher, Verified>>,
    budget: Budget,
    now: UnixSeconds,
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
        let (signed_before, is_admitted) = (standing.account.authorized, request.dropped.is_none());
        let voucher = match &self.voucher {
            Some(voucher) => sign(&mut standing, voucher)?,
            None => None,
        };
        if request.billed.is_some() {
            if receipt_hash_at(session, receipt.channel, receipt.sequence).await? != Some(hash) {
                return Err(BuyError::AlreadyLinked);
            }
            if let Some(voucher) = voucher {
                count_signed(session, &standing, signed_before, is_admitted, &self.budget, self.now).await?;
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
        standing.head = ReceiptHead::at(receipt);
        count_signed(session, &standing, signed_before, is_admitted, &self.budget, self.now).await?;

        standing.store(session, Side::Buying).await?;
        insert_bill(session, &receipt.bill).await?;
        append_receipt(session, &self.receipt, hash, standing.account.authorized, voucher).await?;
        count_bill(session, &standing, &request, amount).await?;
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

struct AdoptReceipts {
    channel: ChannelId,
    receipts: Vec<Receipt<Verified>>,
    now: UnixSeconds,
}

impl Operation for AdoptReceipts {
    const NAME: &'static str = "adopt receipts";
    type Output = Outcome;
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, BuyError> {
        let mut standing = find_buying(session, self.channel).await?;
        let signed_before = standing.account.authorized;
        let mut outcome = Outcome::AlreadyKnown;
        for receipt in &self.receipts {
            let document = receipt.receipt();
            if receipt_hash_at(session, self.channel, document.sequence).await? == Some(document.hash()) {
                continue;
            }
            adopt(session, &mut standing, receipt).await?;
            outcome = Outcome::Recorded;
        }
        count_signed(session, &standing, signed_before, true, &Budget::UNLIMITED, self.now).await?;
        Ok(outcome)
    }
}

async fn adopt(session: &mut Session, standing: &mut Standing, adopted: &Receipt<Verified>) -> Result<(), BuyError> {
    let receipt = adopted.receipt();
    if standing.head.check_extends(receipt).is_err() {
        let head = newest_receipt(session, standing.channel.id).await?.map(Box::new);
        return Err(BuyError::DoesNotExtend { head });
    }
    // Its request may be one that this store knows and holds budget for, or one that it never heard of.
    let request = find_request(session, receipt.bill.request).await?;
    if request.as_ref().is_some_and(|request| request.billed.is_some()) {
        return Err(BuyError::AlreadyLinked);
    }
    let amount = receipt.bill.amount;
    let held = request.as_ref().map_or(TokenAmount::ZERO, |request| request.reserved);
    standing.account.spent = plus(minus(standing.account.spent, held)?, amount)?;
    standing.account.billed = plus(standing.account.billed, amount)?;
    standing.account.authorized = standing.account.authorized.max(receipt.cumulative_amount);
    standing.head = ReceiptHead::at(receipt);
    standing.confirmed_sequence = receipt.sequence;
    standing.store(session, Side::Buying).await?;
    insert_bill(session, &receipt.bill).await?;
    append_receipt(session, adopted, standing.head.hash, standing.account.authorized, None).await?;
    if let Some(request) = request {
        count_bill(session, standing, &request, amount).await?;
    }
    Ok(())
}

/// Counts what a request is billed in place of the most that it could cost: nothing more is waited for.
async fn count_bill(
    session: &mut Session,
    standing: &Standing,
    request: &StoredRequest,
    amount: TokenAmount,
) -> Result<(), BuyError> {
    let document = request.request.document();
    unlist_unbilled(session, document.hash()).await?;
    // An abandoned request holds nothing any more.
    let held = match request.dropped {
        None => maximum_of(document)?,
        Some(_) => TokenAmount::ZERO,
    };
    Ok(replace_cost(session, standing, request, held, amount).await?)
}

async fn receipt_hash_at(
    session: &mut Session,
    channel: ChannelId,
    sequence: u64,
) -> Result<Option<ReceiptHash>, LedgerError> {
    let statement = sql(concat!(
        "SELECT hash FROM receipts WHERE account = ",
        account_of!("$1"),
        " AND sequence = $2"
    ))
    .put(channel)
    .put(sequence);
    session.row(statement).await?.map(|row| row.read("hash")).transpose()
}
