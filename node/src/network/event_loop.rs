use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    identify, kad, mdns,
    request_response::{self, OutboundRequestId},
    swarm::{
        ConnectionId, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    KAD_PROTOCOL,
    behaviour::{Behaviour, BehaviourEvent},
    bootstrap::Bootstrap,
    codec::{Answer, Question},
    config::NetworkConfig,
    dial::{dial_error, dial_options, named_peer},
    dial_failure::DialFailure,
    error::{NetworkError, OpenStreamError},
    handle::{Command, Status},
    identity::peer_address,
    listen::check_free,
};
use crate::{
    Offer,
    discovery::{is_global, offer_keys},
};

/// How long closing the connections may take at shutdown.
const CLOSE_CONNECTIONS: Duration = Duration::from_secs(1);
/// How soon provider records are announced to peers that have just been met. Doubles each time up to the regular
/// interval, so that a busy network is not flooded; starts over after a time of quiet.
const ANNOUNCE_SOON: Duration = Duration::from_millis(200);
/// How many pauses without an announcement are quiet.
const QUIET_PAUSES: u32 = 4;

mod towers;

use towers::Towers;

type DialReply = oneshot::Sender<Result<PeerId, NetworkError>>;

/// Owns the swarm. One task runs it; handles speak to it by [`Command`]s.
pub(super) struct EventLoop {
    swarm: Swarm<Behaviour>,
    config: NetworkConfig,
    commands: mpsc::Receiver<Command>,
    publish: watch::Sender<Status>,
    stop: CancellationToken,
    bootstrap: Bootstrap,
    listeners: HashMap<ListenerId, Vec<Multiaddr>>,
    dials: HashMap<ConnectionId, (Multiaddr, DialReply)>,
    offers: HashMap<OutboundRequestId, (PeerId, oneshot::Sender<Result<Offer, NetworkError>>)>,
    searches: HashMap<kad::QueryId, (HashSet<PeerId>, oneshot::Sender<HashSet<PeerId>>)>,
    towers: Towers,
    multicast: HashSet<PeerId>,
    offer: Option<Box<Offer>>,
    announced: Vec<kad::RecordKey>,
    announce_at: Option<Instant>,
    announced_at: Instant,
    announce_pause: Duration,
}

