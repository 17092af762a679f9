//! The one task that signs for a channel.
//!
//! All streams of a channel ask it, so that there is one counter. What waits is taken together: one voucher over all of
//! it, one commit, then the answers; fifty streams that start at once cost one signature and one fsync.

use std::sync::Arc;

use futures::future::join_all;
use lloom_ledger::{Budget, BuyError, Ledger, LedgerError, OwnRequest};
use lloom_receipts::{
    ChainError, ChannelId, ContentSalt, Domain, InferenceRequest, Keypair, Receipt, ReceiptError, RequestHash, Signed,
    TokenAmount, UnixSeconds, UsageBill, Verified, Voucher,
};
use tokio::sync::{mpsc, oneshot};

use super::purse::{Exhausted, Purse};

/// Orders that wait at most.
const QUEUE: usize = 256;

/// Orders that are taken together at most.
const BATCH: usize = 64;

type Reply<T> = oneshot::Sender<Result<T, TreasurerError>>;

/// The newest voucher, where the executor may lack it.
pub(super) type News = Option<Signed<Voucher, Verified>>;

enum Order {
    Begin {
        request: Signed<InferenceRequest, Verified>,
        salt: ContentSalt,
        authorized: TokenAmount,
        now: UnixSeconds,
        reply: Reply<News>,
    },
    Authorize {
        request: RequestHash,
        authorized: TokenAmount,
        reply: Reply<News>,
    },
    Link {
        bill: Signed<UsageBill, Verified>,
        reply: Reply<(Receipt<Verified>, News)>,
    },
    Adopt {
        receipts: Vec<Receipt<Verified>>,
        reply: Reply<()>,
    },
    Abandon {
        request: RequestHash,
        reason: String,
        reply: Reply<()>,
    },
    Held {
        amount: TokenAmount,
    },
}

/// Speaks to a channel's treasurer.
#[derive(Clone, Debug)]
pub(super) struct Treasurer {
    orders: mpsc::Sender<Order>,
}

struct Task {
    channel: ChannelId,
    ledger: Ledger,
    domain: Domain,
    keypair: Arc<Keypair>,
    budget: Budget,
    purse: Purse,
}

impl Treasurer {
    /// Starts the treasurer of `channel` from what the ledger says. It ends with the last handle.
    pub(super) async fn start(
        channel: ChannelId,
        ledger: Ledger,
        domain: Domain,
        keypair: Arc<Keypair>,
        budget: Budget,
    ) -> Result<Self, LedgerError> {
        let purse = load(&ledger, channel).await?;
        let (orders, receiver) = mpsc::channel(QUEUE);
        let task = Task {
            channel,
            ledger,
            domain,
            keypair,
            budget,
            purse,
        };
        tokio::spawn(task.run(receiver));
        Ok(Self { orders })
    }

    /// Records a request that is about to be sent, with what it may use of the channel at first.
    pub(super) async fn begin(
        &self,
        request: Signed<InferenceRequest, Verified>,
        salt: ContentSalt,
        authorized: TokenAmount,
        now: UnixSeconds,
    ) -> Result<News, TreasurerError> {
        self.order(|reply| Order::Begin {
            request,
            salt,
            authorized,
            now,
            reply,
        })
        .await
    }

    /// Lets a request use `authorized` of the channel in all.
    pub(super) async fn authorize(
        &self,
        request: RequestHash,
        authorized: TokenAmount,
    ) -> Result<News, TreasurerError> {
        self.order(|reply| Order::Authorize {
            request,
            authorized,
            reply,
        })
        .await
    }

    /// Links a bill. Callers take turns: the next bill is linked when the executor has recorded this one.
    pub(super) async fn link(
        &self,
        bill: Signed<UsageBill, Verified>,
    ) -> Result<(Receipt<Verified>, News), TreasurerError> {
        self.order(|reply| Order::Link { bill, reply }).await
    }

