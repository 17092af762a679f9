use libp2p::{
    Multiaddr, PeerId,
    multiaddr::Protocol,
    swarm::{
        DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::{dial_failure::DialFailure, error::NetworkError, identity::peer_address, inference::NoAddress};

/// The peer that `address` names. One without an Ethereum key is refused before it is dialed.
pub(super) fn named_peer(address: &Multiaddr) -> Result<Option<PeerId>, NetworkError> {
    let named = address.iter().last().and_then(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    });
    match named {
        Some(peer) if peer_address(&peer).is_none() => Err(NetworkError::NoAddress { peer }),
        named => Ok(named),
    }
}

pub(super) fn dial_options(named: Option<PeerId>, address: &Multiaddr) -> DialOpts {
    match named {
        Some(peer) => DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(vec![address.clone()])
            .build(),
        None => DialOpts::unknown_peer_id().address(address.clone()).build(),
    }
}

pub(super) fn dial_error(address: Multiaddr, failure: DialFailure) -> NetworkError {
    if let DialError::Denied { cause } = failure.error()
        && let Some(NoAddress(peer)) = cause.downcast_ref()
    {
        return NetworkError::NoAddress { peer: *peer };
    }
    NetworkError::Dial {
        address,
        source: failure,
    }
}
