//! A watcher that defends what others have handed to it.

use std::time::{Duration, SystemTime};

use alloy::primitives::Address;
use lloom_bindings::{ChannelEscrow, ExecutorRegistry};
use lloom_ledger::{Ledger, Resolution, StoreDeployment, TakeOn, TowerQuotas, TowerTerms};
use lloom_receipts::{Keypair, TokenAmount, UnixSeconds};
use lloom_watcher::{Call, Chain as _, DefencePolicy, NonceAt, Watcher, WatcherConfig};
use tokio_util::sync::CancellationToken;

use crate::{
    devnet::until,
    executor::{CONFIRMATIONS, Channel, Executor, Running},
};

const GRACE: Duration = Duration::from_secs(3_600);
/// Less than a third of the grace period is left: the executor had its chance.
const EXECUTORS_CHANCE: Duration = Duration::from_secs(2_401);

/// A tower's store and key, on the chain of the executors it works for. No payee has named its key.
struct Tower {
    ledger: Ledger,
    key: Keypair,
    directory: tempfile::TempDir,
}

impl Tower {
    async fn new(executor: &Executor) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(&directory, executor).await;
        let key = Keypair::from_secret([0x70; 32]).unwrap();
        executor.devnet.give_coins(key.address()).await;
        Self { ledger, key, directory }
    }

    fn start(&self, executor: &Executor) -> Running {
        let config = WatcherConfig {
            payees: Vec::new(),
            auto_claim: true,
            ..executor.config()
        };
        let chain = executor.devnet.chain.clone();
        let (watcher, handle) = Watcher::new(config, chain, self.ledger.clone(), self.key.clone());
        let cancel = CancellationToken::new();
        let task = tokio::spawn(watcher.defending(DefencePolicy::default()).run(cancel.clone()));
        Running { handle, cancel, task }
    }

    /// `kill -9`, and a new process's view of what was on disk.
    async fn crash(&mut self, executor: &Executor, running: Running) {
        running.task.abort();
        assert!(running.task.await.unwrap_err().is_cancelled());
        self.ledger.clone().close().await;
        self.ledger = open(&self.directory, executor).await;
    }

    /// Takes on what the executor has to hand over.
    async fn take_on(&self, executor: &Executor) -> usize {
        self.take_on_from(executor, executor.payee, 1).await
    }

    async fn take_on_from(&self, executor: &Executor, payee: Address, minimum: u128) -> usize {
        let now = UnixSeconds::from(SystemTime::now());
        let tower = self.key.address();
        let undelegated = executor.ledger.undelegated(tower, payee, now, None, 100).await.unwrap();
        let taken = self
            .ledger
            .take_on(TakeOn {
                tower,
                operator: executor.operator.address(),
                delegations: undelegated.into_iter().map(|found| found.delegation).collect(),
                terms: TowerTerms {
                    token: executor.devnet.token,
                    minimum_value: TokenAmount::new(minimum),
                    max_fee_per_gas: 1,
                    term: Duration::from_secs(1_000_000),
                },
                quotas: TowerQuotas {
                    operators: 10,
                    channels_per_operator: 100,
                    bytes: 1 << 20,
                },
                grace: GRACE,
                now,
            })
            .await
            .unwrap();
        assert!(taken.iter().all(Result::is_ok), "{taken:?}");
        taken.len()
    }

    async fn nonce(&self, executor: &Executor) -> u64 {
        let head = executor.devnet.chain.head().await.unwrap();
        let chain = &executor.devnet.chain;
        chain
            .nonce(self.key.address(), NonceAt::Block(head.hash))
            .await
            .unwrap()
    }
}

async fn open(directory: &tempfile::TempDir, executor: &Executor) -> Ledger {
    let store = directory.path().join("lloom.db");
    let deployment = StoreDeployment::from(&executor.domain());
    Ledger::open(&store, &deployment).await.unwrap()
}

async fn request_close(executor: &Executor, channel: &Channel) {
    let request = ChannelEscrow::requestCloseCall {
        channelId: channel.id.hash(),
    };
    let call = Call::contract(executor.devnet.contracts.escrow, &request);
    executor.devnet.send_call(channel.parameters.payer, &call).await;
}

/// An executor that has earned on `count` channels, and a tower that has taken them on. The executor is away: it has no
/// watcher.
async fn absent_executor(count: u8) -> (Executor, Tower, Running, Vec<Channel>) {
    let executor = Executor::new().await;
    let following = executor.start(executor.config());
    let channels = executor.open_channels(&following, 1..=count).await;
    for (index, channel) in channels.iter().enumerate() {
        executor.serve(channel, 100 + index as u32, 50).await;
    }
    following.cancel.cancel();
    following.task.await.unwrap().unwrap();
    let tower = Tower::new(&executor).await;
    let running = tower.start(&executor);
    running.handle.synced().await.unwrap();
    assert_eq!(tower.take_on(&executor).await, usize::from(count));
    (executor, tower, running, channels)
}

async fn settled_reaches(executor: &Executor, channel: &Channel, amount: u128) {
    let settled = async || executor.settled(channel).await == amount;
    executor.devnet.while_mining(until("the tower claims", settled)).await;
}

