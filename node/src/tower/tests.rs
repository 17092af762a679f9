//! Towers and couriers on real stores and, where they speak to each other, over real sockets.

mod answers;
mod carrying;
mod statements;

use std::time::{Duration, SystemTime};

use alloy::primitives::{Address, B256, U256};
use lloom_ledger::{
    AcceptRequest, Block, ChainEvent, ChainEventKind, EventPosition, ExposurePolicy, Ledger, ObligationPolicy,
    StoreDeployment, TowerQuotas, TowerTerms,
};
use lloom_receipts::{
    BlockNumber, ChannelId, ChannelParameters, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash,
    PricePerMillion, Prices, RequestNonce, Signed, TokenAmount, TokenCount, UnixSeconds, Usage, UsageBill, Verified,
    Voucher, commitment_salt,
};
use tempfile::TempDir;

use super::*;

const DEPOSIT: u128 = 1_000;

fn domain() -> Domain {
    Domain::new(31_337, Address::repeat_byte(0xe1), Address::repeat_byte(0xe2))
}

fn key(byte: u8) -> Keypair {
    Keypair::from_secret([byte; 32]).unwrap()
}

fn now() -> UnixSeconds {
    UnixSeconds::from(SystemTime::now())
}

const fn amount(base_units: u128) -> TokenAmount {
    TokenAmount::new(base_units)
}

fn payee() -> Address {
    Address::repeat_byte(0xaa)
}

/// Whom the executor earned for before.
fn former_payee() -> Address {
    Address::repeat_byte(0xab)
}

/// The first of the channels to the former payee; those below are the payee's.
const FORMER: u8 = 100;

fn token() -> Address {
    Address::repeat_byte(0x70)
}

fn operator() -> Keypair {
    key(0x0b)
}

fn payer() -> Keypair {
    key(0x0c)
}

fn tower_key() -> Keypair {
    key(0x77)
}

/// The `number`th channel from the payer.
fn parameters(number: u8) -> ChannelParameters {
    ChannelParameters {
        payer: payer().address(),
        payee: if number < FORMER { payee() } else { former_payee() },
        token: token(),
        salt: commitment_salt(operator().address(), B256::repeat_byte(number)),
        authorized_signer: Address::ZERO,
    }
}

fn channel(number: u8) -> ChannelId {
    parameters(number).id(&domain())
}

fn voucher(number: u8, ceiling: u128) -> Signed<Voucher, Verified> {
    let voucher = Voucher {
        channel: channel(number),
        amount: amount(ceiling),
    };
    payer().sign(&domain(), voucher)
}

fn delegation(number: u8, ceiling: u128, claim: u128) -> DelegationMessage {
    DelegationMessage {
        parameters: parameters(number),
        voucher: voucher(number, ceiling).into_unverified(),
        claim: amount(claim),
    }
}

fn update(delegations: Vec<DelegationMessage>) -> TowerQuestion {
    TowerQuestion::Update {
        deployment: Deployment::from(&domain()),
        delegations,
    }
}

fn tower_config() -> TowerConfig {
    TowerConfig {
        terms: TowerTerms {
            token: token(),
            minimum_value: amount(10),
            max_fee_per_gas: 500,
            term: Duration::from_secs(1_000_000),
        },
        quotas: TowerQuotas {
            operators: 4,
            channels_per_operator: 16,
            bytes: 1 << 20,
        },
        messages_per_minute: 1_000,
        executors: None,
        grace: Duration::from_secs(3_600),
    }
}

/// A store that has followed a chain on which the payee named its operator and `channels` channels were opened.
struct Store {
    ledger: Ledger,
    directory: TempDir,
}

impl Store {
    async fn following(channels: u8) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Self {
            ledger: open(&directory).await,
            directory,
        };
        let mut kinds = vec![ChainEventKind::OperatorAdded {
            payee: payee(),
            operator: operator().address(),
        }];
        kinds.extend((1..=channels).map(|number| ChainEventKind::ChannelOpened {
            channel: channel(number),
            parameters: parameters(number),
            deposit: amount(DEPOSIT),
            refunds_to_balance: false,
        }));
        store.mine(kinds).await;
        store
    }

    /// The next block holds these, and is confirmed.
    async fn mine(&self, kinds: Vec<ChainEventKind>) {
        let cursor = self.ledger.cursor().await.unwrap();
        let number = cursor.map_or(1, |block| block.number.get() + 1);
        let hash = |number: u64| B256::from(U256::from(number + 7));
        let block = Block {
            number: BlockNumber::new(number),
            hash: hash(number),
            parent: hash(number - 1),
            timestamp: now(),
        };
        let events = kinds.into_iter().zip(0..).map(|(kind, log)| ChainEvent {
            block: block.number,
            block_hash: block.hash,
            position: EventPosition::of_log(log),
            transaction: B256::repeat_byte(log as u8),
            kind,
        });
        let policy = ObligationPolicy::default();
        self.ledger
            .apply_blocks(vec![block], events.collect(), block.number, policy)
            .await
            .unwrap();
    }

    /// `kill -9`, and a new process's view of what was on disk.
    async fn crash(&mut self) {
        self.ledger.clone().close().await;
        self.ledger = open(&self.directory).await;
    }

    /// Serves and bills `tokens` tokens, a base unit each, against a voucher over what is billed then and `slack` more.
    async fn earn(&self, number: u8, tokens: u32, slack: u128) {
        let billed = self.ledger.account(channel(number)).await.unwrap().billed.base_units();
        let salt = ContentSalt::new(B256::repeat_byte(1));
        let price = PricePerMillion::new(amount(1_000_000));
        let request = InferenceRequest {
            channel: channel(number),
            operator: operator().address(),
            nonce: RequestNonce::new(U256::from(billed + 1)),
            model: ModelHash::of_id("test"),
            prompt_hash: ContentHash::of(salt, b"prompt"),
            max_input: TokenCount::new(0),
            max_output: TokenCount::new(tokens),
            prices: Prices {
                input: price,
                output: price,
            },
            deadline: now().plus(Duration::from_secs(60)),
        };
        self.ledger
            .accept_request(AcceptRequest {
                request: payer().sign(&domain(), request),
                content_salt: salt,
                voucher: Some(voucher(number, billed + u128::from(tokens) + slack)),
                reserve: amount(u128::from(tokens)),
                exposure: ExposurePolicy::default(),
                now: now(),
            })
            .await
            .unwrap();
        let usage = Usage {
            input: TokenCount::new(0),
            output: TokenCount::new(tokens),
        };
        let bill = UsageBill::for_request(&request, usage, ContentHash::of(salt, b"answer"), now()).unwrap();
        self.ledger.commit_bill(bill).await.unwrap();
    }
}

async fn open(directory: &TempDir) -> Ledger {
    let deployment = StoreDeployment::from(&domain());
    Ledger::open(&directory.path().join("lloom.db"), &deployment)
        .await
        .unwrap()
}
