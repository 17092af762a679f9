//! One executor and one client with everything around them.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::primitives::{Address, B256, U256};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::PeerId;
use lloom_ledger::{
    Block, ChainEvent, ChainEventKind, EventPosition, Ledger, NewChannel, ObligationPolicy, StoreDeployment,
};
use lloom_node::{
    Backend, BackendConfig, ModelOffer, Offer,
    client::{Chat, ChatError, ChatEvent, ChatRequest, Client, ClientConfig, Completion, Connect, Duplex},
    executor::{Executor, ExecutorConfig},
    peer_id,
    wire::{ClientFrame, ExecutorFrame, FrameReader, FrameWriter, Infer, State},
};
use lloom_receipts::{
    BlockNumber, ChannelId, ChannelParameters, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash,
    PricePerMillion, Prices, RequestNonce, Signed, TokenAmount, TokenCount, UnixSeconds, Verified, Voucher,
    commitment_salt,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{DuplexStream, ReadHalf, WriteHalf},
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use crate::backend::ModelServer;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const MODEL: &str = "stub";
pub const INCREMENT: u32 = 8;
pub const DEPOSIT: TokenAmount = TokenAmount::new(1_000_000);

pub fn count(tokens: u32) -> TokenCount {
    TokenCount::new(tokens)
}

pub fn now() -> UnixSeconds {
    std::time::SystemTime::now().into()
}

/// A unit an input token, two an output token.
pub fn prices() -> Prices {
    Prices {
        input: PricePerMillion::new(TokenAmount::new(1_000_000)),
        output: PricePerMillion::new(TokenAmount::new(2_000_000)),
    }
}

pub struct World {
    pub directory: TempDir,
    pub domain: Domain,
    pub operator: Keypair,
    pub payer: Keypair,
    pub parameters: ChannelParameters,
    pub client_random: B256,
    pub channel: ChannelId,
    pub server: ModelServer,
    pub offer: Offer,
    pub executor_config: ExecutorConfig,
    pub client_config: ClientConfig,
    pub executor_ledger: Ledger,
    pub client_ledger: Ledger,
    pub executor: Executor,
    pub client: Client,
    pub cable: Cable,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_, _, _| {}).await
    }

    pub async fn with(adjust: impl FnOnce(&mut ExecutorConfig, &mut ClientConfig, &mut Offer)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::new(31337, Address::repeat_byte(0xe5), Address::repeat_byte(0x5e));
        let operator = Keypair::from_secret([1; 32]).unwrap();
        let payer = Keypair::from_secret([2; 32]).unwrap();
        let client_random = B256::repeat_byte(0xab);
        let parameters = ChannelParameters {
            payer: payer.address(),
            payee: Address::repeat_byte(0x9a),
            token: Address::repeat_byte(0x70),
            salt: commitment_salt(operator.address(), client_random),
            authorized_signer: Address::ZERO,
        };
        let server = ModelServer::start().await;
        let mut offer = Offer {
            chain_id: domain.chain_id(),
            escrow: domain.escrow(),
            settlement: domain.settlement(),
            token: parameters.token,
            payee: parameters.payee,
            operator: operator.address(),
            models: vec![ModelOffer {
                id: MODEL.to_owned(),
                hash: ModelHash::of_id(MODEL),
                prices: prices(),
                max_input: count(4_000),
                max_output: count(500),
            }],
            increment: count(INCREMENT),
            min_deposit: TokenAmount::new(1_000),
            confirmations: 1,
            capacity: 64,
            agent: "test".to_owned(),
        };
        let mut executor_config = ExecutorConfig::default();
        let mut client_config = ClientConfig::default();
        adjust(&mut executor_config, &mut client_config, &mut offer);

        let executor_ledger = open(&directory, "executor", &domain).await;
        let client_ledger = open(&directory, "client", &domain).await;
        let channel = parameters.id(&domain);
        own_channel(&client_ledger, parameters, operator.address(), client_random).await;
        for ledger in [&executor_ledger, &client_ledger] {
            open_channel(ledger, channel, parameters).await;
        }
        let executor = Executor::new(
            executor_config,
            executor_ledger.clone(),
            domain,
            operator.clone(),
            Backend::new(BackendConfig::new(server.url())).unwrap(),
            offer.clone(),
        );
        let cable = Cable::new(&executor, payer.address());
        let client = Client::new(
            client_config,
            client_ledger.clone(),
            domain,
            payer.clone(),
            cable.clone(),
        );
        Self {
            directory,
            domain,
            operator,
            payer,
            parameters,
            client_random,
            channel,
            server,
            offer,
            executor_config,
            client_config,
            executor_ledger,
            client_ledger,
            executor,
            client,
            cable,
        }
    }

    /// A client with the same key and a store of its own.
    pub async fn another_client(&self, name: &str) -> Client {
        let ledger = open(&self.directory, name, &self.domain).await;
        own_channel(&ledger, self.parameters, self.operator.address(), self.client_random).await;
        open_channel(&ledger, self.channel, self.parameters).await;
        Client::new(
            self.client_config,
            ledger,
            self.domain,
            self.payer.clone(),
            self.cable.clone(),
        )
    }

    pub fn peer(&self) -> PeerId {
        peer_id(&self.operator)
    }

    pub fn request(&self, script: Value) -> ChatRequest {
        let body = json!({"messages": [{"role": "user", "content": "hello"}], "script": script});
        let Value::Object(body) = body else { unreachable!() };
        ChatRequest {
            peer: self.peer(),
            offer: self.offer.clone(),
            model: ModelHash::of_id(MODEL),
            body,
            max_output: None,
            channel: None,
        }
    }

    pub async fn chat(&self, script: Value) -> Result<Done, ChatError> {
        finish(self.client.chat(self.request(script))).await
    }

    /// A process that dies: every stream is cut, nothing is said, and its ledger is opened again by the next.
    pub async fn restart_executor(&mut self) {
        self.stop_executor().await;
        self.start_executor().await;
    }

    pub async fn stop_executor(&mut self) {
        self.cable.cut();
        let placeholder = open_temporary(&self.domain).await;
        self.rebuild_executor(placeholder.clone());
        self.cable.wait_until_cut().await;
        std::mem::replace(&mut self.executor_ledger, placeholder).close().await;
    }

    pub async fn start_executor(&mut self) {
        let ledger = open(&self.directory, "executor", &self.domain).await;
        self.start_executor_on(ledger);
    }

    /// Starts it on a store that is not where it was.
    pub fn start_executor_on(&mut self, ledger: Ledger) {
        self.executor_ledger = ledger.clone();
        self.rebuild_executor(ledger);
    }

    fn rebuild_executor(&mut self, ledger: Ledger) {
        self.executor = Executor::new(
            self.executor_config,
            ledger,
            self.domain,
            self.operator.clone(),
            Backend::new(BackendConfig::new(self.server.url())).unwrap(),
            self.offer.clone(),
        );
        self.cable.connect_to(&self.executor);
    }

    /// The client process ends.
    pub async fn stop_client(&mut self) {
        let placeholder = open_temporary(&self.domain).await;
        self.rebuild_client(placeholder.clone());
        std::mem::replace(&mut self.client_ledger, placeholder).close().await;
    }

    /// A new client process on the same ledger.
    pub async fn restart_client(&mut self) {
        self.stop_client().await;
        self.start_client().await;
    }

    pub async fn start_client(&mut self) {
        self.client_ledger = open(&self.directory, "client", &self.domain).await;
        let ledger = self.client_ledger.clone();
        self.rebuild_client(ledger);
    }

    fn rebuild_client(&mut self, ledger: Ledger) {
        self.client = Client::new(
            self.client_config,
            ledger,
            self.domain,
            self.payer.clone(),
            self.cable.clone(),
        );
    }

    /// Both sides agree on the channel's head, and nothing is spent that isn't linked.
    pub async fn assert_settled(&self, receipts: u64) -> TokenAmount {
        let theirs = self.executor_ledger.head(self.channel).await.unwrap();
        let ours = self.client_ledger.head(self.channel).await.unwrap();
        assert_eq!(ours, theirs);
        assert_eq!(ours.sequence, receipts);
        let account = self.executor_ledger.account(self.channel).await.unwrap();
        assert_eq!(account.linked, ours.amount);
        assert_eq!(account.spent, ours.amount, "nothing is spent that is not linked");
        assert_eq!(account.billed, ours.amount);
        assert!(account.authorized >= ours.amount);
        let purchases = self.client_ledger.purchases(self.channel).await.unwrap();
        assert_eq!((purchases.linked, purchases.billed), (ours.amount, ours.amount));
        ours.amount
    }

    /// A hand-made request with a voucher that covers it, over whatever was authorized before.
    pub async fn infer(&self, nonce: u64, script: Value) -> Infer {
        let spent = self.executor_ledger.account(self.channel).await.unwrap();
        let request = self.sign_request(nonce, &self.body(&script), |_| {});
        let first = 500 + 2 * u128::from(INCREMENT);
        let amount = spent.spent.max(spent.authorized).base_units() + first;
        Infer {
            request: request.into_unverified(),
            client_random: self.client_random,
            salt: self.salt(),
            body: self.body(&script),
            voucher: Some(self.voucher(amount).into_unverified()),
        }
    }

    pub fn body(&self, script: &Value) -> Vec<u8> {
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "script": script});
        serde_json::to_vec(&body).unwrap()
    }

    pub fn salt(&self) -> ContentSalt {
        ContentSalt::new(B256::repeat_byte(0x5a))
    }

    pub fn sign_request(
        &self,
        nonce: u64,
        body: &[u8],
        adjust: impl FnOnce(&mut InferenceRequest),
    ) -> Signed<InferenceRequest, Verified> {
        let mut request = InferenceRequest {
            channel: self.channel,
            operator: self.operator.address(),
            nonce: RequestNonce::new(U256::from(nonce)),
            model: ModelHash::of_id(MODEL),
            prompt_hash: ContentHash::of(self.salt(), body),
            max_input: count(500),
            max_output: count(100),
            prices: prices(),
            deadline: now().plus(Duration::from_secs(60)),
        };
        adjust(&mut request);
        self.payer.sign(&self.domain, request)
    }

    pub fn voucher(&self, amount: u128) -> Signed<Voucher, Verified> {
        let voucher = Voucher {
            channel: self.channel,
            amount: TokenAmount::new(amount),
        };
        self.payer.sign(&self.domain, voucher)
    }

    /// A stream on which the test itself is the client.
    pub fn dial(&self) -> ClientEnd {
        self.dial_as(self.payer.address())
    }

    pub fn dial_as(&self, peer: Address) -> ClientEnd {
        let (near, far) = tokio::io::duplex(64 << 10);
        let executor = self.executor.clone();
        tokio::spawn(async move { executor.serve(far, peer).await });
        ClientEnd::new(near)
    }
}

