//! Bills that the store could not take.
//!
//! A store on a network may be away for longer than a stream can wait. What was delivered meanwhile is owed all the same: it is
//! billed as soon as the store takes it, and the client links the bill when it comes next. A process that ends before that
//! leaves the requests open, and the next one bills what was acknowledged.

use std::{sync::Arc, time::Duration};

use lloom_ledger::{Ledger, ServeError};
use lloom_receipts::UsageBill;
use tokio::sync::mpsc;

use super::{metrics::ExecutorMetrics, served_channels::ServedChannels, under_way::Begun};

/// Bills that may wait. Each had a stream of its own when the store went away.
const MOST_WAITING: usize = 4_096;
/// The pause before the second try, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Where they wait, in order.
#[derive(Clone, Debug)]
pub(super) struct LateBills {
    queue: mpsc::Sender<LateBill>,
}

/// A bill, and what keeps its request from being served anew meanwhile: it would be served for this bill.
struct LateBill {
    bill: UsageBill,
    _begun: Begun,
}

impl LateBills {
    /// Starts what brings them to the store. It ends with the last handle.
    pub(super) fn start(ledger: Ledger, metrics: ExecutorMetrics, channels: Arc<ServedChannels>) -> Self {
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        tokio::spawn(bring(waiting, ledger, metrics, channels));
        Self { queue }
    }

    /// Takes a bill that is committed later.
    pub(super) fn put(&self, bill: UsageBill, begun: Begun) {
        // The other end lives as long as this one.
        if self.queue.try_send(LateBill { bill, _begun: begun }).is_err() {
            tracing::error!(channel = %bill.channel, request = %bill.request, amount = %bill.amount, "too many bills wait for the store; this one is made when the node is started again");
        }
    }
}

async fn bring(
    mut waiting: mpsc::Receiver<LateBill>,
    ledger: Ledger,
    metrics: ExecutorMetrics,
    channels: Arc<ServedChannels>,
) {
    while let Some(late) = waiting.recv().await {
        let bill = late.bill;
        tracing::warn!(channel = %bill.channel, request = %bill.request, amount = %bill.amount, "the store did not take a bill; it is billed as soon as the store does");
        let mut pause = FIRST_PAUSE;
        loop {
            match ledger.commit_bill(bill).await {
                Ok(committed) => {
                    let bill = committed.bill();
                    metrics.billed(None, bill);
                    channels.changed(bill.channel);
                    tracing::info!(channel = %bill.channel, request = %bill.request, amount = %bill.amount, "billed late");
                    break;
                }
                Err(ServeError::Ledger(error)) if error.is_transient() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                // A request that was not taken on after all owes nothing, and one that was restored away never will.
                Err(ServeError::UnknownRequest | ServeError::Waived { .. }) => break,
                Err(error) => {
                    tracing::error!(channel = %bill.channel, request = %bill.request, error = &error as &dyn std::error::Error, "what was delivered is not billed");
                    break;
                }
            }
        }
    }
}
