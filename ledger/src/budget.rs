//! What a client's requests cost, or may cost, by the hour.
//!
//! Kept as sums, so that a client with many requests a day need not add them up for each new one.

use std::time::Duration;

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
        let mut session = self.snapshot("sum up what was spent").await?;
        Ok(spent(&mut session, token, None, since).await?.0)
    }
}

/// Refuses what the budget has no room for.
pub(crate) async fn check_budget(
    session: &mut Session,
    budget: &Budget,
    token: Address,
    operator: Address,
    required: TokenAmount,
    now: UnixSeconds,
) -> Result<(), BuyError> {
    let (by_all, by_operator) = spent(session, token, Some(operator), now.minus(DAY)).await?;
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

/// What was spent since then: by all, and at `operator`.
async fn spent(
    session: &mut Session,
    token: Address,
    operator: Option<Address>,
    since: UnixSeconds,
) -> Result<(TokenAmount, TokenAmount), LedgerError> {
    let rows = session
        .rows(
            sql("SELECT operator, amount FROM spending WHERE token = ?1 AND hour >= ?2")
                .put(token)
                .put(since.get() / HOUR),
        )
        .await?;
    let mut sums = (TokenAmount::ZERO, TokenAmount::ZERO);
    for row in &rows {
        let amount = row.read("amount")?;
        sums.0 = sums.0.saturating_add(amount);
        if Some(row.read("operator")?) == operator {
            sums.1 = sums.1.saturating_add(amount);
        }
    }
    Ok(sums)
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
    store(session, token, operator, at, plus(before, amount)?).await
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
    store(session, token, operator, at, minus(before, amount)?).await
}

async fn in_hour(
    session: &mut Session,
    token: Address,
    operator: Address,
    at: UnixSeconds,
) -> Result<TokenAmount, LedgerError> {
    let statement = sql("SELECT amount FROM spending WHERE token = ?1 AND hour = ?2 AND operator = ?3")
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
    at: UnixSeconds,
    amount: TokenAmount,
) -> Result<(), LedgerError> {
    session
        .write(
            sql(
                "INSERT INTO spending (token, hour, operator, amount) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (token, hour, operator) DO UPDATE SET amount = ?4",
            )
            .put(token)
            .put(at.get() / HOUR)
            .put(operator)
            .put(amount),
        )
        .await?;
    Ok(())
}
