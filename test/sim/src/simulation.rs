//! One seed, from its beginning to its verdict.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    path::PathBuf,
};

use alloy::primitives::{Address, B256};
use libp2p::PeerId;
use lloom_bindings::{ChannelEscrow, ExecutorRegistry, channel_escrow::IChannelEscrow};
use lloom_ledger::ChannelState;
use lloom_node::{Offer, peer_id};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};
use tempfile::TempDir;

use crate::{
    actions::Disturbance,
    cast::{Buyer, Channel, Crook, Rogue, Seller},
    chain::{Blockchain, Genesis, START, Weather},
    choices::Choices,
    client::ClientSetup,
    crook::CrookOrder,
    executor::ExecutorSetup,
    flaw::Flaw,
    grants::Grants,
    network::LATENCY,
    process::{Ended, Process},
    properties::{self, Property, Violation},
    trace::Trace,
    witness::Counts,
    world::Shared,
};

/// When things begin to happen, milliseconds: the first channels are confirmed then.
const FIRST_ACTION: u64 = 150_000;
/// How far processes may be apart while they talk, milliseconds: less than any message takes.
const STEP: u64 = LATENCY.0;
/// How long a talk takes to begin at most, milliseconds.
const TALK_BEGINS: u64 = 1_500;
/// How much time an executor has at least, before the end of a grace period, in which nothing goes wrong, milliseconds.
pub const PEACE: u64 = 20 * 60 * 1_000;
/// How long after a channel's end the chain does not take back what came before, milliseconds.
const AFTERMATH: u64 = 8 * 60 * 1_000;
/// The number of an executor that cheats.
const CROOK: u8 = 9;
/// The escrow's grace period, milliseconds.
pub const GRACE: u64 = 3_600_000;
/// The end of a simulation that doesn't settle, milliseconds after it should have begun to.
const NEVER_SETTLES: u64 = 6 * 3_600_000;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Chooses everything, unless there are bytes.
    pub seed: u64,
    /// Chooses everything in place of the seed: a fuzzer's.
    pub bytes: Option<Vec<u8>>,
    /// Whether everything that happens is printed.
    pub prints: bool,
    /// What to break.
    pub flaw: Option<Flaw>,
}

impl Options {
    /// A seed, and nothing broken.
    pub const fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            bytes: None,
            prints: false,
            flaw: None,
        }
    }
}

/// What came of a simulation.
#[derive(Debug)]
pub struct Outcome {
    /// The rules that were broken.
    pub violations: Vec<Violation>,
    /// Everything that happened.
    pub trace: Trace,
    /// How much of it.
    pub counts: Counts,
    /// What all channels have settled, base units.
    pub settled: TokenAmount,
}

/// Simulates what `options` say.
///
/// # Errors
/// The machine's: no room for the stores, no threads.
pub fn simulate(options: &Options) -> io::Result<Outcome> {
    PANICS.with(|panics| panics.set(0));
    let mut simulation = Simulation::new(options)?;
    simulation.run()?;
    let panics = PANICS.with(Cell::get);
    if panics > 0 {
        simulation.violate(Property::Life, format!("{panics} tasks panicked"));
    }
    simulation.end()
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts panics from now on: a task that crashes takes nobody with it, and would go unnoticed.
pub fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.with(|panics| panics.set(panics.get() + 1));
        before(info);
    }));
}

