//! Who takes part: executors and clients with their processes, and the channels between them.

use std::io;

use alloy::primitives::B256;
use libp2p::PeerId;
use lloom_node::peer_id;
use lloom_receipts::{ChannelId, ChannelParameters, TokenAmount};
use tokio::sync::mpsc;

use crate::{
    client::{self, ClientOrder, ClientSetup},
    crook::{self, CrookOrder},
    disk::End,
    executor::{self, ExecutorOrder, ExecutorSetup, ORDERS},
    process::Process,
    rogue::{self, Mischief},
};

/// A process with what it is set up to be.
#[derive(Debug)]
pub struct Member<S, O> {
    /// What it is.
    pub setup: S,
    /// Its process.
    pub process: Process,
    /// Takes what it is ordered while it lives.
    orders: Option<mpsc::Sender<O>>,
    /// When it is to be started again, milliseconds.
    pub starts_at: Option<u64>,
    /// How its next life's files come about.
    pub ends_by: End,
    /// Whether a backup is to be put back before it starts again.
    pub restores: bool,
    /// Whether it never comes back.
    pub vanished: bool,
}

/// Somebody who sells.
pub type Seller = Member<ExecutorSetup, ExecutorOrder>;
/// Somebody who buys.
pub type Buyer = Member<ClientSetup, ClientOrder>;
/// Somebody who cheats.
pub type Rogue = Member<ClientSetup, Mischief>;

/// Somebody who sells, and cheats.
pub type Crook = Member<ExecutorSetup, CrookOrder>;

/// A channel, as everybody who takes part knows it.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// What its id commits to.
    pub parameters: ChannelParameters,
    /// The random part of its commitment.
    pub random: B256,
    /// What was deposited at first, base units.
    pub deposit: TokenAmount,
    /// Which client's; the cheat's where there is none of this number.
    pub buyer: usize,
    /// Which executor's; the crook's where there is none of this number.
    pub seller: usize,
    /// What its executor owes itself to claim: seen as durable in its store, base units, with when, milliseconds.
    pub held: Vec<(u64, TokenAmount)>,
    /// The end of the grace period for which that was noted.
    pub sampled_for: Option<u64>,
    /// Since when it is over, milliseconds, as the chain says now.
    pub over_since: Option<u64>,
    /// The end of the time that its executor had to claim in peace, milliseconds, once it is known.
    pub claim_by: Option<u64>,
}

impl<S, O> Member<S, O> {
    /// Somebody who has not started yet.
    pub const fn new(setup: S, process: Process) -> Self {
        Self {
            setup,
            process,
            orders: None,
            starts_at: Some(0),
            ends_by: End::Kill,
            restores: false,
            vanished: false,
        }
    }

    /// Orders something, if somebody lives to hear it.
    pub fn order(&self, order: O) -> bool {
        self.orders
            .as_ref()
            .is_some_and(|orders| orders.try_send(order).is_ok())
    }

    /// Ends its life, and starts the next one `after` milliseconds later.
    ///
    /// # Errors
    /// The machine's.
    pub fn kill(&mut self, now: u64, after: u64) -> io::Result<()> {
        self.orders = None;
        // A backup is put back beside a lock file that knows what came after it, and a power cut might take that away.
        let end = if self.restores { End::Kill } else { self.ends_by };
        self.process.kill(end)?;
        self.ends_by = End::Kill;
        self.starts_at = (!self.vanished).then_some(now + after);
        Ok(())
    }
}

impl Seller {
    /// Where it is reached.
    pub fn peer(&self) -> PeerId {
        peer_id(&self.setup.operator)
    }

    /// Starts it.
    ///
    /// # Errors
    /// The machine's.
    pub fn start(&mut self) -> io::Result<()> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let setup = self.setup.clone();
        self.process.start(|body| executor::run(setup, body, receiver))?;
        self.orders = Some(orders);
        self.starts_at = None;
        Ok(())
    }
}

impl Crook {
    /// Starts it.
    ///
    /// # Errors
    /// The machine's.
    pub fn start(&mut self) -> io::Result<()> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let setup = self.setup.clone();
        self.process.start(|body| crook::run(setup, body, receiver))?;
        self.orders = Some(orders);
        self.starts_at = None;
        Ok(())
    }
}

impl Rogue {
    /// Starts it.
    ///
    /// # Errors
    /// The machine's.
    pub fn start(&mut self) -> io::Result<()> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let setup = self.setup.clone();
        self.process.start(|body| rogue::run(setup, body, receiver))?;
        self.orders = Some(orders);
        self.starts_at = None;
        Ok(())
    }
}

impl Buyer {
    /// Starts it.
    ///
    /// # Errors
    /// The machine's.
    pub fn start(&mut self) -> io::Result<()> {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let setup = self.setup.clone();
        self.process.start(|body| client::run(setup, body, receiver))?;
        self.orders = Some(orders);
        self.starts_at = None;
        Ok(())
    }
}
