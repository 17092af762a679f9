//! What a client spends, by the hour: what its requests cost, or may cost, and what it signs away.
//!
//! A voucher can't be taken back: what it grows by is gone when it is signed, whatever the answer costs in the end. So a
//! budget is held against signatures too, and not against bills alone. What an answer leaves over of its voucher pays for the
//! channel's next ones. Both are kept as sums, so that a client with many requests a day need not add them up for each new
//! one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, Prices, TokenAmount, UnixSeconds, Usage};

use crate::{
    Budget, BudgetLimit, BuyError, Ledger, LedgerError, OwnRequest,
    account::{Standing, minus, plus},
    column::{Put as _, Read as _, Row, sql},
    document::StoredRequest,
    purchase::maximum_of,
    session::Session,
};

const HOUR: u64 = 3_600;
const DAY: Duration = Duration::from_secs(24 * HOUR);

/// What is summed up.
#[derive(Clone, Copy)]
enum Kind {
    /// What requests cost, in the hour in which they were begun: linked ones their bill, others the most they can cost,
    /// abandoned ones nothing.
    Costs,
    /// What vouchers and receipts grew by, in the hour in which they were signed.
    Signatures,
}

/// A statement about the sums of a [`Kind`], which are in a table of their own.
macro_rules! about {
    ($kind:expr, $before:literal, $after:literal) => {
        match $kind {
            Kind::Costs => sql(concat!($before, "spending", $after)),
            Kind::Signatures => sql(concat!($before, "signatures", $after)),
        }
    };
}

impl Ledger {
    /// What requests begun since `since` (rounded down to the hour) cost in `token`, base units: linked ones their bill,
    /// others the most they can cost, abandoned ones nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn spent_since(&self, token: Address, since: UnixSeconds) -> Result<TokenAmount, LedgerError> {
        self.sum_since(Kind::Costs, token, since).await
    }

    /// What was signed away in `token` since `since` (rounded down to the hour), base units: what vouchers and receipts of
    /// all channels grew by.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn signed_since(&self, token: Address, since: UnixSeconds) -> Result<TokenAmount, LedgerError> {
        self.sum_since(Kind::Signatures, token, since).await
    }

    async fn sum_since(&self, kind: Kind, token: Address, since: UnixSeconds) -> Result<TokenAmount, LedgerError> {
        let mut session = self.reader("sum up what was spent").await?;
        let statement = about!(kind, "SELECT amount FROM ", " WHERE token = $1 AND hour >= $2")
            .put(token)
            .put(since.get() / HOUR);
        let rows = session.rows(statement).await?;
        rows.iter().try_fold(
            TokenAmount::ZERO,
            |sum, row| Ok(sum.saturating_add(row.read("amount")?)),
        )
    }
}

/// Sums of one kind over the last day, by operator and hour, and what is to be added.
struct Sums {
    kind: Kind,
    token: Address,
    of_hours: BTreeMap<(u64, Address), TokenAmount>,
    changed: BTreeSet<(u64, Address)>,
}

impl Sums {
    /// Reads the day before `now`, and an hour more: not all that is checked is of the same moment.
    async fn read(session: &mut Session, kind: Kind, token: Address, now: UnixSeconds) -> Result<Self, LedgerError> {
        let statement = about!(
            kind,
            "SELECT hour, operator, amount FROM ",
            " WHERE token = $1 AND hour >= $2"
        )
        .put(token)
        .put((now.minus(DAY).get() / HOUR).saturating_sub(1));
        let rows = session.rows(statement).await?;
        let of_hours = rows
            .iter()
            .map(|row| Ok(((row.read("hour")?, row.read("operator")?), row.read("amount")?)))
            .collect::<Result<_, LedgerError>>()?;
        Ok(Self {
            kind,
            token,
            of_hours,
            changed: BTreeSet::new(),
        })
    }