pub(crate) struct Simulation {
    pub(crate) world: Shared,
    pub(crate) genesis: Genesis,
    pub(crate) choices: Choices,
    pub(crate) sellers: Vec<Seller>,
    pub(crate) buyers: Vec<Buyer>,
    /// Somebody who buys and cheats, in some simulations.
    pub(crate) rogue: Option<Rogue>,
    /// Somebody who sells and cheats, in some simulations.
    pub(crate) crook: Option<Crook>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) grants: Grants,
    /// When the next block is made, milliseconds.
    next_block: u64,
    /// Milliseconds between two blocks at most.
    pub(crate) block_time: u64,
    /// When the next thing is done, milliseconds.
    next_action: u64,
    /// Milliseconds between two things at most.
    pace: u64,
    /// When nothing is done any more, milliseconds.
    pub(crate) chaos_ends: u64,
    /// Until when bad weather lasts, milliseconds.
    pub(crate) weather_ends: u64,
    /// Somebody is about to talk until then, milliseconds.
    talks_until: u64,
    /// What disturbs a talk, and when, milliseconds.
    pub(crate) disturbances: Vec<(u64, Disturbance)>,
    pub(crate) violations: Vec<Violation>,
    /// What the chain said of channels, as of which block.
    states: RefCell<(B256, BTreeMap<ChannelId, Option<ChannelState>>)>,
    // Dropped last.
    _home: TempDir,
}

