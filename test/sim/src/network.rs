//! The network between the processes: streams that delay what they carry, and break.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use libp2p::PeerId;
use lloom_node::client::{Connect, Duplex};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::Sleep,
};

use crate::{
    fault::Fault,
    life::{Life, ProcessId},
    witness::{Direction, Wire},
    world::Shared,
};

/// Bytes on their way in one direction at most.
const WINDOW: usize = 64 << 10;
/// The least and the most that a message takes, milliseconds. A process may be ahead of another by the least.
pub const LATENCY: (u64, u64) = (60, 200);
/// The steps of a stream: bytes that are about to be read, or to be given away.
pub const READ: &str = "read a stream";
/// See [`READ`].
pub const WRITE: &str = "write to a stream";
/// Streams that wait for an executor at most.
const BACKLOG: usize = 32;

/// Who can be reached.
#[derive(Debug, Default)]
pub struct Hub {
    listeners: BTreeMap<PeerId, mpsc::Sender<Incoming>>,
    /// Streams that may be cut.
    streams: Vec<(ProcessId, PeerId, Arc<Pipe>)>,
    /// No new streams are opened until then, milliseconds.
    pub cut_until: u64,
}

/// A stream that somebody opened.
#[derive(Debug)]
pub struct Incoming {
    /// Its end here.
    pub stream: Half,
    /// Who opened it.
    pub from: alloy::primitives::Address,
}

impl Hub {
    /// Listens as `peer`, in place of whoever did.
    pub fn listen(&mut self, peer: PeerId) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.listeners.insert(peer, sender);
        receiver
    }

    /// Nobody listens as `peer` any more.
    pub fn leave(&mut self, peer: &PeerId) {
        self.listeners.remove(peer);
    }

    /// Whether somebody is talking.
    pub fn is_busy(&mut self) -> bool {
        self.streams.retain(|(_, _, pipe)| !pipe.is_left());
        !self.streams.is_empty()
    }

    /// Breaks the streams of a client's process, or those to a peer. Says how many there were.
    pub fn cut(&mut self, client: Option<ProcessId>, peer: Option<PeerId>) -> u64 {
        let mut cut = 0;
        self.streams.retain(|(from, to, pipe)| {
            if pipe.is_left() {
                return false;
            }
            if Some(*from) == client || Some(*to) == peer {
                pipe.cut();
                cut += 1;
                return false;
            }
            true
        });
        cut
    }
}

/// Opens streams for one client.
pub struct Cable {
    world: Shared,
    life: Arc<Life>,
    address: alloy::primitives::Address,
}

impl Cable {
    /// The network as the client of this life and address reaches it.
    pub const fn new(world: Shared, life: Arc<Life>, address: alloy::primitives::Address) -> Self {
        Self { world, life, address }
    }
}

impl Connect for Cable {
    fn open(&self, peer: PeerId) -> BoxFuture<'_, io::Result<Box<dyn Duplex>>> {
        Box::pin(async move {
            self.life.step("dial").await;
            self.life.wait(LATENCY.0, LATENCY.1).await;
            self.life.step("dial").await;
            let mut world = self.world.lock();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let is_cut = self.life.millis() < world.hub.cut_until;
            let Some(listener) = world.hub.listeners.get(&peer).filter(|_| !is_cut).cloned() else {
                world.faults.count(Fault::Unreachable);
                return Err(refused());
            };
            let pipe = Arc::new(Pipe::new(self.world.clone()));
            let end = |side| Half {
                pipe: Arc::clone(&pipe),
                side,
                // The other side's is its own, from its first use.
                life: (side == Side::Client).then(|| Arc::clone(&self.life)),
                wake_at: None,
            };
            let incoming = Incoming {
                stream: end(Side::Executor),
                from: self.address,
            };
            listener.try_send(incoming).map_err(|_| refused())?;
            let process = self.life.process();
            world.hub.streams.push((process, peer, Arc::clone(&pipe)));
            Ok(Box::new(end(Side::Client)) as Box<dyn Duplex>)
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Executor,
}

/// Two directions between two processes.
pub struct Pipe {
    state: Mutex<PipeState>,
    world: Shared,
}

struct PipeState {
    to_executor: Flow,
    to_client: Flow,
    cut: bool,
    wire: Wire,
}

#[derive(Default)]
struct Flow {
    /// When what arrives.
    queue: VecDeque<(u64, Bytes)>,
    buffered: usize,
    /// When its end arrives.
    closed: Option<u64>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(world: Shared) -> Self {
        Self {
            state: Mutex::new(PipeState {
                to_executor: Flow::default(),
                to_client: Flow::default(),
                cut: false,
                wire: Wire::default(),
            }),
            world,
        }
    }

    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        let PipeState {
            to_executor, to_client, ..
        } = &mut *state;
        for flow in [to_executor, to_client] {
            flow.queue.clear();
            flow.wake();
        }
    }

    /// Whether its client has left it.
    fn is_left(&self) -> bool {
        let state = self.state();
        state.cut || state.to_executor.closed.is_some()
    }
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Pipe")
    }
}

