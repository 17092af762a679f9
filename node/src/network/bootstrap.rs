use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

/// The configured peers and what became of each.
#[derive(Debug)]
pub(super) struct Bootstrap {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    address: Multiaddr,
    state: State,
    /// Whether a dial has ended, or the peer it reached has said who it is.
    tried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Apart,
    Dialing(ConnectionId),
    Connected(PeerId),
}

impl Bootstrap {
    pub(super) fn new(addresses: &[Multiaddr]) -> Self {
        let entries = addresses.iter().map(|address| Entry {
            address: address.clone(),
            state: State::Apart,
            tried: false,
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// Which are to be dialed.
    pub(super) fn due(&self) -> Vec<(usize, Multiaddr)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.state == State::Apart)
            .map(|(index, entry)| (index, entry.address.clone()))
            .collect()
    }

    /// How many have neither been reached nor found unreachable.
    pub(super) fn untried(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.tried).count()
    }

    pub(super) fn dialing(&mut self, index: usize, connection: ConnectionId) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.state = State::Dialing(connection);
        }
    }

    pub(super) fn connected(&mut self, index: usize, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.state = State::Connected(peer);
            entry.tried = true;
        }
    }

    pub(super) fn failed(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.state = State::Apart;
            entry.tried = true;
        }
    }

    pub(super) fn established(&mut self, connection: ConnectionId, peer: PeerId) {
        for entry in self.dialed_by(connection) {
            entry.state = State::Connected(peer);
        }
    }

    pub(super) fn dial_failed(&mut self, connection: ConnectionId) {
        for entry in self.dialed_by(connection) {
            entry.state = State::Apart;
            entry.tried = true;
        }
    }

    /// The peer said what it speaks, or won't: from now on it can be asked.
    pub(super) fn identified(&mut self, peer: &PeerId) {
        for entry in self.connected_to(peer) {
            entry.tried = true;
        }
    }

    pub(super) fn lost(&mut self, peer: &PeerId) {
        for entry in self.connected_to(peer) {
            entry.state = State::Apart;
            entry.tried = true;
        }
    }

    fn dialed_by(&mut self, connection: ConnectionId) -> impl Iterator<Item = &mut Entry> {
        self.entries
            .iter_mut()
            .filter(move |entry| entry.state == State::Dialing(connection))
    }

    fn connected_to(&mut self, peer: &PeerId) -> impl Iterator<Item = &mut Entry> {
        let state = State::Connected(*peer);
        self.entries.iter_mut().filter(move |entry| entry.state == state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_dialed_until_it_is_there_and_again_when_it_is_lost() {
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let mut bootstrap = Bootstrap::new(std::slice::from_ref(&address));
        let peer = PeerId::random();
        assert_eq!((bootstrap.untried(), bootstrap.due().len()), (1, 1));

        let first = ConnectionId::new_unchecked(1);
        bootstrap.dialing(0, first);
        assert!(bootstrap.due().is_empty(), "one dial at a time");
        bootstrap.dial_failed(first);
        assert_eq!((bootstrap.untried(), bootstrap.due()), (0, vec![(0, address)]));

        let second = ConnectionId::new_unchecked(2);
        bootstrap.dialing(0, second);
        bootstrap.dial_failed(first);
        bootstrap.established(second, peer);
        assert!(bootstrap.due().is_empty());
        bootstrap.lost(&PeerId::random());
        assert!(bootstrap.due().is_empty(), "somebody else left");
        bootstrap.lost(&peer);
        assert_eq!(bootstrap.due().len(), 1);
    }

    #[test]
    fn a_peer_counts_as_tried_once_it_can_be_asked() {
        let mut bootstrap = Bootstrap::new(&["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
        let (connection, peer) = (ConnectionId::new_unchecked(1), PeerId::random());
        bootstrap.dialing(0, connection);
        bootstrap.established(connection, peer);
        assert_eq!(bootstrap.untried(), 1);
        bootstrap.identified(&peer);
        assert_eq!(bootstrap.untried(), 0);
    }
}
