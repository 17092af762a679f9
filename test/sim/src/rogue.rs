//! A process that cheats: it speaks the protocol by hand, and keeps no rule that only its own software would make it keep.

use std::{io, sync::Arc, time::Duration};

use alloy::primitives::{B256, U256};
use libp2p::PeerId;
use lloom_ledger::{Ledger, StoreDeployment};
use lloom_node::{
    Offer,
    client::{Connect as _, Duplex},
    wire::{ClientFrame, ExecutorFrame, FrameReader, FrameWriter, Infer, Refusal},
};
use lloom_receipts::{
    ChannelId, ContentHash, ContentSalt, InferenceRequest, ModelHash, Receipt, ReceiptHead, RequestNonce, Signed,
    TokenAmount, TokenCount, Usage, UsageBill, Verifier, Voucher,
};
use serde_json::json;
use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    choices::Choices,
    client::ClientSetup,
    executor::{MODEL, chain_of},
    network::Cable,
    process::Body,
    script::Script,
};

/// How long it waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// Frames of one talk at most.
const FRAMES: usize = 80;

/// A way to cheat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Takes what comes on the first voucher, and leaves without a word.
    Vanish,
    /// Acknowledges all, and pays with vouchers that promise less than the last.
    StaleVouchers,
    /// Promises more than is deposited.
    OverDeposit,
    /// Pays, and never links a bill.
    WithholdReceipt,
    /// Asks the same twice at once.
    Replay,
    /// Links the bill into a receipt over less.
    ShortReceipt,
    /// Claims to have received what was never sent.
    FalseProgress,
}

impl Trick {
    /// Every trick.
    pub const ALL: [Self; 7] = [
        Self::Vanish,
        Self::StaleVouchers,
        Self::OverDeposit,
        Self::WithholdReceipt,
        Self::Replay,
        Self::ShortReceipt,
        Self::FalseProgress,
    ];
}

/// What somebody has a cheat do.
#[derive(Debug)]
pub struct Mischief {
    /// To whom.
    pub peer: PeerId,
    /// What it offers.
    pub offer: Box<Offer>,
    /// Which channel is to pay.
    pub channel: ChannelId,
    /// The random part of its commitment.
    pub random: B256,
    /// What it asks for.
    pub script: Script,
    /// How it cheats.
    pub trick: Trick,
}

/// Runs a cheat. Its store stays empty.
///
/// # Errors
/// The store's.
pub async fn run(setup: ClientSetup, body: Body, mut orders: mpsc::Receiver<Mischief>) -> Result<(), String> {
    let deployment = StoreDeployment::from(&setup.domain);
    let opened = Ledger::open_in(&body.disk.store(), &deployment, body.environment()).await;
    body.show(&opened.map_err(|error| chain_of(&error))?);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    return Err(format!("a task crashed: {error}"));
                }
            }
            Some(mischief) = orders.recv() => {
                for _ in 0..if mischief.trick == Trick::Replay { 2 } else { 1 } {
                    let cheat = Cheat::new(&setup, &body, &mischief);
                    let body = body.clone();
                    tasks.spawn(async move {
                        let trick = cheat.trick;
                        match cheat.talk().await {
                            Ok(()) => body.note(format_args!("{trick:?}: done")),
                            Err(error) => body.note(format_args!("{trick:?}: {error}")),
                        }
                    });
                }
            }
        }
    }
}

struct Cheat {
    setup: ClientSetup,
    cable: Cable,
    peer: PeerId,
    trick: Trick,
    infer: Infer,
    request: InferenceRequest,
    body: Body,
}

type Reader = FrameReader<ReadHalf<Box<dyn Duplex>>, ExecutorFrame>;
type Writer = FrameWriter<WriteHalf<Box<dyn Duplex>>>;

impl Cheat {
    fn new(setup: &ClientSetup, body: &Body, mischief: &Mischief) -> Self {
        let life = Arc::clone(&body.life);
        let salt = ContentSalt::new(B256::new(life.choose(Choices::word)));
        let nonce = RequestNonce::new(U256::from_be_bytes(match mischief.trick {
            // The same in both streams.
            Trick::Replay => mischief.channel.hash().0,
            _ => life.choose(Choices::word),
        }));
        let salt = if mischief.trick == Trick::Replay {
            ContentSalt::new(B256::ZERO)
        } else {
            salt
        };
        let prompt = json!({
            "model": MODEL,
            "messages": [{"role": "user", "content": "say something"}],
            "script": mischief.script.to_json(),
        });
        let prompt = prompt.to_string().into_bytes();
        let request = InferenceRequest {
            channel: mischief.channel,
            operator: mischief.offer.operator,
            nonce,
            model: ModelHash::of_id(MODEL),
            prompt_hash: ContentHash::of(salt, &prompt),
            max_input: TokenCount::new(700),
            max_output: TokenCount::new(64),
            prices: mischief.offer.models[0].prices,
            deadline: life.now().plus(Duration::from_secs(60)),
        };
        Self {
            cable: Cable::new(body.world.clone(), life, setup.signer.address()),
            setup: setup.clone(),
            peer: mischief.peer,
            trick: mischief.trick,
            infer: Infer {
                request: setup.signer.sign(&setup.domain, request).into_unverified(),
                client_random: mischief.random,
                salt,
                body: prompt,
                voucher: None,
            },
            request,
            body: body.clone(),
        }
    }

