//! What a client's requests cost, or may cost, by the hour.
//!
//! Kept as sums, so that a client with many requests a day need not add them up for each new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use alloy::primitives::Address;
use lloom_receipts::{TokenAmount, UnixSeconds};

use crate::{
    Budget, BudgetLimit, BuyError, Ledger, LedgerError,
    account::{minus, plus},
    column::{Put as _, Read as _, sql},
    session::Session,
};

const HOUR: u64 = 3_600;
const DAY: Duration = Duration::from_secs(24 * HOUR);

impl Ledger {
    /// What requests begun since `since` (rounded down to the hour) cost in `token`, base units: linked ones their
    /// bill, others the most they can cost, abandoned ones nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn spent_since(&self, token: Address, since: UnixSeconds) -> Result<TokenAmount, LedgerError> {
        let mut session = self.reader("sum up what was spent").await?;
        let statement = sql("SELECT amount FROM spending WHERE token = $1 AND hour >= $2")
            .put(token)
            .put(since.get() / HOUR);
        let rows = session.rows(statement).await?;
        rows.iter().try_fold(
            TokenAmount::ZERO,
            |sum, row| Ok(sum.saturating_add(row.read("amount")?)),
        )
    }
}

/// What was spent in a token over the last day, by operator and hour, and what is to be added.
pub(crate) struct Spending {
    token: Address,
    sums: BTreeMap<(u64, Address), TokenAmount>,
    changed: BTreeSet<(u64, Address)>,
}

impl Spending {
    /// Reads the day before `now`, and an hour more: not all that is checked is of the same moment.
    pub(crate) async fn read(session: &mut Session, token: Address, now: UnixSeconds) -> Result<Self, LedgerError> {
        let statement = sql("SELECT hour, operator, amount FROM spending WHERE token = $1 AND hour >= $2")
            .put(token)
            .put((now.minus(DAY).get() / HOUR).saturating_sub(1));
        let rows = session.rows(statement).await?;
        let sums = rows
            .iter()
            .map(|row| Ok(((row.read("hour")?, row.read("operator")?), row.read("amount")?)))
            .collect::<Result<_, LedgerError>>()?;
        Ok(Self {
            token,
            sums,
            changed: BTreeSet::new(),
        })
    }

    /// Refuses what the budget has no room for.
    pub(crate) fn check(
        &self,
        budget: &Budget,
        operator: Address,
        required: TokenAmount,
        now: UnixSeconds,
    ) -> Result<(), BuyError> {
        let (mut by_all, mut by_operator) = (TokenAmount::ZERO, TokenAmount::ZERO);
        let first = now.minus(DAY).get() / HOUR;
        for ((_, at), amount) in self.sums.range((first, Address::ZERO)..) {
            by_all = by_all.saturating_add(*amount);
            if *at == operator {
                by_operator = by_operator.saturating_add(*amount);
            }
        }
        let limits = [
            (BudgetLimit::Request, budget.per_request),
            (
                BudgetLimit::ExecutorDay,
                budget.per_executor_per_day.saturating_sub(by_operator),
            ),
            (BudgetLimit::Day, budget.per_day.saturating_sub(by_all)),
        ];
        for (limit, left) in limits {
            if required > left {
                return Err(BuyError::OverBudget { limit, required, left });
            }
        }
        Ok(())
    }

    /// Counts `amount` in the hour of `at`.
    pub(crate) fn add(&mut self, operator: Address, at: UnixSeconds, amount: TokenAmount) -> Result<(), LedgerError> {
        let hour = (at.get() / HOUR, operator);
        let sum = self.sums.entry(hour).or_default();
        *sum = plus(*sum, amount)?;
        self.changed.insert(hour);
        Ok(())
    }

    /// Writes what was added.
    pub(crate) async fn store(self, session: &mut Session) -> Result<(), LedgerError> {
        for (hour, operator) in &self.changed {
            let sum = self.sums.get(&(*hour, *operator)).copied().unwrap_or_default();
            store(session, self.token, *operator, *hour, sum).await?;
        }
        Ok(())
    }
}

/// Counts `amount` in the hour of `at`.
pub(crate) async fn spend(
    session: &mut Session,
    token: Address,
    operator: Address,
    at: UnixSeconds,
    amount: TokenAmount,
) -> Result<(), LedgerError> {
    let before = in_hour(session, token, operator, at).await?;
    store(session, token, operator, at.get() / HOUR, plus(before, amount)?).await
}

/// Takes `amount` back out of the hour of `at`.
pub(crate) async fn release(
    session: &mut Session,
    token: Address,
    operator: Address,
    at: UnixSeconds,
    amount: TokenAmount,
) -> Result<(), LedgerError> {
    let before = in_hour(session, token, operator, at).await?;
    store(session, token, operator, at.get() / HOUR, minus(before, amount)?).await
}

async fn in_hour(
    session: &mut Session,
    token: Address,
    operator: Address,
    at: UnixSeconds,
) -> Result<TokenAmount, LedgerError> {
    let statement = sql("SELECT amount FROM spending WHERE token = $1 AND hour = $2 AND operator = $3")
        .put(token)
        .put(at.get() / HOUR)
        .put(operator);
    match session.row(statement).await? {
        Some(row) => row.read("amount"),
        None => Ok(TokenAmount::ZERO),
    }
}

async fn store(
    session: &mut Session,
    token: Address,
    operator: Address,
    hour: u64,
    amount: TokenAmount,
) -> Result<(), LedgerError> {
    session
        .write(
            sql(
                "INSERT INTO spending (token, hour, operator, amount) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (token, hour, operator) DO UPDATE SET amount = $4",
            )
            .put(token)
            .put(hour)
            .put(operator)
            .put(amount),
        )
        .await?;
    Ok(())
}
