use std::{error::Error, fmt, io, sync::Arc};

use libp2p::{
    Multiaddr, PeerId, TransportError,
    multiaddr::Protocol,
    swarm::{
        DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::{error::NetworkError, identity::peer_address, inference::NoAddress};

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

/// Why nobody could be dialed, in one line. What libp2p itself says of it takes several, and names every cause three times.
#[derive(Clone, Debug)]
pub struct DialFailure(Arc<DialError>);

impl DialFailure {
    pub(super) fn new(error: DialError) -> Self {
        Self(Arc::new(error))
    }

    /// The whole of it.
    pub fn error(&self) -> &DialError {
        &self.0
    }
}

impl fmt::Display for DialFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error() {
            DialError::NoAddresses => formatter.write_str("no address of it is known"),
            DialError::Transport(attempts) => match &attempts[..] {
                [(_, only)] => write_cause(only, formatter),
                attempts => {
                    for (index, (address, error)) in attempts.iter().enumerate() {
                        let separator = if index > 0 { "; " } else { "" };
                        write!(formatter, "{separator}{address}: ")?;
                        write_cause(error, formatter)?;
                    }
                    Ok(())
                }
            },
            other => write!(formatter, "{other}"),
        }
    }
}

// The text says what the sources would.
impl Error for DialFailure {}

fn write_cause(error: &TransportError<io::Error>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        TransportError::MultiaddrNotSupported(_) => formatter.write_str("no transport of this node goes there"),
        TransportError::Other(error) => {
            let mut cause: &dyn Error = error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            write!(formatter, "{cause}")
        }
    }
}
