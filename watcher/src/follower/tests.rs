use std::time::Duration;

use alloy::{
    primitives::{Address, B256, LogData},
    sol_types::SolEvent as _,
};
use lloom_bindings::{
    ChannelEscrow, UsageSettlement, channel_escrow::IChannelEscrow::SettledChannel,
    usage_settlement::IUsageSettlement::Usage,
};
use lloom_ledger::{ChannelState, StoreDeployment};
use lloom_receipts::{ChannelId, ChannelParameters, Domain, TokenAmount, UnixSeconds};

use super::*;
use crate::scripted_chain::ScriptedChain;

const ESCROW: Address = Address::repeat_byte(0xe5);
const SETTLEMENT: Address = Address::repeat_byte(0x5e);
const PAYEE: Address = Address::repeat_byte(0xee);
const CONFIRMATIONS: u64 = 3;

struct Fixture {
    chain: ScriptedChain,
    ledger: Ledger,
    follower: Follower<ScriptedChain>,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new(chain: ScriptedChain) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let deployment = StoreDeployment::from(&domain());
        let ledger = Ledger::open(&directory.path().join("lloom.db"), &deployment)
            .await
            .unwrap();
        let follower = follower(&chain, &ledger);
        Self {
            chain,
            ledger,
            follower,
            _directory: directory,
        }
    }

    /// Steps until the ledger has the head, and says what changed.
    async fn follow(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for _ in 0..1_000 {
            let step = self.follower.step().await.unwrap();
            changes.extend(step.change);
            if step.is_at_head() && step.change.is_none() {
                return changes;
            }
        }
        panic!("the follower does not arrive: {changes:?}");
    }

    async fn latest(&self, channel: ChannelId) -> Option<ChannelState> {
        self.ledger
            .channel(channel)
            .await
            .unwrap()
            .and_then(|record| record.latest)
    }

    async fn confirmed(&self, channel: ChannelId) -> Option<ChannelState> {
        self.ledger
            .channel(channel)
            .await
            .unwrap()
            .and_then(|record| record.confirmed)
    }
}

fn follower(chain: &ScriptedChain, ledger: &Ledger) -> Follower<ScriptedChain> {
    let emitters = Emitters {
        escrow: ESCROW,
        settlement: SETTLEMENT,
        registry: Address::repeat_byte(0x4e),
    };
    let obligations = ObligationPolicy {
        payees: vec![PAYEE],
        grace: Duration::from_secs(3_600),
    };
    Follower::new(
        chain.clone(),
        ledger.clone(),
        emitters,
        BlockNumber::new(1),
        CONFIRMATIONS,
        obligations,
    )
}

fn domain() -> Domain {
    Domain::new(31_337, ESCROW, SETTLEMENT)
}

fn parameters(number: u8) -> ChannelParameters {
    ChannelParameters {
        payer: Address::repeat_byte(0x9a),
        payee: PAYEE,
        token: Address::repeat_byte(0x70),
        salt: B256::repeat_byte(number),
        authorized_signer: Address::ZERO,
    }
}

fn id(number: u8) -> ChannelId {
    parameters(number).id(&domain())
}

fn opened(number: u8, deposit: u128) -> (Address, LogData) {
    let parameters = parameters(number);
    let event = ChannelEscrow::ChannelOpened {
        channelId: id(number).hash(),
        payer: parameters.payer,
        payee: parameters.payee,
        token: parameters.token,
        authorizedSigner: parameters.authorized_signer,
        salt: parameters.salt,
        deposit,
        refundsToBalance: false,
    };
    (ESCROW, event.encode_log_data())
}

fn settled(number: u8, settled: u128) -> (Address, LogData) {
    let event = ChannelEscrow::ChannelSettled {
        channelId: id(number).hash(),
        settled,
    };
    (ESCROW, event.encode_log_data())
}

