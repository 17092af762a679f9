//! Bills, the receipts that link them, and what is read of both.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Receipt, ReceiptHead, TokenAmount, UsageBill, Verified};

use crate::{
    Account, CommittedBill, InterruptedRequest, Ledger, LedgerError, Outcome, ServeError,
    acceptance::{check_unbilled, find_served, settled_volume},
    account::{Side, account_of, find_standing, minus, plus},
    column::{Put as _, Read as _, sql},
    document::{
        bill_columns, bill_fields, find_request, insert_bill, newest_receipt, read_bill, read_receipt, read_request,
        receipt_columns, receipt_fields, request_columns,
    },
    session::Session,
    statement::Statement,
    writer::Operation,
};

/// In the order of the tables: the other way round SQLite reads every request there ever was.
pub(crate) const SELECT_INTERRUPTED: &str = concat!(
    "SELECT ",
    request_columns!(),
    " FROM open_requests o CROSS JOIN requests r LEFT JOIN bills b ON b.request = r.hash
      WHERE r.hash = o.request ORDER BY r.begun_at, r.hash"
);

impl Ledger {
    /// Commits the one bill of a request. When it has one already, that one is returned, whatever `bill` says.
    ///
    /// # Errors
    /// [`ServeError`]: an unknown or waived request, a bill that charges more than the request allows.
    pub async fn commit_bill(&self, bill: UsageBill) -> Result<CommittedBill, ServeError> {
        self.submit(CommitBill { bill }).await
    }

    /// Commits a bill that the executor side has signed and this store doesn't know any more.
    pub(crate) async fn take_back_bill(&self, bill: UsageBill) -> Result<Outcome, ServeError> {
        self.submit(TakeBackBill { bill }).await
    }

    /// The end of the channel's chain of receipts; [`ReceiptHead::empty`] when it has none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn head(&self, channel: ChannelId) -> Result<ReceiptHead, LedgerError> {
        let standing = find_standing(&mut self.reader("read a head").await?, channel).await?;
        Ok(standing.map_or_else(|| ReceiptHead::empty(channel), |standing| standing.head))
    }

    /// The newest receipt of the channel.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn head_receipt(&self, channel: ChannelId) -> Result<Option<Receipt<Verified>>, LedgerError> {
        newest_receipt(&mut self.reader("read the newest receipt").await?, channel).await
    }

    /// The channel's bills that no receipt links yet, oldest first, whosever they are: all of them, so not for whoever
    /// answers a payer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unlinked_bills(&self, channel: ChannelId) -> Result<Vec<CommittedBill>, LedgerError> {
        let statement = sql(concat!(
            "SELECT ",
            bill_columns!(),
            ", r.operator FROM bills b JOIN accounts a ON a.id = b.account LEFT JOIN requests r ON r.hash = b.request
              WHERE a.channel = $1 AND a.side = 'serving' AND NOT EXISTS (SELECT 1 FROM receipts WHERE bill = b.id)
              ORDER BY b.completed_at, b.request"
        ))
        .put(channel);
        self.committed_bills(statement).await
    }

    /// The channel's bills that no receipt links yet and that are `operator`'s to sign, as they were committed, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unlinked_bills_by(
        &self,
        operator: Address,
        channel: ChannelId,
        limit: u32,
    ) -> Result<Vec<CommittedBill>, LedgerError> {
        let statement = sql(concat!(
            "SELECT ",
            bill_columns!(),
            ", r.operator FROM bills b JOIN accounts a ON a.id = b.account JOIN requests r ON r.hash = b.request
              WHERE a.channel = $1 AND a.side = 'serving' AND r.operator = $2
                AND NOT EXISTS (SELECT 1 FROM receipts WHERE bill = b.id)
              ORDER BY b.id LIMIT $3"
        ))
        .put(channel)
        .put(operator)
        .put(i64::from(limit));
        self.committed_bills(statement).await
    }

    async fn committed_bills(&self, statement: Statement) -> Result<Vec<CommittedBill>, LedgerError> {
        let rows = self.reader("list unlinked bills").await?.rows(statement).await?;
        rows.iter()
            .map(|row| {
                Ok(CommittedBill {
                    bill: read_bill(row)?,
                    operator: row.read_optional("operator")?,
                })
            })
            .collect()
    }

    /// The channel's money as this side keeps count; all zero before its first use.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn account(&self, channel: ChannelId) -> Result<Account, LedgerError> {
        let standing = find_standing(&mut self.reader("read an account").await?, channel).await?;
        Ok(standing.map_or_else(Account::default, |standing| standing.account))
    }

    /// Requests that were accepted and have no bill. Asked at start, before anything is served: those of the process's own
    /// operator are the ones that it died on. Each is to be billed for what was acknowledged, or waived.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn interrupted_requests(&self) -> Result<Vec<InterruptedRequest>, LedgerError> {
        let rows = self
            .snapshot("list interrupted requests")
            .await?
            .rows(sql(SELECT_INTERRUPTED))
            .await?;
        rows.iter()
            .map(|row| {
                let stored = read_request(row)?;
                Ok(InterruptedRequest {
                    request: stored.request,
                    content_salt: stored.content_salt,
                    acknowledged: stored.received,
                })
            })
            .collect()
    }

    /// What the payer's channels served here have paid in `token`, confirmed, base units.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn settled_volume(&self, payer: Address, token: Address) -> Result<TokenAmount, LedgerError> {
        settled_volume(&mut self.reader("sum up what was settled").await?, payer, token).await
    }

    /// The channel's receipts from `from_sequence` on, in order, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn receipts(
        &self,
        channel: ChannelId,
        from_sequence: u64,
        limit: u32,
    ) -> Result<Vec<Receipt<Verified>>, LedgerError> {
        let statement = sql(concat!(
            "SELECT ",
            receipt_columns!(),
            " FROM receipts p JOIN bills b ON b.id = p.bill WHERE p.account = ",
            account_of!("$1"),
            " AND p.sequence >= $2 ORDER BY p.sequence LIMIT $3"
        ))
        .put(channel)
        .put(from_sequence)
        .put(i64::from(limit));
        let rows = self.reader("list receipts").await?.rows(statement).await?;
        rows.iter().map(read_receipt).collect()
    }
}

