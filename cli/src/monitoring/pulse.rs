use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A sign of life of a loop. Clones are of the same loop.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    /// Milliseconds after `began`; 0 before the first.
    last_beat: AtomicU64,
    stopping: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(State {
            began: Instant::now(),
            last_beat: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }))
    }
}

impl Pulse {
    /// Of a loop that turned last so long ago.
    #[cfg(test)]
    pub fn silent_for(silence: Duration) -> Self {
        let began = Instant::now()
            .checked_sub(silence)
            .expect("a machine that ran for longer");
        Self(Arc::new(State {
            began,
            last_beat: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Says that the loop turns.
    pub fn beat(&self) {
        let after = self.0.began.elapsed().as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX).max(1);
        self.0.last_beat.store(after, Ordering::Relaxed);
    }

    /// How long ago it turned last; `None` while it has not begun.
    pub fn silence(&self) -> Option<Duration> {
        match self.0.last_beat.load(Ordering::Relaxed) {
            0 => None,
            after => Some(self.0.began.elapsed().saturating_sub(Duration::from_millis(after))),
        }
    }

    /// Says that the process is about to end.
    pub fn set_stopping(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to end.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }
}
