//! What an onlooker sees on the wire. It believes nobody's store: the properties hold what happened against this.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use alloy::primitives::Address;
use futures::FutureExt as _;
use lloom_ledger::ExposurePolicy;
use lloom_node::wire::{ClientFrame, ExecutorFrame, FrameReader};
use lloom_receipts::{
    BillHash, ChannelId, InferenceRequest, Receipt, RequestHash, TokenAmount, TokenCount, Unverified, Usage, UsageBill,
};
use serde::de::DeserializeOwned;

use crate::{executor::INCREMENT, script::LARGEST_EVENT};

/// Whereto a byte goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    ToExecutor,
    /// From the executor.
    ToClient,
}

/// A frame that passed.
#[derive(Clone, Debug)]
pub enum Passed {
    /// One that the client has sent.
    Said(Arc<ClientFrame>),
    /// One that the client has read, and what it has asked for on the stream.
    Heard(Arc<ExecutorFrame>, Option<RequestHash>),
    /// One that the executor has read.
    ToExecutor(Arc<ClientFrame>),
    /// One that the executor has sent, and what the stream is about.
    ToClient(Arc<ExecutorFrame>, About),
}

/// What a stream is about, as its client said last.
#[derive(Clone, Copy, Debug, Default)]
pub struct About {
    asked: Option<RequestHash>,
    linking: Option<ChannelId>,
}

/// Puts the bytes of a stream together to frames.
#[derive(Debug, Default)]
pub struct Wire {
    to_executor: Lane<ClientFrame>,
    to_client: Lane<ExecutorFrame>,
    /// As the executor has read it.
    about: About,
    /// As the client has said it.
    asked: Option<RequestHash>,
}

/// One direction: frames that were written, until they are read.
#[derive(Debug)]
struct Lane<F> {
    unfinished: Vec<u8>,
    written: u64,
    read: u64,
    /// Where each ends.
    frames: VecDeque<(u64, Arc<F>)>,
}

impl<F> Default for Lane<F> {
    fn default() -> Self {
        Self {
            unfinished: Vec::new(),
            written: 0,
            read: 0,
            frames: VecDeque::new(),
        }
    }
}

impl<F: DeserializeOwned> Lane<F> {
    /// The frames that these bytes complete.
    fn write(&mut self, bytes: &[u8]) -> Vec<Arc<F>> {
        self.unfinished.extend_from_slice(bytes);
        let mut complete = Vec::new();
        while let Some(frame) = next_frame(&mut self.unfinished) {
            self.written += frame.len() as u64;
            let read = FrameReader::<_, F>::new(frame.as_slice()).next().now_or_never();
            // What is no frame is refused by whoever gets it.
            if let Some(Ok(Some(frame))) = read {
                let frame = Arc::new(frame);
                self.frames.push_back((self.written, Arc::clone(&frame)));
                complete.push(frame);
            }
        }
        complete
    }

    /// The frames whose last bytes are among the next `count`.
    fn read(&mut self, count: usize) -> Vec<Arc<F>> {
        self.read += count as u64;
        let mut complete = Vec::new();
        while let Some((_, frame)) = self.frames.pop_front_if(|(end, _)| *end <= self.read) {
            complete.push(frame);
        }
        complete
    }
}

impl Wire {
    /// `bytes` leave for the other end.
    pub fn write(&mut self, direction: Direction, bytes: &[u8]) -> Vec<Passed> {
        let mut passed = Vec::new();
        match direction {
            Direction::ToExecutor => {
                for frame in self.to_executor.write(bytes) {
                    if let ClientFrame::Infer(infer) = &*frame {
                        self.asked = Some(infer.request.document().hash());
                    }
                    passed.push(Passed::Said(frame));
                }
            }
            Direction::ToClient => {
                for frame in self.to_client.write(bytes) {
                    passed.push(Passed::ToClient(frame, self.about));
                }
            }
        }
        passed
    }

