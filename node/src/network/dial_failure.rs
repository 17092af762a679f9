use std::{error::Error, fmt, io, sync::Arc};

use libp2p::{TransportError, swarm::DialError};

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
