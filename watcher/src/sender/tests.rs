use std::{cell::Cell, time::Duration};

use lloom_ledger::StoreDeployment;
use lloom_receipts::BlockNumber;

use super::*;
use crate::{chain::FeeQuote, scripted_chain::ScriptedChain, transaction::call_of};

const NOW: UnixSeconds = UnixSeconds::new(2_000_000);
const PATIENCE: Duration = Duration::from_secs(60);

struct Fixture {
    chain: ScriptedChain,
    ledger: Ledger,
    sender: Sender<ScriptedChain>,
    heights: Heights,
    /// Blocks that came by since, and took nothing.
    passed: Cell<u64>,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let chain = ScriptedChain::with_blocks(10);
        let directory = tempfile::tempdir().unwrap();
        let deployment = StoreDeployment {
            chain_id: 31_337,
            escrow: Address::repeat_byte(1),
            settlement: Address::repeat_byte(2),
        };
        let ledger = Ledger::open(&directory.path().join("lloom.db"), &deployment)
            .await
            .unwrap();
        let fees = FeePolicy {
            max_fee: 1_000,
            urgent_max_fee: 10_000,
            urgent_within: Duration::from_secs(600),
            min_priority_fee: 1,
            patience: PATIENCE,
            rebroadcast: Duration::from_secs(20),
        };
        let key = Keypair::from_secret([9; 32]).unwrap();
        let sender = Sender::new(chain.clone(), ledger.clone(), key, 31_337, fees);
        let heights = Heights {
            head: chain.head().await.unwrap(),
            confirmed: chain.block(BlockNumber::new(7)).await.unwrap().unwrap(),
        };
        Self {
            chain,
            ledger,
            sender,
            heights,
            passed: Cell::new(0),
            _directory: directory,
        }
    }

    async fn submit(&self, deadline: Option<UnixSeconds>) -> SentTransaction {
        self.try_submit(deadline).await.unwrap()
    }

    async fn try_submit(&self, deadline: Option<UnixSeconds>) -> Result<SentTransaction, SendError> {
        let order = Order {
            call: Call::transfer(Address::repeat_byte(3), U256::from(1)),
            gas_limit: 21_000,
            purpose: Purpose::Other,
            deadline,
        };
        self.sender.submit(order, NOW).await
    }

    async fn advance(&self, now: UnixSeconds) -> Vec<(TransactionId, Finish)> {
        self.advance_knowing(now, false).await
    }

    /// The same while no block is made.
    async fn advance_at_standstill(&self, now: UnixSeconds) {
        self.passed.set(self.passed.get().saturating_sub(1));
        self.advance(now).await;
    }

    async fn advance_knowing(&self, now: UnixSeconds, is_moot: bool) -> Vec<(TransactionId, Finish)> {
        self.advance_at(self.heights, now, is_moot).await
    }

    async fn advance_at(&self, mut heights: Heights, now: UnixSeconds, is_moot: bool) -> Vec<(TransactionId, Finish)> {
        self.passed.set(self.passed.get() + 1);
        heights.head.number = BlockNumber::new(heights.head.number.get() + self.passed.get());
        let outlook = |record: &TransactionRecord| Outlook {
            is_moot,
            ..Outlook::of(record)
        };
        let mut finished = Vec::new();
        self.sender.advance(heights, now, outlook, &mut finished).await.unwrap();
        finished.into_iter().map(|done| (done.record.id, done.finish)).collect()
    }

    fn nonces(&self, pending: u64, confirmed: u64, head: u64) {
        let (at_confirmed, at_head) = (self.heights.confirmed.hash, self.heights.head.hash);
        self.chain
            .set_nonces(pending, &[(at_confirmed, confirmed), (at_head, head)]);
    }

    fn receipt(&self, hash: B256, block: Block) -> MinedTransaction {
        MinedTransaction {
            hash,
            from: Address::ZERO,
            block: block.number,
            block_hash: block.hash,
            succeeded: true,
            gas_used: 21_000,
            gas_price: 11,
            logs: Vec::new(),
        }
    }

    async fn pending_nonces(&self) -> Vec<u64> {
        let pending = self.ledger.pending_transactions().await.unwrap();
        pending.iter().map(|record| record.nonce).collect()
    }

    /// The nonces of what gets nowhere, with the reasons.
    async fn stuck(&self) -> Vec<(u64, String)> {
        let pending = self.ledger.pending_transactions().await.unwrap();
        let stuck = self.sender.stuck(&pending).into_iter();
        stuck.map(|(record, reason)| (record.nonce, reason)).collect()
    }

    async fn record(&self, id: TransactionId) -> TransactionRecord {
        self.ledger.transaction(id).await.unwrap().unwrap()
    }
}

