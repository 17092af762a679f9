//! The line to an executor, and the desk where a channel's bills are linked, one after the other.

use std::{
    collections::HashSet,
    sync::{Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use lloom_receipts::{ChannelId, Receipt, RequestHash, Signed, UsageBill, Verified};
use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{ChatError, Duplex, Shared, sync, treasurer::Treasurer};
use crate::wire::{ClientFrame, ExecutorFrame, FrameReader, FrameWriter, Refusal};

/// How often a bill is linked anew to another head before the client gives up.
const MAX_RELINKS: usize = 3;

/// Receipts sent again in one go.
const RESEND: u32 = 256;

/// An open stream to an executor.
pub(super) struct Line {
    pub(super) reader: FrameReader<ReadHalf<Box<dyn Duplex>>, ExecutorFrame>,
    pub(super) writer: FrameWriter<WriteHalf<Box<dyn Duplex>>>,
    pub(super) write_timeout: Duration,
    pub(super) reply_timeout: Duration,
}

impl Line {
    pub(super) async fn send(&mut self, frame: &ClientFrame) -> Result<(), ChatError> {
        Ok(self.writer.send(frame, self.write_timeout).await?)
    }

    /// Waits for the frame that `pick` takes. Other frames that belong to an answer which is over are passed over.
    pub(super) async fn reply<T>(
        &mut self,
        awaited: &'static str,
        mut pick: impl FnMut(ExecutorFrame) -> Option<T>,
    ) -> Result<T, ChatError> {
        let patience = self.reply_timeout;
        let deadline = Instant::now() + patience;
        loop {
            let frame = timeout_at(deadline, self.reader.next())
                .await
                .map_err(|_| ChatError::Timeout { awaited, patience })??;
            match frame.ok_or(ChatError::Ended { awaited })? {
                // Vouchers of streams overtake each other; that the executor holds a better one is good news.
                ExecutorFrame::Refused(Refusal::VoucherNotIncreasing { .. }) if awaited != ACCEPTANCE => {}
                ExecutorFrame::Refused(refusal) => return Err(ChatError::Refused(refusal)),
                frame => {
                    if let Some(picked) = pick(frame) {
                        return Ok(picked);
                    }
                }
            }
        }
    }
}

/// What is awaited after a request.
pub(super) const ACCEPTANCE: &str = "acceptance";

/// What a client keeps of one channel while it runs.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) channel: ChannelId,
    pub(super) treasurer: Treasurer,
    turn: Mutex<Turn>,
    /// Requests whose streams this process is serving: their bills come on them.
    active: SyncMutex<HashSet<RequestHash>>,
}

/// The right to link on the channel. Held until the executor has answered.
#[derive(Debug)]
pub(super) struct Turn {
    /// Whether the executor may lack receipts, or hold bills and receipts not known here.
    pub(super) needs_sync: bool,
    /// The newest recorded receipt is being marked as such; nobody has to wait for that.
    confirming: Option<JoinHandle<()>>,
}

impl Desk {
    pub(super) fn new(channel: ChannelId, treasurer: Treasurer) -> Self {
        Self {
            channel,
            treasurer,
            turn: Mutex::new(Turn {
                needs_sync: true,
                confirming: None,
            }),
            active: SyncMutex::default(),
        }
    }

    pub(super) async fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().await
    }

    /// Marks `request` as being served until the guard is dropped.
    pub(super) fn activate(&self, request: RequestHash) -> Active<'_> {
        self.active().insert(request);
        Active { desk: self, request }
    }

    pub(super) fn is_active(&self, request: RequestHash) -> bool {
        self.active().contains(&request)
    }

    fn active(&self) -> std::sync::MutexGuard<'_, HashSet<RequestHash>> {
        // Insertions and removals leave nothing half done.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being served.
pub(super) struct Active<'d> {
    desk: &'d Desk,
    request: RequestHash,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.desk.active().remove(&self.request);
    }
}

impl Shared {
    pub(super) async fn desk(&self, channel: ChannelId) -> Result<std::sync::Arc<Desk>, ChatError> {
        let mut desks = self.desks.lock().await;
        if let Some(desk) = desks.get(&channel) {
            return Ok(std::sync::Arc::clone(desk));
        }
        let treasurer = Treasurer::start(
            channel,
            self.ledger.clone(),
            self.domain,
            std::sync::Arc::clone(&self.keypair),
            self.config.budget,
        )
        .await?;
        let desk = std::sync::Arc::new(Desk::new(channel, treasurer));
        desks.insert(channel, std::sync::Arc::clone(&desk));
        Ok(desk)
    }

    pub(super) async fn open(&self, peer: PeerId) -> Result<Line, ChatError> {
        let patience = self.config.open_timeout;
        let stream = tokio::time::timeout(patience, self.connector.open(peer))
            .await
            .map_err(|_| ChatError::Timeout {
                awaited: "stream",
                patience,
            })?
            .map_err(ChatError::Open)?;
        let (read, write) = tokio::io::split(stream);
        Ok(Line {
            reader: FrameReader::new(read),
            writer: FrameWriter::new(write),
            write_timeout: self.config.write_timeout,
            reply_timeout: self.config.reply_timeout,
        })
    }

