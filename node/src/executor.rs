//! The selling end of an inference stream.
//!
//! An [`Executor`] serves what durable authorizations cover and nothing else (design, sections 4 and 5): it reserves
//! `spent` on disk before the tokens it covers leave, acknowledges a voucher or receipt by acting on it only once it is
//! on disk, and signs only bills that the ledger has committed.
//!
//! [`Executor::serve`] runs one stream; a node calls it for as many as arrive. Inside, three pure parts decide
//! (`admission` what is taken on, `answer` what may leave, `body` what the backend is asked), `inspection` checks the
//! signatures of all streams, and `session` moves bytes.

mod admission;
mod answer;
mod body;
mod books;
mod fruitless;
mod inspection;
mod late_bills;
mod left_open;
mod losses;
mod metrics;
mod refuse;
mod running;
mod served_channels;
mod session;
mod under_way;

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy::primitives::Address;
use lloom_ledger::{CommittedBill, ExposurePolicy, InterruptedRequest, Ledger, LedgerError, Progress, ServeError};
use lloom_receipts::{
    ContentHasher, ContentSalt, Domain, InferenceRequest, Keypair, Signed, Usage, UsageBill, Verified,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use self::{
    fruitless::Fruitless,
    late_bills::LateBills,
    losses::FamiliarChannels,
    served_channels::ServedChannels,
    under_way::{Begun, UnderWay},
};
pub use self::{
    inspection::{Checked, Inspection},
    metrics::ExecutorMetrics,
};
use crate::{Backend, Offer};

/// How an executor treats its clients.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorConfig {
    /// How much of a payer's may be uncovered.
    pub exposure: ExposurePolicy,
    /// How long a stream may be silent between two inferences.
    pub idle_timeout: Duration,
    /// How long an answer waits for the voucher it needs. Then it ends and is billed.
    pub voucher_timeout: Duration,
    /// How long a client may take nothing of what is sent. Then it counts as gone.
    pub write_timeout: Duration,
    /// How long streams may still link their bills after [`Executor::drain`].
    pub drain_timeout: Duration,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            exposure: ExposurePolicy::default(),
            idle_timeout: Duration::from_secs(120),
            voucher_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Sells inference. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Executor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ExecutorConfig,
    ledger: Ledger,
    domain: Domain,
    keypair: Keypair,
    backend: Backend,
    offer: Offer,
    inspection: Inspection,
    familiar: FamiliarChannels,
    places: Arc<Semaphore>,
    channels: Arc<ServedChannels>,
    draining: CancellationToken,
    chain_out_of_sight: AtomicBool,
    unnamed: AtomicBool,
    under_way: UnderWay,
    fruitless: Fruitless,
    late_bills: LateBills,
    metrics: ExecutorMetrics,
}

impl Executor {
    /// Sells what `offer` says, answered by `backend`, in the name of `keypair`, which is the offer's operator.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(
        config: ExecutorConfig,
        ledger: Ledger,
        domain: Domain,
        keypair: Keypair,
        backend: Backend,
        offer: Offer,
    ) -> Self {
        let places = Arc::new(Semaphore::new(offer.capacity as usize));
        let fruitless = Fruitless::new(offer.capacity);
        let channels = Arc::new(ServedChannels::default());
        tokio::spawn(Arc::clone(&channels).follow(ledger.closing_channels()));
        let metrics = ExecutorMetrics::default();
        let late_bills = LateBills::start(ledger.clone(), metrics.clone(), Arc::clone(&channels));
        Self {
            shared: Arc::new(Shared {
                config,
                ledger,
                domain,
                keypair,
                backend,
                offer,
                inspection: Inspection::start(domain),
                familiar: FamiliarChannels::default(),
                places,
                channels,
                draining: CancellationToken::new(),
                chain_out_of_sight: AtomicBool::new(false),
                unnamed: AtomicBool::new(false),
                under_way: UnderWay::default(),
                fruitless,
                late_bills,
                metrics,
            }),
        }
    }

    /// Bills what an earlier process left without a bill: what its clients acknowledged, and nothing else (design,
    /// section 5). Call it once, before the first [`serve`](Self::serve). Says how many bills that were. Where the store may
    /// have lost bills of this operator, it bills nothing of that ([`Ledger::recognize`]).
    ///
    /// # Errors
    /// The ledger's. Calling it again goes on where it stopped.
    pub async fn recover(&self) -> Result<usize, ServeError> {
        let operator = self.shared.operator();
        self.shared.ledger.recognize(operator).await?;
        let mut interrupted = self.shared.ledger.interrupted_requests().await?;
        // Other nodes may serve on the same store; what is theirs is under way.
        interrupted.retain(|interrupted| interrupted.request.document().operator == operator);
        let bills = interrupted.len();
        for interrupted in interrupted {
            let request = interrupted.request.document();
            let bill = self.shared.bill_acknowledged(&interrupted).await?;
            tracing::info!(channel = %request.channel, request = %request.hash(), amount = %bill.bill().amount, "billed what was acknowledged before the interruption");
        }
        Ok(bills)
    }

    /// Serves one stream until it ends: one inference at a time, any number one after the other. Never fails: what a
    /// client does wrong is refused, and what goes wrong with the stream is its end.
    ///
    /// `peer` is who the connection has proven to be. To drop this in the middle of an answer is like a crash:
    /// [`recover`](Self::recover) bills what was acknowledged.
    pub async fn serve<S>(&self, stream: S, peer: Address)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        // On the heap: the session's state is large, and a node runs many.
        Box::pin(session::Session::new(&self.shared, stream, peer).run()).await;
    }

    /// Ends all answers with a bill for what was delivered, takes no more requests, and gives clients a moment to link
    /// their bills. Streams end by themselves then.
    pub fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Says why the chain is not seen as it is, or `None` while it is. While it isn't, requests are refused: a payer may
    /// be closing its channel, and what is served on it then might come too late to be claimed.
    pub fn set_chain_out_of_sight(&self, why: Option<&dyn Display>) {
        let was_out = self.shared.chain_out_of_sight.swap(why.is_some(), Ordering::Relaxed);
        match (was_out, why) {
            (false, Some(why)) => {
                tracing::error!(%why, "the chain is out of sight; refusing requests until it is back")
            }
            (true, None) => tracing::info!("the chain is back in sight; serving again"),
            _ => {}
        }
    }

    /// Says whether the payee names this node's key as its operator. While it doesn't, requests are refused: what this node
    /// signs is nobody's bill then. Running answers end as they would; what vouchers cover of them is claimed by anyone.
    pub fn set_named(&self, named: bool) {
        let was_unnamed = self.shared.unnamed.swap(!named, Ordering::Relaxed);
        let payee = self.shared.offer.payee;
        match (was_unnamed, named) {
            (false, false) => {
                tracing::error!(%payee, "the payee does not name this node's key as its operator; refusing requests");
            }
            (true, true) => tracing::info!(%payee, "the payee names this node's key again; serving again"),
            _ => {}
        }
    }

    /// What it takes on and refuses.
    pub fn metrics(&self) -> &ExecutorMetrics {
        &self.shared.metrics
    }

    /// Answers that are running now.
    pub fn running(&self) -> usize {
        (self.shared.offer.capacity as usize).saturating_sub(self.shared.places.available_permits())
    }
}

