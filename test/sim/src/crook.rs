//! An executor that cheats: it takes what honest clients pay, and keeps no rule that only its own software would make it
//! keep.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy::primitives::B256;
use lloom_bindings::ChannelEscrow;
use lloom_node::{
    peer_id,
    wire::{ClientFrame, Ending, ExecutorFrame, FrameReader, FrameWriter, Infer, Refusal, State},
};
use lloom_receipts::{
    ChannelId, ContentHash, ContentHasher, InferenceRequest, Keypair, Receipt, Signed, TokenAmount, TokenCount,
    Unverified, Usage, UsageBill, UsageReceipt, Voucher,
};
use lloom_watcher::Call;
use serde_json::Value;
use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    executor::{ExecutorSetup, INCREMENT},
    network::Half,
    process::Body,
    script::{self, Script},
};

/// How long it waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream may stay silent between two answers.
const IDLE: Duration = Duration::from_secs(60);

/// What it is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrookOrder {
    /// Take from the chain all that it holds signatures for.
    Claim,
}

/// A way to cheat a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swindle {
    /// None: somebody has to trust it first.
    Honest,
    /// Announces more tokens than what it sends can have.
    Overcount,
    /// Bills more than its prices.
    Overcharge,
    /// Bills more than the request's limit.
    BeyondLimit,
    /// Bills tokens that it did not send.
    Undelivered,
    /// Bills a longer prompt than it announced.
    LongPrompt,
    /// Bills another answer.
    OtherResponse,
    /// Bills with a key that is not the operator's.
    ForeignKey,
    /// Bills an earlier request again.
    OldBill,
    /// Bills twice, and takes the first one for not linked.
    DoubleBill,
    /// Asks for vouchers, and sends nothing.
    Withhold,
    /// Leaves in the middle, and bills the whole later.
    Leave,
    /// Takes the money for some tokens, and refuses the rest.
    RefuseLate,
    /// Says nothing of the receipt that it got.
    NeverRecord,
}

impl Swindle {
    const ALL: [Self; 14] = [
        Self::Honest,
        Self::Overcount,
        Self::Overcharge,
        Self::BeyondLimit,
        Self::Undelivered,
        Self::LongPrompt,
        Self::OtherResponse,
        Self::ForeignKey,
        Self::OldBill,
        Self::DoubleBill,
        Self::Withhold,
        Self::Leave,
        Self::RefuseLate,
        Self::NeverRecord,
    ];
}

/// What it says of a channel when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tale {
    /// The truth, and the bills that nobody linked.
    Truth,
    /// It has no receipt.
    Nothing,
    /// An older receipt is the newest.
    OldHead,
    /// The newest receipt is over more than was signed.
    ForgedHead,
    /// There is a head, and nothing that leads to it.
    BareHead,
}

/// What it holds of its clients.
#[derive(Debug, Default)]
struct Till {
    vouchers: BTreeMap<ChannelId, Signed<Voucher, Unverified>>,
    receipts: BTreeMap<ChannelId, Vec<Receipt<Unverified>>>,
    /// Bills that it would like to see linked.
    bills: BTreeMap<ChannelId, Vec<Signed<UsageBill, Unverified>>>,
}

type Reader = FrameReader<ReadHalf<Half>, ClientFrame>;
type Writer = FrameWriter<WriteHalf<Half>>;

#[derive(Clone)]
struct Crook {
    setup: ExecutorSetup,
    body: Body,
    till: Arc<Mutex<Till>>,
}

/// Runs such an executor. It keeps no store.
///
/// # Errors
/// When one of its tasks crashes.
pub async fn run(setup: ExecutorSetup, body: Body, mut orders: mpsc::Receiver<CrookOrder>) -> Result<(), String> {
    let mut incoming = body.world.lock().hub.listen(peer_id(&setup.operator));
    let crook = Crook {
        setup,
        body,
        till: Arc::default(),
    };
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    return Err(format!("a task crashed: {error}"));
                }
            }
            Some(CrookOrder::Claim) = orders.recv() => crook.claim(),
            Some(incoming) = incoming.recv() => {
                let (crook, stream) = (crook.clone(), incoming.stream.of(&crook.body.life));
                tasks.spawn(async move {
                    if let Err(error) = crook.serve(stream).await {
                        crook.body.note(format_args!("stops: {error}"));
                    }
                });
            }
        }
    }
}

