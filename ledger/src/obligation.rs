//! Deadlines: channels that have to be claimed before their payers can withdraw.

use lloom_receipts::ChannelId;

use crate::{
    Ledger, LedgerError, Obligation, ObligationId, Outcome, Resolution, SettleError,
    column::{Column, Put as _, Read as _, Row, from_json, sql, to_json},
    session::Session,
    writer::Operation,
};

impl Column for ObligationId {
    type Form = i64;

    fn store(self) -> i64 {
        self.0
    }

    fn load(form: i64) -> Option<Self> {
        Some(Self(form))
    }
}

impl Ledger {
    /// The obligations that stand, the most urgent first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn obligations(&self) -> Result<Vec<Obligation>, LedgerError> {
        let statement = sql("SELECT id, channel, requested_at, deadline, resolution FROM obligations
             WHERE resolution IS NULL ORDER BY deadline, id");
        let rows = self.reader("list obligations").await?.rows(statement).await?;
        rows.iter().map(read_obligation).collect()
    }

    /// All obligations the channel ever had, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn obligations_of(&self, channel: ChannelId) -> Result<Vec<Obligation>, LedgerError> {
        let statement = sql("SELECT id, channel, requested_at, deadline, resolution FROM obligations
             WHERE channel = $1 ORDER BY id")
        .put(channel);
        let rows = self
            .snapshot("list a channel's obligations")
            .await?
            .rows(statement)
            .await?;
        rows.iter().map(read_obligation).collect()
    }

    /// Ends an obligation: on a final success, or a proof that it is moot.
    ///
    /// # Errors
    /// [`SettleError::UnknownObligation`].
    pub async fn resolve_obligation(&self, id: ObligationId, resolution: Resolution) -> Result<Outcome, SettleError> {
        self.submit_leading(ResolveObligation { id, resolution }).await
    }
}

struct ResolveObligation {
    id: ObligationId,
    resolution: Resolution,
}

impl Operation for ResolveObligation {
    const NAME: &'static str = "resolve an obligation";
    type Output = Outcome;
    type Error = SettleError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, SettleError> {
        let statement = sql("SELECT id, channel, requested_at, deadline, resolution FROM obligations WHERE id = $1");
        let row = session
            .row(statement.put(self.id))
            .await?
            .ok_or(SettleError::UnknownObligation)?;
        // The first resolution stays: it is history.
        if read_obligation(&row)?.resolution.is_some() {
            return Ok(Outcome::AlreadyKnown);
        }
        session
            .write(
                sql("UPDATE obligations SET resolution = $2 WHERE id = $1")
                    .put(self.id)
                    .put(to_json(&self.resolution)?),
            )
            .await?;
        Ok(Outcome::Recorded)
    }
}

fn read_obligation(row: &Row) -> Result<Obligation, LedgerError> {
    let resolution: Option<String> = row.read_optional("resolution")?;
    Ok(Obligation {
        id: row.read("id")?,
        channel: row.read("channel")?,
        requested_at: row.read("requested_at")?,
        deadline: row.read("deadline")?,
        resolution: resolution.map(|text| from_json("resolution", &text)).transpose()?,
    })
}
