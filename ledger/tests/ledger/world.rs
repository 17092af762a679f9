//! A payer, an executor and their channel, as the tests need them.

use std::{
    path::PathBuf,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use alloy::primitives::{Address, B256, U256};
use lloom_ledger::{
    AcceptRequest, Block, ChainEvent, ChainEventKind, EventPosition, ExposurePolicy, Leadership, Ledger, NewChannel,
    ObligationPolicy, StoreDeployment, StoreUrl,
};
use lloom_postgres::Server;
use lloom_receipts::{
    BlockNumber, ChannelId, ChannelParameters, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash,
    PricePerMillion, Prices, Receipt, ReceiptHead, RequestNonce, Signed, TokenAmount, TokenCount, UnixSeconds, Usage,
    UsageBill, Verified, Voucher, commitment_salt,
};
use tempfile::TempDir;

use crate::beside;

pub const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

pub const fn amount(base_units: u128) -> TokenAmount {
    TokenAmount::new(base_units)
}

pub fn deployment() -> StoreDeployment {
    StoreDeployment {
        chain_id: 31_337,
        escrow: Address::repeat_byte(0xe1),
        settlement: Address::repeat_byte(0xe2),
    }
}

pub fn domain() -> Domain {
    deployment().domain()
}

pub fn key(seed: u8) -> Keypair {
    Keypair::from_secret([seed; 32]).unwrap()
}

/// Which store a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// The server of all tests in this process.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start().unwrap())
}

/// The database that tests share, each with a schema of its own.
const DATABASE: &str = "postgres";

/// A home directory with a store.
pub struct Home {
    pub directory: TempDir,
    text: String,
    database: Option<String>,
    /// The tests' process leads, as the only one of most stores.
    leadership: Mutex<Option<Leadership>>,
}

impl Home {
    pub async fn new(on: Backend) -> Self {
        static SCHEMAS: AtomicU32 = AtomicU32::new(1);
        match on {
            Backend::Sqlite => Self::at("lloom.db".to_owned()),
            Backend::Postgres => {
                let schema = format!("test_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed));
                let url = server().url(DATABASE);
                beside::run_at(&url, &format!("CREATE SCHEMA {schema}")).await;
                Self::at(format!("{url}&options[search_path]={schema}"))
            }
        }
    }

    /// A home whose store has a database to itself, where it is in one.
    pub async fn in_database(on: Backend) -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(1);
        if on == Backend::Sqlite {
            return Self::new(on).await;
        }
        let database = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        beside::run_at(&server().url(DATABASE), &format!("CREATE DATABASE {database}")).await;
        let mut home = Self::at(server().url(&database));
        home.database = Some(database);
        home
    }

    /// Which database is this store's alone.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// A home with the store that `text` names.
    pub fn at(text: String) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            text,
            database: None,
            leadership: Mutex::default(),
        }
    }

    /// Another home with the same store.
    pub fn neighbour(&self) -> Self {
        Self::at(self.text.clone())
    }

    /// What a configuration would name the store by.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn url(&self) -> StoreUrl {
        StoreUrl::parse(&self.text, self.directory.path()).unwrap()
    }

    /// Where the store is, or would be, when it is a file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("lloom.db")
    }

    pub async fn open(&self) -> Ledger {
        self.open_at(NOW).await
    }

    pub async fn open_at(&self, now: UnixSeconds) -> Ledger {
        self.resign();
        let ledger = self.open_to_follow(now).await;
        let leadership = ledger.lead().await.unwrap();
        self.leadership.lock().unwrap().replace(leadership);
        ledger
    }

    /// Opens the store in a process that does not lead.
    pub async fn open_to_follow(&self, now: UnixSeconds) -> Ledger {
        Ledger::open_at(self.url(), &deployment(), now).await.unwrap()
    }

    /// Waits until what this home holds of leading is as `wanted`.
    pub async fn leadership(&self, wanted: impl Fn(&Leadership) -> bool) {
        while !self.leadership.lock().unwrap().as_ref().is_some_and(&wanted) {
            tokio::task::yield_now().await;
        }
    }

    /// Lets others lead.
    pub fn resign(&self) {
        self.leadership.lock().unwrap().take();
    }
}

/// Both sides of one channel.
#[derive(Clone)]
pub struct Pair {
    pub payer: Keypair,
    pub operator: Keypair,
    pub payee: Address,
    pub token: Address,
    pub parameters: ChannelParameters,
}

impl Pair {
    /// The `number`th channel of the payer with the secret `payer`.
    pub fn new(payer: u8, number: u8) -> Self {
        let (payer, operator) = (key(payer), key(200));
        let payee = Address::repeat_byte(0xaa);
        let token = Address::repeat_byte(0x70);
        let parameters = ChannelParameters {
            payer: payer.address(),
            payee,
            token,
            salt: commitment_salt(operator.address(), B256::repeat_byte(number)),
            authorized_signer: Address::ZERO,
        };
        Self {
            payer,
            operator,
            payee,
            token,
            parameters,
        }
    }

    pub fn channel(&self) -> ChannelId {
        self.parameters.id(&domain())
    }

    pub fn opened(&self, deposit: u128) -> ChainEventKind {
        ChainEventKind::ChannelOpened {
            channel: self.channel(),
            parameters: self.parameters,
            deposit: amount(deposit),
            refunds_to_balance: true,
        }
    }

