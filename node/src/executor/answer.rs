//! One answer on its way to a client: what may leave, what has left, what the client says it has.
//!
//! A pure state machine. Tokens leave only when `spent` covers them durably, which is one increment ahead of what the
//! client acknowledged; the chunks that left are remembered until they are acknowledged, so that an acknowledgement
//! always names bytes that were really sent.

use std::collections::VecDeque;

use lloom_receipts::{
    ContentHash, ContentHasher, ContentSalt, InferenceRequest, PriceOverflow, TokenAmount, TokenCount, Usage,
};

use crate::wire::{ExecutorFrame, MAX_OVERSHOOT, Refusal};

/// Bytes of events that one chunk gathers at most while the stream is busy.
const MAX_BATCH: usize = 32 << 10;

/// Chunks remembered for an acknowledgement. More than an increment can take; the oldest go first.
const MAX_MARKS: usize = 8_192;

/// The end of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) bytes: u64,
    pub(super) usage: Usage,
    pub(super) hash: ContentHash,
}

/// What has to be durable before more leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    /// Output tokens it covers.
    pub(super) output: TokenCount,
    /// What the request costs up to there, the input's maximum included.
    pub(super) total: TokenAmount,
}

#[derive(Debug)]
struct Event {
    data: Vec<u8>,
    output: TokenCount,
}

#[derive(Debug)]
pub(super) struct Answer {
    request: InferenceRequest,
    increment: TokenCount,
    /// What the prompt counts if the answer ends before the backend says it.
    input_estimate: TokenCount,
    hasher: ContentHasher,
    /// Output tokens that `spent` covers.
    reserved: TokenCount,
    /// An event that may not leave yet.
    held: Option<Event>,
    batch: Vec<u8>,
    /// Of everything that may leave, `batch` included.
    usage: Usage,
    sent: Mark,
    delivered: Mark,
    acknowledged: Mark,
    unacknowledged: VecDeque<Mark>,
    over: bool,
}

impl Answer {
    /// What has to be reserved before anything is served: the input's maximum and the first increment of output.
    pub(super) fn first_reservation(
        request: &InferenceRequest,
        increment: TokenCount,
    ) -> Result<Reservation, PriceOverflow> {
        reservation(request, increment.min(request.max_output))
    }

    /// An answer whose [`first_reservation`](Self::first_reservation) is durable.
    pub(super) fn new(
        request: InferenceRequest,
        salt: ContentSalt,
        increment: TokenCount,
        input_estimate: TokenCount,
    ) -> Self {
        let hasher = ContentHasher::new(salt);
        let start = Mark {
            bytes: 0,
            usage: Usage::default(),
            hash: hasher.current(),
        };
        Self {
            request,
            increment,
            input_estimate: input_estimate.min(request.max_input),
            hasher,
            reserved: increment.min(request.max_output),
            held: None,
            batch: Vec::new(),
            usage: Usage::default(),
            sent: start,
            delivered: start,
            acknowledged: start,
            unacknowledged: VecDeque::new(),
            over: false,
        }
    }

    /// Whether the backend may be asked for its next event.
    pub(super) fn takes_events(&self) -> bool {
        !self.over && self.held.is_none() && self.batch.len() < MAX_BATCH
    }

    /// Takes an event, after which `output` tokens have been produced in all.
    ///
    /// # Errors
    /// An event that reaches past the request's limit does not leave; the answer is over then.
    pub(super) fn take_event(&mut self, data: &[u8], output: TokenCount) -> Result<(), LimitReached> {
        if output > self.request.max_output {
            self.over = true;
            return Err(LimitReached);
        }
        let event = Event {
            data: frame_event(data),
            output: output.max(self.usage.output),
        };
        if event.output <= self.reserved {
            self.release(event);
        } else {
            self.held = Some(event);
        }
        Ok(())
    }

    /// Takes the usage that the backend, or the count of what it streamed, says the whole answer has.
    pub(super) fn take_usage(&mut self, usage: Usage) {
        self.usage = Usage {
            input: usage.input.min(self.request.max_input),
            output: usage.output.min(self.request.max_output),
        };
    }

    /// Nothing more comes from the backend.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// Nothing more leaves, also what is held.
    pub(super) fn cut(&mut self) {
        self.over = true;
        self.held = None;
        self.batch.clear();
        self.usage = self.billable(self.sent.usage);
    }

    /// Whether all that may leave has left, and nothing more comes.
    pub(super) fn is_complete(&self) -> bool {
        self.over && self.held.is_none() && self.batch.is_empty() && self.usage == self.sent.usage
    }

    /// Whether an event waits for a reservation.
    pub(super) fn is_stalled(&self) -> bool {
        self.held.is_some()
    }

    /// The next chunk, once the one before has left.
    pub(super) fn next_chunk(&mut self) -> Option<ExecutorFrame> {
        if self.batch.is_empty() && !(self.over && self.held.is_none() && self.usage != self.sent.usage) {
            return None;
        }
        let data = std::mem::take(&mut self.batch);
        self.hasher.update(&data);
        self.sent = Mark {
            bytes: self.sent.bytes + data.len() as u64,
            usage: self.usage,
            hash: self.hasher.current(),
        };
        if self.unacknowledged.len() >= MAX_MARKS {
            self.unacknowledged.pop_front();
        }
        self.unacknowledged.push_back(self.sent);
        Some(ExecutorFrame::Chunk {
            data,
            usage: self.usage,
        })
    }

