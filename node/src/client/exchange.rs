use std::{future::pending, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use lloom_ledger::{Observation, ObservedOutcome};
use lloom_receipts::{InferenceRequest, RequestHash, Signed, TokenAmount, Usage, UsageBill};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    ChatError, ChatEvent, ChatRequest, Completion, Shared, abandoned,
    link::{ACCEPTANCE, Desk, Line},
    order::{Chance, Prepared, prepare},
    sync,
    tally::{Acknowledgement, Tally},
    treasurer::{News, TreasurerError},
};
use crate::wire::{ClientFrame, Ending, ExecutorFrame, Infer, Refusal};

type Events = mpsc::Sender<Result<ChatEvent, ChatError>>;

/// A voucher that is being signed, and what it acknowledges.
type Payment = BoxFuture<'static, (Acknowledgement, Result<News, TreasurerError>)>;

/// One chat over one stream.
pub(super) struct Exchange<'c> {
    shared: &'c Shared,
    desk: &'c Desk,
    request: InferenceRequest,
    hash: RequestHash,
    events: Events,
    tally: Tally,
    payment: Option<Payment>,
    /// What is to be acknowledged once the payment under way is sent.
    next_payment: Option<Acknowledgement>,
    cancelled: bool,
    asked_at: Instant,
    first_token_at: Option<Instant>,
    last_token_at: Option<Instant>,
}

impl<'c> Exchange<'c> {
    /// Runs a chat from its request to its receipt.
    pub(super) async fn run(shared: &'c Shared, asked: ChatRequest, events: Events) -> Result<(), ChatError> {
        let (peer, increment) = (asked.peer, asked.offer.increment);
        let limit = shared.config.max_increment;
        if increment > limit {
            return Err(ChatError::FarAhead {
                wanted: increment,
                limit,
            });
        }
        let channel = shared.choose_channel(&asked.offer, asked.channel).await?;
        let deadline = shared.ledger.now().plus(shared.config.request_lifetime);
        let tolerance = shared.config.tolerance;
        let prepared = prepare(asked, &channel, &tolerance, Chance::draw(&*shared.chance), deadline)?;
        let first = Tally::first_authorization(&prepared.request, increment)?;
        prepared.request.maximum()?;
        let desk = shared.desk(channel.id).await?;
        let mut line = shared.open(peer).await?;
        sync_if_needed(shared, &desk, &mut line).await?;

        let Prepared {
            request,
            salt,
            ref body,
            ..
        } = prepared;
        let hash = request.hash();
        let _active = desk.activate(hash);
        let tally = Tally::new(request, salt, body.len(), increment, tolerance);
        let asked_at = Instant::now();
        ask(shared, &desk, &mut line, prepared, first).await?;
        let mut exchange = Exchange {
            shared,
            desk: &desk,
            request,
            hash,
            events,
            tally,
            payment: None,
            next_payment: None,
            cancelled: false,
            asked_at,
            first_token_at: None,
            last_token_at: None,
        };
        let accepted = ChatEvent::Accepted {
            request: hash,
            channel: channel.id,
        };
        exchange.tell(accepted).await;
        match exchange.receive(&mut line).await {
            Ok((bill, ending)) => exchange.settle(&mut line, bill, ending).await,
            Err(error) => Err(exchange.fail(&mut line, error).await),
        }
    }

    /// Takes the answer up to its bill.
    async fn receive(&mut self, line: &mut Line) -> Result<(Signed<UsageBill>, Ending), ChatError> {
        let patience = self.shared.config.answer_timeout;
        let mut silent_since = Instant::now();
        loop {
            tokio::select! {
                // Paying goes before taking more: the executor may send as fast as it is read.
                biased;
                () = self.events.closed(), if !self.cancelled => {
                    self.cancelled = true;
                    line.send(&ClientFrame::Cancel).await?;
                }
                (acknowledgement, signed) = finished(&mut self.payment) => {
                    match signed {
                        Ok(voucher) => self.acknowledge(line, acknowledgement, voucher).await?,
                        // Without more money the answer ends by itself; what is paid for still comes.
                        Err(error) => tracing::warn!(request = %self.hash, error = &error as &dyn std::error::Error, "nothing more is paid"),
                    }
                    let next = self.next_payment.take();
                    self.pay(next);
                }
                frame = line.reader.next() => {
                    silent_since = Instant::now();
                    match frame?.ok_or(ChatError::Ended { awaited: "the answer" })? {
                        ExecutorFrame::Chunk { data, usage } => {
                            let acknowledgement = self.tally.receive(&data, usage).map_err(ChatError::Overcount)?;
                            self.pay(acknowledgement);
                            self.take_chunk(data, usage).await;
                        }
                        ExecutorFrame::NeedVoucher { required, authorized, deposit } => {
                            tracing::debug!(request = %self.hash, %required, %authorized, %deposit, "the executor waits for a voucher");
                            let acknowledgement = self.tally.pay_ahead();
                            self.pay(acknowledgement);
                        }
                        ExecutorFrame::Bill { bill, ending } => return Ok((bill, ending)),
                        // The executor holds a better voucher of another stream.
                        ExecutorFrame::Refused(Refusal::VoucherNotIncreasing { best }) => self.desk.treasurer.held(best).await,
                        // It sees less of the deposit than this client does; what is paid for still comes.
                        ExecutorFrame::Refused(refusal @ Refusal::VoucherOverDeposit { .. }) => {
                            tracing::warn!(request = %self.hash, %refusal, "a voucher is refused");
                        }
                        ExecutorFrame::Refused(refusal) => return Err(ChatError::Refused(refusal)),
                        ExecutorFrame::Accepted | ExecutorFrame::Recorded { .. } | ExecutorFrame::State(_) => {
                            return Err(ChatError::Unexpected { awaited: "the answer" });
                        }
                    }
                }
                () = sleep_until(silent_since + patience) => {
                    return Err(ChatError::Timeout { awaited: "part of the answer", patience });
                }
            }
        }
    }