    /// Goes on from receipts that bear the own signature and that the executor has after the last one it is known to
    /// have. Own receipts in their place, which it does not have, give way.
    pub(super) async fn adopt(&self, receipts: Vec<Receipt<Verified>>) -> Result<(), TreasurerError> {
        self.order(|reply| Order::Adopt { receipts, reply }).await
    }

    /// Gives up a request that will not be billed, or whose bill will not be paid.
    pub(super) async fn abandon(&self, request: RequestHash, reason: String) -> Result<(), TreasurerError> {
        self.order(|reply| Order::Abandon { request, reason, reply }).await
    }

    /// The executor holds a voucher over `amount`.
    pub(super) async fn held(&self, amount: TokenAmount) {
        // A treasurer that is gone has nothing to remember.
        let _ = self.orders.send(Order::Held { amount }).await;
    }

    async fn order<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, TreasurerError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| TreasurerError::Gone)?;
        answer.await.map_err(|_| TreasurerError::Gone)?
    }
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut batch = Vec::with_capacity(BATCH);
        while orders.recv_many(&mut batch, BATCH).await > 0 {
            let mut payments = Vec::new();
            for order in batch.drain(..) {
                match order {
                    order @ (Order::Begin { .. } | Order::Authorize { .. }) => payments.push(order),
                    // Whoever asked may have left; what was done stays done.
                    Order::Link { bill, reply } => drop(reply.send(self.link(bill).await)),
                    Order::Adopt { receipts, reply } => drop(reply.send(self.adopt(receipts).await)),
                    Order::Abandon { request, reason, reply } => {
                        drop(reply.send(self.abandon(request, reason).await));
                    }
                    Order::Held { amount } => self.purse.set_held(amount),
                }
            }
            if self.budget != Budget::UNLIMITED {
                // What the budget has no room for must not be in a voucher that pays for something else.
                let (begun, others) = payments
                    .into_iter()
                    .partition(|order| matches!(order, Order::Begin { .. }));
                payments = others;
                for order in begun {
                    self.pay(vec![order]).await;
                }
            }
            if !payments.is_empty() {
                self.pay(payments).await;
            }
        }
    }

    /// Begins and authorizes everything in `orders` under one voucher.
    async fn pay(&mut self, orders: Vec<Order>) {
        let mut promised = Vec::with_capacity(orders.len());
        for order in orders {
            let (request, amount) = match &order {
                Order::Begin {
                    request, authorized, ..
                } => (request.document().hash(), *authorized),
                Order::Authorize {
                    request, authorized, ..
                } => (*request, *authorized),
                _ => continue,
            };
            match self.promise(request, amount).await {
                Ok(before) => promised.push((request, before, order)),
                Err(error) => answer(order, Err(error)),
            }
        }
        let voucher = self.keypair.sign(&self.domain, self.purse.voucher());
        let amount = voucher.document().amount;
        let (ledger, budget) = (&self.ledger, self.budget);
        let recorded = join_all(promised.into_iter().map(|(hash, before, order)| {
            let voucher = voucher.clone();
            async move {
                let outcome = match &order {
                    Order::Begin {
                        request,
                        salt,
                        authorized,
                        now,
                        ..
                    } => {
                        let request = OwnRequest {
                            request: request.clone(),
                            content_salt: *salt,
                            voucher: Some(voucher),
                            authorized: *authorized,
                            budget,
                            now: *now,
                        };
                        ledger.begin_request(request).await
                    }
                    Order::Authorize { authorized, .. } => ledger
                        .authorize(voucher, hash, *authorized, budget, ledger.now())
                        .await
                        .map(drop),
                    _ => Ok(()),
                };
                (hash, before, order, outcome)
            }
        }))
        .await;
        if recorded.iter().any(|(.., outcome)| outcome.is_ok()) {
            self.purse.set_signed(amount);
        }
        let news = self.purse.has_news().then_some(voucher);
        for (hash, before, order, outcome) in recorded {
            let reply = match outcome {
                Ok(()) => Ok(news.clone()),
                Err(error) => {
                    self.purse.take_back(hash, before);
                    Err(error.into())
                }
            };
            answer(order, reply);
        }
    }

    async fn promise(
        &mut self,
        request: RequestHash,
        amount: TokenAmount,
    ) -> Result<Option<TokenAmount>, TreasurerError> {
        if let Ok(before) = self.purse.promise(request, amount) {
            return Ok(before);
        }
        // The channel may have been topped up.
        self.purse.set_deposit(deposit(&self.ledger, self.channel).await?);
        Ok(self.purse.promise(request, amount)?)
    }

    async fn link(&mut self, bill: Signed<UsageBill, Verified>) -> Result<(Receipt<Verified>, News), TreasurerError> {
        let receipt = self.purse.link(*bill.document())?;
        let voucher = self.keypair.sign(&self.domain, self.purse.voucher_with(&receipt));
        let amount = voucher.document().amount;
        let receipt = Receipt::join(self.keypair.sign(&self.domain, receipt), &bill)?;
        let now = self.ledger.now();
        self.ledger
            .link(receipt.clone(), Some(voucher.clone()), self.budget, now)
            .await?;
        self.purse.set_head(receipt.receipt());
        self.purse.set_signed(amount);
        let news = self.purse.has_news().then_some(voucher);
        Ok((receipt, news))
    }

    async fn adopt(&mut self, receipts: Vec<Receipt<Verified>>) -> Result<(), TreasurerError> {
        let adopted = self.replace_unconfirmed(receipts).await;
        // Also when only half of it was done. What the executor holds is told anew by the next frames.
        self.purse = load(&self.ledger, self.channel).await?;
        adopted
    }

    async fn replace_unconfirmed(&self, receipts: Vec<Receipt<Verified>>) -> Result<(), TreasurerError> {
        if let Some(last) = receipts.last() {
            let reason = format!("the executor holds receipt {} instead", last.receipt().hash());
            self.ledger
                .withdraw_receipts(self.channel, reason, self.ledger.now())
                .await?;
        }
        self.ledger
            .adopt_receipts(self.channel, receipts, self.ledger.now())
            .await?;
        Ok(())
    }

    async fn abandon(&mut self, request: RequestHash, reason: String) -> Result<(), TreasurerError> {
        self.ledger.abandon(request, reason).await?;
        self.purse.forget(request);
        Ok(())
    }
}