    /// `count` bytes were read at the other end.
    pub fn read(&mut self, direction: Direction, count: usize) -> Vec<Passed> {
        let mut passed = Vec::new();
        match direction {
            Direction::ToExecutor => {
                for frame in self.to_executor.read(count) {
                    match &*frame {
                        ClientFrame::Infer(infer) => self.about.asked = Some(infer.request.document().hash()),
                        ClientFrame::Receipt { receipt, .. } => self.about.linking = Some(receipt.receipt().channel),
                        _ => {}
                    }
                    passed.push(Passed::ToExecutor(frame));
                }
            }
            Direction::ToClient => {
                for frame in self.to_client.read(count) {
                    passed.push(Passed::Heard(frame, self.asked));
                }
            }
        }
        passed
    }
}

fn next_frame(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length: [u8; 4] = buffer.get(..4)?.try_into().ok()?;
    let end = 4 + u32::from_be_bytes(length) as usize;
    if buffer.len() < end {
        return None;
    }
    let rest = buffer.split_off(end);
    Some(std::mem::replace(buffer, rest))
}

/// What was seen of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was asked.
    pub request: InferenceRequest,
    /// Who answered.
    pub by: Address,
    /// What left, up to the last chunk.
    pub delivered: Usage,
    /// Every bill of it that was ever shown, by struct hash.
    pub bills: BTreeMap<BillHash, UsageBill>,
}

/// What was seen of one channel.
#[derive(Clone, Debug, Default)]
pub struct SeenChannel {
    /// The highest voucher that the executor has read, base units.
    pub voucher: TokenAmount,
    /// The requests that were accepted and count as served.
    pub requests: BTreeSet<RequestHash>,
    /// Receipts that the client has sent, by sequence.
    sent: BTreeMap<u64, TokenAmount>,
    /// The most that the chain ever had settled of it, base units.
    settled: TokenAmount,
    /// Whether its executor lost a part of its store: it serves by what it knows.
    pub forgotten: bool,
    /// What the executor has acknowledged as durable: when, milliseconds, and the receipt's total, base units.
    pub recorded: Vec<(u64, TokenAmount)>,
}

/// Who serves on a channel, and who pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parties {
    operator: Address,
    payer: Address,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Witness {
    /// By request.
    pub requests: BTreeMap<RequestHash, Seen>,
    /// By channel.
    pub channels: BTreeMap<ChannelId, SeenChannel>,
    /// What broke a rule the moment it was seen.
    pub violations: Vec<String>,
    /// What executors grant beyond vouchers, by operator.
    pub exposure: BTreeMap<Address, ExposurePolicy>,
    /// Between whom each channel is.
    parties: BTreeMap<ChannelId, Parties>,
    /// Answers that were accepted, chunks, bills, receipts: to see that something happens at all.
    pub counts: Counts,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were accepted.
    pub accepted: u64,
    /// Requests and other frames that were refused.
    pub refused: u64,
    /// Pieces of answers.
    pub chunks: u64,
    /// Bills at the end of an answer.
    pub bills: u64,
    /// Receipts acknowledged.
    pub recorded: u64,
    /// Answers of a crook.
    pub swindles: u64,
    /// Grants that the chain took.
    pub grants: u64,
}

impl Counts {
    /// Adds what happened elsewhere.
    pub const fn add(&mut self, more: Self) {
        self.accepted += more.accepted;
        self.refused += more.refused;
        self.chunks += more.chunks;
        self.bills += more.bills;
        self.recorded += more.recorded;
        self.swindles += more.swindles;
        self.grants += more.grants;
    }
}

impl Witness {
    /// Takes note of a frame on a stream whose executor is `by`.
    pub fn see(&mut self, millis: u64, by: Address, passed: &Passed) {
        match passed {
            Passed::ToExecutor(frame) => self.see_client(by, frame),
            Passed::ToClient(frame, about) => self.see_executor(millis, frame, *about),
            Passed::Said(_) | Passed::Heard(..) => {}
        }
    }

