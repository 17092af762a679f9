//! Lives of a process that is killed again and again, until it was killed as often as the story says.

use std::fmt;

use eyre::{Result, ensure};

use crate::chaos::number;

/// Lives for each kill, at most: some processes end by themselves before their moment comes, but not most of them.
const LIVES_PER_KILL: u64 = 2;

/// How often a process was killed, and in how many lives.
#[derive(Debug)]
pub struct Killings {
    wanted: u64,
    killed: u64,
    lives: u64,
}

impl Killings {
    /// A hundred, unless the environment says otherwise.
    pub fn new() -> Self {
        Self {
            wanted: number("LLOOM_CHAOS_KILLS", 100),
            killed: 0,
            lives: 0,
        }
    }

    /// The number of the next life; `None` when there were kills enough.
    pub fn next_life(&mut self) -> Result<Option<u64>> {
        if self.killed >= self.wanted {
            return Ok(None);
        }
        ensure!(
            self.lives < self.wanted * LIVES_PER_KILL,
            "too few of its lives ended by a kill: {self}"
        );
        self.lives += 1;
        Ok(Some(self.lives))
    }

    /// Counts how a life ended.
    pub fn count(&mut self, was_killed: bool) {
        self.killed += u64::from(was_killed);
    }

    /// How often it was killed.
    pub const fn killed(&self) -> u64 {
        self.killed
    }
}

impl fmt::Display for Killings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, killed, lives } = self;
        write!(formatter, "{killed} kills of {wanted} in {lives} lives")
    }
}