impl Simulation {
    fn new(options: &Options) -> io::Result<Self> {
        let mut choices = match &options.bytes {
            Some(bytes) => Choices::of_bytes(bytes),
            None => Choices::of_seed(options.seed),
        };
        let mut genesis = Genesis::deployed();
        let home = match PathBuf::from("/dev/shm") {
            memory if memory.is_dir() => TempDir::with_prefix_in("lloom-sim-", memory)?,
            _ => TempDir::with_prefix("lloom-sim-")?,
        };
        let executors = if choices.chance(250) { 2 } else { 1 };
        let clients = choices.between(1, 2) as u8;
        let setups: Vec<_> = (0..executors)
            .map(|number| ExecutorSetup::choose(number, &genesis, &mut choices))
            .collect();
        let client_setups: Vec<_> = (0..clients)
            .map(|number| ClientSetup::choose(number, setups[0].watcher.clone(), &mut choices))
            .collect();
        for setup in &setups {
            genesis.endow(setup.operator.address());
        }
        let cheats = choices.chance(400);
        let crook_setup = choices
            .chance(400)
            .then(|| ExecutorSetup::choose(CROOK, &genesis, &mut choices));
        let rogue_setup = ClientSetup::choose(clients, setups[0].watcher.clone(), &mut choices);
        for setup in client_setups.iter().chain([&rogue_setup]) {
            genesis.endow(setup.payer);
        }
        let world = Shared::new(&genesis, options.prints, options.flaw);
        let process = |id: usize, name: String, choices: &mut Choices| {
            Process::new(id, name, world.clone(), home.path().to_owned(), choices.branch())
        };
        let mut sellers = Vec::new();
        for (id, setup) in setups.into_iter().enumerate() {
            let mut locked = world.lock();
            locked.is_operator(id, setup.operator.address());
            let exposure = setup.config.exposure.maximum.max(locked.witness.exposure);
            locked.witness.exposure = exposure;
            let add = ExecutorRegistry::addOperatorCall {
                operator: setup.operator.address(),
            };
            locked.chain.run_errand(setup.payee, genesis.contracts.registry, &add);
            drop(locked);
            let process = process(id, format!("executor{id}"), &mut choices);
            sellers.push(Seller::new(setup, process));
        }
        let mut buyers = Vec::new();
        for (number, setup) in client_setups.into_iter().enumerate() {
            let process = process(sellers.len() + number, format!("client{number}"), &mut choices);
            world.lock().is_client(process.id(), setup.config.tolerance);
            buyers.push(Buyer::new(setup, process));
        }
        let rogue = cheats.then(|| {
            let process = process(sellers.len() + buyers.len(), String::from("cheat"), &mut choices);
            Rogue::new(rogue_setup, process)
        });
        let crook = crook_setup.map(|setup| {
            let id = sellers.len() + buyers.len() + usize::from(cheats);
            Crook::new(setup, process(id, String::from("crook"), &mut choices))
        });
        let pace = *choices.pick(&[30_000, 60_000, 120_000]);
        let chaos_ends = choices.between(10 * 60_000, 70 * 60_000);
        Ok(Self {
            world,
            genesis,
            sellers,
            buyers,
            rogue,
            crook,
            channels: Vec::new(),
            grants: Grants::default(),
            next_block: 1_000,
            block_time: *choices.pick(&[15_000, 30_000, 60_000]),
            next_action: FIRST_ACTION,
            pace,
            chaos_ends,
            weather_ends: 0,
            talks_until: 0,
            disturbances: Vec::new(),
            violations: Vec::new(),
            states: RefCell::default(),
            choices,
            _home: home,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        if let Some(rogue) = &mut self.rogue {
            rogue.start()?;
        }
        if let Some(crook) = &mut self.crook {
            crook.start()?;
        }
        let payers: Vec<Address> = self.payers().map(|setup| setup.payer).collect();
        for payer in payers {
            self.deposit_balance(payer);
        }
        self.pass(2_000)?;
        let cheat = usize::from(self.rogue.is_some());
        for buyer in 0..self.buyers.len() + cheat {
            for seller in 0..self.sellers.len() {
                self.open_channel(buyer, seller);
            }
        }
        if self.crook.is_some() {
            for buyer in 0..self.buyers.len() {
                self.open_channel(buyer, self.sellers.len());
            }
        }
        while self.millis() < self.chaos_ends {
            self.advance(self.chaos_ends)?;
        }
        self.settle()
    }

    /// Everybody who buys, the cheat last.
    pub(crate) fn payers(&self) -> impl Iterator<Item = &ClientSetup> {
        let rogue = self.rogue.iter().map(|rogue| &rogue.setup);
        self.buyers.iter().map(|buyer| &buyer.setup).chain(rogue)
    }

    /// Now, milliseconds since the beginning.
    pub(crate) fn millis(&self) -> u64 {
        self.world.lock().millis
    }

    pub(crate) fn violate(&mut self, property: Property, what: String) {
        self.world.lock().note("!", format_args!("{property:?}: {what}"));
        self.violations.push(Violation::of(property, what));
    }

    /// Lets time pass until the next thing that is due, but not beyond `limit`, and does it.
    fn advance(&mut self, limit: u64) -> io::Result<()> {
        let now = self.millis();
        let starts = self.sellers.iter().filter_map(|seller| seller.starts_at);
        let starts = starts.chain(self.buyers.iter().filter_map(|buyer| buyer.starts_at));
        let actions = (now < self.chaos_ends).then_some(self.next_action);
        let disturbances = self.disturbances.iter().map(|(at, _)| *at);
        let due = starts
            .chain([self.next_block, limit])
            .chain(actions)
            .chain(disturbances);
        let due = due.min().unwrap_or(now);
        let talks = now < self.talks_until || self.world.lock().hub.is_busy();
        let until = if talks { due.min(now + STEP) } else { due }.max(now);
        self.run_processes(until)?;
        self.world.lock().millis = until;
        self.start_processes(until)?;
        if self.next_block <= until {
            self.mine(until);
        }
        self.disturb_until(until);
        if self.next_action <= until && until < self.chaos_ends {
            self.next_action = until + self.choices.between(1_000, self.pace);
            self.act()?;
        }
        if self.weather_ends <= until {
            self.calm_weather();
        }
        Ok(())
    }

    /// Says that somebody is about to talk.
    pub(crate) fn expect_talk(&mut self) {
        self.talks_until = self.millis() + TALK_BEGINS;
    }

    fn run_processes(&mut self, until: u64) -> io::Result<()> {
        let mut failed = Vec::new();
        for seller in &mut self.sellers {
            let Some(ended) = seller.process.run_until(until) else {
                continue;
            };
            if let Ended::Failed(reason) = ended {
                failed.push(format!("{}: {reason}", seller.process.name()));
            }
            let after = self.choices.between(500, 120_000);
            seller.kill(until, after)?;
            let peer = seller.peer();
            let mut world = self.world.lock();
            world.hub.leave(&peer);
            // Otherwise its peers never learn, and have to run out of patience.
            if self.choices.chance(700) {
                world.hub.cut(None, Some(peer));
            }
        }
        for buyer in &mut self.buyers {
            let Some(ended) = buyer.process.run_until(until) else {
                continue;
            };
            if let Ended::Failed(reason) = ended {
                failed.push(format!("{}: {reason}", buyer.process.name()));
            }
            let after = self.choices.between(500, 120_000);
            buyer.kill(until, after)?;
            if self.choices.chance(700) {
                self.world.lock().hub.cut(Some(buyer.process.id()), None);
            }
        }
        // A cheat may do as it likes, and is not looked after.
        if let Some(rogue) = &mut self.rogue
            && let Some(Ended::Failed(reason)) = rogue.process.run_until(until)
        {
            failed.push(format!("cheat: {reason}"));
            self.rogue = None;
        }
        if let Some(crook) = &mut self.crook
            && let Some(Ended::Failed(reason)) = crook.process.run_until(until)
        {
            failed.push(format!("crook: {reason}"));
            self.crook = None;
        }
        for reason in failed {
            self.violate(Property::Life, reason);
        }
        Ok(())
    }

    fn start_processes(&mut self, now: u64) -> io::Result<()> {
        for index in 0..self.sellers.len() {
            if self.sellers[index].starts_at.is_some_and(|at| at <= now) {
                self.start_seller(index)?;
            }
        }
        for (number, buyer) in self.buyers.iter_mut().enumerate() {
            if buyer.starts_at.is_some_and(|at| at <= now) {
                if std::mem::take(&mut buyer.restores) && buyer.process.restore()? {
                    let mut world = self.world.lock();
                    for channel in self.channels.iter().filter(|channel| channel.buyer == number) {
                        world.dealings.forget(channel.id);
                    }
                }
                buyer.start()?;
            }
        }
        Ok(())
    }

    fn start_seller(&mut self, index: usize) -> io::Result<()> {
        let restores = std::mem::take(&mut self.sellers[index].restores);
        if restores && self.sellers[index].process.restore()? {
            let ids = self.channels.iter_mut().filter(|channel| channel.seller == index);
            let mut world = self.world.lock();
            for channel in ids {
                // What it accepted since is lost to it, until its clients hand it back.
                channel.held.clear();
                let seen = world.witness.channels.entry(channel.id).or_default();
                seen.forgotten = true;
                seen.recorded.clear();
            }
        }
        self.sellers[index].start()
    }

    /// Makes a block, and has those payers withdraw whose time has come.
    fn mine(&mut self, now: u64) {
        for index in 0..self.channels.len() {
            self.withdraw_when_ready(index);
        }
        let wait = self.choices.between(self.block_time / 3, self.block_time);
        self.next_block = now + wait;
        let mut world = self.world.lock();
        let at = world.now();
        let block = world.chain.mine(at);
        let (number, hash, transactions) = (block.header.number, block.header.hash, block.transactions.len());
        world.note(
            "chain",
            format_args!("block {number}, {hash}, {transactions} transactions"),
        );
        drop(world);
        self.look_at_channels(now);
    }

    fn withdraw_when_ready(&mut self, index: usize) {
        let channel = self.channels[index].clone();
        let Some(state) = self.state_of(channel.id) else {
            return;
        };
        let mut world = self.world.lock();
        let ready = state
            .close_requested_at
            .is_some_and(|at| world.now().get() >= at.get() + GRACE / 1_000);
        if ready && !state.finalized {
            let call = ChannelEscrow::withdrawCall {
                channelId: channel.id.hash(),
            };
            world
                .chain
                .run_errand(channel.parameters.payer, self.genesis.contracts.escrow, &call);
        }
    }

    /// Notes which channels are over, and when the peace before their end began.
    pub(crate) fn look_at_channels(&mut self, now: u64) {
        for index in 0..self.channels.len() {
            let state = self.state_of(self.channels[index].id);
            let channel = &mut self.channels[index];
            match state {
                Some(state) if state.finalized => {
                    channel.over_since.get_or_insert(now);
                }
                Some(state) => {
                    channel.over_since = None;
                    channel.claim_by = state.close_requested_at.map(deadline_of);
                }
                None => channel.over_since = None,
            }
        }
    }

    /// What the chain says of a channel; `None` while it is not open.
    pub(crate) fn state_of(&self, channel: ChannelId) -> Option<ChannelState> {
        let world = self.world.lock();
        let mut states = self.states.borrow_mut();
        let head = world.chain.head();
        // A block without a transaction leaves every channel as it was.
        if head.header.parent == states.0 && head.transactions.is_empty() {
            states.0 = head.header.hash;
        }
        if states.0 != head.header.hash || !states.1.contains_key(&channel) {
            *states = (head.header.hash, self.read_states(&world.chain));
        }
        states.1.get(&channel).copied().flatten()
    }

    /// What the chain says of every channel.
    fn read_states(&self, chain: &Blockchain) -> BTreeMap<ChannelId, Option<ChannelState>> {
        let ids: Vec<ChannelId> = self.channels.iter().map(|channel| channel.id).collect();
        let view = ChannelEscrow::getChannelsBatchCall {
            channelIds: ids.iter().map(|id| id.hash()).collect(),
        };
        let read: Vec<IChannelEscrow::Channel> = chain.read(self.genesis.contracts.escrow, &view);
        let states = read.into_iter().map(|read| {
            (!read.payer.is_zero()).then_some(ChannelState {
                deposit: TokenAmount::new(read.deposit),
                settled: TokenAmount::new(read.settled),
                close_requested_at: (read.closeRequestedAt > 0).then(|| UnixSeconds::new(read.closeRequestedAt)),
                finalized: read.finalized,
            })
        });
        ids.into_iter().zip(states).collect()
    }

    /// Whether a deadline is so near that everybody is left in peace.
    pub(crate) fn is_peace(&self) -> bool {
        let now = self.millis();
        let pending = self.channels.iter().filter(|channel| channel.over_since.is_none());
        let mut deadlines = pending.filter_map(|channel| channel.claim_by);
        let mut over = self.channels.iter().filter_map(|channel| channel.over_since);
        deadlines.any(|deadline| deadline < now + PEACE + self.block_time) || over.any(|over| now < over + AFTERMATH)
    }

    /// Ends all that goes wrong outside of the processes.
    pub(crate) fn calm_weather(&mut self) {
        let ids: Vec<_> = (0..self.sellers.len() + self.buyers.len()).collect();
        let mut world = self.world.lock();
        world.weather = Weather::default();
        world.hub.cut_until = 0;
        world.chain.stuck_blocks = 0;
        world.chain.base_fee = 1_000_000_000;
        for id in ids {
            for endpoint in world.endpoints(id) {
                *endpoint = Default::default();
            }
        }
    }

    /// Lets everybody who is down start at once.
    pub(crate) fn start_all(&mut self) {
        let now = self.millis();
        for seller in &mut self.sellers {
            seller.starts_at = seller.starts_at.map(|at| at.min(now));
        }
        for buyer in &mut self.buyers {
            buyer.starts_at = buyer.starts_at.map(|at| at.min(now));
        }
    }

    /// What an executor, or the crook, offers.
    pub(crate) fn offer_of(&self, seller: usize) -> Option<&Offer> {
        let honest = self.sellers.get(seller).map(|seller| &seller.setup);
        let setup = honest.or_else(|| self.crook.as_ref().map(|crook| &crook.setup));
        setup.map(|setup| &setup.offer)
    }

    /// Where an executor, or the crook, is reached, and what it offers.
    pub(crate) fn peer_of(&self, seller: usize) -> Option<(PeerId, &Offer)> {
        let offer = self.offer_of(seller)?;
        let honest = self.sellers.get(seller).map(|seller| &seller.setup.operator);
        let operator = honest.or_else(|| self.crook.as_ref().map(|crook| &crook.setup.operator))?;
        Some((peer_id(operator), offer))
    }

    /// Has the crook take from the chain what it holds signatures for.
    pub(crate) fn order_crook(&self) {
        if let Some(crook) = &self.crook {
            crook.order(CrookOrder::Claim);
        }
    }

    /// Who is paid for what a seller earns.
    pub(crate) fn payee(&self, seller: usize) -> Address {
        self.sellers[seller].setup.payee
    }

    fn end(mut self) -> io::Result<Outcome> {
        let evidence = self.gather();
        let mut violations = std::mem::take(&mut self.violations);
        violations.extend(properties::check(&evidence));
        let settled = evidence.channels.iter().fold(TokenAmount::ZERO, |sum, channel| {
            sum.saturating_add(channel.on_chain.settled)
        });
        for seller in &mut self.sellers {
            seller.vanished = true;
            seller.kill(0, 0)?;
        }
        for buyer in &mut self.buyers {
            buyer.vanished = true;
            buyer.kill(0, 0)?;
        }
        if let Some(rogue) = &mut self.rogue {
            rogue.vanished = true;
            rogue.kill(0, 0)?;
        }
        if let Some(crook) = &mut self.crook {
            crook.vanished = true;
            crook.kill(0, 0)?;
        }
        let mut world = self.world.lock();
        for violation in &violations {
            let text = violation.to_string();
            world.note("verdict", format_args!("{text}"));
        }
        Ok(Outcome {
            violations,
            trace: std::mem::replace(&mut world.trace, Trace::new(false)),
            counts: world.witness.counts,
            settled,
        })
    }

    /// Lets everything come to its end in peace.
    fn settle(&mut self) -> io::Result<()> {
        self.chaos_ends = self.millis();
        self.disturbances.clear();
        self.world.lock().note("", format_args!("everything is settled"));
        self.calm_weather();
        self.undoom();
        self.start_all();
        self.open_what_is_missing();
        self.pass(240_000)?;
        // Whoever comes back links what it owes.
        for _ in 0..2 {
            for index in 0..self.channels.len() {
                self.sync(index);
                self.pass(20_000)?;
            }
        }
        self.order_crook();
        self.pass(120_000)?;
        for index in 0..self.channels.len() {
            self.request_close(index);
        }
        let gives_up = self.millis() + NEVER_SETTLES;
        while self.channels.iter().any(|channel| channel.over_since.is_none()) {
            if self.millis() > gives_up {
                self.violate(
                    Property::Payment,
                    String::from("the channels are not over after hours of peace"),
                );
                break;
            }
            self.advance(u64::MAX)?;
            self.keep_peace()?;
        }
        // Deep enough to be final, and everybody has looked.
        let confirmations = self.sellers.iter().map(|seller| seller.setup.offer.confirmations).max();
        let blocks = confirmations.unwrap_or_default() + 3;
        self.pass(blocks * self.block_time + 600_000)?;
        self.see_head()
    }

    /// Lets `millis` pass.
    fn pass(&mut self, millis: u64) -> io::Result<()> {
        let until = self.millis() + millis;
        while self.millis() < until {
            self.advance(until)?;
        }
        Ok(())
    }

    /// No more blocks, until everybody has seen the last one.
    fn see_head(&mut self) -> io::Result<()> {
        self.next_block = u64::MAX;
        let until = self.millis() + 600_000;
        while self.millis() < until {
            let next = (self.millis() + 60_000).min(until);
            self.run_processes(next)?;
            self.world.lock().millis = next;
            self.start_processes(next)?;
        }
        Ok(())
    }

    /// Nobody dies any more. Whoever was about to be restored isn't: what it bills from now on, nobody has noted.
    fn undoom(&mut self) {
        for seller in &mut self.sellers {
            seller.process.reprieve();
            seller.restores = false;
        }
        for buyer in &mut self.buyers {
            buyer.process.reprieve();
            buyer.restores = false;
        }
    }

    /// In the minutes before a deadline nothing goes wrong; what is durable when they begin has to be paid.
    pub(crate) fn keep_peace(&mut self) -> io::Result<()> {
        if !self.is_peace() {
            return Ok(());
        }
        self.calm_weather();
        self.disturbances.clear();
        self.undoom();
        self.start_all();
        self.note_held();
        Ok(())
    }
}

/// When the executor's time to claim ends, milliseconds.
fn deadline_of(requested_at: UnixSeconds) -> u64 {
    (requested_at.get() - START) * 1_000 + GRACE
}