    /// Links `bill`: signs the receipt, stores it, and has the executor record it. Says whether it did; a receipt that
    /// isn't recorded goes out again with the channel's next use.
    ///
    /// # Errors
    /// Only before the receipt is durable.
    pub(super) async fn link(
        &self,
        desk: &Desk,
        turn: &mut Turn,
        line: &mut Line,
        bill: Signed<UsageBill, Verified>,
    ) -> Result<(Receipt<Verified>, bool), ChatError> {
        for _ in 0..MAX_RELINKS {
            let (receipt, voucher) = desk.treasurer.link(bill.clone()).await?;
            // Until the executor says otherwise, it may have it or not.
            turn.needs_sync = true;
            let held = voucher.as_ref().map(|voucher| voucher.document().amount);
            let frame = ClientFrame::Receipt {
                receipt: Box::new(receipt.clone().into_unverified()),
                voucher: voucher.map(Signed::into_unverified),
            };
            match self.send_receipt(desk, line, &receipt, &frame).await {
                Ok(confirming) => {
                    turn.confirming = Some(confirming);
                    turn.needs_sync = false;
                    if let Some(held) = held {
                        desk.treasurer.held(held).await;
                    }
                    return Ok((receipt, true));
                }
                Err(ChatError::Refused(Refusal::DoesNotExtend { head })) => {
                    let theirs = head.map_or(0, |head| head.receipt().sequence);
                    if theirs < receipt.receipt().sequence {
                        // It lacks receipts before this one, which were sent to a process that is gone.
                        let resent = self.resend(desk, line, theirs).await;
                        turn.needs_sync = resent.is_err();
                        return Ok((receipt, resent.is_ok()));
                    }
                    // What the executor did record must not be taken back.
                    if let Some(confirming) = turn.confirming.take() {
                        confirming.await.ok();
                    }
                    sync::agree(self, desk, line).await?;
                }
                Err(error) => {
                    tracing::warn!(channel = %desk.channel, error = &error as &dyn std::error::Error, "the receipt is not recorded yet");
                    return Ok((receipt, false));
                }
            }
        }
        Err(ChatError::FalseHead { channel: desk.channel })
    }

    async fn send_receipt(
        &self,
        desk: &Desk,
        line: &mut Line,
        receipt: &Receipt<Verified>,
        frame: &ClientFrame,
    ) -> Result<JoinHandle<()>, ChatError> {
        line.send(frame).await?;
        let sequence = receipt.receipt().sequence;
        line.reply("record of a receipt", |frame| match frame {
            ExecutorFrame::Recorded { sequence: recorded } if recorded == sequence => Some(()),
            _ => None,
        })
        .await?;
        let (ledger, channel) = (self.ledger.clone(), desk.channel);
        Ok(tokio::spawn(async move {
            // Losing this costs one more sending after a restart.
            if let Err(error) = ledger.confirm_receipt(channel, sequence).await {
                tracing::warn!(%channel, error = &error as &dyn std::error::Error, "a recorded receipt is not marked");
            }
        }))
    }

    /// Sends the executor the receipts after `sequence`, in order, and the newest voucher along: an executor that lacks
    /// receipts may lack what came with them, and what a receipt alone covers no tower can claim.
    pub(super) async fn resend(&self, desk: &Desk, line: &mut Line, sequence: u64) -> Result<usize, ChatError> {
        let mut next = sequence + 1;
        let mut sent = 0;
        loop {
            let receipts = self.ledger.receipts(desk.channel, next, RESEND).await?;
            let Some(last) = receipts.last() else {
                return Ok(sent);
            };
            let last = last.receipt().sequence;
            next = last + 1;
            for receipt in receipts {
                let is_last = receipt.receipt().sequence == last;
                let voucher = if is_last {
                    self.ledger.newest_voucher(desk.channel).await?
                } else {
                    None
                };
                let frame = ClientFrame::Receipt {
                    receipt: Box::new(receipt.clone().into_unverified()),
                    voucher: voucher.map(Signed::into_unverified),
                };
                self.send_receipt(desk, line, &receipt, &frame).await?.await.ok();
                sent += 1;
            }
        }
    }

    /// Believes a head only when it bears the own signature.
    pub(super) fn believe(&self, desk: &Desk, head: Receipt) -> Result<Receipt<Verified>, ChatError> {
        let false_head = ChatError::FalseHead { channel: desk.channel };
        if head.receipt().channel != desk.channel {
            return Err(false_head);
        }
        // Whose signature the bill in it bears, this client judged when it signed the receipt.
        head.verify(&self.domain, &self.verifier, self.keypair.address(), |_| true)
            .map_err(|_| false_head)
    }
}
