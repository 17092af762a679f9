//! The times in which nothing goes wrong: before a deadline, and at the end.

use std::io;

use super::Simulation;
use crate::{chain::Weather, properties::Property};

/// The base fee in good weather, wei.
pub(super) const USUAL_BASE_FEE: u128 = 1_000_000_000;
/// How much time an executor has at least, before the end of a grace period, in which nothing goes wrong, milliseconds.
pub const PEACE: u64 = 20 * 60 * 1_000;
/// How long after a channel's end the chain does not take back what came before, milliseconds.
const AFTERMATH: u64 = 8 * 60 * 1_000;
/// The end of a simulation that doesn't settle, milliseconds after it should have begun to.
const NEVER_SETTLES: u64 = 6 * 3_600_000;

impl Simulation {
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
        world.chain.base_fee = USUAL_BASE_FEE;
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

    /// Lets everything come to its end in peace.
    pub(super) fn settle(&mut self) -> io::Result<()> {
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
    pub(super) fn pass(&mut self, millis: u64) -> io::Result<()> {
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

    /// In the minutes before a deadline nothing goes wrong, but that gas may be as dear as it likes within what the policy
    /// pays; what is durable when they begin has to be paid.
    pub(crate) fn keep_peace(&mut self) -> io::Result<()> {
        if !self.is_peace() {
            return Ok(());
        }
        self.calm_weather();
        if self.dear {
            self.world.lock().chain.base_fee = self.peace_fee;
        }
        self.disturbances.clear();
        self.undoom();
        self.start_all();
        self.note_held();
        Ok(())
    }
}
