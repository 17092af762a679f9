//! Buying one answer: which executor, which channel, and the way to both.

mod advice;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use futures::StreamExt as _;
use libp2p::PeerId;
use lloom_ledger::{Budget, BudgetLimit, BuyError, ChannelFilter, ChannelRecord, Ledger};
use lloom_node::{
    NetworkHandle, Offer,
    client::{ChatError, ChatEvent, ChatRequest, Client, ClientConfig, Completion, Tolerance, TreasurerError},
    selection::{Policy, Wanted, rank},
    wire::Refusal,
};
use lloom_receipts::{ChannelId, Keypair, ModelHash, RequestHash, TokenAmount, TokenCount, Usage};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, OnceCell};

use self::advice::{chat_failure, short};
use crate::{
    answer::AnswerText,
    command::channel::{open, top_up},
    failure::{Failure, Kind, OrFail as _, Result},
    onchain::OnChain,
    peers::{self, ExecutorName},
    session::Session,
    transact::Transactor,
};

/// How long a channel may take from being mined to being served.
const UNTIL_SERVED: Duration = Duration::from_secs(120);
/// Between two tries until it is.
const RETRY: Duration = Duration::from_millis(250);
/// How long interrupted answers may take to be billed.
const LAST_WORDS: Duration = Duration::from_secs(5);

type Executors = Vec<(PeerId, Offer)>;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose answer this is, for the user.
    pub id: String,
    /// The messages, as the API has them.
    pub messages: Value,
    /// Which model; any where it isn't said.
    pub model: Option<String>,
    /// Which executor; the best where it isn't said.
    pub executor: Option<ExecutorName>,
    /// The longest answer.
    pub max_output: TokenCount,
}

/// What came of it.
#[derive(Debug)]
pub struct Bought {
    /// Who answered.
    pub operator: Address,
    /// The model, by its name there.
    pub model: String,
    /// What paid.
    pub channel: ChannelId,
    /// What names the request.
    pub request: RequestHash,
    /// The text.
    pub text: String,
    /// The end, and the receipt.
    pub completion: Completion,
    /// From asking to the end.
    pub took: Duration,
}

/// Buys answers, any number at a time.
pub struct Buyer<'a> {
    session: &'a Session,
    on_chain: OnChain,
    ledger: Ledger,
    transactor: Transactor<'a>,
    network: NetworkHandle,
    client: Client,
    named: Mutex<HashMap<String, (PeerId, Offer)>>,
    found: Mutex<HashMap<Option<ModelHash>, Arc<OnceCell<Executors>>>>,
    /// One at a time opens or fills a channel.
    channels: Mutex<HashMap<Address, ChannelId>>,
}

impl<'a> Buyer<'a> {
    /// A buyer with everything it needs.
    ///
    /// # Errors
    /// When chain, key, store or network can't be used.
    pub async fn new(session: &'a Session, known: &[ExecutorName]) -> Result<Self> {
        let budget = budget(session)?;
        let on_chain = session.on_chain().await?;
        let key: Keypair = session.unlock()?;
        let ledger = session.open_store().await?;
        let transactor = Transactor::begin(session, on_chain.clone(), ledger.clone(), key.clone()).await?;
        let network = peers::join(session, &key, known).await?;
        let config = ClientConfig {
            budget,
            max_increment: TokenCount::new(session.config()?.client.max_increment_tokens),
            answer_timeout: Duration::from_secs(session.config()?.client.request_timeout_secs),
            ..ClientConfig::default()
        };
        let client = Client::new(config, ledger.clone(), session.network.domain(), key, network.clone());
        Ok(Self {
            session,
            on_chain,
            ledger,
            transactor,
            network,
            client,
            named: Mutex::default(),
            found: Mutex::default(),
            channels: Mutex::default(),
        })
    }

