//! What may happen.

use std::io;

use alloy::primitives::{B256, U256};
use lloom_bindings::ChannelEscrow;
use lloom_ledger::{Moot, NewChannel, Resolution};
use lloom_receipts::{ChannelParameters, TokenAmount, commitment_salt};
use lloom_watcher::Call;

use crate::{
    cast::Channel,
    chain::Weather,
    client::ClientOrder,
    disk::End,
    doom::{CLIENT_MOMENTS, Doom, EXECUTOR_MOMENTS},
    executor::ExecutorOrder,
    fault::Fault,
    flaw::Flaw,
    rogue::{Mischief, Trick},
    script::Script,
    simulation::Simulation,
};

/// Channels at most.
const MAX_CHANNELS: usize = 6;
/// The longest that bad weather lasts, milliseconds.
const LONGEST_WEATHER: u64 = 8 * 60_000;
/// Blocks that a fork replaces beyond those that count as final.
const BEYOND: u64 = 3;

/// What happens in the middle of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disturbance {
    /// The streams to an executor break.
    Cut { seller: usize },
    /// An executor dies within some steps.
    DoomSeller { seller: usize, steps: u64 },
    /// A client dies within some steps.
    DoomBuyer { buyer: usize, steps: u64 },
    /// An executor is backed up: what it serves is open in the copy for ever.
    BackUp { seller: usize },
}

impl Simulation {
    /// Does something.
    pub(crate) fn act(&mut self) -> io::Result<()> {
        if self.choices.chance(550) {
            self.chat();
            return Ok(());
        }
        if self.is_peace() {
            self.keep_peace()?;
            return self.act_kindly();
        }
        match self.choices.below(100) {
            0..22 => self.act_kindly()?,
            22..32 => self.fork(),
            32..42 => self.worsen_weather(),
            42..50 => self.lag(),
            50..54 => self.hide_chain(),
            54..60 => self.stick(),
            60..75 => self.crash_seller()?,
            75..84 => self.crash_buyer()?,
            84..90 => self.back_up()?,
            90..94 => self.restore()?,
            94..98 => self.cut_network(),
            _ => self.use_operator_key(),
        }
        Ok(())
    }

    /// Does something that harms nobody.
    fn act_kindly(&mut self) -> io::Result<()> {
        match self.choices.below(21) {
            20 => self.replay_grant(),
            0..5 => {
                let index = self.choices.below(self.channels.len() as u64) as usize;
                self.request_close(index);
            }
            5..9 => self.top_up(),
            9..12 => {
                let buyer = self.choices.below(self.buyers.len() as u64) as usize;
                let seller = self.choices.below(self.sellers.len() as u64) as usize;
                self.open_channel(buyer, seller);
            }
            12..15 => {
                let index = self.choices.below(self.channels.len() as u64) as usize;
                self.sync(index);
            }
            15..18 => {
                let seller = self.choices.below(self.sellers.len() as u64) as usize;
                self.sellers[seller].order(ExecutorOrder::Claim);
                self.note("orders", format_args!("executor{seller} to claim"));
            }
            _ => {
                let index = self.choices.below(self.channels.len() as u64) as usize;
                let channel = self.channels[index].clone();
                let Some(seller) = self.sellers.get(channel.seller) else {
                    self.order_crook();
                    return Ok(());
                };
                seller.order(ExecutorOrder::Close(channel.id));
                self.note(
                    "orders",
                    format_args!("executor{} to close {}", channel.seller, channel.id),
                );
            }
        }
        Ok(())
    }

    fn note(&self, who: &str, what: std::fmt::Arguments<'_>) {
        self.world.lock().note(who, what);
    }

    /// Opens a channel between two.
    pub(crate) fn open_channel(&mut self, buyer: usize, seller: usize) {
        if self.channels.len() >= MAX_CHANNELS {
            return;
        }
        let random = B256::from(U256::from(self.channels.len() + 1));
        let (Some(owner), Some(offer)) = (self.payers().nth(buyer).cloned(), self.offer_of(seller).cloned()) else {
            return;
        };
        let parameters = ChannelParameters {
            payer: owner.payer,
            payee: offer.payee,
            token: self.genesis.token,
            salt: commitment_salt(offer.operator, random),
            authorized_signer: owner.signer.address(),
        };
        let deposit = TokenAmount::new(self.choices.between(1_500, 12_000).into());
        let id = parameters.id(&self.genesis.domain());
        self.note("payer", format_args!("client{buyer}'s wants {id} for executor{seller}"));
        if self.choices.chance(400) {
            self.open_with_grant(&owner, &parameters, deposit);
        } else {
            self.open_from_wallet(id, &parameters, deposit);
        }
        let mut world = self.world.lock();
        world.witness.open(id, offer.operator, parameters.payer);
        drop(world);
        self.channels.push(Channel {
            id,
            parameters,
            random,
            deposit,
            buyer,
            seller,
            held: Vec::new(),
            sampled_for: None,
            over_since: None,
            claim_by: None,
        });
    }

