use lloom_ledger::{Block, ClaimBy, StoreDeployment};

use super::*;
use crate::{chain::FeeQuote, fees::FeesTooHigh, scripted_chain::ScriptedChain};

const CONFIRMATIONS: u64 = 2;

struct Fixture {
    chain: ScriptedChain,
    ledger: Ledger,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let deployment = StoreDeployment {
            chain_id: 31_337,
            escrow: Address::repeat_byte(1),
            settlement: Address::repeat_byte(2),
        };
        let ledger = Ledger::open(&directory.path().join("lloom.db"), &deployment)
            .await
            .unwrap();
        Self {
            chain: ScriptedChain::with_blocks(10),
            ledger,
            _directory: directory,
        }
    }

    fn outbox(&self) -> Outbox<ScriptedChain> {
        self.outbox_paying(FeePolicy::default())
    }

    fn outbox_paying(&self, fees: FeePolicy) -> Outbox<ScriptedChain> {
        let key = Keypair::from_secret([9; 32]).unwrap();
        Outbox::new(
            self.chain.clone(),
            self.ledger.clone(),
            key,
            31_337,
            fees,
            CONFIRMATIONS,
            Duration::from_millis(1),
        )
    }

    /// Sends a transaction and sees it become final, without a look at which chain this is.
    async fn settle_one(&self) {
        let sender = self.outbox().sender;
        let order = Order {
            call: call(),
            gas_limit: 21_000,
            purpose: Purpose::Other,
            deadline: None,
        };
        let sent = sender.submit(order, self.ledger.now()).await.unwrap();
        let (head, confirmed) = self.mine_nonce_zero(sent.hash).await;
        let mut finished = Vec::new();
        sender
            .advance(
                Heights { head, confirmed },
                self.ledger.now(),
                |_| Outlook::default(),
                &mut finished,
            )
            .await
            .unwrap();
        assert_eq!(finished.len(), 1);
    }

    /// The transaction with the nonce 0 is final. Gives the newest block, and its own.
    async fn mine_nonce_zero(&self, hash: B256) -> (Block, Block) {
        let head = self.chain.head().await.unwrap();
        let confirmed = self.chain.block(BlockNumber::new(8)).await.unwrap().unwrap();
        self.chain.set_receipt(MinedTransaction {
            hash,
            from: Address::ZERO,
            block: confirmed.number,
            block_hash: confirmed.hash,
            succeeded: true,
            gas_used: 21_000,
            gas_price: 11,
            logs: Vec::new(),
        });
        self.chain.set_nonces(1, &[(confirmed.hash, 1), (head.hash, 1)]);
        (head, confirmed)
    }

    /// Starts the chain anew, and lets it grow longer than it was.
    async fn restart(&self) {
        self.chain.fork(11);
        for _ in 0..=20 {
            self.chain.mine(Vec::new());
        }
        self.chain.forget_receipts();
        self.chain.set_nonces(0, &[]);
    }

    async fn assert_sends_nothing(&self, block: u64) {
        let stored = self.ledger.transactions(10).await.unwrap().len();
        let broadcasts = self.chain.broadcasts().len();
        let outbox = self.outbox();
        let expected = BlockNumber::new(block);
        let resumed = outbox.resume().await;
        assert!(matches!(resumed, Err(SendError::OtherChain { block }) if block == expected));
        let sent = outbox.send(call()).await;
        assert!(matches!(sent, Err(SendError::OtherChain { block }) if block == expected));
        assert_eq!(self.ledger.transactions(10).await.unwrap().len(), stored);
        assert_eq!(self.chain.broadcasts().len(), broadcasts);
    }
}

fn call() -> Call {
    Call::transfer(Address::repeat_byte(3), U256::from(1))
}

#[tokio::test]
async fn a_chain_that_began_anew_is_sent_nothing() {
    let fixture = Fixture::new().await;
    fixture.settle_one().await;
    let waiting = fixture.outbox().send(call()).await.unwrap();
    fixture.restart().await;
    fixture.assert_sends_nothing(0).await;
    // Nor by a process that was waiting meanwhile.
    let confirmed = fixture.outbox().confirm(&waiting).await;
    assert!(matches!(confirmed, Err(SendError::OtherChain { .. })), "{confirmed:?}");
    assert_eq!(fixture.chain.broadcasts().len(), 2);
}

#[tokio::test]
async fn a_store_without_blocks_knows_its_chain_by_its_transactions() {
    let fixture = Fixture::new().await;
    fixture.settle_one().await;
    fixture.restart().await;
    fixture.assert_sends_nothing(8).await;
}

#[tokio::test]
async fn a_reorg_does_not_make_a_chain_another_one() {
    let fixture = Fixture::new().await;
    fixture.settle_one().await;
    fixture.outbox().resume().await.unwrap();
    fixture.chain.fork(8);
    for _ in 0..10 {
        fixture.chain.mine(Vec::new());
    }
    fixture.outbox().resume().await.unwrap();
    fixture.outbox().send(call()).await.unwrap();
}

#[tokio::test]
async fn what_was_sent_before_is_waited_for() {
    let fixture = Fixture::new().await;
    let waiting = fixture.outbox().send(call()).await.unwrap();
    let outbox = fixture.outbox();
    let mut told = Vec::new();
    let (settled, _) = tokio::join!(
        outbox.settle(|hash| told.push(hash)),
        fixture.mine_nonce_zero(waiting.hash)
    );
    settled.unwrap();
    assert_eq!(told, [waiting.hash]);
    assert!(fixture.ledger.pending_transactions().await.unwrap().is_empty());
    outbox.settle(|hash| panic!("{hash}")).await.unwrap();
}

#[tokio::test]
async fn what_waits_for_a_deadline_is_made_no_dearer_than_the_policy_pays() {
    let fixture = Fixture::new().await;
    let fees = FeePolicy {
        max_fee: 50,
        urgent_max_fee: 400,
        min_priority_fee: 1,
        patience: Duration::ZERO,
        ..FeePolicy::default()
    };
    // A watcher of the same home left it.
    let now = fixture.ledger.now();
    let claim = Order {
        call: call(),
        gas_limit: 100_000,
        purpose: Purpose::Claim {
            by: ClaimBy::Vouchers,
            rows: Vec::new(),
        },
        deadline: Some(now.plus(Duration::from_secs(600))),
    };
    let watcher = fixture.outbox_paying(fees.clone());
    watcher.sender.submit(claim, now).await.unwrap();
    fixture.chain.set_fees(FeeQuote {
        base_fee: 1_000,
        priority_fee: 1,
    });

    let outbox = fixture.outbox_paying(fees);
    let dearest = async || {
        let sent = fixture.ledger.transactions(10).await.unwrap();
        sent.iter().map(|record| record.max_fee).max()
    };
    let looks = async {
        while dearest().await < Some(400) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Some more.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::select! {
        settled = outbox.settle(|_| ()) => panic!("{settled:?}"),
        looked = tokio::time::timeout(Duration::from_secs(20), looks) => looked.unwrap(),
    }
    assert_eq!(dearest().await, Some(400));
    // Nor does anything else go out.
    let sent = outbox.send(call()).await;
    assert!(
        matches!(sent, Err(SendError::FeesTooHigh(FeesTooHigh { limit: 50, .. }))),
        "{sent:?}"
    );
}
