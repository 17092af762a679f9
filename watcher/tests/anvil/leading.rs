//! Several watchers on one database, each a process with a home and a key of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use lloom_bindings::Contracts;
use lloom_ledger::{Block, Finish, Ledger, Purpose, StoreDeployment, StoreUrl};
use lloom_postgres::Server;
use lloom_receipts::{BlockNumber, Domain, Keypair, TokenAmount};
use lloom_watcher::{
    Chain as _, FeePolicy, HandleError, PlannerPolicy, Watcher, WatcherConfig, WatcherError, WatcherHandle,
    WatcherStatus,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    devnet::{CHAIN_ID, chain_at, until},
    executor::{CONFIRMATIONS, Channel, Executor},
    faulty_chain::{Calls, FaultyChain},
};

const STORE: &str = "LLOOM_WATCHER_TEST_STORE";
const HOME: &str = "LLOOM_WATCHER_TEST_HOME";
const RPC: &str = "LLOOM_WATCHER_TEST_RPC";
const KEY: &str = "LLOOM_WATCHER_TEST_KEY";
const PAYEE: &str = "LLOOM_WATCHER_TEST_PAYEE";
const TOKEN: &str = "LLOOM_WATCHER_TEST_TOKEN";

/// The process that watches: it says whether it leads, whenever that changes, until its standard input ends.
#[test]
fn watching_child() {
    let Ok(store) = std::env::var(STORE) else {
        return;
    };
    let told = |name| std::env::var(name).unwrap();
    let contracts = Contracts::of_this_version();
    let domain = Domain::new(CHAIN_ID, contracts.escrow, contracts.settlement);
    let payee: Address = told(PAYEE).parse().unwrap();
    let token: Address = told(TOKEN).parse().unwrap();
    let config = WatcherConfig {
        domain,
        registry: contracts.registry,
        start_block: BlockNumber::new(0),
        payees: vec![(payee, token)],
        confirmations: CONFIRMATIONS,
        poll_interval: Duration::from_millis(20),
        auto_claim: true,
        yields_after: Duration::from_secs(120),
        max_head_age: None,
        planner: PlannerPolicy {
            min_claim: TokenAmount::new(1),
            ..PlannerPolicy::default()
        },
        fees: FeePolicy {
            rebroadcast: Duration::ZERO,
            ..FeePolicy::default()
        },
    };
    let key = Keypair::from_secret([told(KEY).parse().unwrap(); 32]).unwrap();
    let chain = chain_at(&[told(RPC)], CHAIN_ID);
    let store = StoreUrl::parse(&store, Path::new(&told(HOME))).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ledger = Ledger::open(&store, &StoreDeployment::from(&domain)).await.unwrap();
        let (watcher, handle) = Watcher::new(config, chain, ledger, key);
        let watching = tokio::spawn(watcher.run(CancellationToken::new()));
        let mut status = handle.status();
        let saying = async {
            let mut before = None;
            loop {
                let now = {
                    let status = status.borrow_and_update();
                    if status.standing_by {
                        let led_with = (status.pending_transactions, status.obligations, status.deferred);
                        assert_eq!(
                            (led_with, status.next_deadline),
                            ((0, 0, 0), None),
                            "they are the leader's"
                        );
                    }
                    match (status.standing_by, status.last_progress) {
                        (true, _) => Some("stands by"),
                        (false, Some(_)) => Some("leads"),
                        (false, None) => None,
                    }
                };
                if now != before {
                    println!("\nthis watcher {}", now.unwrap_or("starts"));
                    std::io::stdout().flush().unwrap();
                    before = now;
                }
                status.changed().await.unwrap();
            }
        };
        let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        tokio::select! {
            stopped = watching => panic!("{stopped:?}"),
            () = saying => {}
            _ = input => std::process::exit(0),
        }
    });
}

/// Such a process. It ends with this guard.
struct WatcherProcess {
    child: Child,
    said: mpsc::Receiver<String>,
    key: Keypair,
    _home: tempfile::TempDir,
}

impl WatcherProcess {
    async fn start(executor: &Executor, store: &str, seed: u8) -> Self {
        let key = Keypair::from_secret([seed; 32]).unwrap();
        executor.employ(&key).await;
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leading::watching_child", "--nocapture", "--test-threads=1"])
            .env(STORE, store)
            .env(HOME, home.path())
            .env(RPC, &executor.devnet.url)
            .env(KEY, seed.to_string())
            .env(PAYEE, executor.payee.to_string())
            .env(TOKEN, executor.devnet.token.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (saying, said) = mpsc::channel(64);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(word) = line.strip_prefix("this watcher ") {
                    let _ = saying.blocking_send(word.to_owned());
                }
            }
        });
        Self {
            child,
            said,
            key,
            _home: home,
        }
    }

    /// Waits until it says so.
    async fn says(&mut self, wanted: &str) {
        let waiting = async { while self.said.recv().await.unwrap() != wanted {} };
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .unwrap_or_else(|_| panic!("the watcher never {wanted}"));
    }

    fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        let process = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
    }
}