    async fn take_chunk(&mut self, data: Vec<u8>, usage: Usage) {
        if usage.output.get() > 0 {
            let now = Instant::now();
            self.first_token_at.get_or_insert(now);
            self.last_token_at = Some(now);
        }
        if !data.is_empty() {
            let data = Bytes::from(data);
            self.tell(ChatEvent::Chunk { data, usage }).await;
        }
    }

    /// Has a voucher signed, while chunks go on coming. One at a time: the newest says it all.
    fn pay(&mut self, acknowledgement: Option<Acknowledgement>) {
        let Some(acknowledgement) = acknowledgement else {
            return;
        };
        if self.payment.is_some() {
            self.next_payment = Some(acknowledgement);
            return;
        }
        let (treasurer, request) = (self.desk.treasurer.clone(), self.hash);
        self.payment = Some(Box::pin(async move {
            let signed = treasurer.authorize(request, acknowledgement.authorized).await;
            (acknowledgement, signed)
        }));
    }

    async fn acknowledge(
        &mut self,
        line: &mut Line,
        acknowledgement: Acknowledgement,
        voucher: News,
    ) -> Result<(), ChatError> {
        line.send(&ClientFrame::Voucher {
            voucher: voucher.map(Signed::into_unverified),
            received_bytes: acknowledgement.received_bytes,
            received: acknowledgement.received,
        })
        .await
    }

    /// Judges the bill, and links it if it is owed.
    async fn settle(mut self, line: &mut Line, bill: Signed<UsageBill>, ending: Ending) -> Result<(), ChatError> {
        let operator = self.request.operator;
        if let Err(overbilled) = self.tally.judge(bill.document()) {
            let error = ChatError::Overbilled(overbilled);
            self.refuse_to_pay(&error, Some(&bill)).await;
            return Err(error);
        }
        let bill = match bill.verify(&self.shared.domain, &self.shared.verifier, operator) {
            Ok(bill) => bill,
            Err(_) => {
                let error = ChatError::ForeignBill { operator };
                self.refuse_to_pay(&error, None).await;
                return Err(error);
            }
        };
        // A voucher still being signed would find the request linked.
        if let Some(payment) = self.payment.take() {
            payment.await.1.map(drop).unwrap_or_else(|error| {
                tracing::debug!(request = %self.hash, error = &error as &dyn std::error::Error, "the last increment is not authorized");
            });
        }
        let linked = {
            let mut turn = self.desk.turn().await;
            if turn.needs_sync {
                // A stream before this one left receipts unconfirmed; they go first.
                if let Err(error) = sync::run(self.shared, self.desk, &mut turn, line).await {
                    tracing::warn!(channel = %self.desk.channel, error = &error as &dyn std::error::Error, "the channel is not up to date");
                }
            }
            self.shared.link(self.desk, &mut turn, line, bill).await
        };
        let (receipt, recorded) = linked?;
        let outcome = match &ending {
            Ending::Complete | Ending::LimitReached | Ending::Cancelled => ObservedOutcome::Completed,
            _ => ObservedOutcome::Failed,
        };
        let time_to_first_token = self.first_token_at.map(|at| at.duration_since(self.asked_at));
        self.tell(ChatEvent::Completed(Box::new(Completion {
            receipt,
            ending,
            recorded,
            time_to_first_token,
        })))
        .await;
        // Nobody waits for the score.
        let speed = self.speed();
        self.shared.observe(operator, outcome, time_to_first_token, speed).await;
        Ok(())
    }

    /// The answer broke off without a bill. What is authorized stays so: the executor may bill what it delivered.
    async fn fail(&mut self, line: &mut Line, error: ChatError) -> ChatError {
        self.desk.turn().await.needs_sync = true;
        if matches!(error, ChatError::Overcount(_)) {
            self.refuse_to_pay(&error, None).await;
            // Best effort: an executor that overcounts may not listen.
            let _ = line.send(&ClientFrame::Cancel).await;
            return error;
        }
        let operator = self.request.operator;
        self.shared.observe(operator, ObservedOutcome::Failed, None, None).await;
        error
    }