fn later(seconds: u64) -> UnixSeconds {
    NOW.plus(Duration::from_secs(seconds))
}

#[tokio::test]
async fn a_nonce_is_never_given_twice_though_the_pool_forgets() {
    let fixture = Fixture::new().await;
    fixture.nonces(5, 5, 5);
    let first = fixture.submit(None).await;
    let second = fixture.submit(None).await;
    assert_eq!(fixture.record(first.id).await.nonce, 5);
    assert_eq!(fixture.record(second.id).await.nonce, 6);
    // The key was used elsewhere in the meantime.
    fixture.nonces(9, 5, 5);
    let third = fixture.submit(None).await;
    assert_eq!(fixture.record(third.id).await.nonce, 9);
}

#[tokio::test]
async fn a_transaction_is_stored_before_the_network_sees_it_and_kept_when_nobody_takes_it() {
    let fixture = Fixture::new().await;
    fixture.chain.fail_broadcasts(true);
    let sent = fixture.submit(None).await;
    assert!(sent.refused.is_some());
    assert!(fixture.chain.broadcasts().is_empty());
    assert_eq!(fixture.ledger.pending_transactions().await.unwrap().len(), 1);

    fixture.chain.fail_broadcasts(false);
    assert!(fixture.advance(later(5)).await.is_empty());
    assert!(fixture.chain.broadcasts().is_empty(), "too early to send it again");
    fixture.advance(later(20)).await;
    assert_eq!(fixture.chain.broadcasts(), [fixture.record(sent.id).await.raw]);
}

#[tokio::test]
async fn a_receipt_counts_when_its_block_is_final() {
    let fixture = Fixture::new().await;
    let sent = fixture.submit(None).await;
    let shallow = fixture.chain.block(BlockNumber::new(8)).await.unwrap().unwrap();
    fixture.chain.set_receipt(fixture.receipt(sent.hash, shallow));
    fixture.nonces(1, 0, 1);
    assert!(fixture.advance(later(1_000)).await.is_empty());
    assert_eq!(
        fixture.ledger.pending_transactions().await.unwrap().len(),
        1,
        "and no replacement is made"
    );

    let forked = Block {
        hash: B256::repeat_byte(0xf0),
        ..fixture.heights.confirmed
    };
    fixture.chain.set_receipt(fixture.receipt(sent.hash, forked));
    assert!(
        fixture.advance(later(1_000)).await.is_empty(),
        "the receipt is of a fork"
    );

    fixture
        .chain
        .set_receipt(fixture.receipt(sent.hash, fixture.heights.confirmed));
    fixture.nonces(1, 1, 1);
    let finished = fixture.advance(later(1_000)).await;
    assert!(matches!(finished[..], [(id, Finish::Mined { succeeded: true, .. })] if id == sent.id));
    assert!(fixture.ledger.pending_transactions().await.unwrap().is_empty());
}