impl Drop for WatcherProcess {
    fn drop(&mut self) {
        // It may have ended by itself, or stand still.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An executor that serves on a database, and does not watch.
async fn executor() -> (Server, Executor, String) {
    let server = Server::start().unwrap();
    let store = server.url("postgres");
    let executor = Executor::with_store(&store).await;
    (server, executor, store)
}

async fn open_channels(executor: &Executor, numbers: std::ops::RangeInclusive<u8>) -> Vec<Channel> {
    let mut channels = Vec::new();
    for number in numbers {
        channels.push(executor.open_channel(number).await);
    }
    executor.devnet.mine(CONFIRMATIONS).await;
    for channel in &channels {
        until("the deposit counts", || async {
            let known = executor.ledger.channel(channel.id).await.unwrap();
            known.is_some_and(|known| known.confirmed.is_some())
        })
        .await;
    }
    channels
}

/// How many channels broadcast claims that are not final carry.
async fn claimed_rows(ledger: &Ledger) -> usize {
    let pending = ledger.pending_transactions().await.unwrap();
    let sent = pending.iter().filter(|record| record.broadcast_at.is_some());
    sent.map(|record| match &record.purpose {
        Purpose::Claim { rows, .. } => rows.len(),
        _ => 0,
    })
    .sum()
}

async fn all_final(executor: &Executor, transactions: usize) {
    let finished = until("every transaction is final", || async {
        let all = executor.ledger.transactions(100).await.unwrap();
        all.len() == transactions && all.iter().all(|record| record.finish.is_some())
    });
    executor.devnet.while_mining(finished).await;
}

#[tokio::test]
async fn the_next_watcher_takes_over_from_a_killed_one_and_claims_nothing_twice() {
    let (_server, executor, store) = executor().await;
    let mut first = WatcherProcess::start(&executor, &store, 0x1a).await;
    first.says("leads").await;
    let mut second = WatcherProcess::start(&executor, &store, 0x1b).await;
    second.says("stands by").await;
    let channels = open_channels(&executor, 1..=2).await;
    executor.devnet.set_automine(false).await;
    for channel in &channels {
        executor.serve(channel, 100, 0).await;
    }
    until("everything is claimed", || async {
        claimed_rows(&executor.ledger).await == 2
    })
    .await;
    let sent = executor.ledger.transactions(100).await.unwrap().len();

    // SIGKILL, with the claims under way.
    first.child.kill().unwrap();
    let killed = Instant::now();
    second.says("leads").await;
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    all_final(&executor, sent).await;
    assert_eq!(executor.payee_balance().await, 200);
    assert_eq!(executor.nonce_of(&first.key).await, sent as u64);
    assert_eq!(executor.nonce_of(&second.key).await, 0);

    // And goes on where the other was, with a key of its own.
    executor.devnet.set_automine(true).await;
    executor.serve(&channels[0], 50, 0).await;
    all_final(&executor, sent + 1).await;
    assert_eq!(executor.payee_balance().await, 250);
    assert_eq!(executor.nonce_of(&second.key).await, 1);
}

#[tokio::test]
async fn a_watcher_that_stood_still_finds_itself_deposed_and_sends_nothing() {
    let (_server, executor, store) = executor().await;
    let mut first = WatcherProcess::start(&executor, &store, 0x2a).await;
    first.says("leads").await;
    let mut second = WatcherProcess::start(&executor, &store, 0x2b).await;
    second.says("stands by").await;
    let channels = open_channels(&executor, 1..=1).await;

    first.signal("STOP");
    executor.serve(&channels[0], 100, 0).await;
    second.says("leads").await;
    all_final(&executor, 1).await;
    first.signal("CONT");
    first.says("stands by").await;
    executor.serve(&channels[0], 10, 0).await;
    all_final(&executor, 2).await;
    assert_eq!(executor.payee_balance().await, 110);
    assert_eq!(executor.nonce_of(&first.key).await, 0);
    assert_eq!(executor.nonce_of(&second.key).await, 2);
    let transactions = executor.ledger.transactions(100).await.unwrap();
    assert!(
        transactions
            .iter()
            .all(|record| matches!(record.finish, Some(Finish::Mined { succeeded: true, .. })))
    );
}

/// Waits until a watcher shows this, with blocks coming in.
async fn seen(executor: &Executor, watcher: &WatcherHandle, what: impl FnMut(&WatcherStatus) -> bool) -> WatcherStatus {
    let mut status = watcher.status();
    let shown = executor.devnet.while_mining(status.wait_for(what));
    let shown = tokio::time::timeout(Duration::from_secs(60), shown).await;
    shown.expect("it never showed that").unwrap().clone()
}

/// A watcher of a shared store in this process, with a home and a key of its own. It ends with this guard.
struct Colleague {
    handle: WatcherHandle,
    key: Keypair,
    task: JoinHandle<Result<(), WatcherError>>,
    _home: tempfile::TempDir,
}

impl Colleague {
    /// Starts one that makes room for others after four seconds.
    async fn start(executor: &Executor, store: &str, seed: u8, chain: FaultyChain) -> Self {
        let key = Keypair::from_secret([seed; 32]).unwrap();
        executor.employ(&key).await;
        let home = tempfile::tempdir().unwrap();
        let store = StoreUrl::parse(store, home.path()).unwrap();
        let ledger = Ledger::open(&store, &StoreDeployment::from(&executor.domain()))
            .await
            .unwrap();
        let config = WatcherConfig {
            auto_claim: true,
            yields_after: Duration::from_secs(4),
            max_head_age: Some(Duration::from_secs(4)),
            planner: PlannerPolicy {
                min_claim: TokenAmount::new(1),
                ..PlannerPolicy::default()
            },
            ..executor.config()
        };
        let (watcher, handle) = Watcher::new(config, chain, ledger, key.clone());
        let task = tokio::spawn(watcher.run(CancellationToken::new()));
        Self {
            handle,
            key,
            task,
            _home: home,
        }
    }
}

impl Drop for Colleague {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_leader_whose_endpoint_stands_still_makes_room_for_one_that_sees_more() {
    let (_server, executor, store) = executor().await;
    let stands = FaultyChain::new(executor.devnet.chain.clone());
    let first = Colleague::start(&executor, &store, 0x4a, stands.clone()).await;
    seen(&executor, &first.handle, |status| status.caught_up).await;
    let goes_on = FaultyChain::new(executor.devnet.chain.clone());
    let second = Colleague::start(&executor, &store, 0x4b, goes_on).await;
    seen(&executor, &second.handle, |status| status.standing_by).await;

    stands.stand_still_at(executor.devnet.chain.head().await.unwrap());
    let channels = executor.devnet.while_mining(open_channels(&executor, 1..=1)).await;
    executor.serve(&channels[0], 100, 0).await;
    let paid = until("the second claims", || async { executor.payee_balance().await == 100 });
    executor.devnet.while_mining(paid).await;
    assert_eq!(executor.nonce_of(&first.key).await, 0);
    assert_eq!(executor.nonce_of(&second.key).await, 1);
    // The first is not fooled by a store that has all that its own endpoint shows.
    let stands_by = seen(&executor, &first.handle, |status| status.standing_by).await;
    let limit = Some(Duration::from_secs(4));
    let old = stands_by.old_head(executor.ledger.now(), limit);
    assert!(old.is_some(), "{stands_by:?}");
    // Nor are those that wait for the head: what they do next rests on what was done until now.
    let waiting = waits_for_the_head(&first).await;
    stands.go_on();
    executor.devnet.while_mining(waiting).await.unwrap().unwrap();
}

/// A wait for the head that nothing has ended after a few looks at the chain. A whole round shows up to four changes.
async fn waits_for_the_head(colleague: &Colleague) -> JoinHandle<Result<Block, HandleError>> {
    let handle = colleague.handle.clone();
    let waiting = tokio::spawn(async move { handle.synced().await });
    let mut status = colleague.handle.status();
    for _ in 0..12 {
        status.changed().await.unwrap();
    }
    assert!(!waiting.is_finished());
    waiting
}

#[tokio::test]
async fn who_gave_an_order_learns_that_it_is_in_other_hands() {
    let (_server, executor, store) = executor().await;
    let stands = FaultyChain::new(executor.devnet.chain.clone());
    let leader = Colleague::start(&executor, &store, 0x7a, stands.clone()).await;
    seen(&executor, &leader.handle, |status| status.caught_up).await;
    let channel = open_channels(&executor, 1..=1).await.remove(0);
    seen(&executor, &leader.handle, |status| status.caught_up).await;

    let (handle, id) = (leader.handle.clone(), channel.id);
    let order = tokio::spawn(async move { handle.close_channel(id).await });
    // Nobody mines it.
    let mut status = leader.handle.status();
    status
        .wait_for(|status| status.pending_transactions == 1)
        .await
        .unwrap();
    stands.stand_still_at(executor.devnet.chain.head().await.unwrap());
    let told = order.await.unwrap().unwrap_err();
    assert!(matches!(told, HandleError::HandedOver), "{told}");

    // It leads again, because there is nobody else.
    seen(&executor, &leader.handle, |status| {
        !status.standing_by && status.last_progress.is_some()
    })
    .await;
    let waiting = waits_for_the_head(&leader).await;
    stands.go_on();
    executor.devnet.while_mining(waiting).await.unwrap().unwrap();
}

/// Colleagues on a store in which a claim is due, and for the first of which no claim can be paid.
async fn with_a_poor_leader(executor: &Executor, store: &str, seeds: [u8; 2]) -> [Colleague; 2] {
    let chain = || FaultyChain::new(executor.devnet.chain.clone());
    let first = Colleague::start(executor, store, seeds[0], chain()).await;
    seen(executor, &first.handle, |status| status.caught_up).await;
    executor.devnet.take_coins(first.key.address()).await;
    let second = Colleague::start(executor, store, seeds[1], chain()).await;
    seen(executor, &second.handle, |status| status.standing_by).await;
    [first, second]
}

/// Has a payer ask for its close, and lets most of the time pass until it may withdraw.
async fn leave(executor: &Executor, channel: &Channel) {
    executor.request_close(channel).await;
    executor.devnet.leap(Duration::from_secs(2_000)).await;
}

#[tokio::test]
async fn a_leader_without_gas_money_makes_room_for_one_that_has_it() {
    let (_server, executor, store) = executor().await;
    let [first, second] = with_a_poor_leader(&executor, &store, [0x5a, 0x5b]).await;
    let channels = open_channels(&executor, 1..=1).await;
    executor.serve(&channels[0], 100, 0).await;
    leave(&executor, &channels[0]).await;

    let paid = until("the second claims what is due", || async {
        executor.payee_balance().await == 100
    });
    executor.devnet.while_mining(paid).await;
    assert_eq!(executor.nonce_of(&first.key).await, 0);
    assert_eq!(executor.nonce_of(&second.key).await, 1);
    // It stands by as well as ever: its endpoint shows that the store keeps up.
    let now = executor.ledger.now();
    seen(&executor, &first.handle, |status| {
        status.standing_by && status.last_progress > Some(now)
    })
    .await;
}

#[tokio::test]
async fn leaders_without_gas_money_take_turns_and_forget_nothing() {
    let (_server, executor, store) = executor().await;
    let [first, second] = with_a_poor_leader(&executor, &store, [0x6a, 0x6b]).await;
    executor.devnet.take_coins(second.key.address()).await;
    let channels = open_channels(&executor, 1..=1).await;
    executor.serve(&channels[0], 100, 0).await;
    leave(&executor, &channels[0]).await;

    let stalls = |status: &WatcherStatus| !status.standing_by && status.stalled.is_some();
    let before = seen(&executor, &first.handle, stalls).await.stalled.unwrap();
    seen(&executor, &second.handle, stalls).await;
    let began = Instant::now();
    seen(&executor, &first.handle, |status| status.standing_by).await;
    let again = seen(&executor, &first.handle, stalls).await.stalled.unwrap();
    // The second had time for whole rounds; and that they take turns has not made the stall younger.
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(again.since, before.since);

    executor.devnet.give_coins(first.key.address()).await;
    let paid = until("the first claims", || async { executor.payee_balance().await == 100 });
    executor.devnet.while_mining(paid).await;
}

#[tokio::test]
async fn leaders_that_all_fail_make_no_progress_while_they_stand_by_either() {
    let (_server, executor, store) = executor().await;
    let mut running = Vec::new();
    for seed in [0x3a, 0x3b] {
        let chain = FaultyChain::new(executor.devnet.chain.clone());
        chain.refuse_estimates(Some(Calls::LongerThan(0)));
        running.push(Colleague::start(&executor, &store, seed, chain).await);
    }
    let channels = open_channels(&executor, 1..=1).await;
    executor.serve(&channels[0], 100, 0).await;

    // Each has failed as the leader, and stands by for the other.
    for colleague in &running {
        seen(&executor, &colleague.handle, |status| {
            status.problem.is_some() && !status.standing_by
        })
        .await;
    }
    let stands = seen(&executor, &running[0].handle, |status| status.standing_by).await;
    let again = seen(&executor, &running[0].handle, |status| {
        !status.standing_by && status.problem.is_some()
    })
    .await;
    assert!(again.cursor.unwrap().number > stands.cursor.unwrap().number);
    assert_eq!(again.last_progress, stands.last_progress);
    assert_eq!(executor.payee_balance().await, 0);
}
