//! Signatures of many streams, checked together.
//!
//! What arrives while a batch is being checked is the next batch: with one stream every document is checked alone and
//! at once, with a hundred they share one equation. What was checked together is answered together, so it also reaches
//! the ledger together and shares a commit.

use lloom_receipts::{
    Domain, InferenceRequest, Receipt, ReceiptBy, ReceiptError, Signed, SignedBy, Verified, Verifier, VerifyError,
    Voucher,
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
    task::block_in_place,
};

use crate::wire::Refusal;

/// Documents that may wait. Streams beyond wait for room.
const QUEUE_LIMIT: usize = 1_024;
/// Documents checked together at most: a batch of these keeps a core for a hundredth of a second.
const BATCH_LIMIT: usize = 512;
/// The most documents that are checked in passing. More keep a thread for longer than other tasks should wait.
const IN_PASSING: usize = 2;

/// What is checked for one stream: a request or a receipt, and the voucher that comes with it.
type Papers = (
    (Option<SignedBy<InferenceRequest>>, Option<ReceiptBy>),
    Option<SignedBy<Voucher>>,
);
type Verdicts = (
    (
        Option<Result<Signed<InferenceRequest, Verified>, VerifyError>>,
        Option<Result<Receipt<Verified>, ReceiptError>>,
    ),
    Option<Result<Signed<Voucher, Verified>, VerifyError>>,
);
/// A document of some kind and a voucher, once they are checked.
pub type Checked<T, E> = (Result<T, E>, Option<Result<Signed<Voucher, Verified>, VerifyError>>);

/// Where documents are handed in, and checked together with those of other streams. Clones share the desk.
///
/// All of its methods fail with [`Refusal::Internal`] when the desk's runtime shuts down, and only then: what is wrong with a
/// document is its verdict.
#[derive(Clone, Debug)]
pub struct Inspection {
    queue: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    papers: Papers,
    stream: oneshot::Sender<Verdicts>,
}

impl Inspection {
    /// Works until the last handle is gone. Outside of a Tokio runtime it panics.
    #[must_use]
    pub fn start(domain: Domain) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LIMIT);
        tokio::spawn(work(domain, waiting));
        Self { queue }
    }

    /// Checks a request, and the voucher that came with it.
    ///
    /// # Errors
    /// See [`Inspection`].
    pub async fn request(
        &self,
        request: SignedBy<InferenceRequest>,
        voucher: Option<SignedBy<Voucher>>,
    ) -> Result<Checked<Signed<InferenceRequest, Verified>, VerifyError>, Refusal> {
        let ((request_verdict, _), voucher) = self.check(((Some(request), None), voucher)).await?;
        Ok((request_verdict.ok_or(Refusal::Internal)?, voucher))
    }

    /// Checks a receipt with both of its signatures, and the voucher that came with it.
    ///
    /// # Errors
    /// See [`Inspection`].
    pub async fn receipt(
        &self,
        receipt: ReceiptBy,
        voucher: Option<SignedBy<Voucher>>,
    ) -> Result<Checked<Receipt<Verified>, ReceiptError>, Refusal> {
        let ((_, receipt_verdict), voucher) = self.check(((None, Some(receipt)), voucher)).await?;
        Ok((receipt_verdict.ok_or(Refusal::Internal)?, voucher))
    }

    /// Checks a voucher that came alone.
    ///
    /// # Errors
    /// See [`Inspection`].
    pub async fn voucher(
        &self,
        voucher: SignedBy<Voucher>,
    ) -> Result<Result<Signed<Voucher, Verified>, VerifyError>, Refusal> {
        let (_, verdict) = self.check(((None, None), Some(voucher))).await?;
        verdict.ok_or(Refusal::Internal)
    }

    async fn check(&self, papers: Papers) -> Result<Verdicts, Refusal> {
        let (stream, verdicts) = oneshot::channel();
        self.queue
            .send(Waiting { papers, stream })
            .await
            .map_err(|_| Refusal::Internal)?;
        verdicts.await.map_err(|_| Refusal::Internal)
    }
}

type Streams = Vec<oneshot::Sender<Verdicts>>;

