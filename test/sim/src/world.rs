use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alloy::primitives::{Address, B256};
use libp2p::PeerId;
use lloom_ledger::Block;
use lloom_node::client::Tolerance;
use lloom_receipts::{BlockNumber, UnixSeconds};

use crate::{
    chain::{Blockchain, Endpoint, Genesis, START, Weather},
    dealings::Dealings,
    fault::{Fault, Faults},
    flaw::Flaw,
    life::{Life, ProcessId},
    network::Hub,
    trace::Trace,
    witness::{Passed, Witness, answered, asked},
};

/// Everything outside of the processes.
#[derive(Debug)]
pub struct World {
    /// Milliseconds since the simulation began.
    pub millis: u64,
    /// The chain.
    pub chain: Blockchain,
    /// How endpoints answer now.
    pub weather: Weather,
    /// The network.
    pub hub: Hub,
    /// What was seen on the wire.
    pub witness: Witness,
    /// What happened.
    pub trace: Trace,
    /// What is broken on purpose.
    pub flaw: Option<Flaw>,
    /// What went wrong, but on the chain.
    pub faults: Faults,
    endpoints: BTreeMap<ProcessId, Vec<Endpoint>>,
    /// Whose bills and answers an honest executor's process are.
    operators: BTreeMap<ProcessId, Address>,
    /// What an honest client's process tolerates.
    clients: BTreeMap<ProcessId, Tolerance>,
    /// What honest clients heard and signed.
    pub dealings: Dealings,
    /// For [`Flaw::SkipReorg`]: the first block that a process saw at a height.
    pub first_seen: BTreeMap<(ProcessId, BlockNumber), Block>,
    /// For [`Flaw::TrustTimeout`]: transactions that count as failed.
    pub written_off: BTreeSet<B256>,
    /// For [`Flaw::ForgetCursor`]: blocks whose events are on their way to the store, and those that got lost there.
    fetched: BTreeSet<(ProcessId, B256)>,
    lost: BTreeSet<(ProcessId, B256)>,
}

/// The world in everybody's hands. One thread only holds it, and never across an await.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    /// A world around this beginning.
    pub fn new(genesis: &Genesis, prints: bool, flaw: Option<Flaw>) -> Self {
        Self(Arc::new(Mutex::new(World {
            millis: 0,
            chain: Blockchain::new(genesis),
            weather: Weather::default(),
            hub: Hub::default(),
            witness: Witness::default(),
            trace: Trace::new(prints),
            flaw,
            faults: Faults::default(),
            endpoints: BTreeMap::new(),
            operators: BTreeMap::new(),
            clients: BTreeMap::new(),
            dealings: Dealings::default(),
            first_seen: BTreeMap::new(),
            written_off: BTreeSet::new(),
            fetched: BTreeSet::new(),
            lost: BTreeSet::new(),
        })))
    }

    /// The world, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// Now.
    pub const fn now(&self) -> UnixSeconds {
        UnixSeconds::new(START + self.millis / 1_000)
    }

    /// Notes what happens.
    pub fn note(&mut self, who: &str, what: fmt::Arguments<'_>) {
        self.trace.note(self.millis, who, what);
    }

    /// Notes what happens to a process at its own time, which may be ahead.
    pub fn note_at(&mut self, millis: u64, who: &str, what: fmt::Arguments<'_>) {
        self.trace.note(millis, who, what);
    }

    /// Breaks the streams of a client's process, or those to a peer. Says how many there were.
    pub fn cut(&mut self, client: Option<ProcessId>, peer: Option<PeerId>) -> u64 {
        let cut = self.hub.cut(client, peer);
        self.faults.count_many(Fault::CutStream, cut);
        cut
    }

    /// The endpoints of a process.
    pub fn endpoints(&mut self, process: ProcessId) -> &mut Vec<Endpoint> {
        self.endpoints
            .entry(process)
            .or_insert_with(|| vec![Endpoint::default(); 2])
    }

    /// Notes a fault that bites a process at its own time.
    pub fn bite(&mut self, fault: Fault, life: &Life, what: fmt::Arguments<'_>) {
        self.faults.count(fault);
        self.trace.note(life.millis(), life.name(), what);
    }

    /// All that went wrong.
    pub fn all_faults(&self) -> Faults {
        let mut all = self.faults.clone();
        all.add(&self.chain.faults);
        all
    }

    /// From now on, `process` answers as `operator`.
    pub fn is_operator(&mut self, process: ProcessId, operator: Address) {
        self.operators.insert(process, operator);
    }

    /// From now on, `process` buys for itself, and tolerates this much.
    pub fn is_client(&mut self, process: ProcessId, tolerance: Tolerance) {
        self.clients.insert(process, tolerance);
    }

    /// Takes note of what passed at one end of a stream. Who cheats is not looked after.
    pub fn witness(&mut self, life: &Life, passed: Vec<Passed>) {
        let by = self.operators.get(&life.process()).copied();
        let tolerance = self.clients.get(&life.process()).copied();
        for passed in passed {
            let millis = life.millis();
            match &passed {
                Passed::ToExecutor(frame) => {
                    self.trace
                        .note(millis, life.name(), format_args!("reads {}", asked(frame)))
                }
                Passed::ToClient(frame, _) => {
                    self.trace
                        .note(millis, life.name(), format_args!("sends {}", answered(frame)))
                }
                Passed::Said(frame) => {
                    if let Some(tolerance) = tolerance {
                        self.dealings.say(life.process(), frame, tolerance);
                    }
                }
                Passed::Heard(frame, asked) => {
                    if tolerance.is_some() {
                        self.dealings.hear(frame, *asked);
                    }
                }
            }
            if let Some(by) = by {
                self.witness.see(millis, by, &passed);
            }
        }
    }

    /// A process has read a block's events, and is about to store them.
    pub fn fetched(&mut self, process: ProcessId, block: B256) {
        if self.flaw == Some(Flaw::ForgetCursor) {
            self.fetched.insert((process, block));
        }
    }

    /// A process has stored what it had read.
    pub fn forget_fetched(&mut self, process: ProcessId) {
        self.fetched.retain(|(other, _)| *other != process);
    }

    /// A process died: with a cursor that is ahead of the events, what it was about to store is lost.
    pub fn lose_fetched(&mut self, process: ProcessId) {
        let fetched = std::mem::take(&mut self.fetched);
        let (lost, others) = fetched.into_iter().partition(|(other, _)| *other == process);
        self.fetched = others;
        self.lost.extend::<BTreeSet<_>>(lost);
    }

    /// Whether a process will never see the events of a block.
    pub fn is_lost_to(&self, process: ProcessId, block: B256) -> bool {
        self.lost.contains(&(process, block))
    }
}
