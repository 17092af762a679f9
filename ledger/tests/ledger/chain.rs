use alloy::primitives::Address;
use lloom_ledger::{
    AcceptRequest, ApplyError, Block, ChainEvent, ChainEventKind, ChannelFilter, ChannelRecord, ChannelState, Ledger,
    ObligationPolicy, Outcome, PublishedUsage, ServeError, SkipReason,
};
use lloom_receipts::{BlockNumber, ChannelId, TokenTotal, UnixSeconds};
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};

use crate::world::{Backend, Home, Pair, amount, block, event, key, mine, serving};

fn policy() -> ObligationPolicy {
    ObligationPolicy {
        payees: vec![Address::repeat_byte(0xaa)],
        grace: std::time::Duration::from_secs(3_600),
    }
}

async fn apply(
    ledger: &Ledger,
    blocks: Vec<Block>,
    events: Vec<ChainEvent>,
    confirmed: u64,
) -> Result<Outcome, ApplyError> {
    ledger
        .apply_blocks(blocks, events, BlockNumber::new(confirmed), policy())
        .await
}

async fn events_become_a_channels_state_at_two_heights(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let home = Home::new(on).await;
    let ledger = home.open().await;
    assert_eq!(ledger.cursor().await.unwrap(), None);
    let topped_up = ChainEventKind::ToppedUp {
        channel,
        deposit: amount(900),
        close_cancelled: true,
    };
    let requested = ChainEventKind::CloseRequested {
        channel,
        requested_at: UnixSeconds::new(77),
    };
    let events = vec![
        event(12, 0, 1, topped_up),
        event(10, 0, 3, pair.opened(500)),
        event(12, 0, 0, requested),
        event(
            11,
            0,
            0,
            ChainEventKind::Settled {
                channel,
                settled: amount(40),
            },
        ),
    ];
    // Blocks without events may be left out.
    let blocks = vec![block(7, 0, 0), block(10, 0, 0), block(11, 0, 0), block(12, 0, 0)];
    assert_eq!(
        apply(&ledger, blocks.clone(), events.clone(), 11).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(apply(&ledger, blocks, events, 11).await.unwrap(), Outcome::AlreadyKnown);
    assert_eq!(ledger.cursor().await.unwrap(), Some(block(12, 0, 0)));
    assert_eq!(ledger.block(BlockNumber::new(10)).await.unwrap(), Some(block(10, 0, 0)));
    assert_eq!(ledger.block(BlockNumber::new(9)).await.unwrap(), None);
    assert_eq!(
        ledger.newest_blocks(2).await.unwrap(),
        vec![block(12, 0, 0), block(11, 0, 0)]
    );
    assert_eq!(ledger.confirmed_block().await.unwrap(), Some(BlockNumber::new(11)));

    let state = ChannelState {
        deposit: amount(500),
        settled: amount(40),
        close_requested_at: None,
        finalized: false,
    };
    let record = ledger.channel(channel).await.unwrap().unwrap();
    assert_eq!(
        record,
        ChannelRecord {
            id: channel,
            parameters: pair.parameters,
            opened_in: Some(BlockNumber::new(10)),
            refunds_to_balance: true,
            confirmed: Some(state),
            latest: Some(ChannelState {
                deposit: amount(900),
                ..state
            }),
            operator: None,
            client_random: None,
        }
    );
    assert_eq!(ledger.obligations().await.unwrap().len(), 1);
}

async fn blocks_that_do_not_connect_change_nothing(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 500).await;
    mine(&ledger, vec![]).await;
    let opened = |number, fork| vec![event(number, fork, 0, Pair::new(2, 2).opened(5))];
    let fork = apply(&ledger, vec![block(3, 9, 9)], opened(3, 9), 3).await.unwrap_err();
    assert!(
        matches!(fork, ApplyError::DoesNotConnect { block } if block.get() == 3),
        "{fork}"
    );
    let replaced = apply(&ledger, vec![block(2, 9, 0), block(3, 9, 9)], opened(3, 9), 3)
        .await
        .unwrap_err();
    assert!(
        matches!(replaced, ApplyError::DoesNotConnect { block } if block.get() == 2),
        "{replaced}"
    );
    let torn = apply(&ledger, vec![block(3, 0, 0), block(4, 0, 9)], opened(4, 0), 3)
        .await
        .unwrap_err();
    assert!(
        matches!(torn, ApplyError::DoesNotConnect { block } if block.get() == 4),
        "{torn}"
    );
    for blocks in [vec![], vec![block(4, 0, 0), block(3, 0, 0)]] {
        let unordered = apply(&ledger, blocks, vec![], 3).await.unwrap_err();
        assert!(matches!(unordered, ApplyError::Unordered), "{unordered}");
    }
    for stray in [opened(2, 0), opened(4, 0), opened(3, 9)] {
        let stray = apply(&ledger, vec![block(3, 0, 0)], stray, 3).await.unwrap_err();
        assert!(matches!(stray, ApplyError::StrayEvent { .. }), "{stray}");
    }
    let forged = ChainEventKind::ChannelOpened {
        channel: Pair::new(3, 3).channel(),
        parameters: pair.parameters,
        deposit: amount(1),
        refunds_to_balance: false,
    };
    let forged = apply(&ledger, vec![block(3, 0, 0)], vec![event(3, 0, 0, forged)], 3)
        .await
        .unwrap_err();
    assert!(matches!(forged, ApplyError::WrongChannelId { .. }), "{forged}");
    assert_eq!(ledger.cursor().await.unwrap(), Some(block(2, 0, 0)));
    assert_eq!(ledger.channels(ChannelFilter::default()).await.unwrap().len(), 1);
}

