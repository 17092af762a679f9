use std::time::Duration;

use alloy::{
    primitives::{B256, Bytes, LogData, U256, keccak256},
    sol_types::SolEvent as _,
};
use lloom_bindings::{ChannelEscrow, ExecutorRegistry};
use lloom_ledger::{
    AcceptRequest, Block, ExposurePolicy, NewTransaction, ObligationPolicy, Outcome, Purpose, ServeError,
    StoreDeployment,
};
use lloom_receipts::{
    ChannelParameters, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash, PricePerMillion, Prices,
    RequestNonce, TokenAmount, TokenCount, Voucher,
};

use super::*;
use crate::{
    chain::MinedTransaction,
    event::Emitters,
    follower::Follower,
    scripted_chain::{ScriptedChain, opened},
};

const ESCROW: Address = Address::repeat_byte(0xe5);
const REGISTRY: Address = Address::repeat_byte(0x4e);
const PAYEE: Address = Address::repeat_byte(0xee);
const OWN: Address = Address::repeat_byte(0x01);
const NAMED: Address = Address::repeat_byte(0x02);
const STRANGER: Address = Address::repeat_byte(0x03);

/// An executor that holds a voucher over 100 for its one channel, with a request that is open.
struct Fixture {
    chain: ScriptedChain,
    ledger: Ledger,
    follower: Follower<ScriptedChain>,
    records: LostRecords<ScriptedChain>,
    payer: Keypair,
    parameters: ChannelParameters,
    _directory: tempfile::TempDir,
}

fn domain() -> Domain {
    Domain::new(31_337, ESCROW, Address::repeat_byte(0x5e))
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("lloom.db"), &StoreDeployment::from(&domain()))
            .await
            .unwrap();
        let chain = ScriptedChain::with_blocks(2);
        let payer = Keypair::from_secret([7; 32]).unwrap();
        let parameters = ChannelParameters {
            payer: payer.address(),
            payee: PAYEE,
            token: Address::repeat_byte(0x70),
            salt: B256::ZERO,
            authorized_signer: Address::ZERO,
        };
        let emitters = Emitters {
            escrow: ESCROW,
            settlement: domain().settlement(),
            registry: REGISTRY,
        };
        let policy = ObligationPolicy {
            payees: vec![PAYEE],
            grace: Duration::from_secs(3_600),
        };
        let mut fixture = Self {
            follower: Follower::new(chain.clone(), ledger.clone(), emitters, BlockNumber::new(1), 0, policy),
            records: LostRecords::begin(chain.clone(), ledger.clone(), OWN).await.unwrap(),
            chain,
            ledger,
            payer,
            parameters,
            _directory: directory,
        };
        let named = ExecutorRegistry::OperatorAdded {
            payee: PAYEE,
            operator: NAMED,
        };
        fixture.chain.mine(vec![
            opened(&domain(), &parameters, 1_000),
            (REGISTRY, named.encode_log_data()),
        ]);
        fixture.follow().await;
        assert_eq!(fixture.accept(1, Some(100)).await.unwrap(), Outcome::Recorded);
        fixture
    }

    async fn accept(&self, nonce: u64, voucher: Option<u128>) -> Result<Outcome, ServeError> {
        let channel = self.parameters.id(&domain());
        let price = PricePerMillion::new(TokenAmount::new(1_000_000));
        let now = self.ledger.now();
        let request = InferenceRequest {
            channel,
            operator: OWN,
            nonce: RequestNonce::new(U256::from(nonce)),
            model: ModelHash::of_id("m"),
            prompt_hash: ContentHash::new(B256::ZERO),
            max_input: TokenCount::new(10),
            max_output: TokenCount::new(100),
            prices: Prices {
                input: price,
                output: price,
            },
            deadline: now.plus(Duration::from_secs(60)),
        };
        let voucher = voucher.map(|amount| {
            let voucher = Voucher {
                channel,
                amount: TokenAmount::new(amount),
            };
            self.payer.sign(&domain(), voucher)
        });
        self.ledger
            .accept_request(AcceptRequest {
                request: self.payer.sign(&domain(), request),
                content_salt: ContentSalt::new(B256::ZERO),
                voucher,
                reserve: TokenAmount::new(10),
                exposure: ExposurePolicy::default(),
                now,
            })
            .await
    }

    /// The channel settles `amount` in the next block. Gives the block, whose one transaction that is.
    fn settle(&self, amount: u128) -> Block {
        let settled = ChannelEscrow::ChannelSettled {
            channelId: self.parameters.id(&domain()).hash(),
            settled: amount,
        };
        let log: (Address, LogData) = (ESCROW, settled.encode_log_data());
        self.chain.mine(vec![log])
    }

    /// Says who sent the transaction of `block`.
    fn sent(&self, block: Block, from: Address) {
        self.chain.set_receipt(MinedTransaction {
            hash: keccak256(block.hash),
            from,
            block: block.number,
            block_hash: block.hash,
            succeeded: true,
            gas_used: 50_000,
            gas_price: 1,
            logs: Vec::new(),
        });
    }

    /// Follows to the head and looks at what came.
    async fn follow(&mut self) {
        loop {
            let step = self.follower.step().await.unwrap();
            self.records.look(&step).await.unwrap();
            if step.is_at_head() {
                return;
            }
        }
    }

    /// As another process does.
    async fn begin_anew(&mut self) {
        let (chain, ledger) = (self.chain.clone(), self.ledger.clone());
        self.records = LostRecords::begin(chain, ledger, OWN).await.unwrap();
    }

    async fn settled_by(amount: u128, sender: Address) -> Self {
        let mut fixture = Self::new().await;
        let block = fixture.settle(amount);
        fixture.sent(block, sender);
        fixture.follow().await;
        fixture
    }

    async fn knows_of_a_loss(&self) -> bool {
        self.ledger.restored_at().await.unwrap().is_some()
    }
}

