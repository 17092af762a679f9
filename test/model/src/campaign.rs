//! Many sequences, on all processors.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use crate::{
    chain::Chain,
    coverage::Coverage,
    flaw::Flaw,
    run::{Disagreement, sequence},
};

/// How many sequences are run, how long ones, and from which seed on.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first sequence's seed. The next one's is one higher, and so on.
    pub seed: u64,
    /// How many sequences.
    pub sequences: u64,
    /// Steps of a sequence, besides those that give the accounts tokens.
    pub steps: usize,
}

impl Campaign {
    /// What the tests run unless they are told otherwise.
    pub const DEFAULT: Self = Self {
        seed: 1,
        sequences: 300,
        steps: 100,
    };

    /// The default, with `LLOOM_MODEL_SEED` and `LLOOM_MODEL_SEQUENCES` in its place where they are set.
    ///
    /// # Panics
    /// If one of them is no number.
    pub fn from_env() -> Self {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
            Err(_) => default,
        };
        Self {
            seed: number("LLOOM_MODEL_SEED", Self::DEFAULT.seed),
            sequences: number("LLOOM_MODEL_SEQUENCES", Self::DEFAULT.sequences),
            steps: Self::DEFAULT.steps,
        }
    }

    /// Runs the sequences until one disagrees; gives what was met in all of them.
    ///
    /// # Errors
    /// The first disagreement found, with the steps up to it.
    ///
    /// # Panics
    /// If one side does.
    pub fn run(&self, flaw: Option<Flaw>) -> Result<Coverage, Box<Disagreement>> {
        let next = AtomicU64::new(0);
        let work = || {
            let chain = Chain::deploy();
            let mut coverage = Coverage::default();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.sequences {
                    return Ok(coverage);
                }
                let seed = self.seed.wrapping_add(index);
                if let Err(disagreement) = sequence(&chain, flaw, seed, self.steps, &mut coverage) {
                    next.store(self.sequences, Ordering::Relaxed);
                    return Err(disagreement);
                }
            }
        };
        let processors = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
            let mut all = Coverage::default();
            for thread in threads {
                all.merge(thread.join().expect("no thread panics")?);
            }
            Ok(all)
        })
    }
}
