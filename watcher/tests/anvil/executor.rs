use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use alloy::primitives::{Address, B256, U256};
use lloom_bindings::{ChannelEscrow, DevToken, ExecutorRegistry};
use lloom_ledger::{AcceptRequest, ExposurePolicy, Ledger, ServeError, StoreDeployment, StoreUrl};
use lloom_receipts::{
    BlockNumber, ChannelId, ChannelParameters, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash,
    PricePerMillion, Prices, Receipt, RequestNonce, Signed, TokenAmount, TokenCount, UnixSeconds, Usage, UsageBill,
    Verified, Voucher,
};
use lloom_watcher::{
    Call, Chain, FeePolicy, NonceAt, PlannerPolicy, Publish, Watcher, WatcherConfig, WatcherError, WatcherHandle,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::devnet::Devnet;

pub const CONFIRMATIONS: u64 = 3;
pub const DEPOSIT: u128 = 10_000;

/// An executor's store and keys on a chain of its own. Its payee's key is nowhere.
pub struct Executor {
    pub devnet: Devnet,
    pub ledger: Ledger,
    pub operator: Keypair,
    pub payee: Address,
    store: StoreUrl,
    _directory: tempfile::TempDir,
    nonces: AtomicU64,
}

/// A channel that pays the executor.
#[derive(Clone)]
pub struct Channel {
    pub id: ChannelId,
    pub parameters: ChannelParameters,
    pub signer: Keypair,
}

/// A watcher at work.
pub struct Running {
    pub handle: WatcherHandle,
    pub cancel: CancellationToken,
    pub task: JoinHandle<Result<(), WatcherError>>,
}

impl Executor {
    pub async fn new() -> Self {
        Self::with_store("lloom.db").await
    }

    /// One with the store that `text` names.
    pub async fn with_store(text: &str) -> Self {
        let devnet = Devnet::start().await;
        let directory = tempfile::tempdir().unwrap();
        let store = StoreUrl::parse(text, directory.path()).unwrap();
        let ledger = Ledger::open(&store, &StoreDeployment::from(&devnet.domain()))
            .await
            .unwrap();
        let operator = Keypair::from_secret([0x0b; 32]).unwrap();
        let payee = Address::repeat_byte(0xee);
        let executor = Self {
            devnet,
            ledger,
            operator,
            payee,
            store,
            _directory: directory,
            nonces: AtomicU64::new(0),
        };
        executor.employ(&executor.operator).await;
        executor
    }

    /// Has the payee name an operator, and gives that gas money.
    pub async fn employ(&self, operator: &Keypair) {
        self.devnet.give_coins(operator.address()).await;
        let add = ExecutorRegistry::addOperatorCall {
            operator: operator.address(),
        };
        self.devnet
            .send_call(self.payee, &Call::contract(self.devnet.contracts.registry, &add))
            .await;
    }

    /// Has the payee remove an operator.
    pub async fn dismiss(&self, operator: &Keypair) {
        let remove = ExecutorRegistry::removeOperatorCall {
            operator: operator.address(),
        };
        self.devnet
            .send_call(self.payee, &Call::contract(self.devnet.contracts.registry, &remove))
            .await;
    }

    pub fn domain(&self) -> Domain {
        self.devnet.domain()
    }

    /// A watcher that acts on orders only.
    pub fn config(&self) -> WatcherConfig {
        WatcherConfig {
            domain: self.domain(),
            registry: self.devnet.contracts.registry,
            start_block: BlockNumber::new(0),
            payees: vec![(self.payee, self.devnet.token)],
            confirmations: CONFIRMATIONS,
            poll_interval: Duration::from_millis(20),
            auto_claim: false,
            yields_after: Duration::from_secs(120),
            max_head_age: None,
            planner: PlannerPolicy::default(),
            fees: FeePolicy {
                rebroadcast: Duration::ZERO,
                ..FeePolicy::default()
            },
        }
    }

    pub fn publishing(&self, publish: Publish) -> WatcherConfig {
        let mut config = self.config();
        config.planner.publish = publish;
        config
    }

    pub fn start(&self, config: WatcherConfig) -> Running {
        self.start_on(config, self.devnet.chain.clone())
    }

    pub fn start_on<C: Chain>(&self, config: WatcherConfig, chain: C) -> Running {
        let (watcher, handle) = Watcher::new(config, chain, self.ledger.clone(), self.operator.clone());
        let cancel = CancellationToken::new();
        let task = tokio::spawn(watcher.run(cancel.clone()));
        Running { handle, cancel, task }
    }

    /// Stops a watcher between two instructions, and opens its store again as a new process would.
    pub async fn crash(&mut self, running: Running) {
        running.task.abort();
        assert!(running.task.await.unwrap_err().is_cancelled());
        self.ledger.clone().close().await;
        let deployment = StoreDeployment::from(&self.domain());
        self.ledger = Ledger::open(&self.store, &deployment).await.unwrap();
    }

    /// Opens a channel; the payer's hot key signs for it.
    pub async fn open_channel(&self, number: u8) -> Channel {
        let signer = Keypair::from_secret([number; 32]).unwrap();
        let mut payer = Address::repeat_byte(number);
        payer.0[0] = 0xa0;
        let parameters = ChannelParameters {
            payer,
            payee: self.payee,
            token: self.devnet.token,
            salt: B256::repeat_byte(number),
            authorized_signer: signer.address(),
        };
        let escrow = self.devnet.contracts.escrow;
        let amount = U256::from(DEPOSIT);
        let mint = DevToken::mintCall { to: payer, amount };
        let approve = DevToken::approveCall {
            spender: escrow,
            value: amount,
        };
        let open = ChannelEscrow::openCall {
            payee: parameters.payee,
            token: parameters.token,
            amount: DEPOSIT,
            salt: parameters.salt,
            authorizedSigner: parameters.authorized_signer,
        };
        for call in [
            Call::contract(self.devnet.token, &mint),
            Call::contract(self.devnet.token, &approve),
            Call::contract(escrow, &open),
        ] {
            self.devnet.send_call(payer, &call).await;
        }
        Channel {
            id: parameters.id(&self.domain()),
            parameters,
            signer,
        }
    }

    /// Opens channels, and waits until the ledger counts their deposits.
    pub async fn open_channels(&self, running: &Running, numbers: std::ops::RangeInclusive<u8>) -> Vec<Channel> {
        let mut channels = Vec::new();
        for number in numbers {
            channels.push(self.open_channel(number).await);
        }
        self.devnet.mine(CONFIRMATIONS).await;
        running.handle.synced().await.unwrap();
        channels
    }

    /// The payer side's promise over `amount` base units.
    pub fn voucher(&self, channel: &Channel, amount: u128) -> Signed<Voucher, Verified> {
        let voucher = Voucher {
            channel: channel.id,
            amount: TokenAmount::new(amount),
        };
        channel.signer.sign(&self.domain(), voucher)
    }

    /// Takes on a request of `tokens` tokens, a base unit each, with a voucher over `ceiling`.
    pub async fn accept(&self, channel: &Channel, tokens: u32, voucher: Signed<Voucher, Verified>) -> InferenceRequest {
        self.try_accept(channel, tokens, voucher).await.unwrap()
    }

    pub async fn try_accept(
        &self,
        channel: &Channel,
        tokens: u32,
        voucher: Signed<Voucher, Verified>,
    ) -> Result<InferenceRequest, ServeError> {
        let now = UnixSeconds::from(SystemTime::now());
        let salt = ContentSalt::new(B256::repeat_byte(1));
        let request = InferenceRequest {
            channel: channel.id,
            operator: self.operator.address(),
            nonce: RequestNonce::new(U256::from(self.nonces.fetch_add(1, Ordering::Relaxed))),
            model: ModelHash::of_id("test"),
            prompt_hash: ContentHash::of(salt, b"prompt"),
            max_input: TokenCount::new(100),
            max_output: TokenCount::new(tokens),
            prices: Prices {
                input: PricePerMillion::new(TokenAmount::ZERO),
                output: PricePerMillion::new(TokenAmount::new(1_000_000)),
            },
            deadline: now.plus(Duration::from_secs(60)),
        };
        self.ledger
            .accept_request(AcceptRequest {
                request: channel.signer.sign(&self.domain(), request),
                content_salt: salt,
                voucher: Some(voucher),
                reserve: TokenAmount::new(u128::from(tokens)),
                exposure: ExposurePolicy::default(),
                now,
            })
            .await?;
        Ok(request)
    }

    /// Serves a request of `tokens` tokens, a base unit each, and bills it. The voucher covers everything billed so far
    /// and `slack` more.
    pub async fn serve(&self, channel: &Channel, tokens: u32, slack: u128) -> UsageBill {
        let billed = self.ledger.account(channel.id).await.unwrap().billed.base_units();
        let voucher = self.voucher(channel, billed + u128::from(tokens) + slack);
        let request = self.accept(channel, tokens, voucher).await;
        let usage = Usage {
            input: TokenCount::new(7),
            output: TokenCount::new(tokens),
        };
        let response = ContentHash::of(ContentSalt::new(B256::repeat_byte(1)), b"response");
        let completed_at = UnixSeconds::from(SystemTime::now());
        let bill = UsageBill::for_request(&request, usage, response, completed_at).unwrap();
        *self.ledger.commit_bill(bill).await.unwrap().bill()
    }

    /// The same with a voucher that the payer side did not sign: only a store that was tampered with holds one.
    pub async fn serve_on_a_bad_voucher(&self, channel: &Channel, tokens: u32) {
        let voucher = Voucher {
            channel: channel.id,
            amount: TokenAmount::new(u128::from(tokens) + 400),
        };
        let stranger = Keypair::from_secret([0x66; 32]).unwrap();
        let (voucher, signature) = stranger.sign(&self.domain(), voucher).into_parts();
        let request = self.accept(channel, tokens, Signed::recall(voucher, signature)).await;
        let usage = Usage {
            input: request.max_input,
            output: request.max_output,
        };
        let bill = UsageBill::for_request(&request, usage, request.prompt_hash, request.deadline);
        self.ledger.commit_bill(bill.unwrap()).await.unwrap();
    }

    /// Has the payer of `channel` ask for its close.
    pub async fn request_close(&self, channel: &Channel) {
        let request = ChannelEscrow::requestCloseCall {
            channelId: channel.id.hash(),
        };
        let call = Call::contract(self.devnet.contracts.escrow, &request);
        self.devnet.send_call(channel.parameters.payer, &call).await;
    }

    /// Has the client link a bill into the channel's chain of receipts.
    pub async fn link(&self, channel: &Channel, bill: UsageBill) -> Receipt<Verified> {
        let head = self.ledger.head(channel.id).await.unwrap();
        let receipt = channel.signer.sign(&self.domain(), head.link(bill).unwrap());
        let bill = self.operator.sign(&self.domain(), bill);
        let receipt = Receipt::join(receipt, &bill).unwrap();
        self.ledger.accept_receipt(receipt.clone(), None).await.unwrap();
        receipt
    }

    /// The same with a payer's signature that is not the payer's: only a store that was tampered with holds one.
    pub async fn link_badly(&self, channel: &Channel, bill: UsageBill) {
        let head = self.ledger.head(channel.id).await.unwrap();
        let stranger = Keypair::from_secret([0x66; 32]).unwrap();
        let (receipt, signature) = stranger.sign(&self.domain(), head.link(bill).unwrap()).into_parts();
        let (_, bill_signature) = self.operator.sign(&self.domain(), bill).into_parts();
        let receipt = Receipt::recall(receipt, signature, bill_signature);
        self.ledger.accept_receipt(receipt, None).await.unwrap();
    }

    /// What the escrow says is settled.
    pub async fn settled(&self, channel: &Channel) -> u128 {
        let escrow = self.devnet.contracts.escrow;
        self.devnet
            .chain
            .channel(escrow, channel.id)
            .await
            .unwrap()
            .unwrap()
            .settled
    }

    pub async fn payee_balance(&self) -> u128 {
        self.balance(self.payee).await
    }

    pub async fn balance(&self, account: Address) -> u128 {
        self.devnet
            .chain
            .token_balance(self.devnet.token, account)
            .await
            .unwrap()
            .base_units()
    }

    /// How many transactions of the operator the chain has.
    pub async fn operator_nonce(&self) -> u64 {
        self.nonce_of(&self.operator).await
    }

    pub async fn nonce_of(&self, operator: &Keypair) -> u64 {
        let head = self.devnet.chain.head().await.unwrap();
        self.devnet
            .chain
            .nonce(operator.address(), NonceAt::Block(head.hash))
            .await
            .unwrap()
    }
}