#[tokio::test]
async fn waiting_long_is_answered_by_a_dearer_replacement_never_by_giving_up() {
    let fixture = Fixture::new().await;
    let sent = fixture.submit(None).await;
    let mut now = NOW;
    for _ in 0..3 {
        now = now.plus(PATIENCE);
        assert!(fixture.advance(now).await.is_empty());
    }
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!(pending.len(), 4);
    for pair in pending.windows(2) {
        assert_eq!(pair[1].replaces, Some(pair[0].id));
        assert_eq!(pair[1].nonce, pair[0].nonce);
        assert!(pair[1].max_fee * 10 >= pair[0].max_fee * 11);
        assert!(pair[1].priority_fee > pair[0].priority_fee);
        assert_eq!(call_of(&pair[1].raw), call_of(&pair[0].raw));
    }

    // An earlier one is mined after all.
    let winner = pending[1].clone();
    fixture
        .chain
        .set_receipt(fixture.receipt(winner.hash, fixture.heights.confirmed));
    fixture.nonces(1, 1, 1);
    let finished = fixture.advance(now).await;
    assert_eq!(finished.len(), 4);
    for (id, finish) in finished {
        if id == winner.id {
            assert!(matches!(finish, Finish::Mined { .. }));
        } else {
            assert_eq!(finish, Finish::Replaced { by: winner.id });
        }
    }
    assert!(matches!(
        fixture.record(sent.id).await.finish,
        Some(Finish::Replaced { .. })
    ));
}

#[tokio::test]
async fn escalation_stops_at_the_limit_and_a_near_deadline_lifts_it() {
    let fixture = Fixture::new().await;
    fixture.chain.set_fees(FeeQuote {
        base_fee: 480,
        priority_fee: 40,
    });
    let deadline = later(7_200);
    fixture.submit(Some(deadline)).await;
    for round in 1..=5 {
        fixture.advance(later(60 * round)).await;
    }
    assert_eq!(fixture.ledger.pending_transactions().await.unwrap().len(), 1);
    fixture.advance(deadline.minus(Duration::from_secs(600))).await;
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!(pending.len(), 2);
    assert!(pending[1].max_fee > 1_000);
}

#[tokio::test]
async fn near_a_deadline_little_gas_money_is_no_reason_not_to_claim() {
    let fixture = Fixture::new().await;
    // The policy would offer 21: twice the base fee of 10, and the tip of 1. A transfer also sends one wei.
    fixture.chain.set_balance(U256::from(21_000 * 15 + 1));
    let relaxed = fixture.try_submit(Some(later(7_200))).await;
    assert!(matches!(relaxed, Err(SendError::InsufficientGasMoney { .. })));
    let sent = fixture.submit(Some(later(100))).await;
    let record = fixture.record(sent.id).await;
    // What was added for the hurry goes first.
    assert_eq!((record.max_fee, record.priority_fee), (15, 5));

    // It is sent again, but not replaced by one that no pool takes.
    fixture.advance(later(60)).await;
    assert_eq!(fixture.ledger.pending_transactions().await.unwrap().len(), 1);
    assert_eq!(fixture.chain.broadcasts(), [record.raw.clone(), record.raw]);

    // Less than the next block asks for: it would only wait.
    fixture.chain.set_balance(U256::from(21_000 * 11));
    let poor = fixture.try_submit(Some(later(100))).await;
    assert!(matches!(poor, Err(SendError::InsufficientGasMoney { .. })));
}

#[tokio::test]
async fn near_a_deadline_a_replacement_offers_what_the_balance_affords() {
    let fixture = Fixture::new().await;
    let deadline = Some(later(700));
    let sent = fixture.submit(deadline).await;
    assert_eq!(fixture.record(sent.id).await.max_fee, 21);
    // No block takes that any more, and there is not enough for what the policy would offer now.
    fixture.chain.set_fees(FeeQuote {
        base_fee: 114,
        priority_fee: 1,
    });
    fixture.chain.set_balance(U256::from(21_000 * 342 + 1));
    fixture.advance(later(690)).await;
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!(pending.len(), 2);
    assert_eq!((pending[1].replaces, pending[1].max_fee), (Some(sent.id), 342));
}

