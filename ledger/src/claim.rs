//! What can be claimed, and with which authorization.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Signed, TokenAmount, Verified, Voucher};

use crate::{
    AuthorizationRef, ChannelEarnings, Claimable, Earnings, Ledger, LedgerError, Outcome, SettleError,
    account::{Side, Standing, account_of, find_standing, read_standing, refresh_authorized, standing_columns},
    billing::{best_receipt, find_receipt_within},
    channel::channel_columns,
    column::{Put as _, Read as _, Row, sql},
    document::read_receipt,
    session::Session,
    statement::Statement,
    writer::Operation,
};

/// The channels served here, with their accounts.
macro_rules! select_served {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            standing_columns!(),
            " FROM channels c JOIN accounts a ON a.channel = c.id WHERE a.side = 'serving' AND ",
            $condition,
            " ORDER BY c.opened_in IS NULL, c.opened_in, c.id"
        )
    };
}

/// In one run through the index of what plans read.
pub(crate) const SELECT_OTHER_PAYEES: &str = "
SELECT DISTINCT c.payee FROM channels c
WHERE c.payee <> $1 AND NOT c.latest_finalized
  AND EXISTS (SELECT 1 FROM accounts a WHERE a.channel = c.id AND a.side = 'serving')
ORDER BY c.payee";

impl Ledger {
    /// The payee's channels that are not over, with what was billed on each and the best authorizations for it: also
    /// those with nothing new to claim ([`Claimable::unclaimed`] says which).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claimable(&self, payee: Address) -> Result<Vec<Claimable>, LedgerError> {
        let mut session = self.snapshot("list what is claimable").await?;
        let statement = sql(select_served!("c.payee = $1 AND NOT c.latest_finalized")).put(payee);
        let mut claimable = Vec::new();
        for row in &session.rows(statement).await? {
            claimable.push(claimable_of(&mut session, row).await?);
        }
        Ok(claimable)
    }

    /// Whose channels that are not over are served here, besides `payee`'s.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn other_payees_served(&self, payee: Address) -> Result<Vec<Address>, LedgerError> {
        let statement = sql(SELECT_OTHER_PAYEES).put(payee);
        let rows = self.reader("list the payees served").await?.rows(statement).await?;
        rows.iter().map(|row| row.read("payee")).collect()
    }

    /// The same as [`claimable`](Self::claimable) of one channel, also when it is over; `None` when it is not served here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claimable_channel(&self, channel: ChannelId) -> Result<Option<Claimable>, LedgerError> {
        let mut session = self.snapshot("read what is claimable").await?;
        match session.row(sql(select_served!("c.id = $1")).put(channel)).await? {
            Some(row) => Ok(Some(claimable_of(&mut session, &row).await?)),
            None => Ok(None),
        }
    }

    /// The best authorizations of a channel that lie in the store as no signature can be, though they were checked when they
    /// were taken: the disk has changed them. [`claimable_channel`](Self::claimable_channel) passes over them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unreadable_authorizations(&self, channel: ChannelId) -> Result<Vec<AuthorizationRef>, LedgerError> {
        let mut session = self.snapshot("look for damaged authorizations").await?;
        let Some(standing) = find_standing(&mut session, channel).await? else {
            return Ok(Vec::new());
        };
        let deposit = standing.deposit();
        let mut found = Vec::new();
        if let Some(row) = session.row(best_voucher(channel)).await?
            && read_voucher(channel, &row).is_err()
        {
            let amount = row.read("amount")?;
            found.push(AuthorizationRef::Voucher { amount });
        }
        if let Some(row) = session.row(best_receipt(channel, deposit)).await?
            && read_receipt(&row).is_err()
        {
            let sequence = row.read("sequence")?;
            found.push(AuthorizationRef::Receipt { sequence });
        }
        Ok(found)
    }

    /// Takes an authorization out of what is claimable: the chain refuses it. It stays in the history, and the next
    /// best counts.
    ///
    /// # Errors
    /// [`SettleError::UnknownAuthorization`].
    pub async fn set_unusable(
        &self,
        channel: ChannelId,
        authorization: AuthorizationRef,
        reason: String,
    ) -> Result<Outcome, SettleError> {
        self.submit_leading(SetUnusable {
            channel,
            authorization,
            reason,
        })
        .await
    }

    /// What the payee earned on the channels served here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn earnings(&self, payee: Address) -> Result<Earnings, LedgerError> {
        let mut session = self.snapshot("sum up earnings").await?;
        let statement = sql(select_served!("c.payee = $1")).put(payee);
        let mut channels = Vec::new();
        for row in &session.rows(statement).await? {
            let receipts = read_standing(row)?.head.sequence;
            let claimable = claimable_of(&mut session, row).await?;
            let state = claimable.channel.latest;
            channels.push(ChannelEarnings {
                billed: claimable.billed,
                linked: claimable.linked,
                claimable: match state {
                    Some(state) if !state.finalized => claimable.unclaimed(),
                    _ => TokenAmount::ZERO,
                },
                settled: state.map_or(TokenAmount::ZERO, |state| state.settled),
                receipts,
                channel: claimable.channel,
            });
        }
        Ok(Earnings { channels })
    }
}