    /// Waits until interrupted answers are paid as far as they came, and leaves.
    pub async fn close(self) {
        let unpaid = async {
            let channels: Vec<ChannelId> = self.channels.lock().await.values().copied().collect();
            for channel in channels {
                while self
                    .ledger
                    .unbilled_requests(channel)
                    .await
                    .is_ok_and(|requests| !requests.is_empty())
                {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
            }
        };
        // What isn't settled by then is settled at the channel's next use.
        let _ = tokio::time::timeout(LAST_WORDS, unpaid).await;
        self.network.shutdown().await;
        self.ledger.close().await;
    }

    /// Buys an answer. `each` gets the text as it comes.
    ///
    /// # Errors
    /// When nobody answers, or nothing may be paid.
    pub async fn buy(&self, job: &Job, mut each: impl FnMut(&str)) -> Result<Bought> {
        let candidates = self.candidates(job).await?;
        let mut last = None;
        for (peer, offer, model) in candidates {
            let mut begun = false;
            let answer = self
                .buy_from(job, peer, &offer, model, |text| {
                    begun = true;
                    each(text);
                })
                .await;
            match answer {
                Ok(bought) => return Ok(bought),
                // Another one may do better, as long as this one has shown nothing.
                Err(failure) if !begun && matches!(failure.kind(), Kind::Network | Kind::Refused) => {
                    tracing::info!(operator = %offer.operator, failure = failure.one_line(), "asking the next executor");
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last.unwrap_or_else(|| {
            let what = job
                .model
                .as_ref()
                .map_or_else(String::new, |model| format!(" '{model}'"));
            Failure::new(Kind::Network, format!("nobody offers{what} within these limits"))
                .hint("`lloomctl models` shows what there is")
                .hint(peers::nobody_hint(&self.session.network))
        }))
    }

    /// Who could answer, best first.
    async fn candidates(&self, job: &Job) -> Result<Vec<(PeerId, Offer, ModelHash)>> {
        let hash = job.model.as_deref().map(ModelHash::of_id);
        let executors = match &job.executor {
            Some(name) => vec![self.named(name).await?],
            None => self.found(hash).await?,
        };
        let mut observed = Vec::with_capacity(executors.len());
        for (peer, offer) in executors {
            let quality = self
                .ledger
                .quality(offer.operator)
                .await
                .or_fail(Kind::Store, || "cannot read what was observed".to_owned())?;
            observed.push((peer, offer, quality));
        }
        // Where no model is asked for, the first of each executor's offer competes.
        let models: Vec<ModelHash> = match hash {
            Some(hash) => vec![hash],
            None => {
                let mut models: Vec<_> = observed
                    .iter()
                    .filter_map(|(_, offer, _)| offer.models.first())
                    .map(|model| model.hash)
                    .collect();
                models.sort_unstable();
                models.dedup();
                models
            }
        };
        let expected = Usage {
            input: Tolerance::default().input_bound(job.messages.to_string().len()),
            output: job.max_output,
        };
        let max_increment = TokenCount::new(self.session.config()?.client.max_increment_tokens);
        let mut ranked = Vec::new();
        for model in models {
            let wanted = Wanted {
                model,
                expected: clip(expected, &observed, model),
                limit: None,
                max_increment,
            };
            for position in rank(&observed, &wanted, &Policy::default(), rand::random()) {
                let (peer, offer, _) = &observed[position];
                ranked.push((*peer, offer.clone(), model));
            }
        }
        Ok(ranked)
    }

    async fn named(&self, name: &ExecutorName) -> Result<(PeerId, Offer)> {
        let mut named = self.named.lock().await;
        if let Some(known) = named.get(&name.to_string()) {
            return Ok(known.clone());
        }
        let found = peers::find(self.session, &self.network, name).await?;
        named.insert(name.to_string(), found.clone());
        Ok(found)
    }

    async fn found(&self, model: Option<ModelHash>) -> Result<Executors> {
        let cell = Arc::clone(self.found.lock().await.entry(model).or_default());
        cell.get_or_try_init(|| peers::executors(self.session, &self.network, model))
            .await
            .cloned()
    }

    async fn buy_from(
        &self,
        job: &Job,
        peer: PeerId,
        offer: &Offer,
        model: ModelHash,
        mut each: impl FnMut(&str),
    ) -> Result<Bought> {
        let entry = offer.model(model).ok_or_else(|| {
            let offered: Vec<_> = offer.models.iter().map(|model| model.id.as_str()).collect();
            Failure::new(
                Kind::Refused,
                format!("the executor {} doesn't offer that model", offer.operator),
            )
            .hint(format!("it offers {}", offered.join(", ")))
        })?;
        let mut body = Map::new();
        body.insert("messages".to_owned(), job.messages.clone());
        let input = Tolerance::default()
            .input_bound(job.messages.to_string().len())
            .min(entry.max_input);
        let most = entry
            .prices
            .charge(Usage {
                input,
                output: job.max_output.min(entry.max_output),
            })
            .or_fail(Kind::Refused, || {
                "the request could cost more than a channel can hold".to_owned()
            })?;
        // Money for a request that is refused then would only lie in its channel.
        let limit = TokenCount::new(self.session.config()?.client.max_increment_tokens);
        if offer.increment > limit {
            let refused = ChatError::FarAhead {
                wanted: offer.increment,
                limit,
            };
            return Err(chat_failure(refused, self.session));
        }
        let left = budget(self.session)?.per_request;
        if most > left {
            let refused = BuyError::OverBudget {
                limit: BudgetLimit::Request,
                required: most,
                left,
            };
            return Err(chat_failure(TreasurerError::from(refused).into(), self.session));
        }
        let channel = self.channel(offer, most).await?;
        let began = Instant::now();
        loop {
            let request = ChatRequest {
                peer,
                offer: offer.clone(),
                model,
                body: body.clone(),
                max_output: Some(job.max_output),
                channel: Some(channel),
            };
            match self.ask(request, &mut each).await {
                Ok((request, text, completion)) => {
                    return Ok(Bought {
                        operator: offer.operator,
                        model: entry.id.clone(),
                        channel,
                        request,
                        text,
                        completion,
                        took: began.elapsed(),
                    });
                }
                // The executor hasn't seen what this client just did on the chain.
                Err(ChatError::Refused(
                    Refusal::ChannelUnknown | Refusal::ChannelUnconfirmed | Refusal::VoucherOverDeposit { .. },
                )) if began.elapsed() < UNTIL_SERVED => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    return Err(chat_failure(error, self.session).while_(format!("cannot buy from {}", offer.operator)));
                }
            }
        }
    }

    async fn ask(
        &self,
        request: ChatRequest,
        each: &mut impl FnMut(&str),
    ) -> std::result::Result<(RequestHash, String, Completion), ChatError> {
        let mut chat = self.client.chat(request);
        let mut answer = AnswerText::default();
        let mut hash = None;
        while let Some(event) = chat.next().await {
            match event? {
                ChatEvent::Accepted { request, .. } => hash = Some(request),
                ChatEvent::Chunk { data, .. } => {
                    let new = answer.feed(&data);
                    if !new.is_empty() {
                        each(&new);
                    }
                }
                ChatEvent::Completed(completion) => {
                    let request = hash.unwrap_or(completion.receipt.receipt().bill.request);
                    return Ok((request, answer.into_text(), *completion));
                }
            }
        }
        Err(ChatError::Ended { awaited: "the bill" })
    }

    /// A channel to the executor that can pay `most`: one there is, filled up if it has to be, or a new one.
    async fn channel(&self, offer: &Offer, most: TokenAmount) -> Result<ChannelId> {
        let mut channels = self.channels.lock().await;
        let token = &self.session.network.token;
        let deposit = token
            .parse_setting(
                "client.channel_deposit",
                self.session.config()?.client.channel_deposit.as_str(),
            )?
            .max(offer.min_deposit);
        let mut best = self.best_channel(offer).await?;
        let suffices = best.as_ref().is_some_and(|(left, _)| *left >= most);
        // What an earlier command sent may be the very money that is missing.
        if !suffices && self.transactor.settle().await? {
            best = self.best_channel(offer).await?;
        }
        if let Some((left, record)) = best {
            if left < most {
                let added = deposit.max(most);
                let free = self.on_chain.escrow_balance(self.transactor.account()).await?;
                if free >= added {
                    self.session
                        .output
                        .note(format!("Adding {} to the channel {}.", token.show(added), record.id));
                    top_up::add(
                        self.session,
                        &self.on_chain,
                        &self.ledger,
                        &self.transactor,
                        record.id,
                        added,
                    )
                    .await?;
                } else if left.is_zero() {
                    return Err(short(self.session, free, added));
                }
            }
            channels.insert(offer.operator, record.id);
            return Ok(record.id);
        }
        let amount = deposit.max(most);
        let free = self.on_chain.escrow_balance(self.transactor.account()).await?;
        if free < amount {
            return Err(short(self.session, free, amount));
        }
        self.session.output.note(format!(
            "Opening a channel with {} to the executor {}; what isn't spent stays yours.",
            token.show(amount),
            offer.operator
        ));
        let opening = open::Opening {
            operator: offer.operator,
            payee: offer.payee,
            amount,
            from_wallet: false,
        };
        let opened = open::open(
            self.session,
            &self.on_chain,
            &self.ledger,
            &self.transactor,
            opening,
            true,
        )
        .await?;
        channels.insert(offer.operator, opened.channel);
        Ok(opened.channel)
    }

    /// The open channel with most left, and how much that is.
    async fn best_channel(&self, offer: &Offer) -> Result<Option<(TokenAmount, ChannelRecord)>> {
        let failed = || "cannot look for a channel".to_owned();
        let filter = ChannelFilter {
            payer: Some(self.transactor.account()),
            payee: Some(offer.payee),
            operator: Some(offer.operator),
            ..ChannelFilter::default()
        };
        let mut best: Option<(TokenAmount, TokenAmount, ChannelRecord)> = None;
        for record in self.ledger.channels(filter).await.or_fail(Kind::Store, failed)? {
            if record.client_random.is_none() || record.parameters.token != offer.token {
                continue;
            }
            // The chain is asked: the executor may have closed it.
            let Some(channel) = self.on_chain.channel(record.id).await? else {
                continue;
            };
            if channel.finalized || channel.close_requested_at.is_some() || channel.deposit < offer.min_deposit {
                continue;
            }
            let spent = self
                .ledger
                .purchases(record.id)
                .await
                .or_fail(Kind::Store, failed)?
                .spent;
            let left = channel.deposit.saturating_sub(spent.max(channel.settled));
            if best.as_ref().is_none_or(|(most, ..)| left > *most) {
                best = Some((left, channel.deposit, record));
            }
        }
        let Some((left, deposit, record)) = best else {
            return Ok(None);
        };
        // A command that put money in may have been interrupted before it wrote that down, and vouchers are signed up to what
        // is written down.
        top_up::remember(&self.ledger, record.id, deposit).await?;
        Ok(Some((left, record)))
    }
}

/// What one model takes at most where anybody offers it, so that nobody is left out for what it needn't do.
fn clip<Q>(expected: Usage, observed: &[(PeerId, Offer, Q)], model: ModelHash) -> Usage {
    let limits = observed.iter().filter_map(|(_, offer, _)| offer.model(model));
    limits.fold(expected, |usage, limit| Usage {
        input: usage.input.min(limit.max_input),
        output: usage.output.min(limit.max_output),
    })
}

fn budget(session: &Session) -> Result<Budget> {
    let client = &session.config()?.client;
    let amount = |key: &str, text: &str| session.network.token.parse_setting(key, text);
    Ok(Budget {
        per_request: amount("client.budget_per_request", client.budget_per_request.as_str())?,
        per_day: amount("client.budget_per_day", client.budget_per_day.as_str())?,
        per_executor_per_day: amount(
            "client.budget_per_executor_per_day",
            client.budget_per_executor_per_day.as_str(),
        )?,
    })
}