    /// Stops paying. The executor's own signature is the evidence, kept with the request.
    async fn refuse_to_pay(&mut self, error: &ChatError, bill: Option<&Signed<UsageBill>>) {
        let operator = self.request.operator;
        let why = std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string());
        let evidence = bill.and_then(|bill| serde_json::to_string(bill).ok());
        tracing::warn!(%operator, request = %self.hash, why, evidence, "the bill is not paid");
        let reason = abandoned::for_overbilling(&why, evidence.as_deref());
        if let Err(error) = self.desk.treasurer.abandon(self.hash, reason).await {
            tracing::error!(request = %self.hash, error = &error as &dyn std::error::Error, "the evidence is not kept");
        }
        self.shared
            .observe(operator, ObservedOutcome::Overbilled, None, None)
            .await;
    }

    fn speed(&self) -> Option<f64> {
        let elapsed = self.last_token_at?.duration_since(self.first_token_at?).as_secs_f64();
        let tokens = f64::from(self.tally.announced().output.get().saturating_sub(1));
        (elapsed > 0.0 && tokens > 0.0).then(|| tokens / elapsed)
    }

    async fn tell(&mut self, event: ChatEvent) {
        // Whoever asked may have left: then the chat is cancelled, and its bill still linked.
        let _ = self.events.send(Ok(event)).await;
    }
}

/// Sends the request, and takes it up again where the executor's refusal can be answered: a voucher overtaken by
/// another stream's, or bills of earlier answers that this client has not linked yet.
async fn ask(
    shared: &Shared,
    desk: &Desk,
    line: &mut Line,
    prepared: Prepared,
    first: TokenAmount,
) -> Result<(), ChatError> {
    let Prepared {
        request,
        client_random,
        salt,
        body,
    } = prepared;
    let operator = request.operator;
    let signed = shared.keypair.sign(&shared.domain, request);
    let hash = request.hash();
    let mut voucher = desk
        .treasurer
        .begin(signed.clone(), salt, first, shared.ledger.now())
        .await?;
    let mut infer = Infer {
        request: signed.into_unverified(),
        client_random,
        salt,
        body,
        voucher: None,
    };
    let (mut overtaken, mut uncovered) = (false, false);
    let refused = loop {
        let held = voucher.as_ref().map(|voucher| voucher.document().amount);
        infer.voucher = voucher.map(Signed::into_unverified);
        let answered = request_once(line, &infer).await;
        match answered {
            Ok(()) => {
                if let Some(held) = held {
                    desk.treasurer.held(held).await;
                }
                return Ok(());
            }
            Err(ChatError::Refused(Refusal::VoucherNotIncreasing { best })) if !overtaken => {
                overtaken = true;
                desk.treasurer.held(best).await;
            }
            Err(ChatError::Refused(Refusal::Uncovered { .. })) if !uncovered => {
                uncovered = true;
                let synced = sync::run(shared, desk, &mut *desk.turn().await, line).await;
                if let Err(error) = synced {
                    break error;
                }
            }
            Err(error) => break error,
        }
        voucher = match desk.treasurer.authorize(hash, first).await {
            Ok(voucher) => voucher,
            Err(error) => break error.into(),
        };
    };
    let given_up = match &refused {
        ChatError::Refused(refusal) => Some(format!("refused: {refusal}")),
        // Only asked after a refusal.
        ChatError::Treasurer(error) => Some(format!("refused, and not to be paid: {error}")),
        _ => None,
    };
    if let Some(reason) = given_up {
        desk.treasurer.abandon(hash, reason).await?;
        shared.observe(operator, ObservedOutcome::Refused, None, None).await;
    } else {
        // It may have been taken on.
        desk.turn().await.needs_sync = true;
        shared.observe(operator, ObservedOutcome::Failed, None, None).await;
    }
    Err(refused)
}

async fn request_once(line: &mut Line, infer: &Infer) -> Result<(), ChatError> {
    line.send(&ClientFrame::Infer(Box::new(infer.clone()))).await?;
    line.reply(ACCEPTANCE, |frame| match frame {
        ExecutorFrame::Accepted => Some(()),
        _ => None,
    })
    .await
}

async fn sync_if_needed(shared: &Shared, desk: &Desk, line: &mut Line) -> Result<(), ChatError> {
    let mut turn = desk.turn().await;
    if turn.needs_sync {
        sync::run(shared, desk, &mut turn, line).await?;
    }
    Ok(())
}

async fn finished(payment: &mut Option<Payment>) -> (Acknowledgement, Result<News, TreasurerError>) {
    let done = match payment {
        Some(payment) => payment.await,
        None => pending().await,
    };
    *payment = None;
    done
}

impl Shared {
    /// Records how an executor did. A lost observation only blunts its score.
    pub(super) async fn observe(
        &self,
        operator: alloy::primitives::Address,
        outcome: ObservedOutcome,
        time_to_first_token: Option<Duration>,
        tokens_per_second: Option<f64>,
    ) {
        let observation = Observation {
            at: self.ledger.now(),
            outcome,
            time_to_first_token,
            tokens_per_second,
        };
        if let Err(error) = self.ledger.observe(operator, observation).await {
            tracing::warn!(%operator, error = &error as &dyn std::error::Error, "an observation is lost");
        }
    }
}
