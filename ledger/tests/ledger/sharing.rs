//! Several homes on one database.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes};
use futures::future::join_all;
use lloom_ledger::{
    ApplyError, ChainEventKind, Finish, Ledger, LedgerError, NewTransaction, ObligationPolicy, OpenError, Outcome,
    Purpose, ServeError, SettleError, StoreUrl,
};
use lloom_postgres::Server;
use lloom_receipts::{BlockNumber, ChannelId, MAX_DEADLINE_AHEAD, ReceiptHead, UnixSeconds};
use tokio::sync::broadcast::Receiver;

use crate::{
    beside::{Beside, beside, contents},
    world::{Backend, Home, NOW, Pair, amount, block, deployment, event, mine, serving},
};

/// Two homes on the store of `pair`'s channel, the first of which leads.
async fn two_homes(pair: &Pair, deposit: u128) -> ([Home; 2], [Ledger; 2]) {
    let (first, leading) = serving(Backend::Postgres, pair, deposit).await;
    let second = first.neighbour();
    let following = second.open_to_follow(NOW).await;
    ([first, second], [leading, following])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn homes_racing_for_a_nonce_a_bill_and_the_next_receipt_leave_one_of_each() {
    const ROUNDS: u64 = 20;
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (homes, ledgers) = two_homes(&pair, 100_000).await;
    for nonce in 1..=ROUNDS {
        // One request, handed to both: one takes it on, and the other is told that it was.
        let request = pair.accept(nonce, Some(u128::from(nonce) * 10), 10);
        let outcomes = join_all(ledgers.iter().map(|ledger| ledger.accept_request(request.clone()))).await;
        let mut outcomes: Vec<Outcome> = outcomes.into_iter().map(Result::unwrap).collect();
        outcomes.sort_by_key(|outcome| *outcome == Outcome::AlreadyKnown);
        assert_eq!(outcomes, [Outcome::Recorded, Outcome::AlreadyKnown]);
        // Two bills, of which one is committed and the other never was.
        let billing = ledgers.iter().zip([9, 10]);
        let bills = join_all(billing.map(|(ledger, output)| ledger.commit_bill(pair.bill(nonce, output)))).await;
        let bills: Vec<_> = bills.into_iter().map(Result::unwrap).collect();
        assert_eq!(bills[0], bills[1]);
        // Two receipts on the same head.
        let head = ledgers[0].head(channel).await.unwrap();
        let receipt = pair.link(&head, *bills[0].bill());
        let linked = join_all(
            ledgers
                .iter()
                .map(|ledger| ledger.accept_receipt(receipt.clone(), None)),
        )
        .await;
        assert!(linked.iter().all(Result::is_ok), "{linked:?}");
    }
    // And each for itself, as fast as it can.
    let racing = ledgers.iter().zip([1_u64, 2]).map(|(ledger, home)| {
        let (ledger, pair) = (ledger.clone(), pair.clone());
        tokio::spawn(async move {
            for number in 0..ROUNDS {
                let nonce = home << 32 | number;
                ledger
                    .accept_request(pair.accept(nonce, Some(90_000), 10))
                    .await
                    .or_else(passed_over)
                    .unwrap();
                let bill = *ledger.commit_bill(pair.bill(nonce, 10)).await.unwrap().bill();
                let mut head = ledger.head(channel).await.unwrap();
                while let Err(error) = ledger.accept_receipt(pair.link(&head, bill), None).await {
                    let ServeError::DoesNotExtend { head: Some(newest) } = error else {
                        panic!("{error}");
                    };
                    head = ReceiptHead::at(newest.receipt());
                }
            }
        })
    });
    for raced in join_all(racing).await {
        raced.unwrap();
    }
    let receipts = ledgers[1].receipts(channel, 0, 1_000).await.unwrap();
    let mut head = ReceiptHead::empty(channel);
    for receipt in &receipts {
        head.check_extends(receipt.receipt()).unwrap();
        head = ReceiptHead::at(receipt.receipt());
    }
    assert_eq!(receipts.len() as u64, 3 * ROUNDS);
    let account = ledgers[0].account(channel).await.unwrap();
    assert_eq!((account.billed, account.spent), (head.amount, head.amount));
    drop(homes);
}

/// A voucher that both bring is known to the second.
fn passed_over(error: ServeError) -> Result<Outcome, ServeError> {
    Err(error)
}

#[tokio::test]
async fn homes_share_a_payers_credit() {
    let pair = Pair::new(1, 1);
    let (_homes, ledgers) = two_homes(&pair, 1_000).await;
    let mut granted = 0;
    for (nonce, ledger) in (1..=10).zip(ledgers.iter().cycle()) {
        match ledger.accept_request(pair.accept(nonce, Some(35), 10)).await {
            Ok(_) => granted += 1,
            Err(error) => assert!(
                matches!(
                    error,
                    ServeError::Uncovered { .. } | ServeError::VoucherNotIncreasing { .. }
                ),
                "{error}"
            ),
        }
    }
    assert_eq!(granted, 3);
}

fn transaction(nonce: u64) -> NewTransaction {
    NewTransaction {
        from: Address::repeat_byte(1),
        nonce,
        hash: B256::with_last_byte(nonce as u8),
        raw: Bytes::from_static(b"signed"),
        purpose: Purpose::Other,
        replaces: None,
        max_fee: 1,
        priority_fee: 1,
        gas_limit: 1,
        deadline: None,
        now: NOW,
    }
}

/// Asserts that a ledger may do nothing that only the leader may.
async fn assert_powerless(ledger: &Ledger, pair: &Pair) {
    let next = ledger.cursor().await.unwrap().unwrap().number.get() + 1;
    let applied = ledger
        .apply_blocks(
            vec![block(next, 0, 0)],
            vec![event(next, 0, 0, pair.opened(7))],
            BlockNumber::new(next),
            ObligationPolicy::default(),
        )
        .await;
    assert!(
        matches!(applied, Err(ApplyError::Ledger(LedgerError::NotLeading))),
        "{applied:?}"
    );
    let rolled_back = ledger.roll_back(BlockNumber::new(0)).await;
    assert!(matches!(rolled_back, Err(LedgerError::NotLeading)), "{rolled_back:?}");
    let recorded = ledger.record_transaction(transaction(9)).await;
    assert!(
        matches!(recorded, Err(SettleError::Ledger(LedgerError::NotLeading))),
        "{recorded:?}"
    );
    if let Some(sent) = ledger.pending_transactions().await.unwrap().first() {
        let marked = ledger.mark_broadcast(sent.id, NOW).await;
        assert!(
            matches!(marked, Err(SettleError::Ledger(LedgerError::NotLeading))),
            "{marked:?}"
        );
        let finished = ledger.finish_transaction(sent.id, Finish::Dropped).await;
        assert!(
            matches!(finished, Err(SettleError::Ledger(LedgerError::NotLeading))),
            "{finished:?}"
        );
    }
    let checked = ledger.check_leads().await;
    assert!(matches!(checked, Err(LedgerError::NotLeading)), "{checked:?}");
}

#[tokio::test]
async fn a_deposed_leader_that_does_not_know_it_writes_nothing() {
    let pair = Pair::new(1, 1);
    let (homes, [old, new]) = two_homes(&pair, 1_000).await;
    old.record_transaction(transaction(1)).await.unwrap();
    assert!(new.try_lead().await.unwrap().is_none());
    assert_powerless(&new, &pair).await;
    old.check_leads().await.unwrap();

    // The server ends the session that holds the lock. The old leader goes on for up to a second before it looks.
    let before = contents(&homes[0]).await;
    let (elected, _) = tokio::join!(new.lead(), async {
        end_sessions(
            &homes[0],
            "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2)",
        )
        .await;
    });
    let elected = elected.unwrap();
    assert_powerless(&old, &pair).await;
    assert_eq!(contents(&homes[0]).await, before);
    assert!(!elected.is_lost());
    mine(&new, vec![pair.opened(1_000)]).await;
    new.mark_broadcast(new.pending_transactions().await.unwrap()[0].id, NOW)
        .await
        .unwrap();

    // The old one learns of it, and may be elected again.
    homes[0].leadership(|old| old.is_lost()).await;
    assert!(old.try_lead().await.unwrap().is_none());
    drop(elected);
    let again = old.lead().await.unwrap();
    old.check_leads().await.unwrap();
    assert_powerless(&new, &pair).await;
    drop(again);
    assert_powerless(&old, &pair).await;
}

/// Has the server end its sessions with the store of `home` that match `condition`.
async fn end_sessions(home: &Home, condition: &str) {
    let mut beside = beside(home).await;
    beside
        .run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() AND datname = current_database() AND application_name = 'lloom' AND {condition}"
        ))
        .await;
}