impl EventLoop {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        config: NetworkConfig,
        commands: mpsc::Receiver<Command>,
        publish: watch::Sender<Status>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            bootstrap: Bootstrap::new(&config.bootstrap),
            swarm,
            config,
            commands,
            publish,
            stop,
            listeners: HashMap::new(),
            dials: HashMap::new(),
            offers: HashMap::new(),
            searches: HashMap::new(),
            towers: Towers::default(),
            multicast: HashSet::new(),
            offer: None,
            announced: Vec::new(),
            announce_at: None,
            announced_at: Instant::now(),
            announce_pause: ANNOUNCE_SOON,
        }
    }

    /// Opens the listeners and waits until each has an address.
    pub(super) async fn listen(&mut self) -> Result<(), NetworkError> {
        for address in self.config.external.clone() {
            self.swarm.add_external_address(address);
        }
        let mut opening = HashMap::new();
        for address in self.config.listen.clone() {
            check_free(&address).map_err(|source| NetworkError::Listen {
                address: address.clone(),
                source: libp2p::TransportError::Other(source),
            })?;
            let listener = self
                .swarm
                .listen_on(address.clone())
                .map_err(|source| NetworkError::Listen {
                    address: address.clone(),
                    source,
                })?;
            opening.insert(listener, address);
        }
        while opening.keys().any(|listener| !self.listeners.contains_key(listener)) {
            let event = self.swarm.select_next_some().await;
            if let SwarmEvent::ListenerClosed {
                listener_id,
                reason: Err(source),
                ..
            } = event
            {
                if let Some(address) = opening.remove(&listener_id) {
                    return Err(NetworkError::Listen {
                        address,
                        source: libp2p::TransportError::Other(source),
                    });
                }
            } else {
                self.on_event(event);
            }
        }
        self.dial_bootstrap();
        Ok(())
    }

    /// Runs until it is told to stop or every handle is gone.
    pub(super) async fn run(mut self) {
        let every = self.config.limits.bootstrap_every;
        let mut retry = interval_at(Instant::now() + every, every);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let announce_at = self.announce_at;
            tokio::select! {
                () = self.stop.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                () = sleep_until(announce_at.unwrap_or_else(Instant::now)), if announce_at.is_some() => self.announce(),
                _ = retry.tick() => self.dial_bootstrap(),
            }
            self.publish_status();
        }
        self.stop.cancel();
        self.close().await;
    }

    /// Says goodbye to every peer, so that they don't wait for a timeout.
    async fn close(mut self) {
        self.commands.close();
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // It may have left by itself.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let all_closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if timeout(CLOSE_CONNECTIONS, all_closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { address, reply } => self.dial(address, reply),
            Command::OpenStream { peer, reply } => self.open_stream(peer, reply),
            Command::ServeOffer { offer } => self.serve(offer),
            Command::RequestOffer { peer, reply } => {
                if peer_address(&peer).is_none() {
                    // The caller may have left.
                    let _ = reply.send(Err(NetworkError::NoAddress { peer }));
                    return;
                }
                let request = self.swarm.behaviour_mut().offers.send_request(&peer, Question::Offer);
                self.offers.insert(request, (peer, reply));
            }
            Command::FindProviders { key, reply } => {
                self.searches.retain(|_, (_, waiting)| !waiting.is_closed());
                let query = self.swarm.behaviour_mut().kad.get_providers(key);
                self.searches.insert(query, (HashSet::new(), reply));
            }
            Command::KnownPeers { reply } => {
                let connected = self.swarm.connected_peers().copied();
                let known: HashSet<PeerId> = connected.chain(self.multicast.iter().copied()).collect();
                let _ = reply.send(known.into_iter().collect());
            }
            Command::ServeTower { questions } => self.towers.serve(questions),
            Command::AnswerTower { channel, answer } => self.answer_as_tower(channel, *answer),
            Command::AskTower { peer, question, reply } => self.ask_tower(peer, *question, reply),
        }
    }

    fn dial(&mut self, address: Multiaddr, reply: DialReply) {
        let options = match named_peer(&address) {
            Ok(Some(peer)) if self.swarm.is_connected(&peer) => {
                let _ = reply.send(Ok(peer));
                return;
            }
            Ok(named) => dial_options(named, &address),
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(connection, (address, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(dial_error(address, DialFailure::new(error))));
            }
        }
    }

    fn open_stream(&mut self, peer: PeerId, reply: super::stream::OpenReply) {
        if !self.swarm.is_connected(&peer) {
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            match self.swarm.dial(options) {
                Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
                Err(error) => {
                    let _ = reply.send(Err(OpenStreamError::Dial(DialFailure::new(error))));
                    return;
                }
            }
        }
        self.swarm.behaviour_mut().inference.open(peer, reply);
    }

    fn serve(&mut self, offer: Box<Offer>) {
        let keys = offer_keys(&self.config.network, &offer);
        for stale in self.announced.iter().filter(|key| !keys.contains(key)) {
            self.swarm.behaviour_mut().kad.stop_providing(stale);
        }
        self.announced = keys;
        self.offer = Some(offer);
        self.announce();
    }

    /// Puts provider records at the peers closest to their keys. The hash table repeats it on its own interval.
    fn announce(&mut self) {
        self.announce_at = None;
        self.announced_at = Instant::now();
        for key in &self.announced {
            if let Err(error) = self.swarm.behaviour_mut().kad.start_providing(key.clone()) {
                tracing::warn!(%error, "a model can't be announced");
            }
        }
    }

    /// New peers don't have the records yet, and those that come back may have lost them.
    fn announce_soon(&mut self) {
        if self.announced.is_empty() || self.announce_at.is_some() {
            return;
        }
        if self.announced_at.elapsed() > self.announce_pause * QUIET_PAUSES {
            self.announce_pause = ANNOUNCE_SOON;
        }
        self.announce_at = Some(Instant::now() + self.announce_pause);
        self.announce_pause = (self.announce_pause * 2).min(self.config.limits.announce_every);
    }

    fn dial_bootstrap(&mut self) {
        for (index, address) in self.bootstrap.due() {
            let options = match named_peer(&address) {
                Ok(Some(peer)) if self.swarm.is_connected(&peer) => {
                    self.bootstrap.connected(index, peer);
                    continue;
                }
                Ok(named) => dial_options(named, &address),
                Err(error) => {
                    tracing::warn!(%address, %error, "a configured peer can't be dialed");
                    self.bootstrap.failed(index);
                    continue;
                }
            };
            self.bootstrap.dialing(index, options.connection_id());
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%address, %error, "a configured peer can't be dialed");
                self.bootstrap.failed(index);
            }
        }
        self.publish_status();
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::info!(%address, "listening");
                if self.believes(&address) {
                    // Provider records carry it, so that it reaches those who only know the record.
                    self.swarm.add_external_address(address.clone());
                }
                self.listeners.entry(listener_id).or_default().push(address);
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                self.swarm.remove_external_address(&address);
                if let Some(addresses) = self.listeners.get_mut(&listener_id) {
                    addresses.retain(|known| *known != address);
                }
            }
            SwarmEvent::ListenerClosed {
                listener_id, reason, ..
            } => {
                self.listeners.remove(&listener_id);
                if let Err(error) = reason {
                    tracing::error!(%error, "a listener closed");
                }
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                num_established,
                ..
            } => {
                if num_established.get() == 1 {
                    self.announce_soon();
                }
                if let Some((_, reply)) = self.dials.remove(&connection_id) {
                    let _ = reply.send(Ok(peer_id));
                }
                self.bootstrap.established(connection_id, peer_id);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                ..
            } => self.bootstrap.lost(&peer_id),
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => self.on_dial_failed(connection_id, peer_id, error),
            _ => {}
        }
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: DialError) {
        let failure = DialFailure::new(error);
        if let Some((address, reply)) = self.dials.remove(&connection) {
            let _ = reply.send(Err(dial_error(address, failure.clone())));
        }
        self.bootstrap.dial_failed(connection);
        if let Some(peer) = peer.filter(|peer| !self.swarm.is_connected(peer)) {
            tracing::debug!(%peer, %failure, "a dial failed");
            self.swarm
                .behaviour_mut()
                .inference
                .dial_failed(&peer, || OpenStreamError::Dial(failure.clone()));
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Offers(event) => self.on_offer_event(event),
            BehaviourEvent::Towers(event) => self.on_tower_event(event),
            BehaviourEvent::Kad(event) => self.on_kad_event(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                if info.protocols.contains(&KAD_PROTOCOL) {
                    self.learn_addresses(&peer_id, &info.listen_addrs);
                }
                self.bootstrap.identified(&peer_id);
            }
            BehaviourEvent::Identify(identify::Event::Error { peer_id, .. }) => self.bootstrap.identified(&peer_id),
            BehaviourEvent::Mdns(mdns::Event::Discovered(discovered)) => self.on_multicast(discovered),
            BehaviourEvent::Mdns(mdns::Event::Expired(expired)) => {
                for (peer, address) in expired {
                    // Several addresses of a peer expire together; any of them takes it off the list.
                    tracing::debug!(%peer, %address, "no longer heard by multicast");
                    self.multicast.remove(&peer);
                }
            }
            _ => {}
        }
    }

    fn on_multicast(&mut self, discovered: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in discovered {
            let is_new = !self.multicast.contains(&peer);
            if peer_address(&peer).is_none() || (is_new && self.multicast.len() >= self.config.limits.mdns_peers) {
                continue;
            }
            self.multicast.insert(peer);
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![address.clone()])
                .build();
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%peer, %address, %error, "a peer heard by multicast is not dialed");
            }
        }
    }

    fn on_offer_event(&mut self, event: request_response::Event<Question, Answer>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request {
                    request: Question::Offer,
                    channel,
                    ..
                } => {
                    let answer = self.offer.clone().map_or(Answer::NoOffer, Answer::Offer);
                    if self
                        .swarm
                        .behaviour_mut()
                        .offers
                        .send_response(channel, answer)
                        .is_err()
                    {
                        tracing::debug!(%peer, "left before it was answered");
                    }
                }
                request_response::Message::Response { request_id, response } => {
                    if let Some((_, reply)) = self.offers.remove(&request_id) {
                        let _ = reply.send(believe(peer, response));
                    }
                }
            },
            request_response::Event::OutboundFailure {
                peer,
                request_id,
                error: source,
                ..
            } => {
                if let Some((_, reply)) = self.offers.remove(&request_id) {
                    let _ = reply.send(Err(NetworkError::RequestOffer { peer, source }));
                }
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a question for the offer was not answered");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn on_kad_event(&mut self, event: kad::Event) {
        match event {
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => self.announce_soon(),
            kad::Event::OutboundQueryProgressed {
                id,
                result: kad::QueryResult::GetProviders(result),
                step,
                ..
            } => {
                if let Ok(kad::GetProvidersOk::FoundProviders { providers, .. }) = result {
                    for peer in &providers {
                        self.meet_provider(*peer);
                    }
                    if let Some((found, _)) = self.searches.get_mut(&id) {
                        found.extend(providers.into_iter().filter(|peer| peer_address(peer).is_some()));
                    }
                }
                if step.last
                    && let Some((found, reply)) = self.searches.remove(&id)
                {
                    let _ = reply.send(found);
                }
            }
            _ => {}
        }
    }

    /// Dials a provider as long as the query that found it remembers its address.
    fn meet_provider(&mut self, peer: PeerId) {
        if peer_address(&peer).is_none() || peer == *self.swarm.local_peer_id() {
            return;
        }
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .build();
        match self.swarm.dial(options) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => tracing::debug!(%peer, %error, "a provider can't be dialed"),
        }
    }

    /// Puts a peer's addresses into the routing table, as far as they are believed.
    fn learn_addresses(&mut self, peer: &PeerId, addresses: &[Multiaddr]) {
        let limit = self.config.limits.addresses_per_peer;
        let believed: Vec<Multiaddr> = addresses
            .iter()
            .filter(|address| self.believes(address))
            .take(limit)
            .cloned()
            .collect();
        for address in believed {
            self.swarm.behaviour_mut().kad.add_address(peer, address);
        }
    }

    fn believes(&self, address: &Multiaddr) -> bool {
        self.config.private_addresses || is_global(address)
    }

    fn publish_status(&self) {
        let connected = self.swarm.connected_peers().count();
        let unconnected = self.multicast.iter().filter(|peer| !self.swarm.is_connected(peer));
        let status = Status {
            listening: self.listeners.values().flatten().cloned().collect(),
            peers: connected + unconnected.count(),
            untried: self.bootstrap.untried(),
        };
        self.publish.send_if_modified(|published| {
            let changed = *published != status;
            *published = status;
            changed
        });
    }
}

/// Only the peer itself may say what it sells.
fn believe(peer: PeerId, answer: Answer) -> Result<Offer, NetworkError> {
    let Answer::Offer(offer) = answer else {
        return Err(NetworkError::NoOffer { peer });
    };
    let sender = peer_address(&peer).ok_or(NetworkError::NoAddress { peer })?;
    match offer.check(sender) {
        Ok(()) => Ok(*offer),
        Err(source) => Err(NetworkError::Offer { sender, source }),
    }
}