    /// Has the client take note of a channel: before it is opened, and again should it have forgotten.
    fn record(&self, channel: &Channel) {
        let Some(buyer) = self.buyers.get(channel.buyer) else {
            return;
        };
        let Some(offer) = self.offer_of(channel.seller) else {
            return;
        };
        buyer.order(ClientOrder::Record(NewChannel {
            parameters: channel.parameters,
            operator: offer.operator,
            client_random: channel.random,
            deposit: channel.deposit,
        }));
    }

    fn chat(&mut self) {
        let mut index = self.choices.below(self.channels.len() as u64) as usize;
        // To ask on one that is over is worth a try, but not many.
        if self.channels[index].over_since.is_some() && self.choices.chance(900) {
            let open = self.channels.iter().position(|channel| channel.over_since.is_none());
            index = open.unwrap_or(index);
        }
        let channel = self.channels[index].clone();
        if channel.buyer >= self.buyers.len() {
            self.cheat(&channel);
            return;
        }
        let at_once = *self.choices.pick(&[1, 1, 2, 3]);
        for _ in 0..at_once {
            let script = Script::choose(&mut self.choices);
            let leaves_after = self.choices.chance(120).then(|| self.choices.below(4));
            let Some((peer, offer)) = self.peer_of(channel.seller) else {
                return;
            };
            let order = ClientOrder::Chat {
                peer,
                offer: Box::new(offer.clone()),
                channel: channel.id,
                script,
                leaves_after,
            };
            self.record(&channel);
            let heard = self.buyers[channel.buyer].order(order);
            self.note(
                "asks",
                format_args!("client{} on {}: {script:?}, {heard}", channel.buyer, channel.id),
            );
        }
        self.expect_talk();
        if channel.seller < self.sellers.len() && !self.is_peace() && self.choices.chance(350) {
            let steps = self.choices.below(30);
            let disturbance = match self.choices.below(5) {
                0 | 1 => Disturbance::Cut { seller: channel.seller },
                4 => Disturbance::BackUp { seller: channel.seller },
                2 => Disturbance::DoomSeller {
                    seller: channel.seller,
                    steps,
                },
                _ => Disturbance::DoomBuyer {
                    buyer: channel.buyer,
                    steps,
                },
            };
            let at = self.millis() + self.choices.between(100, 4_000);
            self.disturbances.push((at, disturbance));
        }
    }

    /// Does what was to happen in the middle of an answer, up to `until`.
    pub(crate) fn disturb_until(&mut self, until: u64) -> io::Result<()> {
        let (due, others): (Vec<_>, _) = self.disturbances.iter().partition(|(at, _)| *at <= until);
        self.disturbances = others;
        for (_, disturbance) in due {
            self.note("disturbs", format_args!("{disturbance:?}"));
            match disturbance {
                Disturbance::Cut { seller } => {
                    let peer = self.sellers[seller].peer();
                    self.world.lock().cut(None, Some(peer));
                }
                Disturbance::DoomSeller { seller, steps } => self.sellers[seller].process.doom(Doom::Steps(steps)),
                Disturbance::DoomBuyer { buyer, steps } => self.buyers[buyer].process.doom(Doom::Steps(steps)),
                Disturbance::BackUp { seller } => self.sellers[seller].process.back_up()?,
            }
        }
        Ok(())
    }

    fn cheat(&mut self, channel: &Channel) {
        let script = Script::choose(&mut self.choices);
        let trick = *self.choices.pick(&Trick::ALL);
        let seller = &self.sellers[channel.seller];
        if let Some(rogue) = &self.rogue {
            rogue.order(Mischief {
                peer: seller.peer(),
                offer: Box::new(seller.setup.offer.clone()),
                channel: channel.id,
                random: channel.random,
                script,
                trick,
            });
        }
        self.note(
            "cheats",
            format_args!("executor{} on {}: {trick:?}", channel.seller, channel.id),
        );
        self.expect_talk();
    }