    fn see_client(&mut self, by: Address, frame: &ClientFrame) {
        match frame {
            ClientFrame::Infer(infer) => {
                let request = *infer.request.document();
                if let Some(voucher) = &infer.voucher {
                    self.see_voucher(voucher.document().channel, voucher.document().amount);
                }
                self.requests.entry(request.hash()).or_insert_with(|| Seen {
                    request,
                    by,
                    delivered: Usage::default(),
                    bills: BTreeMap::new(),
                });
            }
            ClientFrame::Voucher {
                voucher: Some(voucher), ..
            } => self.see_voucher(voucher.document().channel, voucher.document().amount),
            ClientFrame::Receipt { receipt, voucher } => {
                let document = *receipt.receipt();
                if let Some(voucher) = voucher {
                    self.see_voucher(voucher.document().channel, voucher.document().amount);
                }
                let channel = self.channels.entry(document.channel).or_default();
                // A receipt authorizes as a voucher does.
                channel.voucher = channel.voucher.max(document.cumulative_amount);
                channel.sent.insert(document.sequence, document.cumulative_amount);
                self.see_receipt(receipt);
            }
            ClientFrame::Voucher { voucher: None, .. } | ClientFrame::Sync { .. } | ClientFrame::Cancel => {}
        }
    }

    fn see_voucher(&mut self, channel: ChannelId, amount: TokenAmount) {
        // A cheat's, which no deposit covers.
        if amount == TokenAmount::MAX {
            return;
        }
        let channel = self.channels.entry(channel).or_default();
        channel.voucher = channel.voucher.max(amount);
    }

    fn see_executor(&mut self, millis: u64, frame: &ExecutorFrame, about: About) {
        match frame {
            ExecutorFrame::Accepted => {
                self.counts.accepted += 1;
                let seen = about.asked.and_then(|asked| Some((asked, self.requests.get(&asked)?)));
                if let Some((hash, seen)) = seen {
                    let channel = seen.request.channel;
                    self.channels.entry(channel).or_default().requests.insert(hash);
                }
            }
            ExecutorFrame::Chunk { usage, .. } => {
                self.counts.chunks += 1;
                if let Some(asked) = about.asked
                    && let Some(seen) = self.requests.get_mut(&asked)
                {
                    seen.delivered = *usage;
                    let channel = seen.request.channel;
                    self.check_exposure(channel, asked);
                }
            }
            ExecutorFrame::Bill { bill, .. } => {
                self.counts.bills += 1;
                self.see_bill(*bill.document());
            }
            ExecutorFrame::Recorded { sequence } => {
                self.counts.recorded += 1;
                if let Some(channel) = about.linking {
                    self.record(millis, channel, *sequence);
                }
            }
            ExecutorFrame::State(state) => {
                for receipt in state.receipts.iter().chain(&state.head) {
                    self.see_receipt(receipt);
                }
                for bill in &state.unlinked {
                    self.see_bill(*bill.document());
                }
            }
            ExecutorFrame::Refused(_) => self.counts.refused += 1,
            ExecutorFrame::NeedVoucher { .. } => {}
        }
    }

    fn record(&mut self, millis: u64, channel: ChannelId, sequence: u64) {
        let channel = self.channels.entry(channel).or_default();
        if let Some(amount) = channel.sent.get(&sequence).copied() {
            channel.recorded.push((millis, amount));
        }
    }

    fn see_receipt(&mut self, receipt: &Receipt<Unverified>) {
        self.see_bill(receipt.receipt().bill);
    }

    /// Takes note of a bill that an executor has committed.
    pub fn see_bill(&mut self, bill: UsageBill) {
        if let Some(seen) = self.requests.get_mut(&bill.request) {
            seen.bills.insert(bill.hash(), bill);
        }
    }

    /// A channel is opened, or may be.
    pub fn open(&mut self, channel: ChannelId, operator: Address, payer: Address) {
        self.parties.insert(channel, Parties { operator, payer });
    }

    /// The chain has settled this much of a channel, on whichever fork.
    pub fn settle(&mut self, channel: ChannelId, settled: TokenAmount) {
        let channel = self.channels.entry(channel).or_default();
        channel.settled = channel.settled.max(settled);
    }