struct TakeBackBill {
    bill: UsageBill,
}

impl Operation for TakeBackBill {
    const NAME: &'static str = "take a lost bill back";
    type Output = Outcome;
    type Error = ServeError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, ServeError> {
        let mut standing = find_standing(session, self.bill.channel)
            .await?
            .ok_or(ServeError::UnknownChannel)?;
        standing.check_side(Side::Serving)?;
        // Two bills for one request are proof of a fault: the one that is committed here stays the only one.
        let committed = sql("SELECT 1 FROM bills WHERE request = $1").put(self.bill.request);
        if session.row(committed).await?.is_some() {
            return Err(ServeError::BillNotCommitted);
        }
        let request = find_request(session, self.bill.request).await?;
        let held = request.map_or(TokenAmount::ZERO, |request| request.reserved);
        standing.account.spent = plus(minus(standing.account.spent, held)?, self.bill.amount)?;
        standing.account.billed = plus(standing.account.billed, self.bill.amount)?;
        standing.store(session, Side::Serving).await?;
        insert_bill(session, &self.bill).await?;
        Ok(Outcome::Recorded)
    }
}

struct CommitBill {
    bill: UsageBill,
}

impl Operation for CommitBill {
    const NAME: &'static str = "commit a bill";
    type Output = CommittedBill;
    type Error = ServeError;

    async fn run(&self, session: &mut Session) -> Result<CommittedBill, ServeError> {
        let (request, mut standing) = find_served(session, self.bill.request).await?;
        let operator = Some(request.request.document().operator);
        if request.billed.is_some() {
            let statement = sql(concat!(
                "SELECT ",
                bill_columns!(),
                " FROM bills b WHERE b.request = $1"
            ));
            let row = session.row(statement.put(self.bill.request)).await?;
            let row = row.ok_or(LedgerError::Inconsistent {
                what: "a bill vanished while it was read",
            })?;
            return Ok(CommittedBill {
                bill: read_bill(&row)?,
                operator,
            });
        }
        check_unbilled(&request)?;
        self.bill.check(request.request.document())?;
        standing.account.spent = plus(minus(standing.account.spent, request.reserved)?, self.bill.amount)?;
        standing.account.billed = plus(standing.account.billed, self.bill.amount)?;
        standing.store(session, Side::Serving).await?;
        insert_bill(session, &self.bill).await?;
        Ok(CommittedBill {
            bill: self.bill,
            operator,
        })
    }
}

pub(crate) async fn find_receipt_within(
    session: &mut Session,
    channel: ChannelId,
    deposit: TokenAmount,
) -> Result<Option<Receipt<Verified>>, LedgerError> {
    let row = session.row(best_receipt(channel, deposit)).await?;
    row.as_ref().map(read_receipt).transpose()
}

/// The newest usable receipt of a channel within `deposit`.
pub(crate) fn best_receipt(channel: ChannelId, deposit: TokenAmount) -> Statement {
    sql(concat!(
        "SELECT ",
        receipt_columns!(),
        " FROM receipts p JOIN bills b ON b.id = p.bill WHERE p.account = ",
        account_of!("$1"),
        " AND p.unusable IS NULL AND p.cumulative_amount <= $2
          ORDER BY p.sequence DESC LIMIT 1"
    ))
    .put(channel)
    .put(deposit)
}