    /// Has the client bring a channel up to date.
    pub(crate) fn sync(&mut self, index: usize) {
        let channel = self.channels[index].clone();
        if channel.buyer >= self.buyers.len() {
            return;
        }
        self.record(&channel);
        let Some((peer, _)) = self.peer_of(channel.seller) else {
            return;
        };
        self.buyers[channel.buyer].order(ClientOrder::Sync {
            peer,
            channel: channel.id,
        });
        self.expect_talk();
    }

    fn top_up(&mut self) {
        let index = self.choices.below(self.channels.len() as u64) as usize;
        let channel = self.channels[index].clone();
        let more = self.choices.between(100, 5_000);
        self.note("payer", format_args!("tops {} up by {more}", channel.id));
        let by_grant = self.choices.chance(400);
        let owner = self.payers().nth(channel.buyer).cloned();
        if let Some(owner) = owner.filter(|_| by_grant) {
            self.top_up_with_grant(&owner, &channel, more);
            return;
        }
        let call = ChannelEscrow::topUpCall {
            channelId: channel.id.hash(),
            additionalDeposit: more.into(),
        };
        let escrow = self.genesis.contracts.escrow;
        self.world
            .lock()
            .chain
            .run_errand(channel.parameters.payer, escrow, &call);
    }

    /// Has the payer ask for a channel's close, if it is open.
    pub(crate) fn request_close(&mut self, index: usize) {
        let channel = self.channels[index].clone();
        let Some(state) = self.state_of(channel.id) else {
            return;
        };
        if state.finalized || state.close_requested_at.is_some() {
            return;
        }
        let call = ChannelEscrow::requestCloseCall {
            channelId: channel.id.hash(),
        };
        let escrow = self.genesis.contracts.escrow;
        self.world
            .lock()
            .chain
            .run_errand(channel.parameters.payer, escrow, &call);
        self.note("payer", format_args!("asks for the close of {}", channel.id));
    }

    fn fork(&mut self) {
        let confirmations = self.sellers.iter().map(|seller| seller.setup.offer.confirmations).max();
        let confirmations = confirmations.unwrap_or_default();
        let depth = if self.choices.chance(150) {
            confirmations + self.choices.between(1, BEYOND)
        } else {
            self.choices.between(1, confirmations)
        };
        let extra = self.choices.between(0, 2);
        let mut world = self.world.lock();
        let length = world.chain.canonical().len() as u64;
        let depth = depth.min(length.saturating_sub(2));
        if depth == 0 {
            return;
        }
        world.note("chain", format_args!("loses {depth} blocks"));
        let at = world.now();
        world.chain.fork(depth as usize, confirmations as usize);
        for _ in 0..depth + extra {
            world.chain.mine(at);
        }
        drop(world);
        let now = self.millis();
        self.look_at_channels(now);
    }

    fn worsen_weather(&mut self) {
        let mut of_thousand = |most: u64| {
            if self.choices.chance(500) {
                self.choices.below(most)
            } else {
                0
            }
        };
        let weather = Weather {
            timeouts: of_thousand(80),
            errors: of_thousand(120),
            malformed: of_thousand(60),
            swallowed: of_thousand(600),
            bare: of_thousand(60),
            disowned: of_thousand(600),
            silenced: of_thousand(600),
            range_limit: of_thousand(40),
        };
        self.weather_ends = self.millis() + self.choices.between(20_000, LONGEST_WEATHER);
        let mut world = self.world.lock();
        world.weather = weather;
        world.note("weather", format_args!("{weather:?}"));
    }

    /// One process's first endpoint stays behind for a while, perhaps on a fork that the others leave.
    fn lag(&mut self) {
        let processes = self.sellers.len() + self.buyers.len();
        let process = self.choices.below(processes as u64) as usize;
        let until = self.millis() + self.choices.between(10_000, LONGEST_WEATHER);
        self.weather_ends = self.weather_ends.max(until);
        let mut world = self.world.lock();
        let view = world.chain.view();
        world.endpoints(process)[0].stale = Some((view, until));
        world.note(
            "endpoint",
            format_args!("of process {process} stays behind until {until}"),
        );
    }

    /// No endpoint of a process answers.
    fn hide_chain(&mut self) {
        let processes = self.sellers.len() + self.buyers.len();
        let process = self.choices.below(processes as u64) as usize;
        let until = self.millis() + self.choices.between(10_000, LONGEST_WEATHER);
        let both = self.choices.chance(500);
        self.weather_ends = self.weather_ends.max(until);
        let mut world = self.world.lock();
        for endpoint in world.endpoints(process).iter_mut().take(1 + usize::from(both)) {
            endpoint.down_until = until;
        }
        world.note("endpoint", format_args!("of process {process} is down until {until}"));
    }