#[tokio::test]
async fn what_pending_transactions_may_cost_is_not_offered_twice() {
    let fixture = Fixture::new().await;
    // Enough for two at the usual price, a wei each, and not for a third.
    fixture
        .chain
        .set_balance(U256::from((21_000 * 21 + 1) * 2 + 21_000 * 20));
    fixture.submit(None).await;
    fixture.submit(None).await;
    let third = fixture.try_submit(None).await;
    assert!(
        matches!(&third, Err(SendError::InsufficientGasMoney { balance, .. }) if *balance == U256::from(21_000 * 20)),
        "{third:?}"
    );
    // A pool that has the two would have refused it.
    assert_eq!(fixture.chain.broadcasts().len(), 2);
}

#[tokio::test]
async fn what_is_finished_is_told_though_the_next_one_fails() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(None).await;
    let damaged = NewTransaction {
        from: fixture.sender.account(),
        nonce: 1,
        hash: B256::repeat_byte(7),
        raw: alloy::primitives::Bytes::from_static(b"no transaction"),
        purpose: Purpose::Other,
        replaces: None,
        max_fee: 1,
        priority_fee: 1,
        gas_limit: 21_000,
        deadline: None,
        now: NOW,
    };
    let damaged = fixture.ledger.record_transaction(damaged).await.unwrap();
    fixture.ledger.mark_broadcast(damaged, NOW).await.unwrap();
    fixture
        .chain
        .set_receipt(fixture.receipt(first.hash, fixture.heights.confirmed));
    fixture.nonces(1, 1, 1);
    let mut finished = Vec::new();
    let advanced = fixture
        .sender
        .advance(fixture.heights, later(1_000), Outlook::of, &mut finished)
        .await;
    assert!(matches!(advanced, Err(SendError::Unreadable(_))), "{advanced:?}");
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].record.id, first.id);
}

#[tokio::test]
async fn only_the_next_nonce_is_made_dearer_for_a_deadline_behind_it() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(None).await;
    fixture.submit(Some(later(100))).await;
    fixture.advance(later(30)).await;
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!(pending.len(), 3);
    let replacement = pending.iter().find(|record| record.replaces.is_some()).unwrap();
    assert_eq!(replacement.replaces, Some(first.id));
}

#[tokio::test]
async fn a_nonce_used_by_a_stranger_is_believed_when_three_confirmed_blocks_say_so() {
    let fixture = Fixture::new().await;
    let sent = fixture.submit(None).await;
    let confirmed = [5, 6, 7].map(BlockNumber::new);
    let mut used = vec![(fixture.heights.head.hash, 1)];
    let mut heights = Vec::new();
    for number in confirmed {
        let block = fixture.chain.block(number).await.unwrap().unwrap();
        used.push((block.hash, 1));
        heights.push(Heights {
            confirmed: block,
            ..fixture.heights
        });
    }
    fixture.chain.set_nonces(1, &used);
    // However often one block is looked at, it stays one proof.
    for second in 0..5 {
        assert!(fixture.advance_at(heights[0], later(second), false).await.is_empty());
    }
    assert!(fixture.advance_at(heights[1], later(6), false).await.is_empty());
    let dropped = [(sent.id, Finish::Dropped)];
    assert_eq!(fixture.advance_at(heights[2], later(7), false).await, dropped);
}

