//! The buying end of an inference stream.
//!
//! A [`Client`] pays for what it received and one increment ahead of it, never more (design, section 5). Everything it
//! signs is in its ledger before it is sent; every count it is told is held against the bytes that came; and every bill
//! it pays becomes a receipt that both sides have signed.
//!
//! Inside, pure parts decide (`tally` what an answer is worth, `purse` what a channel has promised), one task a channel
//! signs (`treasurer`), and `exchange` moves bytes.

mod abandoned;
mod connect;
mod error;
mod exchange;
mod link;
mod order;
mod purse;
mod sync;
mod tally;
mod treasurer;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use libp2p::PeerId;
use lloom_ledger::{Budget, Ledger};
use lloom_receipts::{
    ChannelId, Domain, Keypair, ModelHash, Receipt, RequestHash, TokenAmount, TokenCount, Usage, Verified, Verifier,
};
use tokio::sync::{Mutex, mpsc};

pub use self::{
    connect::{Connect, Duplex},
    error::ChatError,
    purse::Exhausted,
    sync::SyncReport,
    tally::{Overbilled, Overcount, Tolerance},
    treasurer::TreasurerError,
};
use self::{exchange::Exchange, link::Desk};
use crate::{Offer, wire::Ending};

/// How a client buys.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// What it may spend.
    pub budget: Budget,
    /// How far counts may be off.
    pub tolerance: Tolerance,
    /// How far ahead it pays at the most. Executors say how far they want it (their offers' `increment`): those that want it
    /// farther are not bought from. Output tokens.
    pub max_increment: TokenCount,
    /// How long an executor may take to accept a request: the request's deadline. At most ten minutes.
    pub request_lifetime: Duration,
    /// How long is waited for a stream.
    pub open_timeout: Duration,
    /// How long is waited for an answer to a frame that has one: acceptance, the record of a receipt, a state.
    pub reply_timeout: Duration,
    /// How long an answer may be silent. A model may have to be loaded first.
    pub answer_timeout: Duration,
    /// How long the executor may take nothing of what is sent.
    pub write_timeout: Duration,
    /// Events of an answer that wait for their reader at most.
    pub event_queue: usize,
}

/// How far ahead a client pays at the most, if nobody says otherwise: four times what executors ask for by default. Output
/// tokens.
pub const MAX_INCREMENT: TokenCount = TokenCount::new(256);

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            budget: Budget::UNLIMITED,
            tolerance: Tolerance::default(),
            max_increment: MAX_INCREMENT,
            request_lifetime: Duration::from_secs(60),
            open_timeout: Duration::from_secs(20),
            reply_timeout: Duration::from_secs(20),
            answer_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(30),
            event_queue: 64,
        }
    }
}

/// What to ask, and of whom.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// The executor: its peer id.
    pub peer: PeerId,
    /// What it offers, as it said itself.
    pub offer: Offer,
    /// Which of its models.
    pub model: ModelHash,
    /// The `chat.completions` object. Its `model` is set to the offer's name of the model.
    pub body: serde_json::Map<String, serde_json::Value>,
    /// The most output tokens to pay for; by default what the body says, and else what the offer allows.
    pub max_output: Option<TokenCount>,
    /// The channel to pay from; by default the one with the executor that has most left.
    pub channel: Option<ChannelId>,
}

/// What comes of a chat, in order.
#[derive(Clone, Debug)]
pub enum ChatEvent {
    /// The executor took the request on.
    Accepted {
        /// What names it.
        request: RequestHash,
        /// Which channel pays.
        channel: ChannelId,
    },
    /// More of the answer.
    Chunk {
        /// Server-sent events as the model server wrote them: `data: …`, each ended by an empty line.
        data: Bytes,
        /// Tokens used so far, as the executor counts.
        usage: Usage,
    },
    /// The answer is over and its bill is linked. Nothing follows.
    Completed(Box<Completion>),
}

/// How a chat ended, with the receipt of it.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Signed by both sides.
    pub receipt: Receipt<Verified>,
    /// Why the answer is over.
    pub ending: Ending,
    /// Whether the executor has confirmed the receipt. If not, it gets it with the next use of the channel.
    pub recorded: bool,
    /// From sending the request to the first chunk with a token.
    pub time_to_first_token: Option<Duration>,
}

impl Completion {
    /// What was used.
    pub fn usage(&self) -> Usage {
        self.receipt.receipt().bill.usage
    }

    /// What it cost, base units.
    pub fn amount(&self) -> TokenAmount {
        self.receipt.receipt().bill.amount
    }
}

/// Buys inference. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    ledger: Ledger,
    domain: Domain,
    keypair: Arc<Keypair>,
    verifier: Verifier,
    connector: Arc<dyn Connect>,
    chance: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    /// One a channel that was used since the start.
    desks: Mutex<HashMap<ChannelId, Arc<Desk>>>,
}

impl Client {
    /// Buys with `keypair`, which is the payer side of its channels and the node's libp2p identity, over streams that
    /// `connector` opens: a [`NetworkHandle`](crate::NetworkHandle), usually.
    pub fn new(
        config: ClientConfig,
        ledger: Ledger,
        domain: Domain,
        keypair: Keypair,
        connector: impl Connect + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                ledger,
                domain,
                keypair: Arc::new(keypair),
                verifier: Verifier::default(),
                connector: Arc::new(connector),
                chance: Arc::new(rand::random),
                desks: Mutex::default(),
            }),
        }
    }

    /// Takes nonces and salts from `chance` in place of the machine's random numbers: for a simulation. Whoever can guess a
    /// salt can guess the prompt it hides. Call it before the client is cloned or used; later it changes nothing.
    #[must_use]
    pub fn with_chance(mut self, chance: impl Fn() -> [u8; 32] + Send + Sync + 'static) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.chance = Arc::new(chance);
        }
        self
    }

    /// Asks, pays and links the bill. The chat runs by itself: whoever drops it cancels the answer, and what was
    /// delivered until then is still paid.
    pub fn chat(&self, request: ChatRequest) -> Chat {
        let (events, receiver) = mpsc::channel(self.shared.config.event_queue.max(1));
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let chat = Box::pin(Exchange::run(&shared, request, events.clone()));
            if let Err(error) = chat.await {
                // Whoever asked may have left.
                let _ = events.send(Err(error)).await;
            }
        });
        Chat { events: receiver }
    }

    /// Brings a channel up to date with its executor: sends it the receipts it may lack, adopts a newer head that bears
    /// the own signature, and links bills of answers that broke off. Happens by itself at a channel's first use.
    ///
    /// # Errors
    /// [`ChatError`]; what was done until then stays done.
    pub async fn sync(&self, channel: ChannelId, peer: PeerId) -> Result<SyncReport, ChatError> {
        let desk = self.shared.desk(channel).await?;
        let mut line = self.shared.open(peer).await?;
        let mut turn = desk.turn().await;
        sync::run(&self.shared, &desk, &mut turn, &mut line).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Client({})", self.shared.keypair.address())
    }
}

/// A chat that runs: a stream of its events.
#[derive(Debug)]
pub struct Chat {
    events: mpsc::Receiver<Result<ChatEvent, ChatError>>,
}

impl Stream for Chat {
    type Item = Result<ChatEvent, ChatError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(context)
    }
}
