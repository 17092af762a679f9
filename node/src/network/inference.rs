//! The behaviour behind `/lloom/inference/1.0.0`: opens streams, hands over incoming ones, and keeps peers out that have
//! no Ethereum address.
//!
//! libp2p's own stream behaviour has a queue of one incoming stream and resets what doesn't fit, so that two requests
//! that arrive together lose one of them. Here the queue is as long as the configuration says.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    sync::Arc,
    task::{Context, Poll},
};

use alloy::primitives::Address;
use libp2p::{
    InboundUpgrade, Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{ReadyUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{Semaphore, mpsc};

use super::{
    INFERENCE_PROTOCOL,
    error::OpenStreamError,
    identity::peer_address,
    stream::{IncomingStream, InferenceStream, OpenReply},
};

/// The key of a peer is of another kind than Ethereum's.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the peer {0} has no secp256k1 key")]
pub(super) struct NoAddress(pub(super) PeerId);

pub(super) struct Behaviour {
    incoming: mpsc::Sender<IncomingStream>,
    streams_per_connection: usize,
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    /// Streams that wait for a connection. As many as there are callers waiting: abandoned ones are swept out.
    waiting: HashMap<PeerId, Vec<OpenReply>>,
    requested: VecDeque<(PeerId, ConnectionId, OpenReply)>,
}

impl Behaviour {
    pub(super) fn new(incoming: mpsc::Sender<IncomingStream>, streams_per_connection: usize) -> Self {
        Self {
            incoming,
            streams_per_connection,
            connections: HashMap::new(),
            waiting: HashMap::new(),
            requested: VecDeque::new(),
        }
    }

    /// Opens a stream to `peer`, now or as soon as it is connected. Whoever calls this sees to the dialing.
    pub(super) fn open(&mut self, peer: PeerId, reply: OpenReply) {
        if let Some(connection) = self.connections.get(&peer).and_then(|all| all.first()) {
            self.requested.push_back((peer, *connection, reply));
        } else {
            self.waiting.retain(|_, replies| {
                replies.retain(|reply| !reply.is_closed());
                !replies.is_empty()
            });
            self.waiting.entry(peer).or_default().push(reply);
        }
    }

    /// Ends the wait for `peer`, which couldn't be reached.
    pub(super) fn dial_failed(&mut self, peer: &PeerId, error: impl Fn() -> OpenStreamError) {
        for reply in self.waiting.remove(peer).into_iter().flatten() {
            // Whoever waited may have left.
            let _ = reply.send(Err(error()));
        }
    }

    fn handler(&self, peer: PeerId) -> Result<Handler, ConnectionDenied> {
        let address = peer_address(&peer).ok_or_else(|| ConnectionDenied::new(NoAddress(peer)))?;
        Ok(Handler {
            peer,
            address,
            incoming: self.incoming.clone(),
            limit: self.streams_per_connection,
            places: Arc::new(Semaphore::new(self.streams_per_connection)),
            requested: VecDeque::new(),
        })
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let connections = self.connections.entry(event.peer_id).or_default();
                connections.push(event.connection_id);
                for reply in self.waiting.remove(&event.peer_id).into_iter().flatten() {
                    self.requested.push_back((event.peer_id, event.connection_id, reply));
                }
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(connections) = self.connections.get_mut(&event.peer_id) {
                    connections.retain(|connection| *connection != event.connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&event.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // No waker is kept: the queue only grows by calls after which the swarm is polled again.
        match self.requested.pop_front() {
            Some((peer_id, connection, reply)) => Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event: reply,
            }),
            None => Poll::Pending,
        }
    }
}

/// The protocol a node accepts streams of: none when it serves no inference.
#[derive(Clone, Debug)]
pub(super) struct ServedProtocol(Option<StreamProtocol>);

impl UpgradeInfo for ServedProtocol {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for ServedProtocol {
    type Output = Stream;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

pub(super) struct Handler {
    peer: PeerId,
    address: Address,
    incoming: mpsc::Sender<IncomingStream>,
    limit: usize,
    places: Arc<Semaphore>,
    requested: VecDeque<OpenReply>,
}

impl Handler {
    fn take_incoming(&self, stream: Stream) {
        let Some(stream) = InferenceStream::new(stream, &self.places) else {
            tracing::debug!(peer = %self.address, limit = self.limit, "too many streams on the connection, one is reset");
            return;
        };
        let incoming = IncomingStream {
            address: self.address,
            peer: self.peer,
            stream,
        };
        if self.incoming.try_send(incoming).is_err() {
            tracing::debug!(peer = %self.address, "no room for another incoming stream, it is reset");
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenReply;
    type ToBehaviour = Infallible;
    type InboundProtocol = ServedProtocol;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenReply;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let served = (!self.incoming.is_closed()).then_some(INFERENCE_PROTOCOL);
        SubstreamProtocol::new(ServedProtocol(served), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, OpenReply, Infallible>> {
        while let Some(reply) = self.requested.pop_front() {
            if reply.is_closed() {
                continue;
            }
            if self.places.available_permits() == 0 {
                let _ = reply.send(Err(OpenStreamError::TooMany { limit: self.limit }));
                continue;
            }
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(INFERENCE_PROTOCOL), reply),
            });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, reply: OpenReply) {
        // The connection polls its handler after every event it hands over.
        self.requested.push_back(reply);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), OpenReply>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: stream,
                info: (),
            }) => self.take_incoming(stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: reply,
            }) => {
                let opened =
                    InferenceStream::new(stream, &self.places).ok_or(OpenStreamError::TooMany { limit: self.limit });
                let _ = reply.send(opened);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => OpenStreamError::Io(io::ErrorKind::TimedOut.into()),
                    StreamUpgradeError::NegotiationFailed => OpenStreamError::Unsupported,
                    StreamUpgradeError::Io(error) => OpenStreamError::Io(error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = reply.send(Err(error));
            }
            _ => {}
        }
    }
}