pub async fn open(directory: &TempDir, name: &str, domain: &Domain) -> Ledger {
    let deployment = StoreDeployment {
        chain_id: domain.chain_id(),
        escrow: domain.escrow(),
        settlement: domain.settlement(),
    };
    let path: PathBuf = directory.path().join(format!("{name}.db"));
    Ledger::open(&path, &deployment).await.unwrap()
}

async fn open_temporary(domain: &Domain) -> Ledger {
    let directory = tempfile::tempdir().unwrap();
    open(&directory, "placeholder", domain).await
}

async fn own_channel(ledger: &Ledger, parameters: ChannelParameters, operator: Address, client_random: B256) {
    ledger
        .record_channel(NewChannel {
            parameters,
            operator,
            client_random,
            deposit: DEPOSIT,
        })
        .await
        .unwrap();
}

async fn open_channel(ledger: &Ledger, channel: ChannelId, parameters: ChannelParameters) {
    let opened = ChainEventKind::ChannelOpened {
        channel,
        parameters,
        deposit: DEPOSIT,
        refunds_to_balance: false,
    };
    apply(ledger, 1, vec![opened], 1).await;
}

/// Records one block with `events`, as the follower would.
pub async fn apply(ledger: &Ledger, height: u64, events: Vec<ChainEventKind>, confirmed: u64) {
    let hash = |height: u64| B256::from(U256::from(height));
    let events = events
        .into_iter()
        .zip(0..)
        .map(|(kind, log)| ChainEvent {
            block: BlockNumber::new(height),
            block_hash: hash(height),
            position: EventPosition::of_log(log),
            transaction: B256::repeat_byte(0x7a),
            kind,
        })
        .collect();
    let block = Block {
        number: BlockNumber::new(height),
        hash: hash(height),
        parent: hash(height - 1),
        timestamp: now(),
    };
    let policy = ObligationPolicy {
        payees: Vec::new(),
        grace: Duration::from_secs(3_600),
    };
    ledger
        .apply_blocks(vec![block], events, BlockNumber::new(confirmed), policy)
        .await
        .unwrap();
}

