use std::time::Duration;

use alloy::{
    primitives::{B256, LogData, U256},
    rpc::types::Log,
    sol_types::SolEvent as _,
};
use lloom_ledger::{ObligationPolicy, StoreDeployment};
use lloom_receipts::{BlockNumber, ChannelParameters, Keypair, Voucher};

use super::*;
use crate::{
    chain::MinedTransaction,
    claim_call::{VoucherRow, claim_vouchers},
    fees::FeePolicy,
    follower::Follower,
    scripted_chain::{ScriptedChain, opened},
};

const ESCROW: Address = Address::repeat_byte(0xe5);
const PAYEE: Address = Address::repeat_byte(0xee);
const NOW: UnixSeconds = UnixSeconds::new(2_000_000);
/// Places of the contract's `SkipReason`.
const AMOUNT_NOT_INCREASING: u8 = 2;
const AMOUNT_EXCEEDS_VOUCHER: u8 = 4;
const INVALID_SIGNATURE: u8 = 5;

/// A channel with vouchers over 100 and 200, of which the greater one is claimed.
struct Fixture {
    settler: Settler<ScriptedChain>,
    channel: ChannelId,
    claim: FinishedTransaction,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::new(31_337, ESCROW, Address::repeat_byte(0x5e));
        let ledger = Ledger::open(&directory.path().join("lloom.db"), &StoreDeployment::from(&domain))
            .await
            .unwrap();
        let chain = ScriptedChain::with_blocks(2);
        let emitters = Emitters {
            escrow: ESCROW,
            settlement: domain.settlement(),
            registry: Address::repeat_byte(0x4e),
        };
        let key = Keypair::from_secret([9; 32]).unwrap();
        let settler = Settler {
            sender: Sender::new(chain.clone(), ledger.clone(), key, 31_337, FeePolicy::default()),
            chain,
            ledger,
            domain,
            emitters,
            policy: PlannerPolicy::default(),
            verifier: Verifier::default(),
            at: StateAt::Latest,
            quarantine: Quarantine::default(),
            deferrals: Deferrals::default(),
        };

        let payer = Keypair::from_secret([7; 32]).unwrap();
        let parameters = ChannelParameters {
            payer: payer.address(),
            payee: PAYEE,
            token: Address::repeat_byte(0x70),
            salt: B256::ZERO,
            authorized_signer: Address::ZERO,
        };
        let channel = parameters.id(&domain);
        open(&settler, &parameters).await;
        let voucher = |amount| payer.sign(&domain, Voucher { channel, amount });
        for amount in [100, 200].map(TokenAmount::new) {
            settler.ledger.accept_voucher(voucher(amount)).await.unwrap();
        }
        let row = VoucherRow {
            parameters,
            voucher: voucher(TokenAmount::new(200)),
            amount: TokenAmount::new(150),
        };
        let claim = send(&settler, row).await;
        Self {
            settler,
            channel,
            claim,
            _directory: directory,
        }
    }

    /// Learns that a block took the claim and said this of its row.
    async fn learn_of_skip(&mut self, reason: u8) {
        let skipped = ChannelEscrow::RowSkipped {
            channelId: self.channel.hash(),
            index: U256::ZERO,
            reason,
        };
        self.learn(true, Some(skipped.encode_log_data())).await;
    }

    async fn learn(&mut self, succeeded: bool, said: Option<LogData>) {
        let hash = self.claim.record.hash;
        let log = |data| Log {
            inner: alloy::primitives::Log { address: ESCROW, data },
            block_hash: Some(B256::repeat_byte(2)),
            block_number: Some(2),
            block_timestamp: None,
            transaction_hash: Some(hash),
            transaction_index: Some(0),
            log_index: Some(0),
            removed: false,
        };
        self.claim.finish = Finish::Mined {
            block: BlockNumber::new(2),
            succeeded,
            gas_used: 50_000,
            gas_price: 1,
        };
        self.claim.mined = Some(MinedTransaction {
            hash,
            from: self.claim.record.from,
            block: BlockNumber::new(2),
            block_hash: B256::repeat_byte(2),
            succeeded,
            gas_used: 50_000,
            gas_price: 1,
            logs: said.map(log).into_iter().collect(),
        });
        self.settler.learn(&self.claim, NOW).await.unwrap();
    }

    /// The best voucher that counts.
    async fn best(&self) -> u128 {
        let claimable = self.settler.ledger.claimable_channel(self.channel).await.unwrap();
        let voucher = claimable.unwrap().voucher.unwrap();
        voucher.document().amount.base_units()
    }

    fn quarantined(&self) -> Option<&str> {
        self.settler.quarantine.reason(self.channel)
    }
}

async fn open(settler: &Settler<ScriptedChain>, parameters: &ChannelParameters) {
    settler.chain.mine(vec![opened(&settler.domain, parameters, 1_000)]);
    let policy = ObligationPolicy {
        payees: vec![PAYEE],
        grace: Duration::from_secs(3_600),
    };
    let (chain, ledger) = (settler.chain.clone(), settler.ledger.clone());
    let mut follower = Follower::new(chain, ledger, settler.emitters, BlockNumber::new(1), 0, policy);
    while !follower.step().await.unwrap().is_at_head() {}
}

async fn send(settler: &Settler<ScriptedChain>, row: VoucherRow) -> FinishedTransaction {
    let rows = vec![(row.parameters.id(&settler.domain), row.amount)];
    let by = ClaimBy::Vouchers;
    let order = Order {
        call: claim_vouchers(&settler.domain, PAYEE, row.parameters.token, &[row]),
        gas_limit: 100_000,
        purpose: Purpose::Claim { by, rows },
        deadline: None,
    };
    let sent = settler.sender.submit(order, NOW).await.unwrap();
    FinishedTransaction {
        record: settler.ledger.transaction(sent.id).await.unwrap().unwrap(),
        finish: Finish::Dropped,
        mined: None,
    }
}

#[tokio::test]
async fn a_voucher_that_the_chain_refused_for_good_gives_way_to_the_next_best() {
    for reason in [INVALID_SIGNATURE, AMOUNT_EXCEEDS_VOUCHER] {
        let mut fixture = Fixture::new().await;
        assert_eq!(fixture.best().await, 200);
        fixture.learn_of_skip(reason).await;
        assert_eq!(fixture.best().await, 100);
        assert!(fixture.quarantined().unwrap().contains("the chain skipped it"));
    }
}

#[tokio::test]
async fn a_row_that_somebody_else_settled_first_keeps_its_voucher() {
    let mut fixture = Fixture::new().await;
    fixture.learn_of_skip(AMOUNT_NOT_INCREASING).await;
    assert_eq!(fixture.best().await, 200);
}

#[tokio::test]
async fn rows_of_a_claim_that_was_reverted_wait_and_those_of_one_that_paid_do_not() {
    let mut fixture = Fixture::new().await;
    fixture.learn(false, None).await;
    assert_eq!(fixture.best().await, 200);
    assert!(fixture.quarantined().unwrap().contains("was reverted"));
    fixture.learn(true, None).await;
    assert_eq!(fixture.quarantined(), None);
}