#[tokio::test]
async fn what_has_nothing_to_do_any_more_is_cancelled_when_it_is_stuck() {
    let fixture = Fixture::new().await;
    let sent = fixture.submit(None).await;
    fixture.submit(None).await;
    fixture.advance_knowing(later(10), true).await;
    assert_eq!(
        fixture.ledger.pending_transactions().await.unwrap().len(),
        2,
        "it may be mined yet"
    );

    fixture.advance_knowing(later(60), true).await;
    let stored = fixture.ledger.transactions(1).await.unwrap().remove(0);
    let original = fixture.record(sent.id).await;
    assert_eq!((stored.replaces, stored.nonce), (Some(sent.id), original.nonce));
    assert_eq!(stored.purpose, Purpose::Cancellation);
    let account = fixture.sender.account();
    assert_eq!(call_of(&stored.raw), Ok(Call::transfer(account, U256::ZERO)));
    assert!(stored.max_fee * 10 >= original.max_fee * 11);
    assert!(fixture.chain.broadcasts().contains(&stored.raw));

    // A cancellation that is stuck itself becomes dearer, and stays one.
    fixture.advance_knowing(later(120), true).await;
    let dearer = fixture.ledger.transactions(1).await.unwrap().remove(0);
    assert_eq!(
        (dearer.replaces, dearer.purpose),
        (Some(stored.id), Purpose::Cancellation)
    );

    // The original is mined after all: that is as good.
    let mined = fixture.receipt(sent.hash, fixture.heights.confirmed);
    fixture.chain.set_receipt(mined);
    fixture.nonces(1, 1, 1);
    let finished = fixture.advance_knowing(later(121), true).await;
    assert_eq!(finished.len(), 3);
    assert_eq!(
        fixture.record(dearer.id).await.finish,
        Some(Finish::Replaced { by: sent.id })
    );
}