/// What a chat came to.
#[derive(Debug)]
pub struct Done {
    pub text: Vec<u8>,
    pub completion: Completion,
}

pub async fn finish(mut chat: Chat) -> Result<Done, ChatError> {
    let mut text = Vec::new();
    let all = async {
        let mut completed = None;
        // Up to the stream's end: then everything about the chat is recorded.
        while let Some(event) = chat.next().await {
            match event? {
                ChatEvent::Accepted { .. } => {}
                ChatEvent::Chunk { data, .. } => text.extend_from_slice(&data),
                ChatEvent::Completed(completion) => completed = Some(*completion),
            }
        }
        let completion = completed.expect("the chat ended without a completion");
        Ok(Done { text, completion })
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the chat hangs")
}

/// Opens streams to an executor in the same process, and cuts them.
#[derive(Clone)]
pub struct Cable {
    inner: Arc<Mutex<CableState>>,
}

struct CableState {
    executor: Executor,
    peer: Address,
    streams: Vec<(AbortHandle, JoinHandle<()>)>,
    /// Instead of the executor, somebody who plays its part.
    impostor: Option<Impostor>,
    /// Ends every stream without a word, for both sides.
    hang_up: CancellationToken,
    /// Ends a stream instead of passing this frame on.
    cut_after: CutAfter,
}

type CutAfter = Arc<dyn Fn(&ClientFrame) -> bool + Send + Sync>;

type Impostor = Arc<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

impl Cable {
    fn new(executor: &Executor, peer: Address) -> Self {
        Self {
            inner: Arc::new(Mutex::new(CableState {
                executor: executor.clone(),
                peer,
                streams: Vec::new(),
                impostor: None,
                hang_up: CancellationToken::new(),
                cut_after: Arc::new(|_| false),
            })),
        }
    }

    pub fn connect_to(&self, executor: &Executor) {
        self.inner.lock().unwrap().executor = executor.clone();
    }

    pub fn impersonate<F: Future<Output = ()> + Send + 'static>(
        &self,
        part: impl Fn(ExecutorEnd) -> F + Send + Sync + 'static,
    ) {
        self.inner.lock().unwrap().impostor = Some(Arc::new(move |stream| part(ExecutorEnd::new(stream)).boxed()));
    }

    /// Kills the executor's end of every stream, as a crash does.
    pub fn cut(&self) {
        for (abort, _) in &self.inner.lock().unwrap().streams {
            abort.abort();
        }
    }

    /// Breaks every stream.
    pub fn hang_up(&self) {
        let mut state = self.inner.lock().unwrap();
        std::mem::take(&mut state.hang_up).cancel();
    }

    /// Breaks a stream in place of the first frame that `cuts` names.
    pub fn cut_after(&self, cuts: impl Fn(&ClientFrame) -> bool + Send + Sync + 'static) {
        self.inner.lock().unwrap().cut_after = Arc::new(cuts);
    }

    async fn wait_until_cut(&self) {
        let streams = std::mem::take(&mut self.inner.lock().unwrap().streams);
        for (_, stream) in streams {
            // Aborted: its error says so.
            let _ = stream.await;
        }
    }
}

