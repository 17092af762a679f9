//! What a person can do about a purchase that failed.

use lloom_ledger::{BudgetLimit, BuyError};
use lloom_node::{
    client::{ChatError, TreasurerError},
    wire::Refusal,
};
use lloom_receipts::TokenAmount;

use crate::{
    date::utc,
    failure::{Failure, Kind},
    session::Session,
};

/// There is not enough in the escrow.
pub(super) fn short(session: &Session, free: TokenAmount, needed: TokenAmount) -> Failure {
    let token = &session.network.token;
    Failure::new(
        Kind::Refused,
        format!(
            "a channel takes {}, and the escrow has {} that are free",
            token.show(needed),
            token.show(free)
        ),
    )
    .hint("`lloomctl deposit` adds to what is free there; config.toml's client.channel_deposit says how much a channel takes")
}

/// A chat's failure with its advice.
pub(super) fn chat_failure(error: ChatError, session: &Session) -> Failure {
    let token = &session.network.token;
    match error {
        ChatError::Refused(refusal) => {
            let failure = Failure::of(Kind::Refused, refusal.clone()).while_("the executor refuses");
            match refusal {
                Refusal::NotNamed => {
                    failure.hint("its owner has taken it out of service; another executor may serve you")
                }
                Refusal::Overloaded { .. } => failure.hint("all its places are taken: try again in a moment"),
                Refusal::ChannelClosing | Refusal::ChannelFinalized => {
                    failure.hint("the channel is over; the next `lloomctl chat` opens another one")
                }
                Refusal::ChannelUnknown | Refusal::ChannelUnconfirmed => {
                    failure.hint("does the executor follow the same chain? Its `lloomctl doctor` says")
                }
                Refusal::Expired { now, .. } | Refusal::DeadlineTooFar { now, .. } => failure.hint(format!(
                    "the executor's clock shows {}. One of the two is wrong: compare yours with a time server's",
                    utc(now)
                )),
                Refusal::Fruitless { until } => failure.hint(format!(
                    "that is {}; another executor may serve you meanwhile",
                    utc(until)
                )),
                Refusal::RestoredTooRecently { until } => failure.hint(format!(
                    "that is until {}; another executor may serve you meanwhile",
                    utc(until)
                )),
                _ => failure,
            }
        }
        ChatError::FarAhead { .. } => Failure::of(Kind::Refused, error).hint(
            "an executor could keep what is paid ahead: config.toml's client.max_increment_tokens says how far you pay",
        ),
        ChatError::Treasurer(TreasurerError::Exhausted(short)) => Failure::new(
            Kind::Refused,
            format!(
                "the channel holds {}, and {} would be promised",
                token.show(short.deposit),
                token.show(short.needed)
            ),
        )
        .hint("`lloomctl channel top-up` adds to it what is free in the escrow, and `lloomctl deposit` to that"),
        ChatError::Treasurer(TreasurerError::Buy(BuyError::OverBudget { limit, required, left })) => Failure::new(
            Kind::Refused,
            format!(
                "{} may have to be signed away for it, and {} are left of {}",
                token.show(required),
                token.show(left),
                match limit {
                    BudgetLimit::Request => "a request's budget (budget_per_request)",
                    BudgetLimit::Day => "the day's budget (budget_per_day)",
                    BudgetLimit::ExecutorDay => "the day's budget for this executor (budget_per_executor_per_day)",
                }
            ),
        )
        .hint("config.toml's [client] section sets the budgets; a smaller --max-output-tokens costs less"),
        ChatError::Treasurer(error) => Failure::of(Kind::Store, error),
        ChatError::Ledger(_) => Failure::of(Kind::Store, error),
        ChatError::Overcount(_)
        | ChatError::Overbilled(_)
        | ChatError::ForeignBill { .. }
        | ChatError::SecondBill
        | ChatError::FalseHead { .. } => {
            Failure::of(Kind::Refused, error).hint("nothing more is paid; the executor's score goes down")
        }
        ChatError::UnknownModel { .. } => {
            Failure::of(Kind::Refused, error).hint("`lloomctl models` shows what there is")
        }
        ChatError::Open(_) | ChatError::Wire(_) | ChatError::Ended { .. } | ChatError::Timeout { .. } => {
            Failure::of(Kind::Network, error)
                .hint("what came is paid, the rest isn't; the next `lloomctl chat` settles what is left open")
        }
        error => Failure::of(Kind::Failed, error),
    }
}
