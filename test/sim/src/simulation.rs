//! One seed, from its beginning to its verdict.

mod channels;
mod opening;
mod peace;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
};

use alloy::primitives::{Address, B256};
use libp2p::PeerId;
use lloom_ledger::ChannelState;
use lloom_node::{Offer, peer_id};
use lloom_receipts::{ChannelId, TokenAmount};
use tempfile::TempDir;

use crate::{
    actions::Disturbance,
    cast::{Buyer, Channel, Crook, Rogue, Seller},
    chain::Genesis,
    choices::Choices,
    client::ClientSetup,
    crook::CrookOrder,
    fault::Faults,
    flaw::Flaw,
    grants::Grants,
    network::LATENCY,
    process::Ended,
    properties::{self, Property, Violation},
    trace::Trace,
    witness::Counts,
    world::Shared,
};

use self::peace::USUAL_BASE_FEE;
pub use self::{channels::GRACE, peace::PEACE};

/// When things begin to happen, milliseconds: the first channels are confirmed then.
const FIRST_ACTION: u64 = 150_000;
/// How far processes may be apart while they talk, milliseconds: less than any message takes.
const STEP: u64 = LATENCY.0;
/// How long a talk takes to begin at most, milliseconds.
const TALK_BEGINS: u64 = 1_500;

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
    /// What went wrong.
    pub faults: Faults,
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
    /// Whether gas is dear, and its price changes, when everything else is left in peace.
    dear: bool,
    /// The base fee then, wei.
    peace_fee: u128,
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
        self.disturb_until(until)?;
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
                world.cut(None, Some(peer));
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
                self.world.lock().cut(Some(buyer.process.id()), None);
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
        if self.dear && self.choices.chance(250) {
            let fee = USUAL_BASE_FEE * *self.choices.pick(&[1, 3, 30, 150, 400]);
            // Who waits for a cheaper block before the deadline gets none.
            self.peace_fee = if self.is_peace() {
                fee.max(self.peace_fee)
            } else {
                USUAL_BASE_FEE
            };
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
            faults: world.all_faults(),
            settled,
        })
    }
}