fn settled_together(channels: &[(u8, u128)]) -> (Address, LogData) {
    let channels = channels.iter().map(|(number, settled)| SettledChannel {
        channelId: id(*number).hash(),
        settled: *settled,
    });
    let event = ChannelEscrow::ChannelsSettled {
        channels: channels.collect(),
    };
    (ESCROW, event.encode_log_data())
}

fn usages_published_together(usages: &[(u8, u128)]) -> (Address, LogData) {
    let usages = usages.iter().map(|(number, amount)| Usage {
        channelId: id(*number).hash(),
        payer: parameters(*number).payer,
        sequence: 7,
        cumulativeInputTokens: 70,
        cumulativeOutputTokens: 700,
        cumulativeAmount: *amount,
    });
    let event = UsageSettlement::UsagesSettled {
        payee: parameters(1).payee,
        usages: usages.collect(),
    };
    (SETTLEMENT, event.encode_log_data())
}

fn close_requested(number: u8, requested_at: u64) -> (Address, LogData) {
    let event = ChannelEscrow::CloseRequested {
        channelId: id(number).hash(),
        requestedAt: requested_at,
    };
    (ESCROW, event.encode_log_data())
}

#[tokio::test]
async fn deposits_count_when_confirmed_and_close_requests_at_the_head() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(2)).await;
    fixture.chain.mine(vec![opened(1, 500)]);
    fixture.follow().await;
    assert_eq!(fixture.latest(id(1)).await.unwrap().deposit, TokenAmount::new(500));
    assert_eq!(fixture.confirmed(id(1)).await, None);

    for _ in 0..CONFIRMATIONS {
        fixture.chain.mine(Vec::new());
    }
    fixture.chain.mine(vec![close_requested(1, 1_000_050)]);
    fixture.follow().await;
    let confirmed = fixture.confirmed(id(1)).await.unwrap();
    assert_eq!(confirmed.deposit, TokenAmount::new(500));
    assert_eq!(confirmed.close_requested_at, None);
    assert_eq!(
        fixture.latest(id(1)).await.unwrap().close_requested_at,
        Some(UnixSeconds::new(1_000_050))
    );
    let obligations = fixture.ledger.obligations().await.unwrap();
    assert_eq!(obligations.len(), 1);
    assert_eq!(obligations[0].deadline, UnixSeconds::new(1_000_050 + 3_600));
}

/// A claim says in one log what it did to many channels; the same channel may come twice, and counts as it is said last.
#[tokio::test]
async fn a_log_about_many_channels_is_read_entry_by_entry() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(2)).await;
    fixture.chain.mine(vec![opened(1, 500), opened(2, 600), opened(3, 700)]);
    fixture
        .chain
        .mine(vec![settled_together(&[(1, 100), (2, 200), (1, 150)]), settled(3, 300)]);
    fixture.follow().await;
    for (number, wanted) in [(1, 150), (2, 200), (3, 300)] {
        assert_eq!(
            fixture.latest(id(number)).await.unwrap().settled,
            TokenAmount::new(wanted)
        );
    }

    fixture
        .chain
        .mine(vec![usages_published_together(&[(1, 180), (3, 330)])]);
    fixture.follow().await;
    for (number, wanted) in [(1, 180), (2, 200), (3, 330)] {
        assert_eq!(
            fixture.latest(id(number)).await.unwrap().settled,
            TokenAmount::new(wanted)
        );
    }

    fixture.chain.fork(2);
    for _ in 0..3 {
        fixture.chain.mine(Vec::new());
    }
    fixture.follow().await;
    for number in [1, 2, 3] {
        assert_eq!(fixture.latest(id(number)).await.unwrap().settled, TokenAmount::ZERO);
    }
}

