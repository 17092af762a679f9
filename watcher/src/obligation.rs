//! Deadlines that the ledger keeps until they are met or moot.

use lloom_ledger::{Block, ChannelState, Held, Ledger, LedgerError, Resolution, SettleError};
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
    /// Whether it is defended for somebody else, who may hand over more.
    held: bool,
}

/// The obligations that stand.
pub(crate) struct Review {
    /// How many.
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
    /// With nothing to lose, as far as is known.
    StandsEmpty,
    Met,
    Moot(String),
    Lost(TokenAmount),
}

/// Resolves the obligations whose end is final. Returns what is known of those that stand.
pub(crate) async fn review(ledger: &Ledger, confirmed: Block) -> Result<Review, SettleError> {
    let mut review = Review {
        standing: 0,
        next_deadline: None,
        lost: 0,
    };
    for obligation in ledger.obligations().await? {
        let verdict = judge(
            obligation.requested_at,
            confirmed,
            read(ledger, obligation.channel).await?,
        );
        let resolution = match verdict {
            Verdict::Stands => {
                review.standing += 1;
                // The most urgent comes first.
                review.next_deadline = review.next_deadline.or(Some(obligation.deadline));
                continue;
            }
            Verdict::StandsEmpty => {
                review.standing += 1;
                continue;
            }
            Verdict::Met => match ledger.settled_by(obligation.channel, confirmed.number).await? {
                Some(record) => Resolution::Claimed {
                    transaction: record.hash,
                },
                None => Resolution::Moot {
                    reason: String::from("everything was settled, by a transaction that is not in this store"),
                },
            },
            Verdict::Moot(reason) => Resolution::Moot { reason },
            Verdict::Lost(amount) => {
                tracing::error!(channel = %obligation.channel, %amount, "a channel was closed with money unclaimed");
                review.lost += 1;
                Resolution::Moot {
                    reason: format!("the channel is final; {amount} base units were not claimed"),
                }
            }
        };
        tracing::info!(channel = %obligation.channel, deadline = %obligation.deadline, ?resolution, "an obligation ended");
        match ledger.resolve_obligation(obligation.id, resolution).await {
            // A fork took the close request back in the meantime.
            Ok(_) | Err(SettleError::UnknownObligation) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(review)
}

async fn read(ledger: &Ledger, channel: ChannelId) -> Result<Option<Standing>, LedgerError> {
    let Some(state) = ledger.channel(channel).await?.and_then(|record| record.confirmed) else {
        return Ok(None);
    };
    let account = ledger.account(channel).await?;
    let (claimable, held) = match ledger.claimable_channel(channel).await? {
        Some(claimable) => (claimable.amount(), false),
        None => match ledger.held_channel(channel).await? {
            Some(held) => (promised(&held, state.settled), true),
            None => (TokenAmount::ZERO, false),
        },
    };
    Ok(Some(Standing {
        state,
        claimable,
        unbilled: account.spent > account.billed,
        uncovered: account.billed > claimable,
        held,
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
        return if unclaimed.is_zero() {
            Verdict::Met
        } else {
            Verdict::Lost(unclaimed)
        };
    }
    // The request's block is final, and the final state doesn't have it: a top-up called it off.
    if confirmed.timestamp > requested_at && standing.state.close_requested_at != Some(requested_at) {
        return Verdict::Moot(String::from("the payer called the close off"));
    }
    if !unclaimed.is_zero() || standing.unbilled {
        return Verdict::Stands;
    }
    if standing.uncovered {
        return Verdict::StandsEmpty;
    }
    if standing.claimable.is_zero() {
        // Nothing is served while its close is requested. Who opens channels and asks for their closes would otherwise have
        // all of them looked at in each round, for good.
        let is_final = standing.state.close_requested_at == Some(requested_at);
        return match is_final && !standing.held {
            true => Verdict::Moot(String::from("nothing was served on the channel")),
            false => Verdict::StandsEmpty,
        };
    }
    Verdict::Met
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alloy::primitives::{Address, B256};
    use lloom_ledger::{ChainEvent, ChainEventKind, EventPosition, ObligationPolicy, StoreDeployment};
    use lloom_receipts::{BlockNumber, ChannelParameters, Domain};

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
            held: false,
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
            Verdict::Moot(_) => "moot",
            Verdict::Lost(_) => "lost",
        }
    }

    #[test]
    fn an_obligation_ends_only_with_what_is_final() {
        assert_eq!(verdict(900, 0, false, false, 500), "stands", "the request is not final");
        assert_eq!(verdict(1_100, 0, true, false, 500), "stands");
        assert_eq!(verdict(1_100, 500, true, false, 500), "met");
        assert_eq!(verdict(1_100, 0, false, false, 500), "moot", "called off");
        assert_eq!(verdict(1_100, 500, true, true, 500), "met");
        assert_eq!(verdict(1_100, 400, true, true, 500), "lost");
        assert_eq!(verdict(900, 0, false, false, 0), "stands empty");
        assert_eq!(verdict(1_100, 0, true, false, 0), "moot", "nothing was served");
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
            held: false,
        };
        assert_eq!(name(&judge_with(1_100, Some(standing))), "stands");
    }

    #[test]
    fn what_is_held_keeps_the_obligation_until_the_channel_is_over() {
        let standing = Standing {
            state: ChannelState {
                deposit: TokenAmount::new(1_000),
                settled: TokenAmount::ZERO,
                close_requested_at: Some(REQUESTED_AT),
                finalized: false,
            },
            claimable: TokenAmount::ZERO,
            unbilled: false,
            uncovered: false,
            held: true,
        };
        assert_eq!(name(&judge_with(1_100, Some(standing))), "stands empty");
    }

    /// Somebody opens channels on which nothing is ever served, asks for their close and leaves them so.
    #[tokio::test]
    async fn closes_of_channels_that_were_never_served_are_reviewed_once() {
        const PAYEE: Address = Address::repeat_byte(0xee);
        let domain = Domain::new(31_337, Address::repeat_byte(0xe5), Address::repeat_byte(0x5e));
        let directory = tempfile::tempdir().unwrap();
        let deployment = StoreDeployment::from(&domain);
        let ledger = Ledger::open(&directory.path().join("lloom.db"), &deployment)
            .await
            .unwrap();
        let parameters = |number| ChannelParameters {
            payer: Address::repeat_byte(0x9a),
            payee: PAYEE,
            token: Address::repeat_byte(0x70),
            salt: B256::repeat_byte(number),
            authorized_signer: Address::ZERO,
        };
        let channels = 1..=20;
        let kinds = channels.clone().flat_map(|number| {
            let channel = parameters(number).id(&domain);
            let opened = ChainEventKind::ChannelOpened {
                channel,
                parameters: parameters(number),
                deposit: TokenAmount::new(1_000),
                refunds_to_balance: false,
            };
            let requested_at = REQUESTED_AT;
            [opened, ChainEventKind::CloseRequested { channel, requested_at }]
        });
        let block = |number| Block {
            number: BlockNumber::new(number),
            hash: B256::with_last_byte(u8::try_from(number).unwrap()),
            parent: B256::with_last_byte(u8::try_from(number - 1).unwrap()),
            timestamp: REQUESTED_AT.plus(Duration::from_secs(number)),
        };
        let events = kinds.zip(0..).map(|(kind, log)| ChainEvent {
            block: BlockNumber::new(1),
            block_hash: block(1).hash,
            position: EventPosition::of_log(log),
            transaction: B256::repeat_byte(0x7a),
            kind,
        });
        let policy = ObligationPolicy {
            payees: vec![PAYEE],
            grace: Duration::from_secs(3_600),
        };
        ledger
            .apply_blocks(vec![block(1)], events.collect(), BlockNumber::new(0), policy.clone())
            .await
            .unwrap();
        let reviewed = review(&ledger, block(1)).await.unwrap();
        assert_eq!(reviewed.standing, channels.count(), "not final yet");

        ledger
            .apply_blocks(vec![block(2)], Vec::new(), BlockNumber::new(2), policy)
            .await
            .unwrap();
        let reviewed = review(&ledger, block(2)).await.unwrap();
        assert_eq!((reviewed.standing, reviewed.next_deadline, reviewed.lost), (0, None, 0));
        assert!(ledger.obligations().await.unwrap().is_empty());
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
            held: false,
        };
        let verdict = |finalized| name(&judge_with(1_100, Some(standing(finalized))));
        assert_eq!((verdict(false), verdict(true)), ("stands empty", "met"));
    }
}
