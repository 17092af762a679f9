use std::future::pending;

use alloy::primitives::Address;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use lloom_ledger::{Account, ExposurePolicy, Ledger, LedgerError, Outcome, Progress, ServeError};
use lloom_receipts::{
    ChannelId, InferenceRequest, RequestHash, Signed, TokenAmount, UnixSeconds, UsageBill, Verified, Voucher,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Duration, Instant},
};

use super::{
    answer::{Answer, Reservation},
    metrics::Open,
    refuse::refusal,
    served_channels::{ChannelNews, ChannelWatch},
    under_way::Begun,
};
use crate::{
    BackendError, BackendEvent,
    backend::ChatStream,
    wire::{Ending, ExecutorFrame},
};

/// The answer a stream is giving, with everything it waits for.
pub(super) struct Running {
    pub(super) request: InferenceRequest,
    pub(super) hash: RequestHash,
    /// Whose signature counts for the payer.
    pub(super) payer_side: Address,
    pub(super) answer: Answer,
    pub(super) channel: ChannelWatch,
    events: Option<ChatStream>,
    /// What the client acknowledged and the ledger doesn't know yet.
    acknowledgement: Option<Option<Signed<Voucher, Verified>>>,
    /// What the ledger is doing for this answer. One thing at a time, while tokens go on leaving.
    job: Option<BoxFuture<'static, Done>>,
    /// The last reservation was refused, and nothing has changed since.
    uncovered: bool,
    /// The client was asked for a voucher, and has said nothing since.
    asked: bool,
    /// Since when an event waits for a voucher.
    starving_since: Option<Instant>,
    ending: Option<Ending>,
    pub(super) begun: Begun,
    _place: (OwnedSemaphorePermit, Open),
}

/// What moved a running answer on.
pub(super) enum Step {
    /// The backend's next event; `None` is an end that it did not announce.
    Backend(Option<Result<BackendEvent, BackendError>>),
    /// The ledger is done with its task.
    Ledger(Box<Done>),
    /// Something happened to the channel.
    Channel(ChannelNews),
}

/// What the ledger did.
pub(super) struct Done {
    acknowledged: Option<Result<Outcome, ServeError>>,
    reserved: Option<(Reservation, Result<(), ServeError>)>,
    looked: Option<Result<Standing, LedgerError>>,
}

/// How a channel stands, to be told to a client that has to pay more.
struct Standing {
    account: Account,
    deposit: TokenAmount,
}

impl Running {
    pub(super) fn new(
        request: InferenceRequest,
        payer_side: Address,
        answer: Answer,
        events: ChatStream,
        channel: ChannelWatch,
        place: (OwnedSemaphorePermit, Open),
        begun: Begun,
    ) -> Self {
        Self {
            hash: request.hash(),
            request,
            payer_side,
            answer,
            channel,
            events: Some(events),
            acknowledgement: None,
            job: None,
            uncovered: false,
            asked: false,
            starving_since: None,
            ending: None,
            begun,
            _place: place,
        }
    }

    /// Takes what the backend has ready, so that events which arrive together leave together.
    pub(super) fn take_ready_events(&mut self) {
        while self.answer.takes_events() {
            match self.events.as_mut().and_then(|events| events.next().now_or_never()) {
                Some(event) => self.take_event(event),
                None => break,
            }
        }
    }

    /// Takes the backend's next event; `None` is an end that it did not announce.
    pub(super) fn take_event(&mut self, event: Option<Result<BackendEvent, BackendError>>) {
        match event {
            Some(Ok(BackendEvent::Delta { data, output })) => {
                if self.answer.take_event(&data, output).is_err() {
                    self.finish(Ending::LimitReached);
                }
            }
            Some(Ok(BackendEvent::Usage(usage))) => self.answer.take_usage(usage),
            Some(Ok(BackendEvent::Done)) => self.finish(Ending::Complete),
            Some(Err(error)) => {
                tracing::warn!(request = %self.hash, error = &error as &dyn std::error::Error, "the backend failed");
                self.finish(Ending::BackendFailed {
                    reason: error.to_string(),
                });
            }
            None => self.finish(Ending::BackendFailed {
                reason: "its answer ended before it was complete".to_owned(),
            }),
        }
    }

    /// Waits for whatever moves the answer on. Cancel safe.
    pub(super) async fn next(&mut self) -> Step {
        let takes_events = self.answer.takes_events();
        let Self {
            events,
            job,
            channel,
            uncovered,
            ..
        } = self;
        tokio::select! {
            // A close stops the answer before more of it comes.
            biased;
            news = channel.next(*uncovered) => Step::Channel(news),
            done = finished(job) => Step::Ledger(Box::new(done)),
            event = next_event(events), if takes_events => Step::Backend(event),
        }
    }

    /// No more events come; what is there still leaves.
    fn finish(&mut self, ending: Ending) {
        self.events = None;
        self.answer.end();
        self.ending.get_or_insert(ending);
    }