#[tokio::test]
async fn a_fork_of_several_blocks_is_found_by_hashes_and_taken_back() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(5)).await;
    fixture.chain.mine(vec![opened(1, 500)]);
    let kept = fixture.chain.mine(vec![settled(1, 100)]);
    fixture.chain.mine(vec![settled(1, 200)]);
    fixture.chain.mine(vec![opened(2, 900)]);
    let old = fixture.chain.mine(vec![close_requested(1, 1_000_060)]);
    fixture.follow().await;
    assert_eq!(fixture.latest(id(1)).await.unwrap().settled, TokenAmount::new(200));
    assert_eq!(fixture.ledger.obligations().await.unwrap().len(), 1);

    fixture.chain.fork(3);
    fixture.chain.mine(vec![settled(1, 150)]);
    for _ in 0..4 {
        fixture.chain.mine(Vec::new());
    }
    let changes = fixture.follow().await;
    assert_eq!(
        changes[0],
        Change::Reorged {
            ancestor: kept.number,
            old
        }
    );
    let state = fixture.latest(id(1)).await.unwrap();
    assert_eq!(state.settled, TokenAmount::new(150));
    assert_eq!(state.close_requested_at, None);
    assert_eq!(fixture.latest(id(2)).await, None, "its opening is gone");
    assert!(fixture.ledger.obligations().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_fork_that_is_still_shorter_takes_blocks_back_too() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(5)).await;
    let old = fixture.chain.mine(vec![opened(1, 500)]);
    fixture.follow().await;
    fixture.chain.fork(2);
    let head = fixture.chain.mine(Vec::new());
    // The new fork is shorter: its head stands where another block is stored.
    let changes = fixture.follow().await;
    assert_eq!(
        changes,
        [
            Change::Reorged {
                ancestor: BlockNumber::new(4),
                old
            },
            Change::Committed { last: head, events: 0 }
        ]
    );
    assert_eq!(fixture.latest(id(1)).await, None);
}

#[tokio::test]
async fn an_endpoint_that_is_behind_takes_nothing_back() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(5)).await;
    fixture.chain.mine(vec![opened(1, 500)]);
    fixture.follow().await;
    let behind = ScriptedChain::with_blocks(3);
    let mut follower = follower(&behind, &fixture.ledger);
    let step = follower.step().await.unwrap();
    assert_eq!(step.change, None);
    assert_eq!(fixture.latest(id(1)).await.unwrap().deposit, TokenAmount::new(500));
}

#[tokio::test]
async fn an_endpoint_that_only_begins_is_not_taken_for_another_chain() {
    // Long enough for the ledger to have forgotten the first blocks.
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(1_500)).await;
    fixture.follow().await;
    assert_eq!(fixture.ledger.block(BlockNumber::new(0)).await.unwrap(), None);
    let begins = ScriptedChain::with_blocks(3);
    let mut follower = follower(&begins, &fixture.ledger);
    assert_eq!(follower.step().await.unwrap().change, None);
}

#[tokio::test]
async fn reads_a_long_history_in_ranges_that_fit_the_endpoint() {
    const LIMIT: u64 = 300;
    let chain = ScriptedChain::with_blocks(100);
    chain.mine(vec![opened(1, 500)]);
    for _ in 0..2_000 {
        chain.mine(Vec::new());
    }
    chain.mine(vec![settled(1, 70)]);
    chain.limit_ranges(LIMIT);
    let mut fixture = Fixture::new(chain).await;
    fixture.follow().await;
    let state = fixture.latest(id(1)).await.unwrap();
    assert_eq!(
        (state.deposit, state.settled),
        (TokenAmount::new(500), TokenAmount::new(70))
    );
    let (ranges, by_hash) = fixture.chain.log_requests();
    assert!(ranges.len() < 14, "{ranges:?}");
    assert!(ranges.iter().all(|width| *width <= LIMIT), "{ranges:?}");
    assert_eq!(by_hash as u64, TAIL);
}

#[tokio::test]
async fn goes_on_after_every_failure_without_losing_or_repeating() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(10)).await;
    fixture.chain.mine(vec![opened(1, 500), settled(1, 10)]);
    fixture.chain.mine(vec![settled(1, 20)]);
    // Every answer of a run fails once, each at another place.
    for failing in 1..40 {
        fixture.chain.fail_next(failing % 3);
        let _ = fixture.follower.step().await;
    }
    fixture.chain.fail_next(0);
    fixture.follow().await;
    assert_eq!(fixture.latest(id(1)).await.unwrap().settled, TokenAmount::new(20));
}