#[tokio::test]
async fn a_clock_that_was_set_back_stops_nothing() {
    let fixture = Fixture::new().await;
    let sent = fixture.submit(None).await;
    let raw = fixture.record(sent.id).await.raw;
    // An hour ago, by the clock that is right now.
    let before = NOW.minus(Duration::from_secs(3_600));
    fixture.advance(before).await;
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!(pending.len(), 2, "it has waited long enough");
    assert_eq!(fixture.chain.broadcasts(), [raw, pending[1].raw.clone()]);
    // Seconds between the machine's clock and the chain's are no such thing.
    fixture.advance(before.minus(Duration::from_secs(5))).await;
    assert_eq!(fixture.ledger.pending_transactions().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_gap_that_somebody_else_left_is_filled_when_no_pool_has_it() {
    let fixture = Fixture::new().await;
    // Two transactions of another program with the same key were in the pool.
    fixture.nonces(2, 0, 0);
    let sent = fixture.submit(None).await;
    assert_eq!(fixture.record(sent.id).await.nonce, 2);
    fixture.nonces(1, 0, 0);
    fixture.advance(later(59)).await;
    assert_eq!(fixture.ledger.pending_transactions().await.unwrap().len(), 1);

    // One of them is still there.
    fixture.advance(later(60)).await;
    assert_eq!(fixture.pending_nonces().await, [1, 2]);
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!(pending[0].purpose, Purpose::Cancellation);
    assert_eq!(fixture.chain.broadcasts().last(), Some(&pending[0].raw));
    assert_eq!(pending[0].replaces, None);

    // Once it is stored, it is no gap.
    fixture.advance(later(61)).await;
    assert_eq!(fixture.ledger.pending_transactions().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_stranger_left_in_the_pool_keeps_no_claim_waiting_that_is_due() {
    let fixture = Fixture::new().await;
    // Another program with the same key has sent something, and blocks pass it over.
    fixture.nonces(1, 0, 0);
    let deadline = later(2_300);
    let sent = fixture.submit(Some(deadline)).await;
    assert_eq!(fixture.record(sent.id).await.nonce, 1);
    fixture.nonces(2, 0, 0);
    fixture.advance(later(1_600)).await;
    assert_eq!(
        fixture.pending_nonces().await,
        [1],
        "nothing is due, and it may still be mined"
    );

    // From here on it is in the way.
    let urgent = deadline.minus(Duration::from_secs(600));
    fixture.advance(urgent).await;
    assert_eq!(fixture.pending_nonces().await, [0, 1]);
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!(
        (&pending[0].purpose, pending[0].deadline),
        (&Purpose::Cancellation, Some(deadline))
    );
    assert!(fixture.chain.broadcasts().contains(&pending[0].raw));

    // Pools took the stranger's for the better one: the next bid is higher.
    let first_bid = pending[0].max_fee;
    fixture.chain.set_fees(FeeQuote {
        base_fee: 500,
        priority_fee: 1,
    });
    fixture.advance(urgent.plus(Duration::from_secs(100))).await;
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    let highest = pending
        .iter()
        .filter(|record| record.nonce == 0)
        .map(|record| record.max_fee)
        .max();
    assert!(highest > Some(first_bid), "{pending:#?}");
}

#[tokio::test]
async fn what_a_stranger_left_in_the_pool_keeps_no_order_waiting_for_ever() {
    let fixture = Fixture::new().await;
    fixture.nonces(1, 0, 0);
    fixture.submit(None).await;
    fixture.nonces(2, 0, 0);
    fixture.advance(later(1_799)).await;
    assert_eq!(fixture.pending_nonces().await, [1], "it may still be mined");
    fixture.advance(later(1_800)).await;
    assert_eq!(fixture.pending_nonces().await, [0, 1]);
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!(
        (&pending[0].purpose, pending[0].deadline),
        (&Purpose::Cancellation, None)
    );
}

#[tokio::test]
async fn a_gap_that_is_too_dear_to_fill_stops_nothing() {
    let fixture = Fixture::new().await;
    fixture.nonces(1, 0, 0);
    fixture.submit(None).await;
    fixture.nonces(0, 0, 0);
    fixture.chain.set_fees(FeeQuote {
        base_fee: 1_001,
        priority_fee: 1,
    });
    assert!(fixture.advance(later(60)).await.is_empty());
    assert_eq!(fixture.ledger.pending_transactions().await.unwrap().len(), 1);
    // What presses more is stored, and lifts the limit for what is before it.
    fixture.submit(Some(later(100))).await;
    fixture.advance(later(61)).await;
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    assert_eq!((pending[0].nonce, &pending[0].purpose), (0, &Purpose::Cancellation));
}

#[tokio::test]
async fn a_final_transaction_that_a_deep_reorg_took_back_is_sent_again() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(None).await;
    fixture
        .chain
        .set_receipt(fixture.receipt(first.hash, fixture.heights.confirmed));
    fixture.nonces(1, 1, 1);
    fixture.advance(later(1)).await;
    fixture.submit(None).await;
    let sent_before = fixture.chain.broadcasts().len();

    fixture.nonces(0, 0, 0);
    fixture.advance(later(2)).await;
    let broadcasts = fixture.chain.broadcasts();
    assert_eq!(broadcasts[sent_before..], [fixture.record(first.id).await.raw]);
}

#[tokio::test]
async fn a_start_after_a_crash_sends_everything_again_unchanged() {
    let fixture = Fixture::new().await;
    let sent = fixture.submit(None).await;
    let key = Keypair::from_secret([9; 32]).unwrap();
    let restarted = Sender::new(
        fixture.chain.clone(),
        fixture.ledger.clone(),
        key,
        31_337,
        FeePolicy::default(),
    );
    restarted.rebroadcast_all(later(1)).await.unwrap();
    let raw = fixture.record(sent.id).await.raw;
    assert_eq!(fixture.chain.broadcasts(), [raw.clone(), raw]);
}

#[tokio::test]
async fn a_chain_that_stands_still_makes_no_bid_dearer_than_the_market() {
    let fixture = Fixture::new().await;
    fixture.advance(NOW).await;
    let first = fixture.submit(Some(later(600))).await;
    for second in (0..=620).step_by(2) {
        fixture.advance_at_standstill(later(second)).await;
    }
    let bids = fixture.ledger.pending_transactions().await.unwrap();
    let tips: Vec<u128> = bids.iter().map(|record| record.priority_fee).collect();
    assert!(
        tips.iter().all(|tip| *tip <= 10),
        "ten usual ones at a deadline: {tips:?}"
    );
    // A block that passes it over is another matter.
    fixture.advance(later(622)).await;
    let newest = fixture.ledger.pending_transactions().await.unwrap().pop().unwrap();
    assert!(newest.id != first.id && newest.priority_fee > 10, "{newest:?}");
}

#[tokio::test]
async fn what_nothing_presses_is_cancelled_where_it_keeps_a_due_one_waiting_and_can_not_be_made_dearer() {
    let fixture = Fixture::new().await;
    fixture.chain.set_balance(U256::from(3_000_000 * 21 + 200_000 * 60));
    let order = |gas_limit, deadline| Order {
        call: Call::transfer(Address::repeat_byte(3), U256::ZERO),
        gas_limit,
        purpose: Purpose::Other,
        deadline,
    };
    fixture.sender.submit(order(3_000_000, None), NOW).await.unwrap();
    fixture.chain.set_fees(FeeQuote {
        base_fee: 50,
        priority_fee: 1,
    });
    let due = fixture
        .sender
        .submit(order(90_000, Some(later(600))), NOW)
        .await
        .unwrap();
    for second in (0..=300).step_by(6) {
        fixture.advance(later(second)).await;
    }
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    let first: Vec<_> = pending.iter().filter(|record| record.nonce == 0).collect();
    let newest = first.last().unwrap();
    assert!(
        newest.purpose == Purpose::Cancellation && newest.max_fee > 51,
        "{first:?}"
    );
    assert!(pending.iter().any(|record| record.id == due.id), "the due one stays");
}

#[tokio::test]
async fn what_is_in_a_block_has_paid_already() {
    let fixture = Fixture::new().await;
    fixture.nonces(0, 0, 0);
    let price = |each: u64| U256::from(21_000 * each);
    fixture.chain.set_balance(price(21) + price(15));
    let first = fixture.submit(None).await;
    // In a block that is not final, for 11 a gas.
    fixture
        .chain
        .set_receipt(fixture.receipt(first.hash, fixture.heights.head));
    fixture.nonces(1, 0, 1);
    fixture.chain.set_balance(price(21) + price(15) - price(11));
    fixture.advance(later(5)).await;
    assert!(fixture.record(first.id).await.finish.is_none());
    fixture.try_submit(Some(later(60))).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_of_one_transaction_keeps_no_other_waiting() {
    let fixture = Fixture::new().await;
    fixture.nonces(0, 0, 0);
    let first = fixture.submit(None).await;
    let second = fixture.submit(None).await;
    fixture.nonces(2, 0, 2);
    fixture.chain.refuse_receipt(first.hash);
    let mined = fixture.receipt(second.hash, fixture.heights.confirmed);
    fixture.chain.set_receipt(mined);
    let finished = fixture.advance(later(5)).await;
    assert_eq!(finished.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [second.id]);
    let pending = async || fixture.ledger.pending_transactions().await.unwrap().len();
    fixture.advance(later(100)).await;
    assert_eq!(pending().await, 1, "it may be in a block");
    fixture.nonces(2, 0, 0);
    fixture.advance(later(200)).await;
    assert_eq!(pending().await, 2, "its nonce is free: it is made dearer");
}

#[tokio::test]
async fn what_nobody_takes_is_stuck_and_so_is_what_waits_behind_it() {
    let fixture = Fixture::new().await;
    fixture.chain.fail_broadcasts(true);
    fixture.submit(None).await;
    fixture.chain.fail_broadcasts(false);
    fixture.submit(None).await;
    let stuck = fixture.stuck().await;
    let nonces: Vec<_> = stuck.iter().map(|(nonce, _)| *nonce).collect();
    assert_eq!(nonces, [0, 1], "the second one was taken, and can't be mined");
    assert!(
        stuck[1].1.starts_with("no endpoint takes its transaction: "),
        "{stuck:?}"
    );
    fixture.advance(later(20)).await;
    assert!(fixture.stuck().await.is_empty());
}

#[tokio::test]
async fn what_blocks_pass_over_and_may_bid_no_more_is_stuck_until_it_is_in_one_or_can_bid_again() {
    let fixture = Fixture::new().await;
    // What is bid before a block was seen may have been passed over.
    fixture.advance(NOW).await;
    fixture.chain.set_balance(U256::from(21_000 * 15 + 1));
    let sent = fixture.submit(Some(later(100))).await;
    fixture.advance_at_standstill(later(60)).await;
    assert!(fixture.stuck().await.is_empty(), "no block was there to pass over it");
    fixture.advance(later(60)).await;
    let stuck = fixture.stuck().await;
    assert!(matches!(&stuck[..], [(0, reason)] if reason.starts_with("blocks pass over its transaction")));

    // In a block that is not final yet.
    let shallow = fixture.chain.block(BlockNumber::new(8)).await.unwrap().unwrap();
    fixture.chain.set_receipt(fixture.receipt(sent.hash, shallow));
    fixture.advance(later(61)).await;
    assert!(fixture.stuck().await.is_empty());
    fixture.chain.forget_receipts();
    fixture.advance(later(62)).await;
    assert_eq!(fixture.stuck().await.len(), 1);
    fixture.chain.set_balance(U256::from(u64::MAX));
    fixture.advance(later(63)).await;
    assert_eq!(fixture.ledger.pending_transactions().await.unwrap().len(), 2);
    assert!(fixture.stuck().await.is_empty());
}

#[tokio::test]
async fn what_nothing_presses_still_gives_way_after_it_was_made_dearer() {
    let fixture = Fixture::new().await;
    // The large one can be made dearer once.
    fixture.chain.set_balance(U256::from(3_000_000 * 115 + 120_000 * 200));
    let order = |gas_limit, deadline| Order {
        call: Call::transfer(Address::repeat_byte(3), U256::ZERO),
        gas_limit,
        purpose: Purpose::Other,
        deadline,
    };
    fixture.sender.submit(order(3_000_000, None), NOW).await.unwrap();
    let due = order(90_000, Some(later(600)));
    let at = |base_fee| FeeQuote {
        base_fee,
        priority_fee: 1,
    };
    fixture.chain.set_fees(at(50));
    fixture.sender.submit(due, NOW).await.unwrap();
    fixture.advance(later(60)).await;
    assert_eq!(fixture.pending_nonces().await, [0, 0, 1]);

    fixture.chain.set_fees(at(400));
    for second in (66..=300).step_by(6) {
        fixture.advance(later(second)).await;
    }
    let pending = fixture.ledger.pending_transactions().await.unwrap();
    let newest = pending.iter().rfind(|record| record.nonce == 0).unwrap();
    assert!(
        newest.purpose == Purpose::Cancellation && newest.max_fee > 401,
        "{newest:?}"
    );
}

#[tokio::test]
async fn a_pool_that_is_said_to_hold_more_than_any_does_is_not_believed() {
    let fixture = Fixture::new().await;
    fixture.nonces(20_000_000, 5, 5);
    let sent = fixture.submit(None).await;
    assert_eq!(fixture.record(sent.id).await.nonce, 5);
}

#[tokio::test]
async fn what_was_signed_for_a_nonce_that_is_never_reached_is_given_up_and_in_the_way_of_nothing() {
    let fixture = Fixture::new().await;
    fixture.nonces(u64::MAX, u64::MAX, u64::MAX);
    let lost = fixture.submit(Some(later(600))).await;
    fixture.nonces(5, 5, 5);
    let sent = fixture.submit(None).await;
    assert_eq!(fixture.record(sent.id).await.nonce, 5);

    let mut heights = fixture.heights;
    for (number, hash) in [(4, 1), (5, 2), (6, 3)] {
        assert!(fixture.record(lost.id).await.finish.is_none());
        heights.confirmed.number = BlockNumber::new(number);
        heights.confirmed.hash = B256::repeat_byte(hash);
        let at = (heights.confirmed.hash, 5);
        fixture.chain.set_nonces(5, &[at, (heights.head.hash, 5)]);
        fixture.advance_at(heights, later(number), false).await;
    }
    assert_eq!(fixture.record(lost.id).await.finish, Some(Finish::Dropped));
    assert_eq!(fixture.pending_nonces().await, [5]);
}