/// Whether the channel is served here.
pub(crate) async fn is_served(session: &mut Session, channel: ChannelId) -> Result<bool, LedgerError> {
    let statement = sql("SELECT 1 FROM accounts WHERE channel = $1 AND side = 'serving'").put(channel);
    Ok(session.row(statement).await?.is_some())
}

async fn claimable_of(session: &mut Session, row: &Row) -> Result<Claimable, LedgerError> {
    let standing: Standing = read_standing(row)?;
    let deposit = standing.deposit();
    let id = standing.channel.id;
    Ok(Claimable {
        billed: standing.account.billed,
        linked: standing.head.amount,
        voucher: readable(id, find_voucher(session, id).await)?,
        receipt: readable(id, find_receipt_within(session, id, deposit).await)?,
        channel: standing.channel,
    })
}

/// What was found. One that can't be read is none, and keeps nobody from the other channels.
pub(crate) fn readable<T>(channel: ChannelId, found: Result<Option<T>, LedgerError>) -> Result<Option<T>, LedgerError> {
    match found {
        Err(error @ LedgerError::Unreadable { .. }) => {
            tracing::error!(%channel, error = &error as &dyn std::error::Error, "an authorization in the store is damaged");
            Ok(None)
        }
        found => found,
    }
}

async fn find_voucher(
    session: &mut Session,
    channel: ChannelId,
) -> Result<Option<Signed<Voucher, Verified>>, LedgerError> {
    let row = session.row(best_voucher(channel)).await?;
    row.as_ref().map(|row| read_voucher(channel, row)).transpose()
}

fn best_voucher(channel: ChannelId) -> Statement {
    sql(concat!(
        "SELECT amount, signature FROM vouchers WHERE account = ",
        account_of!("$1"),
        " AND unusable IS NULL ORDER BY amount DESC LIMIT 1"
    ))
    .put(channel)
}

fn read_voucher(channel: ChannelId, row: &Row) -> Result<Signed<Voucher, Verified>, LedgerError> {
    let voucher = Voucher {
        channel,
        amount: row.read("amount")?,
    };
    Ok(Signed::recall(voucher, row.read("signature")?))
}

struct SetUnusable {
    channel: ChannelId,
    authorization: AuthorizationRef,
    reason: String,
}

impl Operation for SetUnusable {
    const NAME: &'static str = "set an authorization aside";
    type Output = Outcome;
    type Error = SettleError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, SettleError> {
        let (find, update) = match self.authorization {
            AuthorizationRef::Voucher { amount } => (
                sql("SELECT v.unusable FROM vouchers v JOIN accounts a ON a.id = v.account
                     WHERE a.channel = $1 AND v.amount = $2 AND a.side = $3")
                .put(self.channel)
                .put(amount),
                sql(concat!(
                    "UPDATE vouchers SET unusable = $3 WHERE account = ",
                    account_of!("$1"),
                    " AND amount = $2"
                ))
                .put(self.channel)
                .put(amount),
            ),
            AuthorizationRef::Receipt { sequence } => (
                sql("SELECT p.unusable FROM receipts p JOIN accounts a ON a.id = p.account
                     WHERE a.channel = $1 AND p.sequence = $2 AND a.side = $3")
                .put(self.channel)
                .put(sequence),
                sql(concat!(
                    "UPDATE receipts SET unusable = $3 WHERE account = ",
                    account_of!("$1"),
                    " AND sequence = $2"
                ))
                .put(self.channel)
                .put(sequence),
            ),
        };
        let row = session
            .row(find.put(Side::Serving))
            .await?
            .ok_or(SettleError::UnknownAuthorization)?;
        if row.read_optional::<String>("unusable")?.is_some() {
            return Ok(Outcome::AlreadyKnown);
        }
        session.write(update.put(self.reason.clone())).await?;
        refresh_authorized(session, self.channel).await?;
        Ok(Outcome::Recorded)
    }
}
