//! Towers' questions and answers, on their way through the event loop.

use std::collections::HashMap;

use libp2p::{
    PeerId,
    request_response::{self, OutboundRequestId, ResponseChannel},
};
use tokio::sync::{mpsc, oneshot};

use super::EventLoop;
use crate::{
    network::{error::NetworkError, identity::peer_address, tower::Asked},
    tower::{TowerAnswer, TowerQuestion, TowerRefusal},
};

type Reply = oneshot::Sender<Result<TowerAnswer, NetworkError>>;

#[derive(Debug, Default)]
pub(super) struct Towers {
    /// Where questions to this node go, if it is a tower.
    serving: Option<mpsc::Sender<Asked>>,
    /// Who waits for which tower.
    asked: HashMap<OutboundRequestId, (PeerId, Reply)>,
}

impl Towers {
    pub(super) fn serve(&mut self, questions: mpsc::Sender<Asked>) {
        self.serving = Some(questions);
    }

    /// Hands a question on; one that can't be comes back with the refusal it gets.
    fn hand_on(&self, asked: Asked) -> Option<(Asked, TowerRefusal)> {
        let Some(serving) = &self.serving else {
            return Some((asked, TowerRefusal::NoTower));
        };
        match serving.try_send(asked) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(asked)) => Some((asked, TowerRefusal::Busy)),
            Err(mpsc::error::TrySendError::Closed(asked)) => Some((asked, TowerRefusal::NoTower)),
        }
    }
}

impl EventLoop {
    pub(super) fn ask_tower(&mut self, peer: PeerId, question: TowerQuestion, reply: Reply) {
        self.towers.asked.retain(|_, (_, waiting)| !waiting.is_closed());
        let request = self.swarm.behaviour_mut().towers.send_request(&peer, question);
        self.towers.asked.insert(request, (peer, reply));
    }

    pub(super) fn answer_as_tower(&mut self, channel: ResponseChannel<TowerAnswer>, answer: TowerAnswer) {
        if self
            .swarm
            .behaviour_mut()
            .towers
            .send_response(channel, answer)
            .is_err()
        {
            tracing::debug!("whoever asked the tower left before it was answered");
        }
    }

    pub(super) fn on_tower_event(&mut self, event: request_response::Event<TowerQuestion, TowerAnswer>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    let Some(address) = peer_address(&peer) else {
                        return;
                    };
                    let asked = Asked {
                        peer,
                        address,
                        question: request,
                        channel,
                    };
                    if let Some((asked, refusal)) = self.towers.hand_on(asked) {
                        self.answer_as_tower(asked.channel, TowerAnswer::Refused(refusal));
                    }
                }
                request_response::Message::Response { request_id, response } => {
                    if let Some((_, reply)) = self.towers.asked.remove(&request_id) {
                        // The caller may have left.
                        let _ = reply.send(Ok(response));
                    }
                }
            },
            request_response::Event::OutboundFailure {
                peer,
                request_id,
                error: source,
                ..
            } => {
                if let Some((_, reply)) = self.towers.asked.remove(&request_id) {
                    let _ = reply.send(Err(NetworkError::AskTower { peer, source }));
                }
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a question to the tower was not answered");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }
}