async fn a_deep_reorg_takes_the_deposit_and_what_it_covered(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 500).await;
    mine(
        &ledger,
        vec![ChainEventKind::ToppedUp {
            channel,
            deposit: amount(900),
            close_cancelled: false,
        }],
    )
    .await;
    ledger.accept_voucher(pair.voucher(400)).await.unwrap();
    ledger.accept_request(pair.accept(1, Some(800), 700)).await.unwrap();
    ledger.commit_bill(pair.bill(1, 700)).await.unwrap();
    assert_eq!(ledger.account(channel).await.unwrap().authorized, amount(800));
    assert_eq!(ledger.roll_back(BlockNumber::new(1)).await.unwrap(), Outcome::Recorded);
    assert_eq!(
        ledger.roll_back(BlockNumber::new(1)).await.unwrap(),
        Outcome::AlreadyKnown
    );
    // The newest voucher is over the deposit now: it is good for all of that.
    assert_eq!(ledger.account(channel).await.unwrap().authorized, amount(500));
    let claimable = ledger.claimable_channel(channel).await.unwrap().unwrap();
    assert_eq!(claimable.voucher, Some(pair.voucher(800)));
    assert_eq!(claimable.amount(), amount(500));
    let tallies = ledger.tallies(pair.payee).await.unwrap();
    assert_eq!(tallies[0].voucher, Some(amount(500)));
    let handed = ledger
        .undelegated(key(71).address(), pair.payee, UnixSeconds::new(9), None, 10)
        .await
        .unwrap();
    assert_eq!(handed[0].delegation.claim, amount(500));
    assert_eq!(handed[0].delegation.voucher, pair.voucher(800));
    assert_eq!(ledger.confirmed_block().await.unwrap(), Some(BlockNumber::new(1)));

    ledger.roll_back(BlockNumber::new(0)).await.unwrap();
    assert_eq!(ledger.cursor().await.unwrap(), None);
    let record = ledger.channel(channel).await.unwrap().unwrap();
    assert_eq!((record.opened_in, record.confirmed, record.latest), (None, None, None));
    let refused = ledger.accept_request(pair.accept(2, None, 1)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Unconfirmed), "{refused}");

    mine(&ledger, vec![pair.opened(850)]).await;
    assert_eq!(ledger.account(channel).await.unwrap().authorized, amount(800));
    let request = AcceptRequest {
        reserve: amount(100),
        ..pair.accept(2, None, 1)
    };
    ledger.accept_request(request).await.unwrap();
}

