//! Deadlines that the ledger keeps until they are met or moot.

use lloom_ledger::{Block, ChannelState, Held, Ledger, LedgerError, Moot, Resolution, SettleError};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

/// What one obligation stands against, all of it final.
struct Standing {
    state: ChannelState,
    /// What could be settled, base units.
    claimable: TokenAmount,
    /// Whether a stream of the channel still has to be billed.
    unbilled: bool,
    /// Whether more is billed than is covered: the payer's voucher for it may still come.
    uncovered: bool,
}

/// The obligations that stand.
pub(crate) struct Review {
    /// How many, those of channels on which nothing was ever served included.
    pub(crate) standing: usize,
    /// The nearest deadline of those with anything to lose. A stranger may open a channel, and ask for its close, as often as
    /// it likes: that keeps nobody busy, and nobody awake.
    pub(crate) next_deadline: Option<UnixSeconds>,
    /// How many ended just now with money unclaimed.
    pub(crate) lost: u64,
}

enum Verdict {
    /// With anything to lose, as far as is known.
    Stands,
    /// With nothing to lose: nothing is claimable beyond what is settled, and nothing is to be billed.
    StandsEmpty,
    /// All that there was is settled, by whomever.
    Met,
    Ended(Resolution),
}

/// Resolves the obligations whose end is final. Returns what is known of those that stand.
pub(crate) async fn review(ledger: &Ledger, confirmed: Block) -> Result<Review, SettleError> {
    let mut review = Review {
        standing: 0,
        next_deadline: None,
        lost: 0,
    };
    for obligation in ledger.obligations_to_review().await? {
        let verdict = judge(
            obligation.requested_at,
            confirmed,
            read(ledger, obligation.channel).await?,
        );
        let resolution = match verdict {
            Verdict::Stands => {
                // The most urgent comes first.
                review.next_deadline = review.next_deadline.or(Some(obligation.deadline));
                continue;
            }
            Verdict::StandsEmpty => continue,
            Verdict::Met => match ledger.settled_by(obligation.channel, confirmed.number).await? {
                Some(record) => Resolution::Claimed {
                    transaction: record.hash,
                },
                None => Resolution::Moot { reason: Moot::Settled },
            },
            Verdict::Ended(resolution) => resolution,
        };
        if let Resolution::Lost { amount } = resolution {
            tracing::error!(channel = %obligation.channel, %amount, "a channel was closed with money unclaimed");
            review.lost += 1;
        }
        tracing::info!(channel = %obligation.channel, deadline = %obligation.deadline, ?resolution, "an obligation ended");
        match ledger.resolve_obligation(obligation.id, resolution).await {
            // A fork took the close request back in the meantime.
            Ok(_) | Err(SettleError::UnknownObligation) => {}
            Err(error) => return Err(error),
        }
    }
    review.standing = usize::try_from(ledger.count_obligations().await?).unwrap_or(usize::MAX);
    Ok(review)
}

async fn read(ledger: &Ledger, channel: ChannelId) -> Result<Option<Standing>, LedgerError> {
    let Some(state) = ledger.channel(channel).await?.and_then(|record| record.confirmed) else {
        return Ok(None);
    };
    let account = ledger.account(channel).await?;
    let claimable = match ledger.claimable_channel(channel).await? {
        Some(claimable) => claimable.amount(),
        None => match ledger.held_channel(channel).await? {
            Some(held) => promised(&held, state.settled),
            None => TokenAmount::ZERO,
        },
    };
    Ok(Some(Standing {
        state,
        claimable,
        unbilled: account.spent > account.billed,
        uncovered: account.billed > claimable,
    }))
}

/// What a tower has to bring a channel to: what is left below its minimum, it never promised.
pub(crate) fn promised(held: &Held, settled: TokenAmount) -> TokenAmount {
    let amount = held.claimable.amount();
    if amount.saturating_sub(settled) < held.terms.minimum_value {
        amount.min(settled)
    } else {
        amount
    }
}