#[tokio::test]
async fn a_claim_of_this_side_that_the_store_knows_nothing_of_makes_it_a_restored_one() {
    for sender in [OWN, PAYEE, NAMED] {
        let fixture = Fixture::settled_by(101, sender).await;
        assert!(fixture.knows_of_a_loss().await, "{sender}");
        assert!(
            fixture.ledger.interrupted_requests().await.unwrap().is_empty(),
            "{sender}"
        );
        let refused = fixture.accept(2, Some(200)).await.unwrap_err();
        assert!(matches!(refused, ServeError::RestoredTooRecently { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_strangers_payment_stops_nobody() {
    let fixture = Fixture::settled_by(999, STRANGER).await;
    assert!(!fixture.knows_of_a_loss().await);
    assert_eq!(fixture.ledger.interrupted_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_voucher_on_record_allows_proves_nothing() {
    let fixture = Fixture::settled_by(100, OWN).await;
    assert!(!fixture.knows_of_a_loss().await);
}

#[tokio::test]
async fn a_transaction_on_record_proves_nothing() {
    let mut fixture = Fixture::new().await;
    let block = fixture.settle(500);
    let claim = NewTransaction {
        from: OWN,
        nonce: 0,
        hash: keccak256(block.hash),
        raw: Bytes::from_static(b"signed"),
        purpose: Purpose::Other,
        replaces: None,
        max_fee: 1,
        priority_fee: 1,
        gas_limit: 1,
        deadline: None,
        now: fixture.ledger.now(),
    };
    fixture.ledger.record_transaction(claim).await.unwrap();
    fixture.sent(block, OWN);
    fixture.follow().await;
    assert!(!fixture.knows_of_a_loss().await);
}

#[tokio::test]
async fn a_payment_whose_transaction_is_not_shown_yet_is_looked_at_again() {
    let mut fixture = Fixture::new().await;
    let block = fixture.settle(500);
    fixture.follow().await;
    assert!(!fixture.knows_of_a_loss().await);
    // Nothing more happens on the chain.
    fixture.sent(block, OWN);
    fixture.follow().await;
    assert!(fixture.knows_of_a_loss().await);
}

#[tokio::test]
async fn a_payment_is_looked_at_again_after_an_endpoint_failed() {
    let mut fixture = Fixture::new().await;
    let block = fixture.settle(500);
    fixture.sent(block, OWN);
    let step = fixture.follower.step().await.unwrap();
    fixture.chain.fail_next(1);
    fixture.records.look(&step).await.unwrap_err();
    assert!(!fixture.knows_of_a_loss().await);
    // Nothing more happens on the chain.
    fixture.follow().await;
    assert!(fixture.knows_of_a_loss().await);
}

#[tokio::test]
async fn what_an_earlier_process_saw_is_judged_by_the_next_and_once() {
    let mut fixture = Fixture::new().await;
    let block = fixture.settle(500);
    fixture.follower.step().await.unwrap();
    // It died before it looked.
    fixture.sent(block, OWN);
    fixture.begin_anew().await;
    fixture.follow().await;
    let restored_at = fixture.ledger.restored_at().await.unwrap();
    assert!(restored_at.is_some());
    // The block is older than the restore that it told of.
    let everything = BlockNumber::default();
    assert!(fixture.ledger.unknown_payments(everything).await.unwrap().is_empty());
}

/// So many blocks that all but the last few are read by range.
const LONG: usize = 2_000;

#[tokio::test]
async fn a_claim_deep_below_the_head_tells_of_a_loss_too() {
    let mut fixture = Fixture::new().await;
    let block = fixture.settle(500);
    fixture.sent(block, OWN);
    // A disk that was put back as it was long ago: neither the claim's block nor those before it are kept.
    fixture.chain.mine_empty(LONG);
    fixture.begin_anew().await;
    fixture.follow().await;
    assert!(fixture.knows_of_a_loss().await);
}

#[tokio::test]
async fn after_a_loss_only_a_later_claim_tells_of_another() {
    let mut fixture = Fixture::settled_by(500, OWN).await;
    let first = fixture.ledger.restored_at().await.unwrap();
    assert!(first.is_some());
    // Sent before, and mined after.
    let block = fixture.settle(600);
    fixture.sent(block, OWN);
    fixture.chain.mine_empty(LONG);
    fixture.follow().await;
    assert_eq!(fixture.ledger.restored_at().await.unwrap(), first);
    assert!(!fixture.records.is_behind());
}
