use std::{collections::HashSet, sync::Arc, time::Duration};

use alloy::primitives::Address;
use futures::{StreamExt as _, stream};
use libp2p::{Multiaddr, PeerId, kad, multiaddr::Protocol, request_response::ResponseChannel};
use lloom_receipts::ModelHash;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    codec::check_size,
    config::{NetworkLimits, NetworkName},
    error::{NetworkError, OpenStreamError},
    stream::{InferenceStream, OpenReply},
    tower::{Asked, TowerInquiries},
};
use crate::{
    Offer,
    discovery::{provider_key, same_network},
    tower::{TowerAnswer, TowerQuestion},
};

/// How long a search waits for the first peer when the node knows none yet.
const FIRST_PEER: Duration = Duration::from_secs(3);

/// Addresses come within milliseconds of each other, and a machine has no more of them that matter.
const ADDRESSES_STAND_STILL: Duration = Duration::from_millis(50);
const MOST_ADDRESSES: usize = 32;

/// What a handle asks of the event loop.
#[derive(Debug)]
pub(super) enum Command {
    Dial {
        address: Multiaddr,
        reply: oneshot::Sender<Result<PeerId, NetworkError>>,
    },
    OpenStream {
        peer: PeerId,
        reply: OpenReply,
    },
    ServeOffer {
        offer: Box<Offer>,
    },
    RequestOffer {
        peer: PeerId,
        reply: oneshot::Sender<Result<Offer, NetworkError>>,
    },
    FindProviders {
        key: kad::RecordKey,
        reply: oneshot::Sender<HashSet<PeerId>>,
    },
    KnownPeers {
        reply: oneshot::Sender<Vec<PeerId>>,
    },
    ServeTower {
        questions: mpsc::Sender<Asked>,
    },
    AnswerTower {
        channel: ResponseChannel<TowerAnswer>,
        answer: Box<TowerAnswer>,
    },
    AskTower {
        peer: PeerId,
        question: Box<TowerQuestion>,
        reply: oneshot::Sender<Result<TowerAnswer, NetworkError>>,
    },
}

/// What the event loop lets handles see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Where the node listens, without its peer id.
    pub(super) listening: Vec<Multiaddr>,
    /// Peers that are connected or known from multicast.
    pub(super) peers: usize,
    /// Configured peers that haven't been tried once.
    pub(super) untried: usize,
}

/// Speaks to the node's event loop. Cheap to clone; the node stops when the last one is gone or one says so.
#[derive(Clone)]
pub struct NetworkHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) local: PeerId,
    pub(super) address: Address,
    pub(super) network: NetworkName,
    pub(super) mdns: bool,
    pub(super) limits: NetworkLimits,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) stop: CancellationToken,
    pub(super) stopped: CancellationToken,
}

impl NetworkHandle {
    /// The node's own id.
    pub fn peer_id(&self) -> PeerId {
        self.shared.local
    }

    /// The node's own address.
    pub fn address(&self) -> Address {
        self.shared.address
    }

    /// [`listen_addresses`](Self::listen_addresses), once no more of them come: those of a machine's interfaces are found out
    /// one after the other.
    pub async fn all_listen_addresses(&self) -> Vec<Multiaddr> {
        let mut status = self.shared.status.clone();
        // Other things change, too: it is not waited for ever.
        for _ in 0..MOST_ADDRESSES {
            let Ok(Ok(())) = timeout(ADDRESSES_STAND_STILL, status.changed()).await else {
                break;
            };
        }
        self.listen_addresses()
    }

