//! What a store finds around it: the time, and a disk.

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::SystemTime,
};

use futures::future::BoxFuture;
use lloom_receipts::UnixSeconds;

/// The surroundings of a store, and of whatever works on it: by default the machine's.
///
/// A simulation brings its own: then the processes on these stores, in one thread, do the same again for the same seed.
#[derive(Clone, Default)]
pub struct Environment {
    clock: Option<Arc<dyn Fn() -> UnixSeconds + Send + Sync>>,
    disk: Option<Arc<dyn Disk>>,
}

/// Says when a store may go on, where it has to be told.
///
/// A store with such a disk runs each of its statements on the caller's thread from beginning to end, as soon as
/// [`before`](Self::before) lets it: nothing happens meanwhile. It may be given up (the runtime that it works on dropped)
/// whenever one of these futures is not ready: that is a process which died there.
pub trait Disk: Send + Sync + 'static {
    /// Called before each statement of `operation`.
    fn before(&self, operation: &'static str) -> BoxFuture<'_, ()>;

    /// Called when the writer has committed the store's `generation`, before anybody learns of it.
    fn committed(&self, generation: i64) -> BoxFuture<'_, ()>;
}

impl Environment {
    /// The surroundings with this time and this disk.
    #[cfg(feature = "simulation")]
    pub fn simulated(clock: impl Fn() -> UnixSeconds + Send + Sync + 'static, disk: impl Disk) -> Self {
        Self {
            clock: Some(Arc::new(clock)),
            disk: Some(Arc::new(disk)),
        }
    }

    /// Now.
    pub fn now(&self) -> UnixSeconds {
        self.clock
            .as_ref()
            .map_or_else(|| SystemTime::now().into(), |clock| clock())
    }

    pub(crate) const fn disk(&self) -> Option<&Arc<dyn Disk>> {
        self.disk.as_ref()
    }

    /// Runs `statement` as this disk does: on this thread, or on SQLite's.
    pub(crate) async fn run<F: Future>(&self, statement: F) -> F::Output {
        run(self.disk.as_ref(), statement).await
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.disk.is_some() { "simulated" } else { "real" })
    }
}

pub(crate) async fn run<F: Future>(disk: Option<&Arc<dyn Disk>>, statement: F) -> F::Output {
    match disk {
        Some(_) => block_on(statement),
        None => statement.await,
    }
}

/// Waits for `future` with the whole thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