impl Flow {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One side's end of a stream.
#[derive(Debug)]
pub struct Half {
    pipe: Arc<Pipe>,
    side: Side,
    life: Option<Arc<Life>>,
    wake_at: Option<Pin<Box<Sleep>>>,
}

impl Half {
    /// The end in the hands of the process of this life.
    #[must_use]
    pub fn of(mut self, life: &Arc<Life>) -> Self {
        self.life = Some(Arc::clone(life));
        self
    }

    fn life(&self) -> io::Result<Arc<Life>> {
        self.life
            .clone()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }
}

impl PipeState {
    fn incoming(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.to_client,
            Side::Executor => &mut self.to_executor,
        }
    }

    fn outgoing(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.to_executor,
            Side::Executor => &mut self.to_client,
        }
    }
}

impl AsyncRead for Half {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let life = self.life()?;
        if life.is_dead() {
            return Poll::Pending;
        }
        let now = life.millis();
        let this = &mut *self;
        let mut state = this.pipe.state();
        let state = &mut *state;
        if state.cut {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
        }
        let flow = state.incoming(this.side);
        let due = match (flow.queue.front(), flow.closed) {
            (Some((due, _)), _) => Some(*due),
            (None, closed) => closed,
        };
        match due {
            Some(due) if due <= now => {
                if life.takes_last_step(READ) {
                    return Poll::Pending;
                }
            }
            Some(due) => {
                let mut sleep = Box::pin(tokio::time::sleep_until(life.instant(due)));
                // Just made, and not due.
                let _ = std::future::Future::poll(sleep.as_mut(), context);
                this.wake_at = Some(sleep);
                flow.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            None => {
                flow.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        let Some((_, bytes)) = flow.queue.front_mut() else {
            return Poll::Ready(Ok(()));
        };
        let taken = bytes.len().min(buffer.remaining());
        let chunk = bytes.split_to(taken);
        if !bytes.has_remaining() {
            flow.queue.pop_front();
        }
        flow.buffered -= taken;
        if let Some(writer) = flow.writer.take() {
            writer.wake();
        }
        buffer.put_slice(&chunk);
        // What somebody has read is what it goes by.
        let direction = match this.side {
            Side::Executor => Direction::ToExecutor,
            Side::Client => Direction::ToClient,
        };
        let witnessed = state.wire.read(direction, taken);
        this.pipe.world.lock().witness(&life, witnessed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let life = self.life()?;
        if life.is_dead() {
            return Poll::Pending;
        }
        if life.takes_last_step(WRITE) {
            return Poll::Pending;
        }
        let now = life.millis();
        let latency = life.choose(|choices| choices.between(LATENCY.0, LATENCY.1));
        let mut state = self.pipe.state();
        let state = &mut *state;
        if state.cut {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe)));
        }
        let flow = state.outgoing(self.side);
        let room = WINDOW.saturating_sub(flow.buffered);
        if room == 0 {
            flow.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(room);
        let chunk = Bytes::copy_from_slice(&bytes[..taken]);
        // Nothing overtakes anything within a stream.
        let due = flow.queue.back().map_or(0, |(due, _)| *due).max(now + latency);
        flow.queue.push_back((due, chunk.clone()));
        flow.buffered += taken;
        if let Some(reader) = flow.reader.take() {
            reader.wake();
        }
        // What the executor has sent is what it has served, and what the client has sent is what it has signed.
        let direction = match self.side {
            Side::Executor => Direction::ToClient,
            Side::Client => Direction::ToExecutor,
        };
        let witnessed = state.wire.write(direction, &chunk);
        self.pipe.world.lock().witness(&life, witnessed);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

impl Half {
    fn close(&self) {
        let now = match &self.life {
            // A dead process says no goodbye: its peer finds out by itself, or by the network.
            Some(life) if life.is_dead() => return,
            Some(life) => life.millis(),
            None => 0,
        };
        let mut state = self.pipe.state();
        let flow = state.outgoing(self.side);
        if flow.closed.is_none() {
            flow.closed = Some(flow.queue.back().map_or(0, |(due, _)| *due).max(now + LATENCY.0));
            if let Some(reader) = flow.reader.take() {
                reader.wake();
            }
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // Outside of its runtime there is no clock: it is dropped with its process.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.close();
        }
    }
}