    /// Where the node can be dialed, each address with the node's id, so that a dialer knows whom it reached.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        let listening = &self.shared.status.borrow().listening;
        listening
            .iter()
            .map(|address| address.clone().with(Protocol::P2p(self.shared.local)))
            .collect()
    }

    /// How many peers are connected or known from multicast.
    pub fn known_peers(&self) -> usize {
        self.shared.status.borrow().peers
    }

    /// Connects to whoever answers at `address`. An address that ends in `/p2p/…` is only good for that peer.
    ///
    /// # Errors
    /// [`NetworkError::Dial`] when nobody answers or the wrong one does, [`NetworkError::NoAddress`] when the peer's
    /// key is no Ethereum key.
    pub async fn dial(&self, address: Multiaddr) -> Result<PeerId, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Dial { address, reply }).await?;
        answer.await.map_err(|_| NetworkError::Stopped)?
    }

    /// Opens a stream of `/lloom/inference/1.0.0`, dialing first when the peer isn't connected.
    ///
    /// # Errors
    /// [`NetworkError::OpenStream`] says why there is none.
    pub async fn open_inference_stream(&self, peer: PeerId) -> Result<InferenceStream, NetworkError> {
        let limit = self.shared.limits.open_stream;
        let (reply, answer) = oneshot::channel();
        let open = async {
            self.send(Command::OpenStream { peer, reply }).await?;
            let opened = answer.await.unwrap_or_else(|_| {
                // The connection's handler drops what it can't finish; so does an event loop that ends.
                Err(OpenStreamError::Closed)
            });
            opened.map_err(|source| {
                if self.shared.stop.is_cancelled() {
                    NetworkError::Stopped
                } else {
                    NetworkError::OpenStream { peer, source }
                }
            })
        };
        timeout(limit, open).await.map_err(|_| NetworkError::Timeout {
            operation: "opening a stream",
            limit,
        })?
    }

    /// Answers questions with `offer` from now on, and announces the node as a provider of each of its models. Another
    /// call replaces the offer.
    ///
    /// # Errors
    /// [`NetworkError::Offer`] when no peer would believe it: another operator than the node, or a part beyond its
    /// limit.
    pub async fn serve_offer(&self, offer: Offer) -> Result<(), NetworkError> {
        offer
            .check(self.shared.address)
            .and_then(|()| check_size(&offer))
            .map_err(|source| NetworkError::Offer {
                sender: self.shared.address,
                source,
            })?;
        self.send(Command::ServeOffer { offer: Box::new(offer) }).await
    }

    /// Asks `peer` what it sells. What comes back names that very peer as its operator.
    ///
    /// # Errors
    /// [`NetworkError::NoOffer`], [`NetworkError::Offer`] when the offer isn't to be believed, and
    /// [`NetworkError::RequestOffer`] when there is no readable answer.
    pub async fn request_offer(&self, peer: PeerId) -> Result<Offer, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::RequestOffer { peer, reply }).await?;
        answer.await.map_err(|_| NetworkError::Stopped)?
    }

    /// Makes this node a tower: from now on, what others ask it as one comes out here. Another call replaces it.
    ///
    /// # Errors
    /// [`NetworkError::Stopped`].
    pub async fn serve_tower(&self) -> Result<TowerInquiries, NetworkError> {
        let (questions, receiver) = mpsc::channel(self.shared.limits.waiting_tower_questions.max(1));
        self.send(Command::ServeTower { questions }).await?;
        Ok(TowerInquiries {
            receiver,
            handle: self.clone(),
        })
    }

    /// Asks the tower at `address`, which has to end in its peer id, dialing it first when it isn't connected. What comes
    /// back is that peer's word, and not believed yet.
    ///
    /// # Errors
    /// [`NetworkError::Dial`], [`NetworkError::NoAddress`], and [`NetworkError::AskTower`] when there is no readable
    /// answer.
    pub async fn ask_tower(&self, address: &Multiaddr, question: TowerQuestion) -> Result<TowerAnswer, NetworkError> {
        let peer = self.dial(address.clone()).await?;
        let (reply, answer) = oneshot::channel();
        let question = Box::new(question);
        self.send(Command::AskTower { peer, question, reply }).await?;
        answer.await.map_err(|_| NetworkError::Stopped)?
    }

    pub(super) async fn answer_tower(&self, channel: ResponseChannel<TowerAnswer>, answer: TowerAnswer) {
        let answer = Box::new(answer);
        // A node that stops answers nobody.
        let _ = self.send(Command::AnswerTower { channel, answer }).await;
    }

    /// The executors of this network that can be found now and that sell `model` (or anything): providers in the hash
    /// table, peers on the local network, and whoever is connected, the configured peers among them. Whoever doesn't
    /// answer, settles elsewhere, or sends what isn't to be believed is left out. In the order of their peer ids.
    ///
    /// # Errors
    /// [`NetworkError::Stopped`].
    pub async fn find_executors(&self, model: Option<ModelHash>) -> Result<Vec<(PeerId, Offer)>, NetworkError> {
        self.wait_for_peers().await?;
        let (reply, known) = oneshot::channel();
        self.send(Command::KnownPeers { reply }).await?;
        let (reply, providers) = oneshot::channel();
        let key = provider_key(&self.shared.network, model);
        self.send(Command::FindProviders { key, reply }).await?;
        let known = known.await.map_err(|_| NetworkError::Stopped)?;
        let providers = match timeout(self.shared.limits.find, providers).await {
            Ok(providers) => providers.map_err(|_| NetworkError::Stopped)?,
            Err(_) => {
                tracing::debug!("the hash table was asked for too long, going on with the peers that are known");
                HashSet::new()
            }
        };

        // Providers first: they said that they sell this.
        let mut seen = HashSet::from([self.shared.local]);
        let candidates: Vec<PeerId> = providers
            .into_iter()
            .chain(known)
            .filter(|peer| seen.insert(*peer))
            .take(self.shared.limits.candidates)
            .collect();
        let mut found: Vec<(PeerId, Offer)> = stream::iter(candidates)
            .map(|peer| async move { (peer, self.request_offer_in_time(peer).await) })
            .buffer_unordered(self.shared.limits.offers_in_flight.max(1))
            .filter_map(|(peer, answer)| {
                let offer = answer
                    .inspect_err(|error| tracing::debug!(%peer, error = %Chain(error), "no offer"))
                    .ok()
                    .filter(|offer| same_network(&self.shared.network, offer))
                    .filter(|offer| model.is_none_or(|model| offer.model(model).is_some()));
                std::future::ready(offer.map(|offer| (peer, offer)))
            })
            .collect()
            .await;
        if self.shared.stop.is_cancelled() {
            return Err(NetworkError::Stopped);
        }
        found.sort_by_key(|(peer, _)| *peer);
        Ok(found)
    }

    /// Stops the node: connections close, streams end, and calls of other handles answer [`NetworkError::Stopped`].
    /// Returns once everything is closed. Calling it again is fine.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.stopped.cancelled().await;
    }

    /// Whether the event loop answers within `limit`.
    pub async fn is_responsive(&self, limit: Duration) -> bool {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.send(Command::KnownPeers { reply }).await.ok()?;
            answer.await.ok()
        };
        matches!(timeout(limit, asked).await, Ok(Some(_)))
    }

    /// Resolves when the node has stopped, by whatever cause.
    pub async fn stopped(&self) {
        self.shared.stopped.cancelled().await;
    }

    /// A record may name a peer that is long gone, whose dial would take its time.
    async fn request_offer_in_time(&self, peer: PeerId) -> Result<Offer, NetworkError> {
        let limit = self.shared.limits.offer;
        timeout(limit, self.request_offer(peer))
            .await
            .map_err(|_| NetworkError::Timeout {
                operation: "asking for an offer",
                limit,
            })?
    }

    /// Waits, briefly, until a node that has just started knows whom to ask.
    async fn wait_for_peers(&self) -> Result<(), NetworkError> {
        let mut status = self.shared.status.clone();
        let expects_peers = self.shared.mdns;
        let ready = status.wait_for(|status| status.untried == 0 && (status.peers > 0 || !expects_peers));
        match timeout(FIRST_PEER, ready).await {
            Ok(Err(_)) => Err(NetworkError::Stopped),
            // Nobody is there yet: the search finds nobody, and the caller may try again.
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    async fn send(&self, command: Command) -> Result<(), NetworkError> {
        self.shared
            .commands
            .send(command)
            .await
            .map_err(|_| NetworkError::Stopped)
    }
}

impl std::fmt::Debug for NetworkHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "NetworkHandle({})", self.shared.local)
    }
}

/// An error with its causes, on one line of a log.
struct Chain<'error>(&'error (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
