use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use lloom_receipts::ChannelId;
use tokio::sync::watch;

/// Tells the streams of one channel that what covers them has changed: they share one voucher, which may arrive on any
/// of them.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    // One entry a channel that is being served, removed with its last stream.
    channels: Mutex<HashMap<ChannelId, watch::Sender<u64>>>,
}

impl Coverage {
    /// Follows a channel.
    pub(super) fn watch(self: &Arc<Self>, channel: ChannelId) -> CoverageWatch {
        let changes = self.channels().entry(channel).or_default().subscribe();
        CoverageWatch {
            coverage: Arc::clone(self),
            channel,
            changes: Some(changes),
        }
    }

    /// A voucher or receipt was recorded, or a reservation was given back.
    pub(super) fn changed(&self, channel: ChannelId) {
        if let Some(sender) = self.channels().get(&channel) {
            sender.send_modify(|generation| *generation = generation.wrapping_add(1));
        }
    }

    fn channels(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, watch::Sender<u64>>> {
        // Every change is one insertion, removal or increment: a panic elsewhere leaves nothing half done.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's view of its channel's coverage.
#[derive(Debug)]
pub(super) struct CoverageWatch {
    coverage: Arc<Coverage>,
    channel: ChannelId,
    changes: Option<watch::Receiver<u64>>,
}

impl CoverageWatch {
    /// Forgets the changes so far: call before the coverage is looked at.
    pub(super) fn mark_seen(&mut self) {
        if let Some(changes) = &mut self.changes {
            changes.borrow_and_update();
        }
    }

    /// Waits for the next change. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let ended = match &mut self.changes {
            Some(changes) => changes.changed().await.is_err(),
            None => true,
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for CoverageWatch {
    fn drop(&mut self) {
        self.changes = None;
        let mut channels = self.coverage.channels();
        if channels
            .get(&self.channel)
            .is_some_and(|sender| sender.receiver_count() == 0)
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
        let coverage = Arc::new(Coverage::default());
        let [one, other] = [1, 2].map(|byte| ChannelId::new(B256::repeat_byte(byte)));
        let mut first = coverage.watch(one);
        let mut second = coverage.watch(one);
        let mut elsewhere = coverage.watch(other);
        coverage.changed(one);
        assert!(first.changed().now_or_never().is_some());
        assert!(second.changed().now_or_never().is_some());
        assert!(second.changed().now_or_never().is_none());
        assert!(elsewhere.changed().now_or_never().is_none());
        coverage.changed(one);
        first.mark_seen();
        assert!(first.changed().now_or_never().is_none());
        drop(first);
        assert_eq!(coverage.channels().len(), 2);
        drop(second);
        drop(elsewhere);
        assert!(coverage.channels().is_empty());
        coverage.changed(one);
    }
}