#[tokio::test]
async fn claims_for_an_absent_executor_in_one_transaction_and_pays_its_payee() {
    let (executor, tower, running, channels) = absent_executor(3).await;
    for channel in &channels[..2] {
        request_close(&executor, channel).await;
    }
    // While the executor may still claim for itself, the tower only watches; and it knows its deadlines.
    executor.devnet.leap(EXECUTORS_CHANCE - Duration::from_secs(600)).await;
    running.handle.synced().await.unwrap();
    let mut status = running.handle.status();
    status.wait_for(|status| status.obligations == 2).await.unwrap();
    assert_eq!(tower.nonce(&executor).await, 0);
    assert_eq!(executor.settled(&channels[0]).await, 0);

    executor.devnet.leap(Duration::from_secs(600)).await;
    settled_reaches(&executor, &channels[1], 101).await;
    assert_eq!(executor.settled(&channels[0]).await, 100);
    assert_eq!(executor.settled(&channels[2]).await, 0, "nobody leaves the third");
    assert_eq!(executor.payee_balance().await, 201);
    assert_eq!(executor.balance(tower.key.address()).await, 0);
    assert_eq!(tower.nonce(&executor).await, 1);

    // Once that is final, the deadlines are met, and what is settled is let go of.
    executor.devnet.mine(CONFIRMATIONS + 1).await;
    let done = async || tower.ledger.held_totals().await.unwrap().channels == 1;
    executor.devnet.while_mining(until("it lets go", done)).await;
    for channel in &channels[..2] {
        let obligations = tower.ledger.obligations_of(channel.id).await.unwrap();
        assert!(
            matches!(obligations[0].resolution, Some(Resolution::Claimed { .. })),
            "{obligations:?}"
        );
    }
    assert_eq!(tower.nonce(&executor).await, 1, "no claim is made twice");
}

#[tokio::test]
async fn leaves_alone_what_the_executor_has_claimed_itself() {
    let (executor, tower, running, channels) = absent_executor(1).await;
    request_close(&executor, &channels[0]).await;
    let back = executor.start(WatcherConfig {
        auto_claim: true,
        ..executor.config()
    });
    // The executor's own margin begins before the tower's.
    executor.devnet.leap(Duration::from_secs(1_900)).await;
    settled_reaches(&executor, &channels[0], 100).await;
    back.cancel.cancel();
    executor.devnet.leap(EXECUTORS_CHANCE).await;
    executor.devnet.mine(CONFIRMATIONS).await;
    running.handle.synced().await.unwrap();
    let met = async || {
        let obligations = tower.ledger.obligations_of(channels[0].id).await.unwrap();
        obligations.iter().all(|obligation| obligation.resolution.is_some())
    };
    executor.devnet.while_mining(until("the deadline is met", met)).await;
    assert_eq!(tower.nonce(&executor).await, 0);
    assert_eq!(executor.payee_balance().await, 100);
}

#[tokio::test]
async fn claims_at_once_when_it_comes_back_late() {
    let (executor, mut tower, running, channels) = absent_executor(1).await;
    tower.crash(&executor, running).await;
    request_close(&executor, &channels[0]).await;
    executor.devnet.leap(GRACE - Duration::from_secs(300)).await;
    let _running = tower.start(&executor);
    settled_reaches(&executor, &channels[0], 100).await;
    assert_eq!(executor.payee_balance().await, 100);
}

#[tokio::test]
async fn goes_out_for_no_less_than_it_promised() {
    let (executor, tower, running, channels) = absent_executor(2).await;
    // A new amount under other terms: from 60 base units on.
    for channel in &channels {
        executor.serve(channel, 50, 0).await;
    }
    tower.take_on_from(&executor, executor.payee, 60).await;
    // The payee settles most of the first channel itself, and is gone again.
    let (voucher, signature) = executor.voucher(&channels[0], 100).into_parts();
    let settle = ChannelEscrow::settleCall {
        channelId: channels[0].id.hash(),
        cumulativeAmount: voucher.amount.base_units(),
        signature: signature.to_bytes().to_vec().into(),
    };
    let call = Call::contract(executor.devnet.contracts.escrow, &settle);
    executor.devnet.send_call(executor.payee, &call).await;
    for channel in &channels {
        request_close(&executor, channel).await;
    }
    executor.devnet.leap(EXECUTORS_CHANCE).await;
    settled_reaches(&executor, &channels[1], 151).await;
    running.handle.synced().await.unwrap();
    assert_eq!(
        executor.settled(&channels[0]).await,
        100,
        "50 are less than it goes out for"
    );
    let ended = async || {
        let obligations = tower.ledger.obligations_of(channels[0].id).await.unwrap();
        obligations.iter().all(|obligation| obligation.resolution.is_some())
    };
    executor
        .devnet
        .while_mining(until("nothing promised is left", ended))
        .await;
    assert_eq!(tower.nonce(&executor).await, 1);
}

#[tokio::test]
async fn serves_many_payees_with_a_transaction_for_each() {
    let (mut executor, tower, running, mut channels) = absent_executor(1).await;
    let first = executor.payee;
    let second = Address::repeat_byte(0xdd);
    let add = ExecutorRegistry::addOperatorCall {
        operator: executor.operator.address(),
    };
    let call = Call::contract(executor.devnet.contracts.registry, &add);
    executor.devnet.send_call(second, &call).await;
    executor.payee = second;
    let following = executor.start(executor.config());
    channels.extend(executor.open_channels(&following, 9..=9).await);
    executor.serve(&channels[1], 70, 0).await;
    following.cancel.cancel();
    running.handle.synced().await.unwrap();
    assert_eq!(tower.take_on(&executor).await, 1);
    for channel in &channels {
        request_close(&executor, channel).await;
    }
    executor.devnet.leap(EXECUTORS_CHANCE).await;
    settled_reaches(&executor, &channels[1], 70).await;
    settled_reaches(&executor, &channels[0], 100).await;
    assert_eq!(executor.balance(second).await, 70);
    assert_eq!(executor.balance(first).await, 100);
    assert_eq!(tower.nonce(&executor).await, 2);
}
