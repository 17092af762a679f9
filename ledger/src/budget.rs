//! What a client signs away, by the hour, and what its open requests may still add to it.
//!
//! A voucher can't be taken back: what it grows by is gone when it is signed, whatever the answer costs in the end. So a
//! budget is held against signatures, not against bills. What an answer leaves over of its voucher pays for the channel's
//! next ones. Kept as sums, so that a client with many requests a day need not add them up for each new one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Prices, TokenAmount, UnixSeconds, Usage};

use crate::{
    Budget, BudgetLimit, BuyError, Ledger, LedgerError,
    account::{Standing, minus, plus},
    column::{Put as _, Read as _, Row, sql},
    session::Session,
};

const HOUR: u64 = 3_600;
const DAY: Duration = Duration::from_secs(24 * HOUR);

impl Ledger {
    /// What was signed away in `token` since `since` (rounded down to the hour), base units: what vouchers and receipts of
    /// all channels grew by.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn signed_since(&self, token: Address, since: UnixSeconds) -> Result<TokenAmount, LedgerError> {
        let mut session = self.reader("sum up what was signed").await?;
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

/// What a channel is signed for, and may come to be signed for by what was begun on it.
#[derive(Clone, Copy)]
struct Commitment {
    operator: Address,
    /// What is signed.
    authorized: TokenAmount,
    billed: TokenAmount,
    /// The most that the open requests can cost.
    open: TokenAmount,
}

impl Commitment {
    fn of(standing: &Standing) -> Result<Self, BuyError> {
        Ok(Self {
            operator: operator_of(standing)?,
            authorized: standing.account.authorized,
            billed: standing.account.billed,
            open: TokenAmount::ZERO,
        })
    }

    /// The most that will be signed.
    fn total(&self) -> TokenAmount {
        self.authorized.max(self.billed.saturating_add(self.open))
    }

    /// What may still be signed.
    fn unsigned(&self) -> TokenAmount {
        self.total().saturating_sub(self.authorized)
    }
}

/// What was signed away in a token over the last day, by operator and hour, and what may be added to it.
pub(crate) struct Spending {
    token: Address,
    signed: BTreeMap<(u64, Address), TokenAmount>,
    changed: BTreeSet<(u64, Address)>,
    /// The channels with open requests.
    commitments: HashMap<ChannelId, Commitment>,
}

/// A request that the budget has room for, and what its channel comes to with it.
pub(crate) struct Admitted {
    channel: ChannelId,
    commitment: Commitment,
    /// What is signed for it at once.
    growth: TokenAmount,
}

impl Spending {
    /// Reads what was signed in the day before `now`, and in an hour more: not all that is checked is of the same moment.
    pub(crate) async fn read(session: &mut Session, token: Address, now: UnixSeconds) -> Result<Self, LedgerError> {
        let statement = sql("SELECT hour, operator, amount FROM spending WHERE token = $1 AND hour >= $2")
            .put(token)
            .put((now.minus(DAY).get() / HOUR).saturating_sub(1));
        let rows = session.rows(statement).await?;
        let signed = rows
            .iter()
            .map(|row| Ok(((row.read("hour")?, row.read("operator")?), row.read("amount")?)))
            .collect::<Result<_, LedgerError>>()?;
        Ok(Self {
            token,
            signed,
            changed: BTreeSet::new(),
            commitments: HashMap::new(),
        })
    }

    /// Reads what the open requests may still cost. One of the day before that nobody billed is not waited for.
    pub(crate) async fn read_commitments(
        &mut self,
        session: &mut Session,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        let statement = sql(
            "SELECT r.channel, c.operator, r.max_input, r.max_output, r.input_price, r.output_price, a.authorized, a.billed
             FROM unbilled_requests u JOIN requests r ON r.hash = u.request
             JOIN channels c ON c.id = r.channel JOIN accounts a ON a.channel = r.channel
             WHERE c.token = $1 AND r.begun_at >= $2",
        );
        for row in session.rows(statement.put(self.token).put(now.minus(DAY))).await? {
            let unread = Commitment {
                operator: row.read("operator")?,
                authorized: row.read("authorized")?,
                billed: row.read("billed")?,
                open: TokenAmount::ZERO,
            };
            let commitment = self.commitments.entry(row.read("channel")?).or_insert(unread);
            commitment.open = commitment.open.saturating_add(read_maximum(&row)?);
        }
        Ok(())
    }