/// The papers of all who wait, up to [`BATCH_LIMIT`] of them, once somebody does.
async fn next_batch(queue: &mut mpsc::Receiver<Waiting>) -> Option<(Vec<Papers>, Streams)> {
    let mut waiting = Vec::new();
    queue.recv_many(&mut waiting, BATCH_LIMIT).await;
    let batch: (Vec<Papers>, Streams) = waiting
        .into_iter()
        .map(|Waiting { papers, stream }| (papers, stream))
        .unzip();
    (!batch.0.is_empty()).then_some(batch)
}

async fn work(domain: Domain, mut queue: mpsc::Receiver<Waiting>) {
    let verifier = Verifier::default();
    // With one thread there is none that could take over.
    let may_block = Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
    while let Some((papers, streams)) = next_batch(&mut queue).await {
        let verdicts = if may_block && papers.len() > IN_PASSING {
            block_in_place(|| verifier.verify_all(&domain, papers))
        } else {
            verifier.verify_all(&domain, papers)
        };
        for (stream, verdict) in streams.into_iter().zip(verdicts) {
            // A stream that ended doesn't want to know.
            let _ = stream.send(verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};
    use futures::future::join_all;
    use lloom_receipts::{ChannelId, Keypair, TokenAmount};

    use super::*;

    fn domain() -> Domain {
        Domain::new(31_337, Address::repeat_byte(1), Address::repeat_byte(2))
    }

    fn voucher(key: &Keypair, amount: u128) -> Signed<Voucher> {
        let voucher = Voucher {
            channel: ChannelId::new(B256::repeat_byte(3)),
            amount: TokenAmount::new(amount),
        };
        key.sign(&domain(), voucher).into_unverified()
    }

    /// Vouchers of streams that all wait at once, every seventh signed by a stranger.
    async fn each_stream_gets_its_own_verdict() {
        let (payer, stranger) = (
            Keypair::from_secret([7; 32]).unwrap(),
            Keypair::from_secret([8; 32]).unwrap(),
        );
        let inspection = Inspection::start(domain());
        for streams in [1, 2, 3, 200] {
            let streams = (0..streams).map(|number: u128| {
                let signer = if number % 7 == 3 { &stranger } else { &payer };
                let voucher = voucher(signer, number);
                let inspection = inspection.clone();
                let payer = payer.address();
                async move { (number, inspection.voucher(voucher.by(payer)).await.unwrap()) }
            });
            for (number, verdict) in join_all(streams).await {
                assert_eq!(verdict.is_err(), number % 7 == 3, "stream {number}");
                if let Ok(verified) = verdict {
                    assert_eq!(verified.document().amount, TokenAmount::new(number));
                }
            }
        }
    }

    #[tokio::test]
    async fn each_stream_gets_its_own_verdict_on_one_thread() {
        each_stream_gets_its_own_verdict().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_stream_gets_its_own_verdict_on_several_threads() {
        each_stream_gets_its_own_verdict().await;
    }

    #[tokio::test]
    async fn what_waits_together_is_one_batch() {
        let payer = Keypair::from_secret([7; 32]).unwrap();
        let (queue, mut waiting) = mpsc::channel(QUEUE_LIMIT);
        let inspection = Inspection { queue };
        let check = |number: usize| {
            let inspection = &inspection;
            let voucher = voucher(&payer, number as u128).by(payer.address());
            async move { inspection.voucher(voucher).await }
        };
        let mut streams: Vec<_> = (0..100).map(|number| Box::pin(check(number))).collect();
        for stream in &mut streams {
            assert!(futures::poll!(stream).is_pending());
        }
        let (papers, answers) = next_batch(&mut waiting).await.unwrap();
        assert_eq!((papers.len(), answers.len()), (100, 100));
        drop(streams);
        drop(inspection);
        assert!(next_batch(&mut waiting).await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_stopped_waiting_disturbs_no_other() {
        let payer = Keypair::from_secret([7; 32]).unwrap();
        let inspection = Inspection::start(domain());
        let gone = inspection.voucher(voucher(&payer, 1).by(payer.address()));
        let mut gone = Box::pin(gone);
        // Once: it is in the queue then.
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        let verdict = inspection
            .voucher(voucher(&payer, 2).by(payer.address()))
            .await
            .unwrap();
        assert!(verdict.is_ok());
    }
}