impl Crook {
    fn till(&self) -> MutexGuard<'_, Till> {
        self.till.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&self, per_mille: u64) -> bool {
        self.body.life.choose(|choices| choices.chance(per_mille))
    }

    /// Settles the best voucher of each channel, whatever was served for it.
    fn claim(&self) {
        let (escrow, payee) = (self.setup.domain.escrow(), self.setup.payee);
        let mut world = self.body.world.lock();
        for (channel, voucher) in &self.till().vouchers {
            let settle = ChannelEscrow::settleCall {
                channelId: channel.hash(),
                cumulativeAmount: voucher.document().amount.base_units(),
                signature: voucher.signature().to_bytes().into(),
            };
            world.chain.run_call(payee, Call::contract(escrow, &settle));
        }
    }

    async fn serve(&self, stream: Half) -> io::Result<()> {
        let (read, write) = tokio::io::split(stream);
        let (mut reader, mut writer): (Reader, Writer) = (FrameReader::new(read), FrameWriter::new(write));
        loop {
            let Ok(Ok(Some(frame))) = tokio::time::timeout(IDLE, reader.next()).await else {
                return Ok(());
            };
            match frame {
                ClientFrame::Infer(infer) => self.answer(&mut reader, &mut writer, *infer).await?,
                ClientFrame::Sync { channel, after } => {
                    let state = self.tell(channel, after);
                    say(&mut writer, ExecutorFrame::State(Box::new(state))).await?;
                }
                ClientFrame::Voucher { voucher, .. } => self.keep(voucher),
                ClientFrame::Receipt { receipt, voucher } => {
                    self.keep(voucher);
                    let sequence = self.file(*receipt);
                    say(&mut writer, ExecutorFrame::Recorded { sequence }).await?;
                }
                ClientFrame::Cancel => {}
            }
        }
    }

    fn keep(&self, voucher: Option<Signed<Voucher, Unverified>>) {
        if let Some(voucher) = voucher {
            let mut till = self.till();
            let best = till
                .vouchers
                .entry(voucher.document().channel)
                .or_insert_with(|| voucher.clone());
            if best.document().amount < voucher.document().amount {
                *best = voucher;
            }
        }
    }

    /// Keeps a receipt, which may take another's place. Gives its sequence.
    fn file(&self, receipt: Receipt<Unverified>) -> u64 {
        let (channel, sequence) = (receipt.receipt().channel, receipt.receipt().sequence);
        let receipts = &mut *self.till();
        let receipts = receipts.receipts.entry(channel).or_default();
        receipts.retain(|known| known.receipt().sequence < sequence);
        receipts.push(receipt);
        sequence
    }

    /// Says how a channel stands.
    fn tell(&self, channel: ChannelId, after: u64) -> State {
        let tale = self.body.life.choose(|choices| {
            *choices.pick(&[
                Tale::Truth,
                Tale::Truth,
                Tale::Truth,
                Tale::Nothing,
                Tale::OldHead,
                Tale::ForgedHead,
                Tale::BareHead,
            ])
        });
        let till = self.till();
        let mut receipts = till.receipts.get(&channel).cloned().unwrap_or_default();
        match tale {
            Tale::Truth | Tale::BareHead => {}
            Tale::Nothing => receipts.clear(),
            Tale::OldHead => receipts.truncate(receipts.len() / 2),
            Tale::ForgedHead => {
                if let Some(last) = receipts.pop() {
                    let amount = last.receipt().cumulative_amount.saturating_add(TokenAmount::new(500));
                    let forged = UsageReceipt {
                        cumulative_amount: amount,
                        ..*last.receipt()
                    };
                    receipts.push(Receipt::new(forged, *last.payer_signature(), *last.bill_signature()));
                }
            }
        }
        let head = receipts.last().cloned();
        receipts.retain(|receipt| receipt.receipt().sequence > after && tale != Tale::BareHead);
        let unlinked = till.bills.get(&channel).cloned().unwrap_or_default();
        let best = till.vouchers.get(&channel).map(|voucher| voucher.document().amount);
        self.body.note(format_args!(
            "tells {tale:?} of {channel}, with {} bills",
            unlinked.len()
        ));
        State {
            channel,
            head,
            receipts,
            unlinked,
            authorized: best.unwrap_or_default(),
            spent: best.unwrap_or_default(),
            deposit: TokenAmount::MAX,
        }
    }

    async fn answer(&self, reader: &mut Reader, writer: &mut Writer, infer: Infer) -> io::Result<()> {
        let swindle = self.body.life.choose(|choices| *choices.pick(&Swindle::ALL));
        let request = *infer.request.document();
        self.body.note(format_args!("{swindle:?} for {}", request.hash()));
        self.body.world.lock().witness.counts.swindles += 1;
        self.keep(infer.voucher);
        say(writer, ExecutorFrame::Accepted).await?;
        let script = serde_json::from_slice::<Value>(&infer.body).ok();
        let script = script
            .as_ref()
            .and_then(|body| body.get("script"))
            .and_then(Script::of_json);
        let tokens = script.map_or(0, |script| script.tokens).min(request.max_output.get());
        if swindle == Swindle::Withhold {
            return self.withhold(reader, writer).await;
        }
        let mut hasher = ContentHasher::new(infer.salt);
        let mut usage = Usage {
            input: TokenCount::new(infer.body.len() as u32 / 8),
            output: TokenCount::default(),
        };
        let mut paid = INCREMENT;
        for said in 1..=tokens {
            if matches!(swindle, Swindle::Leave | Swindle::RefuseLate) && said > tokens / 2 {
                self.bill_later(&request, request.max_output, hasher.current());
                if swindle == Swindle::RefuseLate {
                    return say(writer, ExecutorFrame::Refused(Refusal::Busy)).await;
                }
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let data = script::event(said);
            let data = [b"data: ".as_slice(), &data, b"\n\n"].concat();
            hasher.update(&data);
            let output = if swindle == Swindle::Overcount {
                said * 200
            } else {
                said
            };
            usage.output = TokenCount::new(output).min(request.max_output);
            say(writer, ExecutorFrame::Chunk { data, usage }).await?;
            if said >= paid && said < tokens {
                let required = TokenAmount::new(self.body.life.choose(|choices| choices.below(10_000)).into());
                let need = ExecutorFrame::NeedVoucher {
                    required,
                    authorized: TokenAmount::ZERO,
                    deposit: TokenAmount::MAX,
                };
                say(writer, need).await?;
                let Some(received) = self.next_voucher(reader).await else {
                    return Ok(());
                };
                paid = received.get() + INCREMENT;
            }
        }
        self.bill(reader, writer, swindle, &request, usage, hasher.current())
            .await
    }

    /// Waits for an acknowledgement. `None` when the client is done with it.
    async fn next_voucher(&self, reader: &mut Reader) -> Option<TokenCount> {
        loop {
            let Ok(Ok(Some(frame))) = tokio::time::timeout(PATIENCE, reader.next()).await else {
                return None;
            };
            if let ClientFrame::Voucher { voucher, received, .. } = frame {
                self.keep(voucher);
                return Some(received.output);
            }
        }
    }

    async fn withhold(&self, reader: &mut Reader, writer: &mut Writer) -> io::Result<()> {
        for _ in 0..5 {
            let need = ExecutorFrame::NeedVoucher {
                required: TokenAmount::MAX,
                authorized: TokenAmount::ZERO,
                deposit: TokenAmount::MAX,
            };
            say(writer, need).await?;
            self.next_voucher(reader).await;
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    async fn bill(
        &self,
        reader: &mut Reader,
        writer: &mut Writer,
        swindle: Swindle,
        request: &InferenceRequest,
        usage: Usage,
        response: ContentHash,
    ) -> io::Result<()> {
        let mut bill = self.bill_over(request, usage, response);
        let more = TokenCount::new(1 + self.body.life.choose(|choices| choices.below(12)) as u32);
        match swindle {
            Swindle::Overcharge => bill.amount = bill.amount.saturating_add(TokenAmount::new(1)),
            Swindle::BeyondLimit => bill = with_output(bill, request, request.max_output.saturating_add(more)),
            Swindle::Undelivered => {
                let output = usage.output.saturating_add(more).min(request.max_output);
                bill = with_output(bill, request, output);
            }
            Swindle::LongPrompt => {
                bill.usage.input = request.max_input;
                bill.amount = request.prices.charge(bill.usage).unwrap_or_default();
            }
            Swindle::OtherResponse => bill.response_hash = ContentHash::new(B256::repeat_byte(1)),
            _ => {}
        }
        let mut signed = self.sign(&self.setup.operator, bill);
        if swindle == Swindle::ForeignKey {
            signed = self.sign(&foreign_key(), bill);
        }
        if swindle == Swindle::OldBill
            && let Some(old) = self
                .till()
                .receipts
                .get(&request.channel)
                .and_then(|known| known.first())
        {
            signed = Signed::new(old.receipt().bill, *old.bill_signature());
        }
        let frame = ExecutorFrame::Bill {
            bill: signed.clone(),
            ending: Ending::Complete,
        };
        say(writer, frame).await?;
        let awaited = tokio::time::timeout(PATIENCE, reader.next()).await;
        let Ok(Ok(Some(ClientFrame::Receipt { receipt, voucher }))) = awaited else {
            // It was seen through, or the client is gone: it can ask for the same again.
            self.till().bills.entry(request.channel).or_default().push(signed);
            return Ok(());
        };
        self.keep(voucher);
        if swindle == Swindle::DoubleBill {
            let output = usage.output.saturating_add(more).min(request.max_output);
            let second = self.sign(&self.setup.operator, with_output(bill, request, output));
            self.till().bills.entry(request.channel).or_default().push(second);
            let head = self
                .till()
                .receipts
                .get(&request.channel)
                .and_then(|known| known.last().cloned());
            let refused = Refusal::DoesNotExtend {
                head: head.map(Box::new),
            };
            return say(writer, ExecutorFrame::Refused(refused)).await;
        }
        let sequence = self.file(*receipt);
        if swindle == Swindle::NeverRecord {
            return Ok(());
        }
        say(writer, ExecutorFrame::Recorded { sequence }).await
    }

    /// Makes a bill that the client is shown when it asks how the channel stands.
    fn bill_later(&self, request: &InferenceRequest, output: TokenCount, response: ContentHash) {
        if !self.chance(500) {
            return;
        }
        let usage = Usage {
            input: request.max_input,
            output,
        };
        let bill = self.sign(&self.setup.operator, self.bill_over(request, usage, response));
        self.till().bills.entry(request.channel).or_default().push(bill);
    }

    fn bill_over(&self, request: &InferenceRequest, usage: Usage, response_hash: ContentHash) -> UsageBill {
        UsageBill {
            channel: request.channel,
            request: request.hash(),
            response_hash,
            usage,
            amount: request.prices.charge(usage).unwrap_or_default(),
            completed_at: self.body.life.now(),
        }
    }

    fn sign(&self, key: &Keypair, bill: UsageBill) -> Signed<UsageBill, Unverified> {
        key.sign(&self.setup.domain, bill).into_unverified()
    }
}

fn with_output(bill: UsageBill, request: &InferenceRequest, output: TokenCount) -> UsageBill {
    let usage = Usage { output, ..bill.usage };
    UsageBill {
        usage,
        amount: request.prices.charge(usage).unwrap_or_default(),
        ..bill
    }
}

/// A key that nobody knows.
fn foreign_key() -> Keypair {
    Keypair::from_secret([0x77; 32]).expect("the secret is a key")
}

async fn say(writer: &mut Writer, frame: ExecutorFrame) -> io::Result<()> {
    writer.send(&frame, PATIENCE).await.map_err(io::Error::other)
}