    pub fn new_channel(&self, deposit: u128) -> NewChannel {
        NewChannel {
            parameters: self.parameters,
            operator: self.operator.address(),
            client_random: B256::repeat_byte(1),
            deposit: amount(deposit),
        }
    }

    /// A request for at most 1,000 tokens each way; a token costs one base unit.
    pub fn request(&self, nonce: u64) -> Signed<InferenceRequest, Verified> {
        self.request_until(nonce, NOW.plus(std::time::Duration::from_secs(60)))
    }

    pub fn request_until(&self, nonce: u64, deadline: UnixSeconds) -> Signed<InferenceRequest, Verified> {
        let price = PricePerMillion::new(amount(1_000_000));
        let request = InferenceRequest {
            channel: self.channel(),
            operator: self.operator.address(),
            nonce: RequestNonce::new(U256::from(nonce)),
            model: ModelHash::of_id("test"),
            prompt_hash: ContentHash::of(salt(), b"prompt"),
            max_input: TokenCount::new(1_000),
            max_output: TokenCount::new(1_000),
            prices: Prices {
                input: price,
                output: price,
            },
            deadline,
        };
        self.payer.sign(&domain(), request)
    }

    pub fn voucher(&self, cumulative: u128) -> Signed<Voucher, Verified> {
        let voucher = Voucher {
            channel: self.channel(),
            amount: amount(cumulative),
        };
        self.payer.sign(&domain(), voucher)
    }

    pub fn accept(&self, nonce: u64, voucher: Option<u128>, reserve: u128) -> AcceptRequest {
        AcceptRequest {
            request: self.request(nonce),
            content_salt: salt(),
            voucher: voucher.map(|cumulative| self.voucher(cumulative)),
            reserve: amount(reserve),
            exposure: ExposurePolicy::default(),
            now: NOW,
        }
    }

    /// The bill for `output` completion tokens, and as many base units.
    pub fn bill(&self, nonce: u64, output: u32) -> UsageBill {
        let used = Usage {
            input: TokenCount::new(0),
            output: TokenCount::new(output),
        };
        UsageBill::for_request(
            self.request(nonce).document(),
            used,
            ContentHash::of(salt(), b"answer"),
            NOW,
        )
        .unwrap()
    }

    pub fn link(&self, head: &ReceiptHead, bill: UsageBill) -> Receipt<Verified> {
        let signed_bill = self.operator.sign(&domain(), bill);
        let receipt = self.payer.sign(&domain(), head.link(bill).unwrap());
        Receipt::join(receipt, &signed_bill).unwrap()
    }
}

pub fn salt() -> ContentSalt {
    ContentSalt::new(B256::repeat_byte(5))
}

pub fn progress(pair: &Pair, nonce: u64, output: u32) -> lloom_ledger::Progress {
    lloom_ledger::Progress {
        request: pair.request(nonce).document().hash(),
        usage: Usage {
            input: TokenCount::new(0),
            output: TokenCount::new(output),
        },
        response_hash: ContentHash::of(salt(), &output.to_be_bytes()),
    }
}

pub fn block_hash(number: u64, fork: u8) -> B256 {
    let mut hash = B256::repeat_byte(fork);
    hash[24..].copy_from_slice(&number.to_be_bytes());
    hash
}

/// The block `number` of the chain `fork`; `parent_fork` is the chain its parent is on.
pub fn block(number: u64, fork: u8, parent_fork: u8) -> Block {
    Block {
        number: BlockNumber::new(number),
        hash: block_hash(number, fork),
        parent: block_hash(number.wrapping_sub(1), parent_fork),
        timestamp: UnixSeconds::new(NOW.get() + number),
    }
}

pub fn event(number: u64, fork: u8, log: u32, kind: ChainEventKind) -> ChainEvent {
    ChainEvent {
        block: BlockNumber::new(number),
        block_hash: block_hash(number, fork),
        position: EventPosition::of_log(log),
        transaction: B256::repeat_byte(log as u8),
        kind,
    }
}

/// Applies the next block with these events, confirmed at once.
pub async fn mine(ledger: &Ledger, kinds: Vec<ChainEventKind>) {
    mine_with(ledger, kinds, true).await;
}

pub async fn mine_with(ledger: &Ledger, kinds: Vec<ChainEventKind>, confirm: bool) {
    let number = ledger.cursor().await.unwrap().map_or(1, |block| block.number.get() + 1);
    let events = kinds
        .into_iter()
        .zip(0..)
        .map(|(kind, index)| event(number, 0, index, kind))
        .collect();
    let confirmed = if confirm { number } else { 0 };
    let policy = ObligationPolicy {
        payees: vec![Address::repeat_byte(0xaa)],
        grace: std::time::Duration::from_secs(3_600),
    };
    ledger
        .apply_blocks(vec![block(number, 0, 0)], events, BlockNumber::new(confirmed), policy)
        .await
        .unwrap();
}

/// A store that serves `pair`'s channel, opened with `deposit`.
pub async fn serving(on: Backend, pair: &Pair, deposit: u128) -> (Home, Ledger) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(deposit)]).await;
    (home, ledger)
}
