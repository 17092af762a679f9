use std::{
    collections::BTreeSet,
    future::Future,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use alloy::primitives::B256;
use lloom_ledger::{Environment, Ledger};
use tokio::{runtime::Runtime, task::JoinHandle};

use crate::{
    choices::Choices,
    disk::{self, Backup, End, SimDisk},
    doom::Doom,
    fault::Fault,
    flaw::Flaw,
    life::{Life, ProcessId},
    network::{READ, WRITE},
    template,
    world::Shared,
};

/// How many of a thousand backups are put back on a new machine: with nothing that knows what came after them.
const LOCK_IS_LOST: u64 = 300;

/// A process, with its files, through all of its lives.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    name: String,
    world: Shared,
    /// Where the directories of its lives are.
    home: PathBuf,
    lives: u64,
    choices: Choices,
    alive: Option<Alive>,
    backups: Vec<Backup>,
    /// Whether a backup was ever put back.
    pub restored: bool,
    /// The transactions on record each time before that was to be done.
    pub replaced: Vec<BTreeSet<B256>>,
}

#[derive(Debug)]
struct Alive {
    runtime: Runtime,
    main: JoinHandle<Result<(), String>>,
    body: Body,
    /// When it dies, milliseconds, whatever it does then.
    dies_at: Option<u64>,
}

/// What a process is given to live with.
#[derive(Clone, Debug)]
pub struct Body {
    /// The world around it.
    pub world: Shared,
    /// Its life.
    pub life: Arc<Life>,
    /// Its disk.
    pub disk: SimDisk,
    ledger: Arc<Mutex<Option<Ledger>>>,
}

impl Body {
    /// The surroundings of its store.
    pub fn environment(&self) -> Environment {
        let life = Arc::clone(&self.life);
        Environment::simulated(move || life.now(), self.disk.clone())
    }

    /// Shows the store that was opened.
    pub fn show(&self, ledger: &Ledger) {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger.clone());
    }

    fn ledger(&self) -> Option<Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what happens to it.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        let millis = self.life.millis();
        self.world.lock().note_at(millis, self.life.name(), what);
    }
}