    /// Refuses `required` more, where the limits of a day have no room for it beside what is summed up and what `besides`
    /// says of an operator, or of all.
    fn check(
        &self,
        budget: &Budget,
        operator: Address,
        required: TokenAmount,
        besides: impl Fn(Option<Address>) -> TokenAmount,
        now: UnixSeconds,
    ) -> Result<(), BuyError> {
        if required.is_zero() {
            return Ok(());
        }
        let first = now.minus(DAY).get() / HOUR;
        let committed = |to: Option<Address>| {
            let of_day = self.of_hours.range((first, Address::ZERO)..);
            let counted = of_day.filter(|((_, operator), _)| to.is_none_or(|to| to == *operator));
            counted.fold(besides(to), |sum, (_, amount)| sum.saturating_add(*amount))
        };
        let limits = [
            (BudgetLimit::ExecutorDay, budget.per_executor_per_day, Some(operator)),
            (BudgetLimit::Day, budget.per_day, None),
        ];
        for (limit, most, to) in limits {
            let left = most.saturating_sub(committed(to));
            // No limit is none, however much it comes to.
            if required > left && most != TokenAmount::MAX {
                return Err(BuyError::OverBudget { limit, required, left });
            }
        }
        Ok(())
    }

    /// Counts `more` in the hour of `at`.
    fn add(&mut self, operator: Address, at: UnixSeconds, more: TokenAmount) -> Result<(), LedgerError> {
        if more.is_zero() {
            return Ok(());
        }
        let hour = (at.get() / HOUR, operator);
        let sum = self.of_hours.entry(hour).or_default();
        *sum = plus(*sum, more)?;
        self.changed.insert(hour);
        Ok(())
    }