async fn operators_and_published_usage_are_what_was_said_last(on: Backend) {
    let pair = Pair::new(1, 1);
    let (channel, payee) = (pair.channel(), pair.payee);
    let (_home, ledger) = serving(on, &pair, 500).await;
    let (first, second) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let usage = |sequence, total| ChainEventKind::UsageSettled {
        channel,
        sequence,
        input: TokenTotal::new(total),
        output: TokenTotal::new(u64::MAX),
        amount: amount(u128::from(total)),
    };
    assert_eq!(ledger.published_usage(channel).await.unwrap(), None);
    mine(
        &ledger,
        vec![
            ChainEventKind::OperatorAdded { payee, operator: first },
            ChainEventKind::OperatorAdded {
                payee,
                operator: second,
            },
            ChainEventKind::OperatorAdded {
                payee: Address::ZERO,
                operator: second,
            },
            usage(3, 30),
        ],
    )
    .await;
    mine(
        &ledger,
        vec![
            ChainEventKind::OperatorRetired { payee, operator: first },
            usage(4, 40),
            ChainEventKind::RowSkipped {
                channel,
                index: 0,
                reason: SkipReason::InvalidSignature,
            },
            ChainEventKind::PayoutCredited {
                account: payee,
                token: pair.token,
                amount: amount(1),
            },
        ],
    )
    .await;
    assert_eq!(
        ledger.operators(payee).await.unwrap(),
        vec![(first, false), (second, true)]
    );
    let published = PublishedUsage {
        sequence: 4,
        input: TokenTotal::new(40),
        output: TokenTotal::new(u64::MAX),
        amount: amount(40),
    };
    assert_eq!(ledger.published_usage(channel).await.unwrap(), Some(published));
    ledger.roll_back(BlockNumber::new(2)).await.unwrap();
    assert_eq!(
        ledger.operators(payee).await.unwrap(),
        vec![(first, true), (second, true)]
    );
    assert_eq!(ledger.published_usage(channel).await.unwrap().unwrap().sequence, 3);
    // Of a claim by receipts nothing else says what is settled; an older receipt published later takes nothing back.
    mine(&ledger, vec![usage(2, 20)]).await;
    let record = ledger.channel(channel).await.unwrap().unwrap();
    assert_eq!(record.latest.unwrap().settled, amount(30));
}

async fn channels_are_listed_by_what_is_asked(on: Backend) {
    let (first, second) = (Pair::new(1, 1), Pair::new(2, 2));
    let (_home, ledger) = serving(on, &first, 500).await;
    mine(&ledger, vec![second.opened(7)]).await;
    let channel = first.channel();
    mine(
        &ledger,
        vec![ChainEventKind::Closed {
            channel,
            settled: amount(0),
            refunded: amount(500),
        }],
    )
    .await;
    ledger.record_channel(Pair::new(2, 3).new_channel(50)).await.unwrap();
    let list = async |filter: ChannelFilter| -> Vec<ChannelId> {
        ledger
            .channels(filter)
            .await
            .unwrap()
            .iter()
            .map(|record| record.id)
            .collect()
    };
    let all = ChannelFilter::default();
    let planned = Pair::new(2, 3).channel();
    assert_eq!(list(all).await, vec![channel, second.channel(), planned]);
    assert_eq!(
        list(ChannelFilter { open_only: true, ..all }).await,
        vec![second.channel()]
    );
    let payer = Some(second.payer.address());
    assert_eq!(
        list(ChannelFilter { payer, ..all }).await,
        vec![second.channel(), planned]
    );
    assert_eq!(
        list(ChannelFilter {
            payee: Some(Address::ZERO),
            ..all
        })
        .await,
        vec![]
    );
    assert_eq!(
        list(ChannelFilter {
            operator: Some(second.operator.address()),
            ..all
        })
        .await,
        vec![planned]
    );
}

