//! What an operator looks at: all channels at once, and whether the writer still writes.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{
    Ledger, LedgerError,
    account::Side,
    column::{Put as _, Read as _, Row, sql},
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
    /// Every channel served here. One statement over all of them: whoever asks often keeps the answer for a while.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn survey(&self) -> Result<Vec<SurveyedChannel>, LedgerError> {
        let statement = sql(
            "SELECT c.id, c.payer, c.payee, c.token, a.authorized, a.spent, a.billed, c.latest_settled,
                    c.latest_close_requested_at, c.latest_finalized
             FROM accounts a JOIN channels c ON c.id = a.channel WHERE a.side = $1",
        )
        .put(Side::Serving);
        let rows = self.reader("survey the channels").await?.rows(statement).await?;
        rows.iter().map(read_surveyed).collect()
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

fn read_surveyed(row: &Row) -> Result<SurveyedChannel, LedgerError> {
    Ok(SurveyedChannel {
        id: row.read("id")?,
        payer: row.read("payer")?,
        payee: row.read("payee")?,
        token: row.read("token")?,
        authorized: row.read("authorized")?,
        spent: row.read("spent")?,
        billed: row.read("billed")?,
        settled: row.read_optional("latest_settled")?.unwrap_or(TokenAmount::ZERO),
        close_requested_at: row.read_optional("latest_close_requested_at")?,
        finalized: row.read_optional("latest_finalized")?.unwrap_or(false),
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
