//! What an operator looks at: all channels at once, and whether the writer still writes.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{
    Ledger, LedgerError,
    account::Side,
    column::{Fixed, Put as _, Read as _, sql},
    gathered::{self, Fields},
    session::Session,
    writer::Operation,
};

/// A channel served here, as far as its money goes. Base units, totals of the channel's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurveyedChannel {
    /// Its id.
    pub id: ChannelId,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// In which token.
    pub token: Address,
    /// What the best authorization within the deposit allows.
    pub authorized: TokenAmount,
    /// The bills, and what is reserved for requests without one.
    pub spent: TokenAmount,
    /// The bills.
    pub billed: TokenAmount,
    /// What the chain paid, at the newest block.
    pub settled: TokenAmount,
    /// When the payer asked for the rest, if it did.
    pub close_requested_at: Option<UnixSeconds>,
    /// Whether it is over.
    pub finalized: bool,
}

/// Columns of [`SurveyedChannel`].
const WIDTH: usize =
    ChannelId::WIDTH + 3 * Address::WIDTH + 4 * TokenAmount::WIDTH + UnixSeconds::WIDTH + <bool as Fixed>::WIDTH;

const SELECT: &str = "
SELECT string_agg(
    c.id || c.payer || c.payee || c.token || a.authorized || a.spent || a.billed || coalesce(c.latest_settled, $4)
    || coalesce(c.latest_close_requested_at, $5) || CASE WHEN c.latest_finalized THEN $6 ELSE $7 END, $8) AS gathered
FROM accounts a CROSS JOIN channels c
WHERE a.id > $1 AND a.id <= $2 AND a.side = $3 AND c.id = a.channel";

impl SurveyedChannel {
    /// What could be claimed now and is not settled.
    pub fn unclaimed(&self) -> TokenAmount {
        if self.finalized {
            return TokenAmount::ZERO;
        }
        self.billed.min(self.authorized).saturating_sub(self.settled)
    }

    /// What was served, or is reserved to be served, and no authorization covers.
    pub fn exposure(&self) -> TokenAmount {
        if self.finalized {
            return TokenAmount::ZERO;
        }
        self.spent.saturating_sub(self.authorized)
    }
}

impl Ledger {
    /// Every channel served here, in no order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn survey(&self) -> Result<Vec<SurveyedChannel>, LedgerError> {
        let mut channels = Vec::new();
        self.survey_each(|channel| channels.push(channel)).await?;
        Ok(channels)
    }

    /// The same, one after the other. All of them are read: whoever asks often keeps the answer for a while.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn survey_each(&self, mut each: impl FnMut(SurveyedChannel) + Send) -> Result<(), LedgerError> {
        let mut session = self.snapshot("survey the channels").await?;
        gathered::of_accounts(
            &mut session,
            |after, to| {
                sql(SELECT)
                    .put(after)
                    .put(to)
                    .put(Side::Serving)
                    .put(TokenAmount::ZERO)
                    .put(UnixSeconds::default())
                    .put(Vec::from([u8::from(true)]))
                    .put(Vec::from([u8::from(false)]))
                    .put(Vec::new())
            },
            WIDTH,
            |fields| {
                each(read_surveyed(fields)?);
                Ok(())
            },
        )
        .await
    }

    /// Writes and commits, without a change to any record: that it returns says that the writer lives and the disk
    /// takes what it writes.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn prove_writable(&self) -> Result<(), LedgerError> {
        self.submit(ProveWritable).await
    }

    /// How many commits the store has had.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn generation(&self) -> Result<Option<i64>, LedgerError> {
        let mut session = self.reader("read how many commits there were").await?;
        match session.row(sql("SELECT generation FROM store")).await? {
            Some(row) => row.read("generation").map(Some),
            None => Ok(None),
        }
    }
}

fn read_surveyed(fields: &mut Fields<'_>) -> Result<SurveyedChannel, LedgerError> {
    Ok(SurveyedChannel {
        id: fields.take()?,
        payer: fields.take()?,
        payee: fields.take()?,
        token: fields.take()?,
        authorized: fields.take()?,
        spent: fields.take()?,
        billed: fields.take()?,
        settled: fields.take()?,
        // Nobody asks in the year 1970.
        close_requested_at: Some(fields.take()?).filter(|at: &UnixSeconds| at.get() > 0),
        finalized: fields.take()?,
    })
}

struct ProveWritable;

impl Operation for ProveWritable {
    const NAME: &'static str = "prove that it can be written";
    type Output = ();
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<(), LedgerError> {
        // The commit itself counts the generation up; this makes it one that writes.
        session
            .write(sql("UPDATE store SET generation = generation WHERE id = 1"))
            .await?;
        Ok(())
    }
}