    /// Everything sent so far has left.
    pub(super) fn set_delivered(&mut self) {
        self.delivered = self.sent;
    }

    /// What was delivered, and is to be billed.
    pub(super) fn delivered(&self) -> Mark {
        Mark {
            usage: self.billable(self.delivered.usage),
            ..self.delivered
        }
    }

    /// What the client acknowledged last.
    pub(super) fn acknowledged(&self) -> Mark {
        self.acknowledged
    }

    /// Takes what the client says it received. `None` when it said so before.
    ///
    /// # Errors
    /// [`Refusal::NeverSent`] when that is not the end of a chunk.
    pub(super) fn acknowledge(&mut self, bytes: u64, usage: Usage) -> Result<Option<Mark>, Refusal> {
        let is_acknowledged = |mark: &Mark| mark.bytes == bytes && mark.usage == usage;
        if is_acknowledged(&self.acknowledged) || bytes < self.acknowledged.bytes {
            return Ok(None);
        }
        let position = self
            .unacknowledged
            .iter()
            .position(is_acknowledged)
            .ok_or(Refusal::NeverSent { received_bytes: bytes })?;
        self.acknowledged = self.unacknowledged[position];
        self.unacknowledged.drain(..=position);
        Ok(Some(self.acknowledged))
    }

    /// What to reserve next, if anything: one increment ahead of what is acknowledged. That is what the client has
    /// promised for this answer; what else its voucher covers, it counts on for its other requests.
    ///
    /// Only an event that is larger than an increment is reserved whole, once everything before it is acknowledged.
    pub(super) fn wanted(&self) -> Option<Reservation> {
        if self.over && self.held.is_none() {
            return None;
        }
        let ahead = self.ahead();
        let next = match &self.held {
            _ if ahead > self.reserved => ahead,
            Some(event) if self.is_acknowledged() && event.output > ahead => event.output,
            _ => return None,
        };
        // The first reservation succeeded with the same prices; a request's maximum fits.
        (next > self.reserved)
            .then(|| reservation(&self.request, next).ok())
            .flatten()
    }

    /// What the event that may not leave yet costs beyond what is reserved.
    pub(super) fn lacking(&self) -> TokenAmount {
        let total =
            |output| reservation(&self.request, output).map_or(TokenAmount::ZERO, |reservation| reservation.total);
        let held = self.held.as_ref().map_or(self.reserved, |event| event.output);
        total(held).saturating_sub(total(self.reserved))
    }

    /// How far the client pays: one increment ahead of what it acknowledged.
    fn ahead(&self) -> TokenCount {
        let ahead = self.acknowledged.usage.output.saturating_add(self.increment);
        ahead.min(self.request.max_output)
    }

    /// Whether the client has acknowledged everything that may leave.
    fn is_acknowledged(&self) -> bool {
        self.acknowledged.usage.output == self.usage.output && self.sent.usage == self.usage
    }

    /// `reservation` is durable: what it covers may leave.
    pub(super) fn reserve(&mut self, reservation: Reservation) {
        self.reserved = self.reserved.max(reservation.output);
        if let Some(event) = self.held.take_if(|event| event.output <= self.reserved) {
            self.release(event);
        }
    }

    /// Lets a held event leave uncovered, if it alone is larger than an increment and the client has paid everything
    /// before it and the increment that may be asked ahead. Says whether it did.
    pub(super) fn overshoot(&mut self) -> bool {
        // One increment ahead of what came is all that a client pays. Acknowledging without paying earns nothing.
        let ahead = self.ahead();
        let paid = self.is_acknowledged() && self.reserved >= ahead;
        let limit = self.reserved.saturating_add(TokenCount::new(MAX_OVERSHOOT));
        match self
            .held
            .take_if(|event| paid && event.output > ahead && event.output <= limit)
        {
            Some(event) => {
                self.release(event);
                true
            }
            None => false,
        }
    }

    /// An answer that ended early still read its prompt, once any of it was delivered.
    fn billable(&self, usage: Usage) -> Usage {
        let unknown = usage.input == TokenCount::default() && usage.output > TokenCount::default();
        Usage {
            input: if unknown { self.input_estimate } else { usage.input },
            ..usage
        }
    }

    fn release(&mut self, event: Event) {
        if self.batch.is_empty() {
            self.batch = event.data;
        } else {
            self.batch.extend_from_slice(&event.data);
        }
        self.usage.output = event.output;
    }
}

/// The request's `max_output` is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitReached;

fn reservation(request: &InferenceRequest, output: TokenCount) -> Result<Reservation, PriceOverflow> {
    let total = request.prices.charge(Usage {
        input: request.max_input,
        output,
    })?;
    Ok(Reservation { output, total })
}

/// A server-sent event with the payload `data`. A line break in JSON is white space and must not end the event.
fn frame_event(data: &[u8]) -> Vec<u8> {
    let mut event = Vec::with_capacity(data.len() + 8);
    event.extend_from_slice(b"data: ");
    event.extend(data.iter().map(|&byte| match byte {
        b'\n' | b'\r' => b' ',
        other => other,
    }));
    event.extend_from_slice(b"\n\n");
    event
}

#[cfg(test)]
mod tests;
