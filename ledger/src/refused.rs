//! An executor's side: channels that towers do not take on.

use alloy::primitives::Address;
use lloom_receipts::ChannelId;

use crate::{
    Ledger, LedgerError, Outcome, StandingRefusal,
    column::{Put as _, Read as _, sql},
    session::Session,
    writer::Operation,
};

impl Ledger {
    /// Notes what `tower` did not take on. Of a channel that it refused before, and took on at no time since, the first
    /// refusal's time stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn record_refusals(
        &self,
        tower: Address,
        refusals: Vec<StandingRefusal>,
    ) -> Result<Outcome, LedgerError> {
        self.submit(RecordRefusals { tower, refusals }).await
    }

    /// What `tower` does not take on, in the order of the channels, after `after`. A refusal stands until the tower
    /// [takes the channel on](Self::record_appointments), or the channel has nothing left to defend.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refusals(
        &self,
        tower: Address,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<StandingRefusal>, LedgerError> {
        let statement = sql("SELECT r.channel, r.claim, r.reason, r.since
             FROM tower_refusals r JOIN channels c ON c.id = r.channel JOIN accounts a ON a.channel = r.channel
             WHERE r.tower = $1 AND a.side = 'serving' AND NOT c.latest_finalized
               AND c.latest_settled < a.billed AND c.latest_settled < a.authorized
               AND ($2 IS NULL OR r.channel > $2)
             ORDER BY r.channel LIMIT $3")
        .put(tower)
        .put_optional(after)
        .put(i64::from(limit));
        let rows = self
            .snapshot("list what a tower refuses")
            .await?
            .rows(statement)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(StandingRefusal {
                    channel: row.read("channel")?,
                    claim: row.read("claim")?,
                    reason: row.read("reason")?,
                    since: row.read("since")?,
                })
            })
            .collect()
    }
}

struct RecordRefusals {
    tower: Address,
    refusals: Vec<StandingRefusal>,
}

impl Operation for RecordRefusals {
    const NAME: &'static str = "note what a tower refuses";
    type Output = Outcome;
    type Error = LedgerError;

    async fn run(&self, session: &mut Session) -> Result<Outcome, LedgerError> {
        // No tower will be asked of these again.
        session
            .write(
                sql("DELETE FROM tower_refusals
                     WHERE tower = $1 AND channel IN (SELECT id FROM channels WHERE latest_finalized)")
                .put(self.tower),
            )
            .await?;
        for refusal in &self.refusals {
            session
                .write(
                    sql(
                        "INSERT INTO tower_refusals (tower, channel, claim, reason, since) VALUES ($1, $2, $3, $4, $5)
                         ON CONFLICT (tower, channel) DO UPDATE SET claim = $3, reason = $4",
                    )
                    .put(self.tower)
                    .put(refusal.channel)
                    .put(refusal.claim)
                    .put(refusal.reason.clone())
                    .put(refusal.since),
                )
                .await?;
        }
        Ok(Outcome::Recorded)
    }
}
