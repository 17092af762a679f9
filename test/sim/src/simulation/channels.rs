//! What the chain says of the channels, and what payers do about that.

use std::collections::BTreeMap;

use lloom_bindings::{ChannelEscrow, channel_escrow::IChannelEscrow};
use lloom_ledger::ChannelState;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use super::Simulation;
use crate::chain::{Blockchain, START};

/// The escrow's grace period, milliseconds.
pub const GRACE: u64 = 3_600_000;

impl Simulation {
    pub(super) fn withdraw_when_ready(&mut self, index: usize) {
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
            let id = self.channels[index].id;
            let state = self.state_of(id);
            if let Some(state) = state {
                self.world.lock().witness.settle(id, state.settled);
            }
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
}

/// When the executor's time to claim ends, milliseconds.
fn deadline_of(requested_at: UnixSeconds) -> u64 {
    (requested_at.get() - START) * 1_000 + GRACE
}