/// What a random chain does to one of three channels.
#[derive(Clone, Debug)]
struct Step {
    channel: u8,
    what: u8,
    value: u64,
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = (0..3_u8, 0..5_u8, 0..1_000_u64).prop_map(|(channel, what, value)| Step { channel, what, value });
    prop::collection::vec(prop::collection::vec(step, 0..4), 1..8)
}

/// Turns steps into events that a contract could emit: totals grow, and nothing follows a close.
fn events_of(blocks: &[Vec<Step>], first: u64, fork: u8, model: &mut [Option<ChannelState>; 3]) -> Vec<ChainEvent> {
    let mut events = Vec::new();
    for (steps, number) in blocks.iter().zip(first..) {
        for (step, index) in steps.iter().zip(0..) {
            let pair = Pair::new(step.channel + 1, step.channel);
            let channel = pair.channel();
            let state = &mut model[usize::from(step.channel)];
            let kind = match (state.as_mut(), step.what) {
                (None, _) => {
                    let deposit = amount(u128::from(step.value) + 1);
                    *state = Some(ChannelState {
                        deposit,
                        settled: amount(0),
                        close_requested_at: None,
                        finalized: false,
                    });
                    pair.opened(deposit.base_units())
                }
                (Some(state), _) if state.finalized => continue,
                (Some(state), 0) => {
                    state.deposit = state.deposit.saturating_add(amount(u128::from(step.value)));
                    ChainEventKind::ToppedUp {
                        channel,
                        deposit: state.deposit,
                        close_cancelled: step.value % 2 == 0,
                    }
                }
                (Some(state), 1) => {
                    state.settled = state
                        .deposit
                        .min(state.settled.saturating_add(amount(u128::from(step.value))));
                    ChainEventKind::Settled {
                        channel,
                        settled: state.settled,
                    }
                }
                (Some(_), 2) => ChainEventKind::CloseRequested {
                    channel,
                    requested_at: UnixSeconds::new(number * 10 + u64::from(index)),
                },
                (Some(state), 3) if step.value % 3 == 0 => {
                    state.finalized = true;
                    let refunded = state.deposit.saturating_sub(state.settled);
                    ChainEventKind::Closed {
                        channel,
                        settled: state.settled,
                        refunded,
                    }
                }
                _ => ChainEventKind::RowSkipped {
                    channel,
                    index: 0,
                    reason: SkipReason::AmountNotIncreasing,
                },
            };
            events.push(event(number, fork, index, kind));
        }
    }
    events
}

/// All that following the chain has to reproduce.
async fn picture(ledger: &Ledger) -> String {
    let mut obligations: Vec<_> = ledger
        .obligations()
        .await
        .unwrap()
        .into_iter()
        .map(|obligation| {
            (
                obligation.channel,
                obligation.requested_at,
                obligation.deadline,
                obligation.resolution,
            )
        })
        .collect();
    obligations.sort_by_key(|(channel, requested_at, ..)| (*channel, *requested_at));
    let mut accounts = Vec::new();
    for channel in 0..3 {
        accounts.push(ledger.account(Pair::new(channel + 1, channel).channel()).await.unwrap());
    }
    format!(
        "{:#?}",
        (
            ledger.channels(ChannelFilter::default()).await.unwrap(),
            ledger.newest_blocks(100).await.unwrap(),
            ledger.confirmed_block().await.unwrap(),
            obligations,
            accounts,
        )
    )
}

/// A chain that forks, and what is done on both sides of it.
#[derive(Debug)]
struct Fork {
    common: Vec<Vec<Step>>,
    lost: Vec<Vec<Step>>,
    kept: Vec<Vec<Step>>,
    /// How far the confirmed block is behind.
    lag: u64,
    vouchers: u8,
}

