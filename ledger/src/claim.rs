//! What can be claimed, and with which authorization.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Signed, TokenAmount, Verified, Voucher};

use crate::{
    AuthorizationRef, ChannelEarnings, Claimable, Earnings, Ledger, LedgerError, Outcome, SettleError,
    account::{Side, Standing, account_of, read_standing, refresh_authorized, standing_columns},
    billing::find_receipt_within,
    channel::channel_columns,
    column::{Put as _, Read as _, Row, sql},
    session::Session,
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

    /// The same of one channel, also when it is over; `None` when it is not served here.
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

async fn claimable_of(session: &mut Session, row: &Row) -> Result<Claimable, LedgerError> {
    let standing: Standing = read_standing(row)?;
    let deposit = standing.deposit();
    let id = standing.channel.id;
    Ok(Claimable {
        billed: standing.account.billed,
        linked: standing.head.amount,
        voucher: find_voucher_within(session, id, deposit).await?,
        receipt: find_receipt_within(session, id, deposit).await?,
        channel: standing.channel,
    })
}

async fn find_voucher_within(
    session: &mut Session,
    channel: ChannelId,
    deposit: TokenAmount,
) -> Result<Option<Signed<Voucher, Verified>>, LedgerError> {
    let statement = sql(concat!(
        "SELECT amount, signature FROM vouchers WHERE account = ",
        account_of!("$1"),
        " AND unusable IS NULL AND amount <= $2 ORDER BY amount DESC LIMIT 1"
    ))
    .put(channel)
    .put(deposit);
    let Some(row) = session.row(statement).await? else {
        return Ok(None);
    };
    let voucher = Voucher {
        channel,
        amount: row.read("amount")?,
    };
    Ok(Some(Signed::recall(voucher, row.read("signature")?)))
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