impl Shared {
    fn operator(&self) -> Address {
        self.keypair.address()
    }

    /// The bill for one request, on disk before it is signed. One that the store can't take now, it takes later.
    ///
    /// Where another node of the store has billed the request before, there is none for its stream: its client heard more
    /// than that bill says, and would take it for a lie. It links it when it comes next.
    async fn bill(&self, bill: UsageBill, begun: Begun) -> Result<Signed<UsageBill, Verified>, ServeError> {
        // By its tokens: what is given away is no less of an answer.
        let delivered = bill.usage != Usage::default();
        self.fruitless.count(bill.channel, delivered, bill.completed_at);
        match self.ledger.commit_bill(bill).await {
            Ok(committed) => {
                let says = |bill: &UsageBill| (bill.usage, bill.response_hash);
                let signed = self
                    .sign(&committed)
                    .filter(|signed| says(signed.document()) == says(&bill));
                signed.ok_or(ServeError::AlreadyBilled)
            }
            Err(error) => {
                if is_passing(&error) {
                    self.late_bills.put(bill, begun);
                }
                Err(error)
            }
        }
    }

    /// Signs what is this operator's to sign. Signing is deterministic: the same bill gets the same signature again.
    ///
    /// Under another operator's request, this one's signature would be worth nothing.
    fn sign(&self, committed: &CommittedBill) -> Option<Signed<UsageBill, Verified>> {
        (committed.operator() == Some(self.operator())).then(|| self.keypair.sign(&self.domain, *committed.bill()))
    }

    /// The bill for what a client acknowledged of a request whose answer broke off, on disk.
    async fn bill_acknowledged(&self, interrupted: &InterruptedRequest) -> Result<CommittedBill, ServeError> {
        let (usage, response_hash) = match interrupted.acknowledged {
            Some(Progress {
                usage, response_hash, ..
            }) => (usage, response_hash),
            None => (Usage::default(), ContentHasher::new(interrupted.content_salt).finish()),
        };
        let bill = UsageBill::for_request(interrupted.request.document(), usage, response_hash, self.ledger.now())?;
        self.ledger.commit_bill(bill).await
    }

    /// A request may have been taken on though nobody could be told. Nothing was delivered on it: it is billed for that, or
    /// it would keep its channel from ever being closed.
    fn give_up_on(&self, request: &InferenceRequest, salt: ContentSalt, begun: Begun, error: &ServeError) {
        if !matches!(error, ServeError::Ledger(LedgerError::OutcomeUnknown)) {
            return;
        }
        let nothing = ContentHasher::new(salt).finish();
        // Nothing costs nothing, whatever the prices.
        if let Ok(bill) = UsageBill::for_request(request, Usage::default(), nothing, self.ledger.now()) {
            self.late_bills.put(bill, begun);
        }
    }
}

/// Whether the store may take the same later.
fn is_passing(error: &ServeError) -> bool {
    matches!(error, ServeError::Ledger(error) if error.is_transient())
}