    /// What left for a payer beyond what it had promised, over all of its channels with one executor, is never more than
    /// that one's limit for what the payer has settled. `running` has just got a piece of its answer.
    fn check_exposure(&mut self, channel: ChannelId, running: RequestHash) {
        let Some(parties) = self.parties.get(&channel).copied() else {
            return;
        };
        let Some(policy) = self.exposure.get(&parties.operator).copied() else {
            return;
        };
        if self.channels.get(&channel).is_none_or(|seen| seen.forgotten) {
            return;
        }
        let (mut exposed, mut volume) = (TokenAmount::ZERO, TokenAmount::ZERO);
        for id in self
            .parties
            .iter()
            .filter(|(_, other)| **other == parties)
            .map(|(id, _)| id)
        {
            let Some(seen) = self.channels.get(id) else {
                continue;
            };
            volume = volume.saturating_add(seen.settled);
            if !seen.forgotten {
                exposed = exposed.saturating_add(self.served(*id, running).saturating_sub(seen.voucher));
            }
        }
        let grown = volume.base_units() * u128::from(policy.per_mille_of_settled) / 1_000;
        let limit = policy.start.base_units().saturating_add(grown);
        let limit = TokenAmount::new(limit).min(policy.maximum);
        if exposed > limit {
            let Parties { operator, payer } = parties;
            self.violations.push(format!(
                "{operator} served {payer} {exposed} beyond its vouchers, with a limit of {limit} for {volume} settled"
            ));
        }
    }

    /// What was served on a channel, base units: its bills, and of requests without one what has left. `running` has none,
    /// and its prompt may still be billed in full.
    fn served(&self, channel: ChannelId, running: RequestHash) -> TokenAmount {
        let Some(seen) = self.channels.get(&channel) else {
            return TokenAmount::ZERO;
        };
        let requests = seen
            .requests
            .iter()
            .filter_map(|hash| Some((hash, self.requests.get(hash)?)));
        requests.fold(TokenAmount::ZERO, |sum, (hash, seen)| {
            let billed = seen
                .bills
                .values()
                .map(|bill| bill.usage)
                .max_by_key(|usage| usage.output);
            let mut usage = billed.unwrap_or(seen.delivered);
            if billed.is_none() && *hash == running {
                usage.input = seen.request.max_input;
            }
            // An event that is larger than an increment may leave unpaid.
            let unpaid = LARGEST_EVENT.saturating_sub(INCREMENT);
            usage.output = TokenCount::new(usage.output.get().saturating_sub(unpaid));
            sum.saturating_add(seen.request.prices.charge(usage).unwrap_or(TokenAmount::MAX))
        })
    }
}

/// What a client says, in short.
pub fn asked(frame: &ClientFrame) -> String {
    match frame {
        ClientFrame::Infer(infer) => format!(
            "request {}, voucher {:?}",
            infer.request.document().hash(),
            infer
                .voucher
                .as_ref()
                .map(|voucher| voucher.document().amount.base_units())
        ),
        ClientFrame::Sync { channel, after } => format!("sync of {channel} after {after}"),
        ClientFrame::Voucher {
            voucher,
            received_bytes,
            received,
        } => format!(
            "voucher {:?} for {received_bytes} bytes, {} tokens",
            voucher.as_ref().map(|voucher| voucher.document().amount.base_units()),
            received.output
        ),
        ClientFrame::Cancel => String::from("cancel"),
        ClientFrame::Receipt { receipt, voucher } => format!(
            "receipt {} of {} over {}, voucher {:?}",
            receipt.receipt().sequence,
            receipt.receipt().channel,
            receipt.receipt().cumulative_amount,
            voucher.as_ref().map(|voucher| voucher.document().amount.base_units())
        ),
    }
}

/// What an executor says, in short.
pub fn answered(frame: &ExecutorFrame) -> String {
    match frame {
        ExecutorFrame::Chunk { data, usage } => format!("{} bytes, {} tokens", data.len(), usage.output),
        ExecutorFrame::Bill { bill, ending } => format!(
            "bill {} of {} over {}: {ending}",
            bill.document().hash(),
            bill.document().request,
            bill.document().amount
        ),
        ExecutorFrame::State(state) => format!(
            "state: head {:?}, {} receipts, {} unlinked, {} spent, {} authorized",
            state.head.as_ref().map(|head| head.receipt().sequence),
            state.receipts.len(),
            state.unlinked.len(),
            state.spent,
            state.authorized
        ),
        frame => format!("{frame:?}"),
    }
}
