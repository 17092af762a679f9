//! Taking back own receipts that the executor refused.

use lloom_receipts::{ChannelId, ReceiptHead, RequestHash, TokenAmount, UnixSeconds};

use crate::{
    BuyError, Ledger, LedgerError, Outcome, WithdrawnReceipt,
    account::{Side, account_of, minus, plus},
    budget::replace_cost,
    column::{Put as _, Read as _, sql},
    document::{
        StoredRequest, bill_columns, bill_fields, find_request, list_unbilled, read_receipt, receipt_columns,
        receipt_fields,
    },
    purchase::{find_buying, maximum_of},
    session::Session,
    writer::Operation,
};

impl Ledger {
    /// Takes back the own receipts after the last confirmed one: the executor has refused them, because it holds others
    /// with the own signature in their place. Their requests are without a receipt again, to be linked anew; what was
    /// signed stays on record, in [`withdrawn_receipts`](Self::withdrawn_receipts).
    ///
    /// Should the executor keep a copy all the same, nothing is lost: both chains are cumulative, and what counts is the
    /// higher total, not their sum.
    ///
    /// # Errors
    /// [`BuyError::UnknownChannel`].
    pub async fn withdraw_receipts(
        &self,
        channel: ChannelId,
        reason: String,
        now: UnixSeconds,
    ) -> Result<Outcome, BuyError> {
        self.submit(WithdrawReceipts { channel, reason, now }).await
    }

    /// The own receipts of the channel that were taken back, in the order in which they were.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn withdrawn_receipts(&self, channel: ChannelId) -> Result<Vec<WithdrawnReceipt>, LedgerError> {
        let statement = sql(concat!(
            "SELECT w.channel, ",
            receipt_fields!(),
            ", ",
            bill_fields!(),
            ", w.withdrawn_at, w.reason
              FROM withdrawn_receipts w JOIN withdrawn_receipts p ON p.id = w.id JOIN withdrawn_receipts b ON b.id = w.id
              WHERE w.channel = $1 ORDER BY w.id"
        ))
        .put(channel);
        let rows = self.reader("list withdrawn receipts").await?.rows(statement).await?;
        rows.iter()
            .map(|row| {
                Ok(WithdrawnReceipt {
                    receipt: read_receipt(row)?,
                    withdrawn_at: row.read("withdrawn_at")?,
                    reason: row.read("reason")?,
                })
            })
            .collect()
    }
}

struct WithdrawReceipts {
    channel: ChannelId,
    reason: String,
    now: UnixSeconds,
}

impl Operation for WithdrawReceipts {
    const NAME: &'static str = "withdraw refused receipts";
    type Output = Outcome;
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, BuyError> {
        let mut standing = find_buying(session, self.channel).await?;
        let confirmed = standing.confirmed_sequence;
        let rows = session
            .rows(
                sql(concat!(
                    "SELECT b.request FROM receipts p JOIN bills b ON b.id = p.bill WHERE p.account = ",
                    account_of!("$1"),
                    " AND p.sequence > $2 ORDER BY p.sequence"
                ))
                .put(self.channel)
                .put(confirmed),
            )
            .await?;
        if rows.is_empty() {
            return Ok(Outcome::AlreadyKnown);
        }
        let mut withdrawn: Vec<(RequestHash, StoredRequest, TokenAmount)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let hash: RequestHash = row.read("request")?;
            let found = find_request(session, hash).await?;
            let (request, amount) = found
                .and_then(|request| request.billed.map(|amount| (request, amount)))
                .ok_or(LedgerError::Inconsistent {
                    what: "an own receipt is of no own request",
                })?;
            standing.account.billed = minus(standing.account.billed, amount)?;
            standing.account.spent = plus(minus(standing.account.spent, amount)?, request.reserved)?;
            withdrawn.push((hash, request, amount));
        }
        standing.head = head_at(session, self.channel, confirmed).await?;

        standing.store(session, Side::Buying).await?;
        session
            .write(
                sql(concat!(
                    "INSERT INTO withdrawn_receipts (channel, sequence, hash, previous, cumulative_input,
                         cumulative_output, cumulative_amount, request, payer_signature, bill_signature, bill_hash,
                         response_hash, input, output, amount, completed_at, withdrawn_at, reason)
                     SELECT $1, p.sequence, p.hash, p.previous, p.cumulative_input, p.cumulative_output,
                            p.cumulative_amount, b.request, p.payer_signature, p.bill_signature, b.hash,
                            b.response_hash, b.input, b.output, b.amount, b.completed_at, $3, $4
                     FROM receipts p JOIN bills b ON b.id = p.bill
                     WHERE p.account = ",
                    account_of!("$1"),
                    " AND p.sequence > $2 ORDER BY p.sequence;
                     DELETE FROM receipts WHERE account = ",
                    account_of!("$1"),
                    " AND sequence > $2"
                ))
                .put(self.channel)
                .put(confirmed)
                .put(self.now)
                .put(self.reason.clone()),
            )
            .await?;
        for (hash, request, amount) in withdrawn {
            session
                .write(sql("DELETE FROM bills WHERE request = $1").put(hash))
                .await?;
            // What was abandoned is not waited for again.
            let held = match request.dropped {
                None => {
                    list_unbilled(session, hash).await?;
                    maximum_of(request.request.document())?
                }
                Some(_) => TokenAmount::ZERO,
            };
            replace_cost(session, &standing, &request, amount, held).await?;
        }
        Ok(Outcome::Recorded)
    }
}

async fn head_at(session: &mut Session, channel: ChannelId, sequence: u64) -> Result<ReceiptHead, BuyError> {
    if sequence == 0 {
        return Ok(ReceiptHead::empty(channel));
    }
    let statement = sql(concat!(
        "SELECT ",
        receipt_columns!(),
        " FROM receipts p JOIN bills b ON b.id = p.bill WHERE p.account = ",
        account_of!("$1"),
        " AND p.sequence = $2"
    ))
    .put(channel)
    .put(sequence);
    let row = session.row(statement).await?.ok_or(LedgerError::Inconsistent {
        what: "a confirmed receipt is missing",
    })?;
    Ok(ReceiptHead::at(read_receipt(&row)?.receipt()))
}