    fn voucher(&self, amount: TokenAmount) -> Signed<Voucher> {
        let voucher = Voucher {
            channel: self.request.channel,
            amount,
        };
        self.setup.signer.sign(&self.setup.domain, voucher).into_unverified()
    }

    async fn talk(mut self) -> io::Result<()> {
        let stream = self.cable.open(self.peer).await?;
        let (read, write) = tokio::io::split(stream);
        let (mut reader, mut writer): (Reader, Writer) = (FrameReader::new(read), FrameWriter::new(write));
        let mut promised = TokenAmount::new(800);
        self.infer.voucher = Some(self.voucher(promised));
        self.say(&mut writer, ClientFrame::Infer(Box::new(self.infer.clone())))
            .await?;
        let mut bytes = 0;
        for _ in 0..FRAMES {
            let Ok(Ok(Some(frame))) = tokio::time::timeout(PATIENCE, reader.next()).await else {
                return Ok(());
            };
            match frame {
                ExecutorFrame::Refused(
                    Refusal::Uncovered { required, .. } | Refusal::VoucherNotIncreasing { best: required },
                ) if required > promised => {
                    promised = required.saturating_add(TokenAmount::new(1));
                    self.infer.voucher = Some(self.voucher(promised));
                    self.say(&mut writer, ClientFrame::Infer(Box::new(self.infer.clone())))
                        .await?;
                }
                ExecutorFrame::Chunk { data, usage } => {
                    bytes += data.len() as u64;
                    let Some((amount, received)) = self.pay(&mut promised, usage) else {
                        continue;
                    };
                    let frame = ClientFrame::Voucher {
                        voucher: Some(self.voucher(amount)),
                        received_bytes: bytes + u64::from(self.trick == Trick::FalseProgress),
                        received,
                    };
                    self.say(&mut writer, frame).await?;
                }
                ExecutorFrame::NeedVoucher { required, .. } if self.trick != Trick::Vanish => {
                    promised = promised.max(required);
                    let amount = match self.trick {
                        Trick::StaleVouchers => TokenAmount::new(1),
                        Trick::OverDeposit => TokenAmount::MAX,
                        _ => promised,
                    };
                    let frame = ClientFrame::Voucher {
                        voucher: Some(self.voucher(amount)),
                        received_bytes: bytes,
                        received: Usage::default(),
                    };
                    self.say(&mut writer, frame).await?;
                }
                ExecutorFrame::Bill { bill, .. } => {
                    if self.trick == Trick::ShortReceipt {
                        self.shorten(&mut writer, bill).await?;
                        continue;
                    }
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What it promises and acknowledges for what came.
    fn pay(&self, promised: &mut TokenAmount, usage: Usage) -> Option<(TokenAmount, Usage)> {
        match self.trick {
            Trick::Vanish => None,
            Trick::StaleVouchers => {
                let less = promised.saturating_sub(TokenAmount::new(1));
                Some((less, usage))
            }
            Trick::OverDeposit => Some((TokenAmount::MAX, usage)),
            Trick::FalseProgress => Some((
                *promised,
                Usage {
                    output: TokenCount::new(usage.output.get() + 8),
                    ..usage
                },
            )),
            Trick::WithholdReceipt | Trick::Replay | Trick::ShortReceipt => {
                *promised = promised.saturating_add(TokenAmount::new(80));
                Some((*promised, usage))
            }
        }
    }

    /// Links a bill as if it charged less.
    async fn shorten(&self, writer: &mut Writer, bill: Signed<UsageBill>) -> io::Result<()> {
        let signature = *bill.signature();
        let Ok(bill) = bill.verify(&self.setup.domain, &Verifier::default(), self.request.operator) else {
            return Ok(());
        };
        let Ok(mut receipt) = ReceiptHead::empty(self.request.channel).link(*bill.document()) else {
            return Ok(());
        };
        receipt.cumulative_amount = TokenAmount::new(receipt.cumulative_amount.base_units() / 2);
        let signed = self.setup.signer.sign(&self.setup.domain, receipt);
        let receipt = Receipt::new(receipt, *signed.signature(), signature);
        let frame = ClientFrame::Receipt {
            receipt: Box::new(receipt),
            voucher: None,
        };
        self.say(writer, frame).await
    }

    async fn say(&self, writer: &mut Writer, frame: ClientFrame) -> io::Result<()> {
        self.body.life.step("cheat").await;
        writer.send(&frame, PATIENCE).await.map_err(io::Error::other)
    }
}