fn forks() -> impl Strategy<Value = Fork> {
    let parts = (steps(), steps(), steps(), 0..6_u64, 0..4_u8);
    parts.prop_map(|(common, lost, kept, lag, vouchers)| Fork {
        common,
        lost,
        kept,
        lag,
        vouchers,
    })
}

async fn rolling_back_and_going_on_equals_going_straight(on: Backend, fork: Fork) {
    let Fork {
        common,
        lost,
        kept,
        lag,
        vouchers,
    } = &fork;
    let (lag, vouchers) = (*lag, *vouchers);
    let (reorged_home, straight_home) = (Home::new(on).await, Home::new(on).await);
    let reorged = reorged_home.open().await;
    let straight = straight_home.open().await;

    let mut model = [None; 3];
    let shared = events_of(common, 1, 0, &mut model);
    let tip = common.len() as u64;
    let shared_blocks: Vec<Block> = (1..=tip).map(|number| block(number, 0, 0)).collect();
    let fork = |fork: u8, length: usize| -> Vec<Block> {
        let end = tip + length as u64;
        (tip + 1..=end)
            .map(|number| block(number, fork, if number == tip + 1 { 0 } else { fork }))
            .collect()
    };
    let lost_events = events_of(lost, tip + 1, 1, &mut model.clone());
    let kept_events = events_of(kept, tip + 1, 2, &mut model);

    for ledger in [&reorged, &straight] {
        apply(ledger, shared_blocks.clone(), shared.clone(), tip.saturating_sub(lag))
            .await
            .unwrap();
        for channel in 0..3 {
            let pair = Pair::new(channel + 1, channel);
            for step in 0..vouchers {
                // Those over the deposit are refused, by both alike.
                let _ = ledger.accept_voucher(pair.voucher(u128::from(step) * 150 + 1)).await;
            }
        }
    }
    // One goes astray, as far as the confirmed block, and comes back.
    let end = tip + lost.len() as u64;
    for (number, block) in (tip + 1..=end).zip(fork(1, lost.len())) {
        let events = lost_events
            .iter()
            .filter(|event| event.block.get() == number)
            .cloned()
            .collect();
        apply(&reorged, vec![block], events, tip.saturating_sub(lag))
            .await
            .unwrap();
    }
    reorged.roll_back(BlockNumber::new(tip)).await.unwrap();
    assert_eq!(picture(&reorged).await, picture(&straight).await);

    let end = tip + kept.len() as u64;
    for ledger in [&reorged, &straight] {
        apply(
            ledger,
            fork(2, kept.len()),
            kept_events.clone(),
            end.saturating_sub(lag),
        )
        .await
        .unwrap();
    }
    assert_eq!(picture(&reorged).await, picture(&straight).await);

    // Deeper than the confirmed block: everything is derived anew, as a fresh store would.
    reorged.roll_back(BlockNumber::new(1)).await.unwrap();
    let rest: Vec<ChainEvent> = shared
        .iter()
        .chain(&kept_events)
        .filter(|event| event.block.get() > 1)
        .cloned()
        .collect();
    let blocks: Vec<Block> = shared_blocks[1..].iter().copied().chain(fork(2, kept.len())).collect();
    apply(&reorged, blocks, rest, end.saturating_sub(lag)).await.unwrap();
    assert_eq!(picture(&reorged).await, picture(&straight).await);
}

fn for_random_forks(on: Backend, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    runner
        .run(&forks(), |fork| {
            runtime.block_on(rolling_back_and_going_on_equals_going_straight(on, fork));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_fork_leaves_no_trace_on_sqlite() {
    for_random_forks(Backend::Sqlite, 24);
}

#[test]
fn a_fork_leaves_no_trace_on_postgres() {
    for_random_forks(Backend::Postgres, 8);
}

on_both_stores!(
    events_become_a_channels_state_at_two_heights,
    blocks_that_do_not_connect_change_nothing,
    a_deep_reorg_takes_the_deposit_and_what_it_covered,
    operators_and_published_usage_are_what_was_said_last,
    channels_are_listed_by_what_is_asked
);