    /// Writes what was added.
    async fn store(self, session: &mut Session) -> Result<(), LedgerError> {
        for (hour, operator) in &self.changed {
            let sum = self.of_hours.get(&(*hour, *operator)).copied().unwrap_or_default();
            store(session, self.kind, self.token, (*hour, *operator), sum).await?;
        }
        Ok(())
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

/// The channels with open requests.
#[derive(Default)]
struct Commitments(HashMap<ChannelId, Commitment>);

impl Commitments {
    /// Reads those of a token. A request of the day before that nobody billed is not waited for.
    async fn read(session: &mut Session, token: Address, now: UnixSeconds) -> Result<Self, LedgerError> {
        let statement = sql(
            "SELECT r.channel, c.operator, r.max_input, r.max_output, r.input_price, r.output_price, a.authorized, a.billed
             FROM unbilled_requests u JOIN requests r ON r.hash = u.request
             JOIN channels c ON c.id = r.channel JOIN accounts a ON a.channel = r.channel
             WHERE c.token = $1 AND r.begun_at >= $2",
        );
        let mut commitments = HashMap::new();
        for row in session.rows(statement.put(token).put(now.minus(DAY))).await? {
            let unread = Commitment {
                operator: row.read("operator")?,
                authorized: row.read("authorized")?,
                billed: row.read("billed")?,
                open: TokenAmount::ZERO,
            };
            let commitment = commitments.entry(row.read("channel")?).or_insert(unread);
            commitment.open = commitment.open.saturating_add(read_maximum(&row)?);
        }
        Ok(Self(commitments))
    }

    /// What may still be signed for them, to an operator or to all.
    fn unsigned(&self, to: Option<Address>) -> TokenAmount {
        let counted = self.0.values().filter(|open| to.is_none_or(|to| to == open.operator));
        counted.fold(TokenAmount::ZERO, |sum, open| sum.saturating_add(open.unsigned()))
    }
}

/// What was spent in a token over the last day, and what may be added to it.
pub(crate) struct Spending {
    costs: Sums,
    signatures: Sums,
    commitments: Commitments,
}

/// A request that the budget has room for, and what its channel comes to with it.
pub(crate) struct Admitted {
    channel: ChannelId,
    commitment: Commitment,
    /// Whom it asks.
    operator: Address,
    maximum: TokenAmount,
    /// What is signed for it at once.
    growth: TokenAmount,
}

impl Spending {
    /// Reads what was spent in the day before `now`.
    pub(crate) async fn read(session: &mut Session, token: Address, now: UnixSeconds) -> Result<Self, LedgerError> {
        Ok(Self {
            costs: Sums::read(session, Kind::Costs, token, now).await?,
            signatures: Sums::read(session, Kind::Signatures, token, now).await?,
            commitments: Commitments::default(),
        })
    }

    /// Reads what the open requests may still cost.
    pub(crate) async fn read_commitments(
        &mut self,
        session: &mut Session,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        self.commitments = Commitments::read(session, self.costs.token, now).await?;
        Ok(())
    }

    /// Refuses a request that the budget has no room for if it costs its maximum, and its voucher with it. Nothing is
    /// changed before it is [recorded](Self::record).
    pub(crate) fn admit(&self, request: &OwnRequest, standing: &Standing) -> Result<Admitted, BuyError> {
        let document = request.request.document();
        let (budget, now, maximum) = (&request.budget, request.now, maximum_of(document)?);
        let voucher = request.voucher.as_ref();
        let signed = voucher.map_or(TokenAmount::ZERO, |voucher| voucher.document().amount);
        if maximum > budget.per_request {
            return Err(BuyError::OverBudget {
                limit: BudgetLimit::Request,
                required: maximum,
                left: budget.per_request,
            });
        }
        let channel = standing.channel.id;
        let before = match self.commitments.0.get(&channel) {
            Some(commitment) => *commitment,
            None => Commitment::of(standing)?,
        };
        let mut commitment = before;
        commitment.open = plus(commitment.open, maximum)?;
        commitment.authorized = commitment.authorized.max(signed);
        let required = minus(commitment.total(), before.total())?;
        let unsigned = |to| self.commitments.unsigned(to);
        let nothing = |_| TokenAmount::ZERO;
        self.costs.check(budget, document.operator, maximum, nothing, now)?;
        self.signatures
            .check(budget, before.operator, required, unsigned, now)?;
        Ok(Admitted {
            channel,
            operator: document.operator,
            maximum,
            growth: minus(commitment.authorized, before.authorized)?,
            commitment,
        })
    }

    /// Counts a request.
    pub(crate) fn record(&mut self, admitted: &Admitted, at: UnixSeconds) -> Result<(), LedgerError> {
        let Commitment { operator, .. } = admitted.commitment;
        self.commitments.0.insert(admitted.channel, admitted.commitment);
        self.costs.add(admitted.operator, at, admitted.maximum)?;
        self.signatures.add(operator, at, admitted.growth)
    }

    /// Writes what was counted.
    pub(crate) async fn store(self, session: &mut Session) -> Result<(), LedgerError> {
        self.costs.store(session).await?;
        self.signatures.store(session).await
    }
}

/// Counts what a channel is signed for beyond `before`, if the budget's day has room for it: for a request that was
/// admitted it has, but a bill may turn up of one that was given up since, and takes nothing from those that are open.
pub(crate) async fn count_signed(
    session: &mut Session,
    standing: &Standing,
    before: TokenAmount,
    is_admitted: bool,
    budget: &Budget,
    now: UnixSeconds,
) -> Result<(), BuyError> {
    let growth = minus(standing.account.authorized, before)?;
    if growth.is_zero() {
        return Ok(());
    }
    let operator = operator_of(standing)?;
    let token = standing.channel.parameters.token;
    let mut signatures = Sums::read(session, Kind::Signatures, token, now).await?;
    let commitments = match is_admitted {
        true => Commitments::default(),
        false => Commitments::read(session, token, now).await?,
    };
    signatures.check(budget, operator, growth, |to| commitments.unsigned(to), now)?;
    signatures.add(operator, now, growth)?;
    Ok(signatures.store(session).await?)
}

/// What a request costs is another amount now: what it was billed, or what it may cost.
pub(crate) async fn replace_cost(
    session: &mut Session,
    standing: &Standing,
    request: &StoredRequest,
    before: TokenAmount,
    after: TokenAmount,
) -> Result<(), LedgerError> {
    let token = standing.channel.parameters.token;
    let of_hour = (request.begun_at.get() / HOUR, request.request.document().operator);
    let statement = sql("SELECT amount FROM spending WHERE token = $1 AND hour = $2 AND operator = $3")
        .put(token)
        .put(of_hour.0)
        .put(of_hour.1);
    let sum = match session.row(statement).await? {
        Some(row) => row.read("amount")?,
        None => TokenAmount::ZERO,
    };
    let sum = plus(minus(sum, before)?, after)?;
    store(session, Kind::Costs, token, of_hour, sum).await
}

async fn store(
    session: &mut Session,
    kind: Kind,
    token: Address,
    (hour, operator): (u64, Address),
    sum: TokenAmount,
) -> Result<(), LedgerError> {
    let statement = about!(
        kind,
        "INSERT INTO ",
        " (token, hour, operator, amount) VALUES ($1, $2, $3, $4)
         ON CONFLICT (token, hour, operator) DO UPDATE SET amount = $4"
    );
    session
        .write(statement.put(token).put(hour).put(operator).put(sum))
        .await
        .map(drop)
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