impl Process {
    /// A process that never lived.
    pub fn new(id: ProcessId, name: String, world: Shared, home: PathBuf, choices: Choices) -> Self {
        Self {
            id,
            name,
            world,
            home,
            lives: 0,
            choices,
            alive: None,
            backups: Vec::new(),
            restored: false,
            replaced: Vec::new(),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name for the world.
    pub const fn id(&self) -> ProcessId {
        self.id
    }

    fn directory(&self) -> PathBuf {
        self.home.join(format!("{}-{}", self.name, self.lives))
    }

    /// Starts it on the files that its last life left.
    ///
    /// # Errors
    /// The machine's, not the simulation's.
    pub fn start<F>(&mut self, main: impl FnOnce(Body) -> F) -> io::Result<()>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let guard = runtime.enter();
        let millis = self.world.lock().millis;
        let life = Life::new(self.id, self.name.clone(), millis, self.choices.branch());
        let life = Arc::new(life);
        if self.lives == 0 {
            template::copy_to(&self.directory())?;
        }
        let disk = SimDisk::new(self.directory(), self.world.clone(), Arc::clone(&life))?;
        let body = Body {
            world: self.world.clone(),
            life,
            disk,
            ledger: Arc::default(),
        };
        let main = runtime.spawn(main(body.clone()));
        drop(guard);
        self.world.lock().note(&self.name, format_args!("starts"));
        self.alive = Some(Alive {
            runtime,
            main,
            body,
            dies_at: None,
        });
        Ok(())
    }

    /// Whether it runs.
    pub const fn is_alive(&self) -> bool {
        self.alive.is_some()
    }

    /// Lets it run until `millis`. Says how it ended by then, if it did: killed, or by itself with an error.
    pub fn run_until(&mut self, millis: u64) -> Option<Ended> {
        let alive = self.alive.as_mut()?;
        let life = Arc::clone(&alive.body.life);
        let main = &mut alive.main;
        let dies_at = alive.dies_at.filter(|at| *at <= millis);
        let ended = alive.runtime.block_on(async {
            tokio::select! {
                biased;
                step = life.died() => Err(match step.as_str() {
                    READ | WRITE => Fault::DeathOnStream,
                    _ => Fault::DeathAtStep,
                }),
                ended = main => Ok(Some(match ended {
                    Ok(Ok(())) => String::from("it stopped by itself"),
                    Ok(Err(reason)) => reason,
                    Err(error) => error.to_string(),
                })),
                () = tokio::time::sleep_until(life.instant(dies_at.unwrap_or(millis))) => match dies_at {
                    Some(_) => Err(Fault::DeathAtMoment),
                    None => Ok(None),
                },
            }
        });
        match ended {
            Ok(failed) => failed.map(Ended::Failed),
            Err(fault) => {
                self.world.lock().faults.count(fault);
                Some(Ended::Killed)
            }
        }
    }

    /// Tells it how to die.
    pub fn doom(&mut self, doom: Doom) {
        let now = self.world.lock().millis;
        let Some(alive) = &mut self.alive else {
            return;
        };
        match doom {
            Doom::Steps(steps) => alive.body.life.doom(steps),
            Doom::StepsOf(kind, steps) => alive.body.life.doom_at(kind, steps),
            Doom::Millis(millis) => alive.dies_at = Some(now + millis),
        }
    }

    /// Takes back what it was doomed to.
    pub fn reprieve(&mut self) {
        if let Some(alive) = &mut self.alive {
            alive.dies_at = None;
            alive.body.life.reprieve();
        }
    }

    /// Ends its life at once, wherever it is. Its next one finds what `end` leaves.
    ///
    /// # Errors
    /// The machine's.
    pub fn kill(&mut self, end: End) -> io::Result<()> {
        let Some(alive) = self.alive.take() else {
            return Ok(());
        };
        // Whatever is still running in it can do nothing from now on.
        alive.body.life.doom(0);
        alive.body.life.kill();
        self.world.lock().note(&self.name, format_args!("dies: {end:?}"));
        self.world.lock().lose_fetched(self.id);
        self.world.lock().dealings.lose_streams(self.id);
        self.lives += 1;
        let disk = alive.body.disk.clone();
        // Its connections close, and leave the files as they are.
        drop(alive);
        disk.leave(end, &self.directory(), &mut self.choices)
    }

    /// Copies the store as it is.
    ///
    /// # Errors
    /// The machine's.
    pub fn back_up(&mut self) -> io::Result<()> {
        let Some(alive) = &self.alive else {
            return Ok(());
        };
        let millis = self.world.lock().millis;
        let directory = self.home.join(format!("{}-backup-{}", self.name, self.backups.len()));
        self.backups.push(alive.body.disk.back_up(directory, millis)?);
        self.world.lock().note(&self.name, format_args!("is backed up"));
        Ok(())
    }

    /// Puts a backup in the place of the store of a process that is dead. Says whether there was one.
    ///
    /// # Errors
    /// The machine's.
    pub fn restore(&mut self) -> io::Result<bool> {
        if self.is_alive() || self.backups.is_empty() {
            return Ok(false);
        }
        let backup = self.choices.pick(&self.backups).clone();
        let lock_is_lost = self.choices.chance(LOCK_IS_LOST);
        backup.restore(&self.directory(), lock_is_lost)?;
        if self.world.lock().flaw == Some(Flaw::TrustCopy) {
            disk::forge_lock(&self.directory())?;
        }
        self.restored = true;
        let made_at = backup.made_at / 1_000;
        self.world.lock().faults.count(match lock_is_lost {
            true => Fault::RestoredAlone,
            false => Fault::RestoredCopy,
        });
        let beside = if lock_is_lost { ", without its lock file" } else { "" };
        self.world.lock().note(
            &self.name,
            format_args!("is restored from its backup of {made_at} s{beside}"),
        );
        Ok(true)
    }

    /// Asks its store something. Nothing happens meanwhile, and it takes no time.
    pub fn ask<T, F: Future<Output = T>>(&mut self, question: impl FnOnce(Ledger) -> F) -> Option<T> {
        let alive = self.alive.as_mut()?;
        let ledger = alive.body.ledger()?;
        let life = Arc::clone(&alive.body.life);
        life.set_calm(true);
        let answer = alive.runtime.block_on(question(ledger));
        life.set_calm(false);
        Some(answer)
    }
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to die.
    Killed,
    /// By itself: real processes don't, unless something is wrong.
    Failed(String),
}
