//! How executors did, as this client measured it.

use std::time::Duration;

use alloy::primitives::Address;

use crate::{
    BuyError, Ledger, LedgerError, Observation, ObservedOutcome, QUALITY_WINDOW, Quality,
    column::{Column, Put as _, Read as _, sql},
    session::Session,
    writer::Operation,
};

impl Column for ObservedOutcome {
    type Form = String;

    fn store(self) -> String {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Overbilled => "overbilled",
        }
        .to_owned()
    }

    fn load(form: String) -> Option<Self> {
        match form.as_str() {
            "completed" => Some(Self::Completed),
            "failed" => Some(Self::Failed),
            "refused" => Some(Self::Refused),
            "overbilled" => Some(Self::Overbilled),
            _ => None,
        }
    }
}

impl Ledger {
    /// Records how an executor did on a request. Older ones than the newest [`QUALITY_WINDOW`] are forgotten.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn observe(&self, operator: Address, observation: Observation) -> Result<(), BuyError> {
        self.submit(Observe { operator, observation }).await
    }

    /// An executor's score so far.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn quality(&self, operator: Address) -> Result<Quality, LedgerError> {
        let statement = sql("SELECT outcome, first_token_micros, tokens_per_second FROM observations
             WHERE operator = $1 ORDER BY id DESC LIMIT $2")
        .put(operator)
        .put(i64::from(QUALITY_WINDOW));
        let rows = self
            .snapshot("read an executor's quality")
            .await?
            .rows(statement)
            .await?;
        let (mut completed, mut latencies, mut speeds) = (0_u32, Vec::new(), Vec::new());
        for row in &rows {
            if row.read::<ObservedOutcome>("outcome")? == ObservedOutcome::Completed {
                completed += 1;
            }
            latencies.extend(row.read_optional::<i64>("first_token_micros")?);
            speeds.extend(row.read_optional::<f64>("tokens_per_second")?);
        }
        latencies.sort_unstable();
        speeds.sort_unstable_by(f64::total_cmp);
        // At most QUALITY_WINDOW rows.
        let observations = rows.len() as u32;
        Ok(Quality {
            observations,
            success_rate: f64::from(completed) / f64::from(observations.max(1)),
            time_to_first_token: median(&latencies).map(|micros| Duration::from_micros(micros.unsigned_abs())),
            tokens_per_second: median(&speeds),
        })
    }
}

/// The middle one, the lower of two.
fn median<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

struct Observe {
    operator: Address,
    observation: Observation,
}

impl Operation for Observe {
    const NAME: &'static str = "record an observation";
    type Output = ();
    type Error = BuyError;

    async fn run(&self, session: &mut Session) -> Result<(), BuyError> {
        let latency = self
            .observation
            .time_to_first_token
            .map(|latency| i64::try_from(latency.as_micros()).unwrap_or(i64::MAX));
        session
            .write(
                sql(
                    "INSERT INTO observations (operator, at, outcome, first_token_micros, tokens_per_second)
                     VALUES ($1, $2, $3, $4, $5);
                     DELETE FROM observations WHERE operator = $1 AND id <=
                         (SELECT id FROM observations WHERE operator = $1 ORDER BY id DESC LIMIT 1 OFFSET $6)",
                )
                .put(self.operator)
                .put(self.observation.at)
                .put(self.observation.outcome)
                .put_optional(latency)
                .put_optional(self.observation.tokens_per_second.filter(|speed| speed.is_finite()))
                .put(i64::from(QUALITY_WINDOW)),
            )
            .await?;
        Ok(())
    }
}