    /// Refuses a request that the budget has no room for if it costs its `maximum`, and a voucher over `signed` with it.
    /// Nothing is changed before it is [recorded](Self::record).
    pub(crate) fn admit(
        &self,
        budget: &Budget,
        standing: &Standing,
        maximum: TokenAmount,
        signed: TokenAmount,
        now: UnixSeconds,
    ) -> Result<Admitted, BuyError> {
        if maximum > budget.per_request {
            return Err(BuyError::OverBudget {
                limit: BudgetLimit::Request,
                required: maximum,
                left: budget.per_request,
            });
        }
        let channel = standing.channel.id;
        let before = match self.commitments.get(&channel) {
            Some(commitment) => *commitment,
            None => Commitment::of(standing)?,
        };
        let mut commitment = before;
        commitment.open = plus(commitment.open, maximum)?;
        commitment.authorized = commitment.authorized.max(signed);
        let required = minus(commitment.total(), before.total())?;
        let unsigned = |counts: &dyn Fn(Address) -> bool| {
            let commitments = self.commitments.values().filter(|open| counts(open.operator));
            commitments.fold(TokenAmount::ZERO, |sum, open| sum.saturating_add(open.unsigned()))
        };
        self.check(budget, before.operator, required, unsigned, now)?;
        Ok(Admitted {
            channel,
            growth: minus(commitment.authorized, before.authorized)?,
            commitment,
        })
    }

    /// Counts a request.
    pub(crate) fn record(&mut self, admitted: &Admitted, at: UnixSeconds) -> Result<(), LedgerError> {
        self.commitments.insert(admitted.channel, admitted.commitment);
        self.add(admitted.commitment.operator, at, admitted.growth)
    }

    /// Refuses `required` more, where the limits of a day have no room for it beside what was signed and what `besides`
    /// says.
    fn check(
        &self,
        budget: &Budget,
        operator: Address,
        required: TokenAmount,
        besides: impl Fn(&dyn Fn(Address) -> bool) -> TokenAmount,
        now: UnixSeconds,
    ) -> Result<(), BuyError> {
        if required.is_zero() {
            return Ok(());
        }
        let first = now.minus(DAY).get() / HOUR;
        let committed = |counts: &dyn Fn(Address) -> bool| {
            let of_day = self.signed.range((first, Address::ZERO)..);
            let signed = of_day.filter(|((_, operator), _)| counts(*operator));
            signed.fold(besides(counts), |sum, (_, amount)| sum.saturating_add(*amount))
        };
        let limits = [
            (
                BudgetLimit::ExecutorDay,
                budget.per_executor_per_day,
                committed(&|at| at == operator),
            ),
            (BudgetLimit::Day, budget.per_day, committed(&|_| true)),
        ];
        for (limit, most, committed) in limits {
            let left = most.saturating_sub(committed);
            // No limit is none, however much it comes to.
            if required > left && most != TokenAmount::MAX {
                return Err(BuyError::OverBudget { limit, required, left });
            }
        }
        Ok(())
    }

    /// Counts `growth` in the hour of `at`.
    fn add(&mut self, operator: Address, at: UnixSeconds, growth: TokenAmount) -> Result<(), LedgerError> {
        if growth.is_zero() {
            return Ok(());
        }
        let hour = (at.get() / HOUR, operator);
        let sum = self.signed.entry(hour).or_default();
        *sum = plus(*sum, growth)?;
        self.changed.insert(hour);
        Ok(())
    }

    /// Writes what was added.
    pub(crate) async fn store(self, session: &mut Session) -> Result<(), LedgerError> {
        for (hour, operator) in &self.changed {
            let sum = self.signed.get(&(*hour, *operator)).copied().unwrap_or_default();
            session
                .write(
                    sql(
                        "INSERT INTO spending (token, hour, operator, amount) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (token, hour, operator) DO UPDATE SET amount = $4",
                    )
                    .put(self.token)
                    .put(*hour)
                    .put(*operator)
                    .put(sum),
                )
                .await?;
        }
        Ok(())
    }
}

/// Counts what a channel is signed for beyond `before`, if the budget's days have room for it. Where a request was admitted
/// they have: but a bill may turn up of one that was given up since.
pub(crate) async fn count_signed(
    session: &mut Session,
    standing: &Standing,
    before: TokenAmount,
    budget: &Budget,
    now: UnixSeconds,
) -> Result<(), BuyError> {
    let growth = minus(standing.account.authorized, before)?;
    if growth.is_zero() {
        return Ok(());
    }
    let operator = operator_of(standing)?;
    let mut spending = Spending::read(session, standing.channel.parameters.token, now).await?;
    spending.check(budget, operator, growth, |_| TokenAmount::ZERO, now)?;
    spending.add(operator, now, growth)?;
    Ok(spending.store(session).await?)
}

fn operator_of(standing: &Standing) -> Result<Address, BuyError> {
    standing.channel.operator.ok_or(BuyError::UnknownChannel)
}

fn read_maximum(row: &Row) -> Result<TokenAmount, LedgerError> {
    let prices = Prices {
        input: row.read("input_price")?,
        output: row.read("output_price")?,
    };
    let most = Usage {
        input: row.read("max_input")?,
        output: row.read("max_output")?,
    };
    prices.charge(most).map_err(|_| LedgerError::Inconsistent {
        what: "an own request's maximum leaves uint128",
    })
}
