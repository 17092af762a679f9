use std::{
    fmt,
    future::pending,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lloom_receipts::UnixSeconds;
use tokio::{sync::Notify, time::Instant};

use crate::{chain::START, choices::Choices};

/// Names a process, through all of its lives.
pub type ProcessId = usize;

/// One life of a process: from its start to its end by a crash.
///
/// Everything that leaves a process or comes to it passes through here: what it asks of the chain, each statement of its
/// store, each byte to a peer. That is where it dies, if it is told to.
pub struct Life {
    process: ProcessId,
    name: String,
    /// When it began, milliseconds of the simulation, and what the runtime's clock said then.
    began: (u64, Instant),
    choices: Mutex<Choices>,
    /// How many more steps it takes, of all or of one kind.
    steps_left: Mutex<Option<(u64, Option<&'static str>)>>,
    dead: AtomicBool,
    death: Notify,
    /// Where it died, if it was at a step.
    died_at: Mutex<Option<String>>,
    /// An audit is not to be disturbed.
    calm: AtomicBool,
    /// Set when a broadcast is done, for the flaw that persists after it.
    broadcast: AtomicBool,
}

impl Life {
    /// A life that begins at `millis`. To be called in its runtime, whose clock is the simulation's.
    pub fn new(process: ProcessId, name: String, millis: u64, choices: Choices) -> Self {
        Self {
            process,
            name,
            began: (millis, Instant::now()),
            choices: Mutex::new(choices),
            steps_left: Mutex::new(None),
            dead: AtomicBool::new(false),
            death: Notify::new(),
            died_at: Mutex::new(None),
            calm: AtomicBool::new(false),
            broadcast: AtomicBool::new(false),
        }
    }

    /// Whose it is.
    pub const fn process(&self) -> ProcessId {
        self.process
    }

    /// What it is called in a trace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Milliseconds since the simulation began. In its runtime only.
    pub fn millis(&self) -> u64 {
        let (millis, instant) = self.began;
        millis + instant.elapsed().as_millis() as u64
    }

    /// Now. In its runtime only.
    pub fn now(&self) -> UnixSeconds {
        UnixSeconds::new(START + self.millis() / 1_000)
    }

    /// When the runtime's clock shows `millis`.
    pub fn instant(&self, millis: u64) -> Instant {
        let (began, instant) = self.began;
        instant + Duration::from_millis(millis.saturating_sub(began))
    }

    /// Draws from this life's choices.
    pub fn choose<T>(&self, draw: impl FnOnce(&mut Choices) -> T) -> T {
        draw(&mut lock(&self.choices))
    }

    /// A place to die at: `what` happens next, or not.
    pub async fn step(&self, what: &str) {
        if self.takes_last_step(what) || self.is_dead() {
            pending::<()>().await;
        }
    }

    /// The same where nothing can be awaited. Says whether it dies here: nothing comes after.
    pub fn takes_last_step(&self, what: &str) -> bool {
        if self.calm.load(Ordering::Relaxed) {
            return false;
        }
        let mut steps_left = lock(&self.steps_left);
        match &mut *steps_left {
            Some((_, Some(kind))) if *kind != what => false,
            Some((0, _)) => {
                self.dead.store(true, Ordering::Relaxed);
                *lock(&self.died_at) = Some(what.to_owned());
                self.death.notify_one();
                true
            }
            Some((steps, _)) => {
                *steps -= 1;
                false
            }
            None => false,
        }
    }

    /// Lets the life end after `steps` more steps, in place of what it was doomed to before; but a life that takes no step
    /// more stays one.
    pub fn doom(&self, steps: u64) {
        self.set_doom(steps, None);
    }

    /// Lets the life end after `steps` more steps of this kind, likewise.
    pub fn doom_at(&self, kind: &'static str, steps: u64) {
        self.set_doom(steps, Some(kind));
    }

    fn set_doom(&self, steps: u64, kind: Option<&'static str>) {
        let mut steps_left = lock(&self.steps_left);
        if *steps_left != Some((0, None)) {
            *steps_left = Some((steps, kind));
        }
    }

    /// Lets it live.
    pub fn reprieve(&self) {
        *lock(&self.steps_left) = None;
    }

    /// Ends the life now.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Whether it is over.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Waits for its end at a step. Says at which.
    pub async fn died(&self) -> String {
        self.death.notified().await;
        lock(&self.died_at).take().unwrap_or_default()
    }

    /// Takes between `least` and `most` milliseconds.
    pub async fn wait(&self, least: u64, most: u64) {
        if self.calm.load(Ordering::Relaxed) {
            return;
        }
        let millis = self.choose(|choices| choices.between(least, most));
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// From now on nothing takes time or goes wrong, or does again.
    pub fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    /// A broadcast has had its effect.
    pub fn broadcast_done(&self) {
        self.broadcast.store(true, Ordering::Relaxed);
    }

    /// Whether a broadcast had its effect since this was asked last.
    pub fn take_broadcast(&self) -> bool {
        self.broadcast.swap(false, Ordering::Relaxed)
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Life({})", self.name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
