use alloy::primitives::{B256, Bytes, U256};
use lloom_ledger::{
    AcceptRequest, Block, ChainEvent, ChainEventKind, ClaimBy, EventPosition, ExposurePolicy, NewTransaction,
    ObligationPolicy, StoreDeployment,
};
use lloom_receipts::{
    BlockNumber, ChannelParameters, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash,
    PricePerMillion, Prices, RequestNonce, TokenCount, Usage, UsageBill, Voucher,
};

use super::*;

const PAYEE: Address = Address::repeat_byte(0xee);
const TOKEN: Address = Address::repeat_byte(0x70);
const OWN: Address = Address::repeat_byte(0x01);
const FORMER: Address = Address::repeat_byte(0x02);
const GRACE: Duration = Duration::from_secs(3_600);
/// When everything was recorded.
const THEN: UnixSeconds = UnixSeconds::new(1_700_000_000);
/// What the payee has earned, base units.
const EARNED: TokenAmount = TokenAmount::new(90);

/// A store in which one channel has earned something that is not claimed.
struct Fixture {
    ledger: Ledger,
    channel: ChannelId,
    blocks: u64,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let domain = Domain::new(31_337, Address::repeat_byte(0xe5), Address::repeat_byte(0x5e));
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("lloom.db"), &StoreDeployment::from(&domain))
            .await
            .unwrap();
        let payer = Keypair::from_secret([7; 32]).unwrap();
        let parameters = ChannelParameters {
            payer: payer.address(),
            payee: PAYEE,
            token: TOKEN,
            salt: B256::ZERO,
            authorized_signer: Address::ZERO,
        };
        let channel = parameters.id(&domain);
        let mut fixture = Self {
            ledger,
            channel,
            blocks: 0,
            _directory: directory,
        };
        fixture
            .mine(ChainEventKind::ChannelOpened {
                channel,
                parameters,
                deposit: TokenAmount::new(1_000),
                refunds_to_balance: false,
            })
            .await;
        let price = PricePerMillion::new(TokenAmount::new(1_000_000));
        let request = InferenceRequest {
            channel,
            operator: OWN,
            nonce: RequestNonce::new(U256::ONE),
            model: ModelHash::of_id("m"),
            prompt_hash: ContentHash::new(B256::ZERO),
            max_input: TokenCount::new(10),
            max_output: TokenCount::new(100),
            prices: Prices {
                input: price,
                output: price,
            },
            deadline: THEN.plus(Duration::from_secs(60)),
        };
        let voucher = Voucher {
            channel,
            amount: EARNED,
        };
        let accepted = AcceptRequest {
            request: payer.sign(&domain, request),
            content_salt: ContentSalt::new(B256::ZERO),
            voucher: Some(payer.sign(&domain, voucher)),
            reserve: EARNED,
            exposure: ExposurePolicy::default(),
            now: THEN,
        };
        fixture.ledger.accept_request(accepted).await.unwrap();
        let usage = Usage {
            input: TokenCount::new(0),
            output: TokenCount::new(90),
        };
        let bill = UsageBill::for_request(&request, usage, ContentHash::new(B256::ZERO), THEN).unwrap();
        fixture.ledger.commit_bill(bill).await.unwrap();
        fixture
    }

    async fn mine(&mut self, kind: ChainEventKind) {
        self.blocks += 1;
        let hash = |number: u64| B256::from(U256::from(number + 1));
        let block = Block {
            number: BlockNumber::new(self.blocks),
            hash: hash(self.blocks),
            parent: hash(self.blocks - 1),
            timestamp: THEN,
        };
        let event = ChainEvent {
            block: block.number,
            block_hash: block.hash,
            position: EventPosition::of_log(0),
            transaction: B256::repeat_byte(9),
            kind,
        };
        let policy = ObligationPolicy {
            payees: vec![PAYEE],
            grace: GRACE,
        };
        self.ledger
            .apply_blocks(vec![block], vec![event], block.number, policy)
            .await
            .unwrap();
    }

    /// The payer asks for its money so long before everything else that `left` is left of the grace period.
    async fn request_close(&mut self, left: Duration) {
        let kind = ChainEventKind::CloseRequested {
            channel: self.channel,
            requested_at: THEN.plus(left).minus(GRACE),
        };
        self.mine(kind).await;
    }

    /// A transaction that settles the channel and waits for a block.
    async fn send(&self, from: Address, purpose: Purpose) {
        let transaction = NewTransaction {
            from,
            nonce: 0,
            hash: B256::repeat_byte(1),
            raw: Bytes::from_static(b"signed"),
            purpose,
            replaces: None,
            max_fee: 1,
            priority_fee: 1,
            gas_limit: 1,
            deadline: None,
            now: THEN,
        };
        self.ledger.record_transaction(transaction).await.unwrap();
    }

    fn claim(&self) -> Purpose {
        Purpose::Claim {
            by: ClaimBy::Vouchers,
            rows: vec![(self.channel, EARNED)],
        }
    }

    fn close(&self) -> Purpose {
        Purpose::Close {
            channel: self.channel,
            amount: EARNED,
        }
    }

    async fn books_at(&self, now: UnixSeconds) -> Books {
        Books::open(&self.ledger, &[(PAYEE, TOKEN)], GRACE, OWN, now, None)
            .await
            .unwrap()
    }

    /// Until when what is pending has to be mined.
    async fn deadline(&self) -> Option<UnixSeconds> {
        let pending = self.ledger.pending_transactions().await.unwrap();
        self.books_at(THEN).await.outlook(&pending[0]).deadline
    }

    /// What there is to claim so many seconds after all that.
    async fn unclaimed_after(&self, seconds: u64) -> TokenAmount {
        let now = THEN.plus(Duration::from_secs(seconds));
        let books = self.books_at(now).await;
        let candidates = books.candidates(now);
        candidates.fold(TokenAmount::ZERO, |sum, candidate| {
            sum.saturating_add(EARNED.saturating_sub(candidate.settled))
        })
    }
}