impl Connect for Cable {
    fn open(&self, _: PeerId) -> BoxFuture<'_, io::Result<Box<dyn Duplex>>> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let mut state = self.inner.lock().unwrap();
        let task = match &state.impostor {
            Some(impostor) => tokio::spawn(impostor(far)),
            None => {
                let (executor, peer) = (state.executor.clone(), state.peer);
                tokio::spawn(async move { executor.serve(far, peer).await })
            }
        };
        state.streams.push((task.abort_handle(), task));
        let (client, middle) = tokio::io::duplex(64 << 10);
        tokio::spawn(carry(middle, near, state.hang_up.clone(), Arc::clone(&state.cut_after)));
        async move { Ok(Box::new(client) as Box<dyn Duplex>) }.boxed()
    }
}

/// The network between the two: passes frames on until it is told to break.
async fn carry(client: DuplexStream, executor: DuplexStream, hang_up: CancellationToken, cuts: CutAfter) {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (mut from_executor, to_executor) = tokio::io::split(executor);
    let asking = async {
        let mut frames = FrameReader::<_, ClientFrame>::new(from_client);
        let mut writer = FrameWriter::new(to_executor);
        while let Ok(Some(frame)) = frames.next().await {
            if cuts(&frame) || writer.send(&frame, PATIENCE).await.is_err() {
                break;
            }
        }
    };
    let answering = tokio::io::copy(&mut from_executor, &mut to_client);
    tokio::select! {
        () = hang_up.cancelled() => {}
        () = asking => {}
        _ = answering => {}
    }
}