    /// Nothing more leaves.
    pub(super) fn cut(&mut self, ending: Ending) {
        self.events = None;
        self.answer.cut();
        self.ending.get_or_insert(ending);
    }

    /// Takes the client's word on what it received, and its voucher. The newest voucher says it all.
    pub(super) fn acknowledge(&mut self, voucher: Option<Signed<Voucher, Verified>>) {
        let waiting = self.acknowledgement.take().flatten();
        let best = match (waiting, voucher) {
            (Some(waiting), Some(new)) if waiting.document().amount > new.document().amount => Some(waiting),
            (waiting, new) => new.or(waiting),
        };
        self.acknowledgement = Some(best);
        self.uncovered = false;
        self.asked = false;
    }

    /// Takes what happened to the channel.
    pub(super) fn take_news(&mut self, news: ChannelNews) {
        match news {
            ChannelNews::Covered => self.uncovered = false,
            ChannelNews::Closing => self.cut(Ending::ChannelClosing),
        }
    }

    /// Gives the ledger its next task, if there is one: the acknowledgement and the reservation it allows in one go, so
    /// that both are in one commit.
    pub(super) fn start_job(&mut self, ledger: &Ledger, exposure: ExposurePolicy) {
        if self.job.is_some() {
            return;
        }
        let acknowledgement = self.acknowledgement.take().map(|voucher| {
            let mark = self.answer.acknowledged();
            let progress = Progress {
                request: self.hash,
                usage: mark.usage,
                response_hash: mark.hash,
            };
            (progress, voucher)
        });
        let wanted = self.answer.wanted();
        // Nothing to reserve, and yet something waits: the client has not acknowledged what came before it.
        let looks = wanted.is_none() && acknowledgement.is_none() && self.answer.is_stalled() && !self.asked;
        let reservation = wanted.filter(|_| !self.uncovered);
        if acknowledgement.is_none() && reservation.is_none() && !looks {
            return;
        }
        self.channel.mark_seen();
        let (ledger, request, channel) = (ledger.clone(), self.hash, self.request.channel);
        self.job = Some(Box::pin(async move {
            let acknowledging = async {
                let (progress, voucher) = acknowledgement?;
                Some(acknowledge(&ledger, progress, voucher).await)
            };
            let reserving = async {
                let reservation = reservation?;
                Some((reservation, ledger.reserve(request, reservation.total, exposure).await))
            };
            // In this order: both queue at the one writer, the voucher first.
            let (acknowledged, reserved) = futures::join!(acknowledging, reserving);
            let looked = match looks {
                true => Some(look(&ledger, channel).await),
                false => None,
            };
            Done {
                acknowledged,
                reserved,
                looked,
            }
        }));
    }

    /// Brings what the client has already said to the ledger, when there is no stream any more.
    pub(super) async fn settle(&mut self, ledger: &Ledger, exposure: ExposurePolicy) {
        self.answer.cut();
        while self.job.is_some() || self.acknowledgement.is_some() {
            self.start_job(ledger, exposure);
            let done = finished(&mut self.job).await;
            self.take_job(done);
        }
    }

    /// Takes what the ledger did. Says what to tell the client, and whether the channel's coverage grew.
    pub(super) fn take_job(&mut self, done: Done) -> (Option<ExecutorFrame>, bool) {
        let mut frame = None;
        let mut grew = false;
        match done.acknowledged {
            None => {}
            Some(Ok(outcome)) => grew = outcome == Outcome::Recorded,
            Some(Err(error)) => frame = self.refused(error),
        }
        match done.reserved {
            None => {}
            Some((reservation, Ok(()))) => {
                self.answer.reserve(reservation);
                if !self.answer.is_stalled() {
                    self.starving_since = None;
                }
            }
            Some((
                _,
                Err(ServeError::Uncovered {
                    required,
                    authorized,
                    deposit,
                }),
            )) => {
                self.uncovered = true;
                frame = self.need_voucher(required, authorized, deposit).or(frame);
            }
            Some((_, Err(error))) => frame = self.refused(error).or(frame),
        }
        match done.looked {
            None => {}
            Some(Ok(Standing { account, deposit })) => {
                let required = account.spent.saturating_add(self.answer.lacking());
                frame = self.need_voucher(required, account.authorized, deposit).or(frame);
            }
            Some(Err(error)) => frame = self.refused(error.into()).or(frame),
        }
        (frame, grew)
    }

    /// What to tell the client when an event waits for it, and nothing of it is under way.
    fn need_voucher(
        &mut self,
        required: TokenAmount,
        authorized: TokenAmount,
        deposit: TokenAmount,
    ) -> Option<ExecutorFrame> {
        if self.acknowledgement.is_some() || !self.answer.is_stalled() {
            return None;
        }
        if self.answer.overshoot() {
            self.starving_since = None;
            return None;
        }
        self.starving_since.get_or_insert_with(Instant::now);
        self.asked = true;
        Some(ExecutorFrame::NeedVoucher {
            required,
            authorized,
            deposit,
        })
    }