fn judge(requested_at: UnixSeconds, confirmed: Block, standing: Option<Standing>) -> Verdict {
    let Some(standing) = standing else {
        // Opened and asked to close in blocks that are not final yet.
        return Verdict::Stands;
    };
    let unclaimed = standing.claimable.saturating_sub(standing.state.settled);
    if standing.state.finalized {
        return if !unclaimed.is_zero() {
            Verdict::Ended(Resolution::Lost { amount: unclaimed })
        } else if standing.state.settled.is_zero() {
            Verdict::Ended(Resolution::Moot {
                reason: Moot::NothingEarned,
            })
        } else {
            Verdict::Met
        };
    }
    // The request's block is final, and the final state doesn't have it: a top-up called it off.
    if confirmed.timestamp > requested_at && standing.state.close_requested_at != Some(requested_at) {
        return Verdict::Ended(Resolution::Moot {
            reason: Moot::CalledOff,
        });
    }
    if !unclaimed.is_zero() || standing.unbilled {
        return Verdict::Stands;
    }
    if standing.claimable.is_zero() || standing.uncovered {
        return Verdict::StandsEmpty;
    }
    Verdict::Met
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    const REQUESTED_AT: UnixSeconds = UnixSeconds::new(1_000);

    fn verdict(confirmed_at: u64, settled: u128, requested: bool, finalized: bool, claimable: u128) -> &'static str {
        let standing = Standing {
            state: ChannelState {
                deposit: TokenAmount::new(1_000),
                settled: TokenAmount::new(settled),
                close_requested_at: requested.then_some(REQUESTED_AT),
                finalized,
            },
            claimable: TokenAmount::new(claimable),
            unbilled: false,
            uncovered: false,
        };
        name(&judge_with(confirmed_at, Some(standing)))
    }

    fn judge_with(confirmed_at: u64, standing: Option<Standing>) -> Verdict {
        let confirmed = Block {
            number: Default::default(),
            hash: B256::ZERO,
            parent: B256::ZERO,
            timestamp: UnixSeconds::new(confirmed_at),
        };
        judge(REQUESTED_AT, confirmed, standing)
    }

    fn name(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Stands => "stands",
            Verdict::StandsEmpty => "stands empty",
            Verdict::Met => "met",
            Verdict::Ended(Resolution::Claimed { .. }) => "claimed",
            Verdict::Ended(Resolution::Moot {
                reason: Moot::CalledOff,
            }) => "called off",
            Verdict::Ended(Resolution::Moot { reason: Moot::Settled }) => "settled",
            Verdict::Ended(Resolution::Moot {
                reason: Moot::NothingEarned,
            }) => "nothing earned",
            Verdict::Ended(Resolution::Lost { .. }) => "lost",
        }
    }

    #[test]
    fn an_obligation_ends_only_with_what_is_final() {
        assert_eq!(verdict(900, 0, false, false, 500), "stands", "the request is not final");
        assert_eq!(verdict(1_100, 0, true, false, 500), "stands");
        assert_eq!(verdict(1_100, 500, true, false, 500), "met");
        assert_eq!(verdict(1_100, 0, false, false, 500), "called off");
        assert_eq!(verdict(1_100, 500, true, true, 500), "met");
        assert_eq!(verdict(1_100, 400, true, true, 500), "lost");
        assert_eq!(verdict(1_100, 0, true, true, 0), "nothing earned");
        assert_eq!(
            verdict(1_100, 0, true, false, 0),
            "stands empty",
            "the channel may still be billed"
        );
        assert_eq!(name(&judge_with(1_100, None)), "stands");
    }

    #[test]
    fn a_stream_without_a_bill_keeps_the_obligation() {
        let standing = Standing {
            state: ChannelState {
                deposit: TokenAmount::new(1_000),
                settled: TokenAmount::new(500),
                close_requested_at: Some(REQUESTED_AT),
                finalized: false,
            },
            claimable: TokenAmount::new(500),
            unbilled: true,
            uncovered: false,
        };
        assert_eq!(name(&judge_with(1_100, Some(standing))), "stands");
    }

    #[test]
    fn a_bill_that_no_voucher_covers_keeps_the_obligation() {
        let standing = |finalized| Standing {
            state: ChannelState {
                deposit: TokenAmount::new(1_000),
                settled: TokenAmount::new(500),
                close_requested_at: Some(REQUESTED_AT),
                finalized,
            },
            claimable: TokenAmount::new(500),
            unbilled: false,
            uncovered: true,
        };
        let verdict = |finalized| name(&judge_with(1_100, Some(standing(finalized))));
        assert_eq!((verdict(false), verdict(true)), ("stands empty", "met"));
    }
}