/// The client's end of a stream, by hand.
pub struct ClientEnd {
    pub reader: FrameReader<ReadHalf<DuplexStream>, ExecutorFrame>,
    pub writer: FrameWriter<WriteHalf<DuplexStream>>,
}

impl ClientEnd {
    fn new(stream: DuplexStream) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            reader: FrameReader::new(read),
            writer: FrameWriter::new(write),
        }
    }

    pub async fn send(&mut self, frame: ClientFrame) {
        self.writer.send(&frame, PATIENCE).await.unwrap();
    }

    pub async fn next(&mut self) -> ExecutorFrame {
        tokio::time::timeout(PATIENCE, self.reader.next())
            .await
            .expect("the executor says nothing")
            .unwrap()
            .expect("the executor ended the stream")
    }
}

/// The executor's end of a stream, by hand.
pub struct ExecutorEnd {
    pub reader: FrameReader<ReadHalf<DuplexStream>, ClientFrame>,
    pub writer: FrameWriter<WriteHalf<DuplexStream>>,
}

impl ExecutorEnd {
    fn new(stream: DuplexStream) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            reader: FrameReader::new(read),
            writer: FrameWriter::new(write),
        }
    }

    pub async fn send(&mut self, frame: ExecutorFrame) {
        // The client may have left.
        let _ = self.writer.send(&frame, PATIENCE).await;
    }

    pub async fn next(&mut self) -> Option<ClientFrame> {
        self.reader.next().await.ok().flatten()
    }
}

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect(what);
}

/// Reads until `tokens` have come.
pub async fn read_until(chat: &mut Chat, tokens: TokenCount) {
    loop {
        if let ChatEvent::Chunk { usage, .. } = chat.next().await.unwrap().unwrap()
            && usage.output >= tokens
        {
            break;
        }
    }
}

/// What the executor says of a channel to whoever asks on `wire`.
pub async fn state(wire: &mut ClientEnd, channel: ChannelId) -> State {
    wire.send(ClientFrame::Sync { channel, after: 0 }).await;
    match wire.next().await {
        ExecutorFrame::State(state) => *state,
        other => panic!("no state: {other:?}"),
    }
}
