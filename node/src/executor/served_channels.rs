use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use lloom_receipts::ChannelId;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Tells the streams of one channel what happens to it: that what covers them has changed, because they share one
/// voucher, which may arrive on any of them; and that it is closing.
#[derive(Debug, Default)]
pub(super) struct ServedChannels {
    // One entry a channel that is being served, removed with its last stream.
    channels: Mutex<HashMap<ChannelId, ServedChannel>>,
}

#[derive(Debug)]
struct ServedChannel {
    /// Keeps one change: how many there were doesn't matter.
    changes: broadcast::Sender<()>,
    closing: CancellationToken,
}

impl Default for ServedChannel {
    fn default() -> Self {
        Self {
            changes: broadcast::Sender::new(1),
            closing: CancellationToken::new(),
        }
    }
}

impl ServedChannels {
    /// Follows a channel.
    pub(super) fn watch(self: &Arc<Self>, channel: ChannelId) -> ChannelWatch {
        let mut channels = self.channels();
        let entry = channels.entry(channel).or_default();
        if entry.closing.is_cancelled() {
            // A top-up may have cancelled the close since; the ledger knows, and refuses the request if not.
            entry.closing = CancellationToken::new();
        }
        ChannelWatch {
            channels: Arc::clone(self),
            channel,
            changes: Some(entry.changes.subscribe()),
            closing: Some(entry.closing.clone()),
        }
    }

    /// Ends the streams of each channel that `closing` names, until nothing can come any more.
    pub(super) async fn follow(self: Arc<Self>, mut closing: broadcast::Receiver<ChannelId>) {
        loop {
            match closing.recv().await {
                Ok(channel) => {
                    if let Some(entry) = self.channels().get(&channel) {
                        entry.closing.cancel();
                    }
                }
                // Each stream still asks the ledger before it serves the next increment.
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "channels close faster than their streams are told");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// A voucher or receipt was recorded, or a reservation was given back.
    pub(super) fn changed(&self, channel: ChannelId) {
        if let Some(entry) = self.channels().get(&channel) {
            // An error says that nobody listens.
            let _ = entry.changes.send(());
        }
    }

    fn channels(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, ServedChannel>> {
        // Every change is one insertion, removal or increment: a panic elsewhere leaves nothing half done.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's view of its channel.
#[derive(Debug)]
pub(super) struct ChannelWatch {
    channels: Arc<ServedChannels>,
    channel: ChannelId,
    changes: Option<broadcast::Receiver<()>>,
    closing: Option<CancellationToken>,
}

/// What a stream has to know of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelNews {
    /// What covers it has changed.
    Covered,
    /// Its close was requested, or it is over.
    Closing,
}

impl ChannelWatch {
    /// Forgets the changes so far: call before the coverage is looked at.
    pub(super) fn mark_seen(&mut self) {
        if let Some(changes) = &mut self.changes {
            *changes = changes.resubscribe();
        }
    }

    /// Waits until the channel closes, which is told once, or, for a stream that `wants_coverage`, until what covers the
    /// channel changes. Cancel safe.
    pub(super) async fn next(&mut self, wants_coverage: bool) -> ChannelNews {
        let news = tokio::select! {
            biased;
            () = cancelled(self.closing.as_ref()) => ChannelNews::Closing,
            () = changed(self.changes.as_mut()), if wants_coverage => ChannelNews::Covered,
        };
        if news == ChannelNews::Closing {
            self.closing = None;
        }
        news
    }
}

async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => pending().await,
    }
}

async fn changed(changes: Option<&mut broadcast::Receiver<()>>) {
    let ended = match changes {
        Some(changes) => matches!(changes.recv().await, Err(broadcast::error::RecvError::Closed)),
        None => true,
    };
    if ended {
        pending::<()>().await;
    }
}

impl Drop for ChannelWatch {
    fn drop(&mut self) {
        self.changes = None;
        let mut channels = self.channels.channels();
        if channels
            .get(&self.channel)
            .is_some_and(|entry| entry.changes.receiver_count() == 0)
        {
            channels.remove(&self.channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn wakes_the_streams_of_one_channel_and_forgets_it_with_the_last() {
        let channels = Arc::new(ServedChannels::default());
        let [one, other] = [1, 2].map(|byte| ChannelId::new(B256::repeat_byte(byte)));
        let mut first = channels.watch(one);
        let mut second = channels.watch(one);
        let mut elsewhere = channels.watch(other);
        channels.changed(one);
        assert!(first.next(true).now_or_never().is_some());
        assert!(second.next(true).now_or_never().is_some());
        assert!(second.next(true).now_or_never().is_none());
        assert!(elsewhere.next(true).now_or_never().is_none());
        channels.changed(one);
        first.mark_seen();
        assert!(first.next(true).now_or_never().is_none());
        drop(first);
        assert_eq!(channels.channels().len(), 2);
        drop(second);
        drop(elsewhere);
        assert!(channels.channels().is_empty());
        channels.changed(one);
    }

    #[tokio::test]
    async fn ends_the_streams_of_a_closing_channel_and_no_later_ones() {
        let channels = Arc::new(ServedChannels::default());
        let [one, other] = [1, 2].map(|byte| ChannelId::new(B256::repeat_byte(byte)));
        let (sender, closing) = broadcast::channel(4);
        let streams = [one, one, other].map(|channel| channels.watch(channel));
        sender.send(one).unwrap();
        drop(sender);
        Arc::clone(&channels).follow(closing).await;
        let news = |mut watch: ChannelWatch| watch.next(true).now_or_never();
        assert_eq!(
            streams.map(news),
            [Some(ChannelNews::Closing), Some(ChannelNews::Closing), None]
        );
        assert_eq!(news(channels.watch(one)), None);
    }
}