    /// Transactions don't get into blocks: they are dear, or nobody takes them, or everybody has forgotten them.
    fn stick(&mut self) {
        let until = self.millis() + self.choices.between(20_000, LONGEST_WEATHER);
        let kind = self.choices.below(3);
        let times = *self.choices.pick(&[3, 30, 150, 400]);
        let blocks = self.choices.between(2, 8);
        self.weather_ends = self.weather_ends.max(until);
        let mut world = self.world.lock();
        match kind {
            0 => {
                world.chain.base_fee = 1_000_000_000 * times;
                world.note("chain", format_args!("gas costs {times} times as much"));
            }
            1 => {
                world.chain.stuck_blocks = blocks;
                world.note("chain", format_args!("{blocks} blocks take nothing from the pool"));
            }
            _ => {
                let lost = world.chain.empty_pool();
                world.note("chain", format_args!("the pool forgets {lost} transactions"));
            }
        }
    }

    fn crash_seller(&mut self) -> io::Result<()> {
        let index = self.choices.below(self.sellers.len() as u64) as usize;
        let power = self.choices.chance(350);
        let doom = Doom::choose(&mut self.choices, &EXECUTOR_MOMENTS);
        if power {
            self.sellers[index].ends_by = End::PowerCut;
        }
        self.sellers[index].process.doom(doom);
        self.note("doom", format_args!("executor{index}: {doom:?}, power cut: {power}"));
        self.drop_obligations(index);
        Ok(())
    }

    /// The flaw that it is named after.
    fn drop_obligations(&mut self, index: usize) {
        if self.world.lock().flaw != Some(Flaw::DropObligation) {
            return;
        }
        self.sellers[index].process.ask(|ledger| async move {
            for obligation in ledger.obligations().await.unwrap_or_default() {
                let settled = Resolution::Moot { reason: Moot::Settled };
                // It is a flaw: that it fails is fine.
                let _ = ledger.resolve_obligation(obligation.id, settled).await;
            }
        });
    }

    fn crash_buyer(&mut self) -> io::Result<()> {
        let index = self.choices.below(self.buyers.len() as u64) as usize;
        let power = self.choices.chance(350);
        let doom = Doom::choose(&mut self.choices, &CLIENT_MOMENTS);
        if power {
            self.buyers[index].ends_by = End::PowerCut;
        }
        self.buyers[index].process.doom(doom);
        self.note("doom", format_args!("client{index}: {doom:?}, power cut: {power}"));
        Ok(())
    }

    fn back_up(&mut self) -> io::Result<()> {
        let sellers = self.sellers.len() as u64;
        let index = self.choices.below(sellers + self.buyers.len() as u64);
        if index < sellers {
            self.sellers[index as usize].process.back_up()
        } else {
            self.buyers[(index - sellers) as usize].process.back_up()
        }
    }

    fn restore(&mut self) -> io::Result<()> {
        let sellers = self.sellers.len() as u64;
        let index = self.choices.below(sellers + self.buyers.len() as u64);
        if index < sellers {
            // What a dead one has in its store, nobody could note any more.
            if !self.note_transactions(index as usize) {
                return Ok(());
            }
            self.note_bills(index as usize);
            self.sellers[index as usize].restores = true;
            self.sellers[index as usize].process.doom(Doom::Steps(0));
        } else {
            self.buyers[(index - sellers) as usize].restores = true;
            self.buyers[(index - sellers) as usize].process.doom(Doom::Steps(0));
        }
        Ok(())
    }

    fn cut_network(&mut self) {
        let index = self.choices.below(self.sellers.len() as u64) as usize;
        let lasts = self.choices.between(0, 60_000);
        let peer = self.sellers[index].peer();
        let mut world = self.world.lock();
        let cut = world.cut(None, Some(peer));
        world.hub.cut_until = world.millis + lasts;
        world.note("network", format_args!("cuts {cut} streams, for {lasts} ms"));
    }

    /// Somebody uses the operator's key beside its node.
    fn use_operator_key(&mut self) {
        let index = self.choices.below(self.sellers.len() as u64) as usize;
        let operator = self.sellers[index].setup.operator.address();
        let call = Call::transfer(operator, U256::ONE);
        let waits = self.choices.chance(500);
        let percent = self.choices.between(30, 200);
        let mut world = self.world.lock();
        if waits {
            let max_fee = world.chain.base_fee * u128::from(percent) / 100;
            world.chain.queue_call(operator, call, max_fee);
        } else {
            world.chain.run_call(operator, call);
            world.faults.count(Fault::Stranger);
        }
        world.note("stranger", format_args!("uses the key of executor{index}"));
    }
}