#[tokio::test]
async fn what_this_key_has_sent_is_waited_for_however_long_it_takes() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.unclaimed_after(0).await, EARNED);
    fixture.send(OWN, fixture.claim()).await;
    assert_eq!(fixture.unclaimed_after(100_000).await, TokenAmount::ZERO);
}

#[tokio::test]
async fn what_another_key_has_sent_is_waited_for_for_minutes_whatever_it_is() {
    for sends in [Fixture::claim, Fixture::close] {
        let fixture = Fixture::new().await;
        fixture.send(FORMER, sends(&fixture)).await;
        assert_eq!(fixture.unclaimed_after(179).await, TokenAmount::ZERO);
        assert_eq!(fixture.unclaimed_after(180).await, EARNED);
    }
}

#[tokio::test]
async fn what_another_key_has_sent_is_not_waited_for_until_a_deadline_is_over() {
    for sends in [Fixture::claim, Fixture::close] {
        let mut fixture = Fixture::new().await;
        fixture.request_close(Duration::from_secs(120)).await;
        fixture.send(FORMER, sends(&fixture)).await;
        assert_eq!(fixture.unclaimed_after(11).await, TokenAmount::ZERO);
        assert_eq!(fixture.unclaimed_after(12).await, EARNED);
    }
}

#[tokio::test]
async fn what_another_key_has_sent_under_a_clock_that_was_ahead_is_not_waited_for() {
    let mut fixture = Fixture::new().await;
    fixture.request_close(Duration::from_secs(1_800)).await;
    let transaction = NewTransaction {
        from: FORMER,
        nonce: 0,
        hash: B256::repeat_byte(1),
        raw: Bytes::from_static(b"signed"),
        purpose: fixture.claim(),
        replaces: None,
        max_fee: 1,
        priority_fee: 1,
        gas_limit: 1,
        deadline: None,
        now: THEN.plus(Duration::from_secs(86_400)),
    };
    fixture.ledger.record_transaction(transaction).await.unwrap();
    assert_eq!(fixture.unclaimed_after(200).await, EARNED);
}

#[tokio::test]
async fn usage_is_published_for_those_alone_whose_operator_the_key_is() {
    let fixture = Fixture::new().await;
    let mut books = Books::open(&fixture.ledger, &[(PAYEE, TOKEN)], GRACE, OWN, THEN, None)
        .await
        .unwrap();
    let publishes = |books: &Books| {
        books
            .candidates(THEN)
            .map(|candidate| candidate.publishes)
            .collect::<Vec<_>>()
    };
    assert_eq!(publishes(&books), [true]);
    books.use_vouchers_for(vec![Address::repeat_byte(0xdd)]);
    assert_eq!(publishes(&books), [true]);
    books.use_vouchers_for(vec![PAYEE]);
    assert_eq!(publishes(&books), [false]);
}

#[tokio::test]
async fn a_deadline_counts_as_long_as_the_payer_wants_to_leave() {
    let mut fixture = Fixture::new().await;
    let transaction = NewTransaction {
        from: OWN,
        nonce: 0,
        hash: B256::repeat_byte(1),
        raw: Bytes::from_static(b"signed"),
        purpose: fixture.claim(),
        replaces: None,
        max_fee: 1,
        priority_fee: 1,
        gas_limit: 1,
        deadline: Some(THEN.plus(Duration::from_secs(60))),
        now: THEN,
    };
    fixture.ledger.record_transaction(transaction).await.unwrap();
    assert_eq!(fixture.deadline().await, None, "the close was called off");
    fixture.request_close(Duration::from_secs(120)).await;
    assert_eq!(fixture.deadline().await, Some(THEN.plus(Duration::from_secs(120))));
}
