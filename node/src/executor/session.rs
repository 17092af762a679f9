use std::{future::pending, sync::atomic::Ordering};

use alloy::primitives::Address;
use futures::FutureExt as _;
use lloom_ledger::{AcceptRequest, Outcome};
use lloom_receipts::{Signed, Usage, Voucher};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    time::{Instant, sleep_until},
};

use super::{
    Shared,
    admission::{Admission, accept_voucher},
    answer::Answer,
    metrics::Accepted,
    refuse::{failed, refusal},
    running::{Running, Step},
};
use crate::wire::{ClientFrame, Ending, ExecutorFrame, FrameReader, FrameWriter, Infer, MAX_FRAME, Refusal, WireError};

/// One stream, from its first frame to its end.
pub(super) struct Session<'e, S> {
    shared: &'e Shared,
    peer: Address,
    reader: FrameReader<ReadHalf<S>, ClientFrame>,
    writer: FrameWriter<WriteHalf<S>>,
    running: Option<Running>,
    idle_since: Instant,
}

enum Event {
    Frame(Result<Option<ClientFrame>, WireError>),
    Drained(Result<(), WireError>),
    Step(Step),
    VoucherMissing,
    Idle,
    Draining,
}

impl<'e, S: AsyncRead + AsyncWrite + Unpin + Send> Session<'e, S> {
    pub(super) fn new(shared: &'e Shared, stream: S, peer: Address) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            shared,
            peer,
            reader: FrameReader::new(read),
            writer: FrameWriter::new(write),
            running: None,
            idle_since: Instant::now(),
        }
    }

    /// Serves until the stream ends.
    pub(super) async fn run(mut self) {
        let _open = self.shared.metrics.stream();
        let ended = self.serve().await;
        if let Err(error) = &ended {
            tracing::debug!(peer = %self.peer, error = error as &dyn std::error::Error, "the stream ended");
        }
        if ended.is_err() {
            self.take_what_came().await;
        }
        // Whoever left in the middle of an answer pays for what was delivered, unlinked until it comes back.
        if let Some(mut running) = self.running.take() {
            running.settle(&self.shared.ledger, self.shared.config.exposure).await;
            let bill = running.bill(self.shared.ledger.now());
            match self.shared.bill(bill, running.begun).await {
                Ok(bill) => {
                    self.shared.metrics.billed(None, bill.document());
                    tracing::info!(peer = %self.peer, request = %running.hash, amount = %bill.document().amount, "the client left, billed what was delivered");
                }
                Err(error) => {
                    tracing::error!(request = %running.hash, error = &error as &dyn std::error::Error, "what was delivered is not billed");
                }
            }
            self.shared.channels.changed(running.request.channel);
        }
        let patience = self.shared.config.write_timeout;
        if ended.is_ok() && self.writer.drain(patience).await.is_ok() {
            // A stream that is gone already needs no goodbye.
            let _ = self.writer.close(patience).await;
        }
    }

    /// Takes vouchers and receipts that arrived before the stream broke: they are money.
    async fn take_what_came(&mut self) {
        while let Some(Ok(Some(frame))) = self.reader.next().now_or_never() {
            if matches!(frame, ClientFrame::Voucher { .. } | ClientFrame::Receipt { .. }) {
                // The answer has nowhere to go.
                let _ = self.take_frame(frame).await;
            }
        }
    }

    async fn serve(&mut self) -> Result<(), WireError> {
        loop {
            self.advance().await?;
            match self.next_event().await {
                Event::Frame(Ok(Some(frame))) => {
                    self.idle_since = Instant::now();
                    self.take_frame(frame).await?;
                }
                Event::Frame(Ok(None)) => return Ok(()),
                Event::Frame(Err(error)) => {
                    let (refusal, goes_on) = match error {
                        WireError::Malformed { detail } => (Refusal::Malformed { detail }, true),
                        WireError::Oversize { length } => {
                            let limit = MAX_FRAME as u64;
                            (Refusal::Oversize { length, limit }, false)
                        }
                        WireError::Truncated { received, length } => (Refusal::Truncated { received, length }, false),
                        error => return Err(error),
                    };
                    self.refuse(refusal)?;
                    if !goes_on {
                        return Ok(());
                    }
                }
                Event::Drained(drained) => {
                    drained?;
                    self.idle_since = Instant::now();
                }
                Event::Step(step) => self.take_step(step)?,
                Event::VoucherMissing => self.cut(Ending::Unpaid),
                Event::Draining => self.cut(Ending::ShuttingDown),
                Event::Idle => return Ok(()),
            }
        }
    }

    /// Does all that can be done at once: gathers events, sends the next chunk, gives the ledger its next task, bills.
    async fn advance(&mut self) -> Result<(), WireError> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.take_ready_events();
        running.start_job(&self.shared.ledger, self.shared.config.exposure);
        if !self.writer.is_drained() {
            return Ok(());
        }
        running.answer.set_delivered();
        if let Some(chunk) = running.answer.next_chunk() {
            return self.writer.queue(&chunk);
        }
        if let Some(ending) = running.ending() {
            self.bill(ending).await?;
        }
        Ok(())
    }

    async fn bill(&mut self, ending: Ending) -> Result<(), WireError> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let bill = running.bill(self.shared.ledger.now());
        let billed = self.shared.bill(bill, running.begun).await;
        self.shared.channels.changed(running.request.channel);
        self.idle_since = Instant::now();
        match billed {
            Ok(bill) => {
                self.shared.metrics.billed(Some(&ending), bill.document());
                tracing::debug!(peer = %self.peer, request = %running.hash, amount = %bill.document().amount, %ending, "billed");
                let bill = bill.into_unverified();
                self.writer.queue(&ExecutorFrame::Bill { bill, ending })
            }
            Err(error) => {
                // Without a bill nothing is owed: one that the store could not take waits for it.
                self.refuse(refusal(error))
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let config = &self.shared.config;
        let running = self.running.is_some();
        let draining = self.shared.draining.is_cancelled();
        let idle = match (running, draining) {
            (true, _) => None,
            (false, false) => Some(self.idle_since + config.idle_timeout),
            (false, true) => Some(self.idle_since + config.idle_timeout.min(config.drain_timeout)),
        };
        let voucher = self
            .running
            .as_ref()
            .and_then(|running| running.voucher_deadline(config.voucher_timeout));
        let flowing = !self.writer.is_drained();
        tokio::select! {
            // Before the frames, which a client may send as fast as they are read.
            biased;
            () = self.shared.draining.cancelled(), if !draining => Event::Draining,
            () = until(voucher) => Event::VoucherMissing,
            step = next_step(&mut self.running) => Event::Step(step),
            drained = self.writer.drain(config.write_timeout), if flowing => Event::Drained(drained),
            // Who takes no answers is read no further, or their answers would pile up here.
            frame = self.reader.next(), if self.writer.queued() < MAX_FRAME => Event::Frame(frame),
            () = until(idle), if !flowing => Event::Idle,
        }
    }

    fn cut(&mut self, ending: Ending) {
        if let Some(running) = &mut self.running {
            running.cut(ending);
        }
    }

    fn take_step(&mut self, step: Step) -> Result<(), WireError> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        match step {
            Step::Backend(event) => running.take_event(event),
            Step::Channel(news) => running.take_news(news),
            Step::Ledger(done) => {
                let (frame, grew) = running.take_job(*done);
                if grew {
                    self.shared.metrics.accepted(Accepted::Voucher);
                    self.shared.channels.changed(running.request.channel);
                }
                if let Some(frame) = frame {
                    self.writer.queue(&frame)?;
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), WireError> {
        self.shared.metrics.refused(&refusal);
        tracing::debug!(peer = %self.peer, %refusal, "refused");
        self.writer.queue(&ExecutorFrame::Refused(refusal))
    }

    async fn take_frame(&mut self, frame: ClientFrame) -> Result<(), WireError> {
        let answered = match frame {
            ClientFrame::Infer(infer) => self.accept(*infer).await.map(Some),
            ClientFrame::Sync { channel, after } => self.shared.state(channel, after, self.peer).await.map(Some),
            ClientFrame::Receipt { receipt, voucher } => self.shared.link(*receipt, voucher).await.map(Some),
            ClientFrame::Voucher {
                voucher,
                received_bytes,
                received,
            } => match &mut self.running {
                Some(running) => acknowledge(self.shared, running, voucher, received_bytes, received)
                    .await
                    .map(|()| None),
                // The answer ended while the voucher was on its way.
                None => self.shared.take_voucher(voucher).await.map(|()| None),
            },
            ClientFrame::Cancel => {
                self.cut(Ending::Cancelled);
                Ok(None)
            }
        };
        match answered {
            Ok(Some(frame)) => self.writer.queue(&frame),
            Ok(None) => Ok(()),
            Err(refusal) => self.refuse(refusal),
        }
    }

    async fn accept(&mut self, infer: Infer) -> Result<ExecutorFrame, Refusal> {
        let shared = self.shared;
        if self.running.is_some() {
            return Err(Refusal::Busy);
        }
        if shared.draining.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        if shared.chain_out_of_sight.load(Ordering::Relaxed) {
            return Err(Refusal::ChainOutOfSight);
        }
        if shared.unnamed.load(Ordering::Relaxed) {
            return Err(Refusal::NotNamed);
        }
        let channel = infer.request.document().channel;
        let fruitless = shared.fruitless.check(channel, shared.ledger.now());
        fruitless.map_err(|until| Refusal::Fruitless { until })?;
        let salt = infer.salt;
        let record = shared.ledger.channel(channel).await.map_err(failed)?;
        let record = record.ok_or(Refusal::ChannelUnknown)?;
        let admission = Admission {
            operator: shared.operator(),
            offer: &shared.offer,
            channel: &record.parameters,
            deposit: record.confirmed.map(|state| state.deposit),
            now: shared.ledger.now(),
        };
        admission.screen(&infer)?;
        let payer_side = record.parameters.payer_side();
        let (request, voucher) = (infer.request.clone(), infer.voucher.clone());
        let checked = shared
            .inspection
            .request(request.by(payer_side), voucher.map(|voucher| voucher.by(payer_side)))
            .await?;
        let admitted = admission.judge(&infer, checked)?;
        let place = shared.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Refusal::Overloaded {
            capacity: shared.offer.capacity,
        })?;
        let request = *admitted.request.document();
        let increment = shared.offer.increment;
        let reservation = Answer::first_reservation(&request, increment).map_err(|_| Refusal::AmountOverflow)?;
        let begun = shared.under_way.begin(request.hash()).ok_or(Refusal::NonceUsed)?;
        // Before the ledger looks at the channel: of a close after that look, the watch tells.
        let watch = shared.channels.watch(channel);
        let brought_voucher = admitted.voucher.is_some();
        let outcome = shared
            .ledger
            .accept_request(AcceptRequest {
                request: admitted.request,
                content_salt: salt,
                voucher: admitted.voucher,
                reserve: reservation.total,
                exposure: shared.config.exposure,
                now: admission.now,
            })
            .await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                shared.give_up_on(&request, salt, begun, &error);
                return Err(refusal(error));
            }
        };
        if outcome == Outcome::AlreadyKnown {
            return Err(Refusal::NonceUsed);
        }
        shared.metrics.accepted(Accepted::Request);
        if brought_voucher {
            shared.metrics.accepted(Accepted::Voucher);
            shared.channels.changed(channel);
        }
        let events = shared.backend.chat(admitted.body);
        self.running = Some(Running::new(
            request,
            payer_side,
            Answer::new(request, salt, increment, admitted.input_estimate),
            events,
            watch,
            (place, shared.metrics.running()),
            begun,
        ));
        Ok(ExecutorFrame::Accepted)
    }
}

async fn acknowledge(
    shared: &Shared,
    running: &mut Running,
    voucher: Option<Signed<Voucher>>,
    received_bytes: u64,
    received: Usage,
) -> Result<(), Refusal> {
    let voucher = match voucher {
        Some(voucher) => Some(shared.inspection.voucher(voucher.by(running.payer_side)).await?),
        None => None,
    };
    let voucher = accept_voucher(voucher, running.request.channel, running.payer_side)?;
    running.answer.acknowledge(received_bytes, received)?;
    running.acknowledge(voucher);
    Ok(())
}

async fn next_step(running: &mut Option<Running>) -> Step {
    match running {
        Some(running) => running.next().await,
        None => pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