#[tokio::test]
async fn a_restart_goes_on_at_the_cursor() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(10)).await;
    fixture.chain.mine(vec![opened(1, 500)]);
    fixture.follow().await;
    let (_, before) = fixture.chain.log_requests();
    fixture.chain.mine(vec![settled(1, 30)]);
    fixture.follower = follower(&fixture.chain, &fixture.ledger);
    fixture.follow().await;
    assert_eq!(fixture.latest(id(1)).await.unwrap().settled, TokenAmount::new(30));
    let (_, after) = fixture.chain.log_requests();
    assert_eq!(after - before, 1, "only the new block is read");
}

#[tokio::test]
async fn refuses_to_follow_another_chain_with_this_store() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(5)).await;
    fixture.follow().await;
    let other = ScriptedChain::default();
    other.fork(0);
    for _ in 0..10 {
        other.mine(Vec::new());
    }
    let mut follower = follower(&other, &fixture.ledger);
    assert!(matches!(follower.step().await, Err(FollowError::ForeignChain { .. })));
    assert_eq!(
        fixture.ledger.cursor().await.unwrap().unwrap().number,
        BlockNumber::new(5)
    );
}

/// Behind one address there may be several nodes, and one that has not heard of a block yet has no logs of it.
#[tokio::test]
async fn logs_that_were_left_out_near_the_head_are_found_once_the_block_is_deep() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(50)).await;
    let before = fixture.chain.mine(vec![opened(1, 500)]);
    fixture.follow().await;
    let hidden = fixture.chain.mine(vec![close_requested(1, 1_000_050)]);
    fixture.chain.leave_out_logs_of(hidden.hash);
    fixture.chain.mine(vec![settled(1, 70)]);
    fixture.follow().await;
    assert_eq!(fixture.latest(id(1)).await.unwrap().close_requested_at, None);

    let mut changes = Vec::new();
    for _ in 0..2 * TAIL {
        fixture.chain.mine(Vec::new());
        changes.extend(fixture.follow().await);
    }
    let state = fixture.latest(id(1)).await.unwrap();
    assert_eq!(state.close_requested_at, Some(UnixSeconds::new(1_000_050)));
    assert_eq!(state.settled, TokenAmount::new(70));
    assert_eq!(fixture.ledger.obligations().await.unwrap().len(), 1);
    let missed = changes.iter().filter(|change| {
        **change
            == Change::Missed {
                ancestor: before.number,
                block: hidden.number,
            }
    });
    assert_eq!(missed.count(), 1, "{changes:?}");
    let taken_back = changes
        .iter()
        .filter(|change| !matches!(change, Change::Committed { .. }));
    assert_eq!(taken_back.count(), 1, "{changes:?}");
}

/// A process that died may have read its last blocks badly.
#[tokio::test]
async fn logs_that_an_earlier_process_was_not_told_are_found_too() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(50)).await;
    let hidden = fixture.chain.mine(vec![opened(1, 500)]);
    fixture.chain.leave_out_logs_of(hidden.hash);
    fixture.follow().await;
    for _ in 0..1_000 {
        fixture.chain.mine(Vec::new());
    }
    fixture.follower = follower(&fixture.chain, &fixture.ledger);
    fixture.follow().await;
    assert_eq!(fixture.latest(id(1)).await.unwrap().deposit, TokenAmount::new(500));
}

/// What is read twice is read in few questions.
#[tokio::test]
async fn a_block_is_looked_at_again_with_many_others() {
    let mut fixture = Fixture::new(ScriptedChain::with_blocks(100)).await;
    fixture.follow().await;
    let (before, _) = fixture.chain.log_requests();
    for _ in 0..4 * TAIL {
        fixture.chain.mine(Vec::new());
        fixture.follow().await;
    }
    let (after, _) = fixture.chain.log_requests();
    assert!(after.len() - before.len() <= 5, "{after:?}");
}