    /// A refusal by the ledger ends the answer, unless it is only about a voucher.
    fn refused(&mut self, error: ServeError) -> Option<ExecutorFrame> {
        match error {
            ServeError::VoucherOverDeposit { .. } => {
                return Some(ExecutorFrame::Refused(refusal(error)));
            }
            ServeError::ChannelClosing | ServeError::ChannelFinalized => self.cut(Ending::ChannelClosing),
            error => {
                tracing::error!(request = %self.hash, error = &error as &dyn std::error::Error, "the ledger refuses what it accepted");
                self.cut(Ending::ExecutorFailed);
            }
        }
        None
    }

    /// Until when the voucher that is missing has to come. An answer that is over misses none.
    pub(super) fn voucher_deadline(&self, patience: Duration) -> Option<Instant> {
        let since = self.starving_since.filter(|_| self.ending.is_none())?;
        Some(since + patience)
    }

    /// How the answer ended, once all of it has left and the ledger knows all of it.
    pub(super) fn ending(&self) -> Option<Ending> {
        let settled = self.job.is_none() && self.acknowledgement.is_none();
        self.ending.clone().filter(|_| settled && self.answer.is_complete())
    }

    /// The bill for what was delivered.
    pub(super) fn bill(&self, now: UnixSeconds) -> UsageBill {
        let delivered = self.answer.delivered();
        // The answer keeps within the request's limits, and accepting the request checked that its maximum fits.
        UsageBill::for_request(&self.request, delivered.usage, delivered.hash, now)
            .unwrap_or_else(|error| unreachable!("an answer is outside its request: {error}"))
    }
}

async fn next_event(events: &mut Option<ChatStream>) -> Option<Result<BackendEvent, BackendError>> {
    match events {
        Some(events) => events.next().await,
        None => pending().await,
    }
}

async fn finished(job: &mut Option<BoxFuture<'static, Done>>) -> Done {
    let done = match job {
        Some(job) => job.await,
        None => pending().await,
    };
    *job = None;
    done
}

async fn look(ledger: &Ledger, channel: ChannelId) -> Result<Standing, LedgerError> {
    let account = ledger.account(channel).await?;
    let confirmed = ledger.channel(channel).await?.and_then(|record| record.confirmed);
    Ok(Standing {
        account,
        deposit: confirmed.map_or(TokenAmount::ZERO, |state| state.deposit),
    })
}

/// Records what the client received, also when the voucher that came with it can't be. One that another stream's has
/// overtaken is passed over by the ledger.
async fn acknowledge(
    ledger: &Ledger,
    progress: Progress,
    voucher: Option<Signed<Voucher, Verified>>,
) -> Result<Outcome, ServeError> {
    let refused = match ledger.acknowledge(progress, voucher).await {
        Err(error @ ServeError::VoucherOverDeposit { .. }) => error,
        other => return other,
    };
    ledger.acknowledge(progress, None).await?;
    Err(refused)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy::primitives::{B256, U256};
    use futures::stream;
    use lloom_receipts::{
        ContentHash, ContentSalt, ModelHash, PricePerMillion, Prices, RequestNonce, TokenCount, UnixSeconds,
    };
    use tokio::sync::Semaphore;

    use super::*;
    use crate::executor::{metrics::ExecutorMetrics, served_channels::ServedChannels, under_way::UnderWay};

    #[tokio::test]
    async fn an_answer_that_is_over_waits_for_no_voucher() {
        let price = PricePerMillion::new(TokenAmount::new(1_000_000));
        let request = InferenceRequest {
            channel: ChannelId::new(B256::ZERO),
            operator: Address::ZERO,
            nonce: RequestNonce::new(U256::ONE),
            model: ModelHash::of_id("model"),
            prompt_hash: ContentHash::new(B256::ZERO),
            max_input: TokenCount::new(10),
            max_output: TokenCount::new(10),
            prices: Prices {
                input: price,
                output: price,
            },
            deadline: UnixSeconds::new(0),
        };
        let salt = ContentSalt::new(B256::ZERO);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut running = Running::new(
            request,
            Address::ZERO,
            Answer::new(request, salt, TokenCount::new(4), TokenCount::new(0)),
            stream::pending().boxed(),
            Arc::new(ServedChannels::default()).watch(request.channel),
            (place, ExecutorMetrics::default().running()),
            UnderWay::default().begin(request.hash()).unwrap(),
        );
        let patience = Duration::from_secs(1);
        assert_eq!(running.voucher_deadline(patience), None);
        running.starving_since = Some(Instant::now());
        assert!(running.voucher_deadline(patience).is_some());
        running.cut(Ending::Unpaid);
        assert_eq!(
            running.voucher_deadline(patience),
            None,
            "or its session would do nothing else"
        );
    }
}