async fn heard(closings: &mut Receiver<ChannelId>) -> ChannelId {
    tokio::time::timeout(Duration::from_secs(30), closings.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_close_that_one_home_sees_is_heard_by_the_others() {
    let (pair, missed) = (Pair::new(1, 1), Pair::new(2, 2));
    let home = Home::in_database(Backend::Postgres).await;
    let leading = home.open().await;
    mine(&leading, vec![pair.opened(1_000), missed.opened(1_000)]).await;
    let neighbour = home.neighbour();
    let following = neighbour.open_to_follow(NOW).await;
    following
        .accept_request(missed.accept(1, Some(100), 100))
        .await
        .unwrap();
    let mut closings = following.closing_channels();
    let mut own = leading.closing_channels();
    let requested = |pair: &Pair| ChainEventKind::CloseRequested {
        channel: pair.channel(),
        requested_at: NOW,
    };
    mine(&leading, vec![requested(&pair)]).await;
    assert_eq!(heard(&mut closings).await, pair.channel());
    assert_eq!(heard(&mut own).await, pair.channel());

    // What is told while nobody can hear it is asked for afterwards.
    end_sessions(&neighbour, "query LIKE 'LISTEN%'").await;
    mine(&leading, vec![requested(&missed)]).await;
    assert_eq!(heard(&mut closings).await, missed.channel());
    assert_eq!(heard(&mut own).await, missed.channel());
    // Told or not, nothing more is delivered.
    let refused = following
        .reserve(missed.request(1).document().hash(), amount(101), Default::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, ServeError::ChannelClosing), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_the_server_ends_cost_no_answer() {
    const CALLERS: u64 = 8;
    const EACH: u64 = 40;
    let pair = Pair::new(1, 1);
    let home = Home::in_database(Backend::Postgres).await;
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(u128::MAX)]).await;
    let (acknowledged, mut seen) = tokio::sync::mpsc::channel(1_000);
    let accepting = (0..CALLERS).map(|caller| {
        let (ledger, pair, acknowledged) = (ledger.clone(), pair.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for number in 0..EACH {
                let nonce = caller << 32 | number;
                // Not even `AlreadyKnown`, which would be of another caller's: whoever asks first is served.
                let outcome = ledger.accept_request(pair.accept(nonce, None, 0)).await.unwrap();
                assert_eq!(outcome, Outcome::Recorded);
                acknowledged.send(()).await.unwrap();
            }
        })
    });
    let accepting: Vec<_> = accepting.collect();
    drop(acknowledged);
    let mut ended = 0;
    let mut next = String::from("true");
    while let Some(()) = seen.recv().await {
        // Whatever it is at; or, the next time, while it commits.
        end_sessions(&home, &next).await;
        next = match ended % 2 {
            0 => "query LIKE '%COMMIT'".to_owned(),
            _ => "true".to_owned(),
        };
        ended += 1;
        while seen.try_recv().is_ok() {}
    }
    for accepted in join_all(accepting).await {
        accepted.unwrap();
    }
    assert!(ended > 3, "{ended}");
    let mut beside = beside(&home).await;
    let recorded = beside.numbers("SELECT count(*) FROM requests").await[0];
    assert_eq!(recorded as u64, CALLERS * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_falls_and_comes_back_has_lost_nothing_that_was_answered() {
    const CALLERS: u8 = 4;
    const EACH: u64 = 60;
    let mut server = Server::start().unwrap();
    let home = Home::at(server.url("postgres"));
    let ledger = home.open().await;
    let pairs: Vec<Pair> = (1..=CALLERS).map(|number| Pair::new(number, number)).collect();
    mine(&ledger, pairs.iter().map(|pair| pair.opened(1_000_000)).collect()).await;
    let (acknowledged, mut seen) = tokio::sync::mpsc::channel(1_000);
    let serving = pairs.iter().cloned().map(|pair| {
        let (ledger, acknowledged) = (ledger.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let mut head = ReceiptHead::empty(pair.channel());
            for nonce in 1..=EACH {
                let covered = u128::from(nonce) * 10;
                let accepted = ledger
                    .accept_request(pair.accept(nonce, Some(covered), 10))
                    .await
                    .unwrap();
                assert_eq!(accepted, Outcome::Recorded);
                let bill = *ledger.commit_bill(pair.bill(nonce, 10)).await.unwrap().bill();
                let receipt = pair.link(&head, bill);
                head = ReceiptHead::at(receipt.receipt());
                assert_eq!(ledger.accept_receipt(receipt, None).await.unwrap(), Outcome::Recorded);
                acknowledged.send(()).await.unwrap();
            }
            head
        })
    });
    let serving: Vec<_> = serving.collect();
    drop(acknowledged);
    let mut count = 0;
    while let Some(()) = seen.recv().await {
        count += 1;
        if [30, 120].contains(&count) {
            server = tokio::task::spawn_blocking(move || {
                server.stop_immediately().unwrap();
                server.resume().unwrap();
                server
            })
            .await
            .unwrap();
        }
    }
    for (served, pair) in join_all(serving).await.into_iter().zip(&pairs) {
        let head = served.unwrap();
        assert_eq!(head.sequence, EACH);
        assert_eq!(ledger.head(pair.channel()).await.unwrap(), head);
        let account = ledger.account(pair.channel()).await.unwrap();
        assert_eq!((account.billed, account.spent), (head.amount, head.amount));
    }
    ledger.close().await;
}

#[tokio::test]
async fn a_server_that_stays_away_is_named_and_nothing_is_recorded() {
    let mut server = Server::start().unwrap();
    let home = Home::at(server.url("postgres"));
    let pair = Pair::new(1, 1);
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    server.stop_immediately().unwrap();
    let (written, read) = tokio::join!(ledger.accept_voucher(pair.voucher(10)), ledger.account(pair.channel()));
    let Err(ServeError::Ledger(refused)) = written else {
        panic!("{written:?}");
    };
    assert!(matches!(refused, LedgerError::Unavailable { .. }), "{refused}");
    assert!(refused.is_transient());
    assert!(matches!(read, Err(LedgerError::Unavailable { .. })), "{read:?}");
    let refused = Ledger::open(home.neighbour().url(), &deployment()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Sql { .. }), "{refused}");

    server.resume().unwrap();
    assert_eq!(ledger.account(pair.channel()).await.unwrap().authorized, amount(0));
    assert_eq!(
        ledger.accept_voucher(pair.voucher(10)).await.unwrap(),
        Outcome::Recorded
    );
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused() {
    let server = Server::start_with(&["fsync=off"]).unwrap();
    let unsafe_server = server.url("postgres");
    let unsafe_session = format!(
        "{}&options[synchronous_commit]=off",
        crate::world::server().url("postgres")
    );
    for (text, word) in [(unsafe_server, "fsync"), (unsafe_session, "synchronous_commit")] {
        let home = Home::at(text);
        let refused = Ledger::open(home.url(), &deployment()).await.unwrap_err();
        assert!(matches!(refused, OpenError::Unfit { .. }), "{refused}");
        assert!(refused.to_string().contains(word), "{refused}");
    }
}

#[tokio::test]
async fn no_password_is_ever_shown() {
    // PGPASSWORD would be the whole process's.
    let home = Home::at(crate::world::server().url("postgres"));
    let text = home.text().replace("lloom@", "lloom:s3cret@");
    let refused = StoreUrl::parse(&text, home.directory.path()).unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{refused}");
}

#[tokio::test]
async fn a_store_that_lost_one_homes_commits_is_noticed_by_that_home_alone() {
    let pair = Pair::new(1, 1);
    let home = Home::in_database(Backend::Postgres).await;
    let neighbour = home.neighbour();
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    let other = neighbour.open_to_follow(NOW).await;
    other.accept_request(pair.accept(1, Some(100), 10)).await.unwrap();
    ledger.close().await;
    home.resign();
    // As after a restore: the neighbour's newest commit is gone, and the store counts on without it.
    let mut beside = beside(&home).await;
    other.accept_voucher(pair.voucher(200)).await.unwrap();
    other.close().await;
    let newest = beside.generation().await;
    beside
        .run(&format!(
            "DELETE FROM vouchers WHERE amount > decode(lpad(to_hex(100), 32, '0'), 'hex');
             UPDATE writers SET generation = generation - 1 WHERE generation = {newest};
             UPDATE store SET generation = generation - 1"
        ))
        .await;
    let later = UnixSeconds::new(NOW.get() + 5);
    let ledger = home.open_at(later).await;
    for cumulative in 101..111 {
        ledger.accept_voucher(pair.voucher(cumulative)).await.unwrap();
    }
    assert!(beside.generation().await > newest);
    assert_eq!(ledger.interrupted_requests().await.unwrap().len(), 1);

    let other = neighbour.open_to_follow(later).await;
    assert!(other.interrupted_requests().await.unwrap().is_empty());
    let until = later.plus(MAX_DEADLINE_AHEAD);
    for ledger in [&ledger, &other] {
        let refused = ledger.accept_request(pair.accept(2, Some(300), 10)).await.unwrap_err();
        assert!(
            matches!(refused, ServeError::RestoredTooRecently { until: told } if told == until),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_store_that_forgets_while_it_is_open_is_written_no_more() {
    let pair = Pair::new(1, 1);
    let home = Home::in_database(Backend::Postgres).await;
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    ledger.accept_voucher(pair.voucher(100)).await.unwrap();
    // A replica took over that had not received the newest commit.
    let mut beside = beside(&home).await;
    beside.run("UPDATE writers SET generation = generation - 1").await;
    end_sessions(&home, "true").await;
    for _ in 0..2 {
        let refused = ledger.accept_voucher(pair.voucher(200)).await.unwrap_err();
        assert!(
            matches!(refused, ServeError::Ledger(LedgerError::Replaced)),
            "{refused}"
        );
    }
    let vouchers = beside.numbers("SELECT count(*) FROM vouchers").await;
    assert_eq!(vouchers, [1]);
    let Beside::Postgres(_) = beside else {
        panic!("not PostgreSQL");
    };
}

#[tokio::test]
async fn a_turn_that_does_not_come_is_no_failure_of_the_store() {
    let pair = Pair::new(1, 1);
    let ([home, _], [ledger, _]) = two_homes(&pair, 1_000).await;
    let mut slow = beside(&home).await;
    slow.lock().await;
    let calls = [1, 2].map(|nonce| {
        let (ledger, request) = (ledger.clone(), pair.accept(nonce, Some(500), 10));
        tokio::spawn(async move { ledger.accept_request(request).await })
    });
    // As its own limit does, after three quarters of a minute.
    let mut administrator = beside(&home).await;
    let waiting = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                   WHERE wait_event_type = 'Lock' AND datname = current_database()";
    for call in calls {
        while !call.is_finished() {
            administrator.numbers(waiting).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let error = call.await.unwrap().unwrap_err();
        let ServeError::Ledger(error) = error else {
            panic!("{error:?}");
        };
        assert!(error.is_transient(), "{error:?}");
    }
    slow.unlock().await;
    let accepted = ledger.accept_request(pair.accept(1, Some(500), 10)).await;
    assert_eq!(accepted.unwrap(), Outcome::Recorded);
}

#[tokio::test]
async fn a_store_that_another_version_has_migrated_is_written_no_more() {
    let pair = Pair::new(1, 1);
    let home = Home::in_database(Backend::Postgres).await;
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(1_000)]).await;
    ledger.accept_voucher(pair.voucher(100)).await.unwrap();
    // One that writes while the other version changes the schema waits for it, and is refused as those after it are.
    let (mut newer, mut administrator) = (beside(&home).await, beside(&home).await);
    newer.lock().await;
    let waiting = {
        let (ledger, voucher) = (ledger.clone(), pair.voucher(200));
        tokio::spawn(async move { ledger.accept_voucher(voucher).await })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while administrator.numbers(waits).await != [1] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    newer.run("UPDATE store_schema SET version = version + 1; COMMIT").await;
    let refusals = [waiting.await.unwrap(), ledger.accept_voucher(pair.voucher(300)).await];
    for refused in refusals.map(Result::unwrap_err) {
        let ServeError::Ledger(error @ LedgerError::OtherSchema { found, supported }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(found, i64::from(supported) + 1);
        assert!(!error.is_transient());
    }
    assert_eq!(newer.numbers("SELECT count(*) FROM vouchers").await, [1]);
    // Nothing keeps the newer version from writing.
    newer.lock().await;
    newer.unlock().await;
}