fn answer(order: Order, outcome: Result<News, TreasurerError>) {
    if let Order::Begin { reply, .. } | Order::Authorize { reply, .. } = order {
        // Whoever asked may have left; what is promised stays promised.
        drop(reply.send(outcome));
    }
}

async fn load(ledger: &Ledger, channel: ChannelId) -> Result<Purse, LedgerError> {
    let account = ledger.purchases(channel).await?;
    let unbilled = ledger.unbilled_requests(channel).await?;
    Ok(Purse::new(
        channel,
        deposit(ledger, channel).await?,
        ledger.head(channel).await?,
        account.authorized,
        unbilled
            .into_iter()
            .map(|record| (record.request.document().hash(), record.authorized)),
    ))
}

async fn deposit(ledger: &Ledger, channel: ChannelId) -> Result<Option<TokenAmount>, LedgerError> {
    let record = ledger.channel(channel).await?;
    let state = record.and_then(|record| record.confirmed.or(record.latest));
    Ok(state.map(|state| state.deposit))
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreasurerError {
    /// The channel holds too little.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The ledger refuses: a budget, a deposit, a head.
    #[error(transparent)]
    Buy(#[from] BuyError),
    /// The bill can't be linked.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The receipt can't be put together.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The store failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The client is shutting down.
    #[error("the client is shutting down")]
    Gone,
}
