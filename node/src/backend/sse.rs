use bytes::Bytes;
use eventsource_stream::{Event, EventStreamError, Eventsource as _};
use futures::{Stream, StreamExt as _};

use super::error::BackendError;

/// The most bytes between two events, comments included. A server that sends more without a blank line is not read on.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// What can break an event stream below its events.
#[derive(Debug)]
enum Broken {
    Transport(reqwest::Error),
    Oversize,
}

/// The server-sent events of a body, none longer than [`MAX_EVENT_BYTES`].
pub(super) fn events(
    body: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = Result<Event, BackendError>> + Send {
    let mut length = EventLength::default();
    let bounded = body.map(move |part| {
        let part = part.map_err(Broken::Transport)?;
        if length.passes(&part) {
            Ok(part)
        } else {
            Err(Broken::Oversize)
        }
    });
    bounded.eventsource().map(|event| {
        event.map_err(|error| match error {
            EventStreamError::Transport(Broken::Transport(error)) => BackendError::BrokeOff(error.without_url()),
            EventStreamError::Transport(Broken::Oversize) => BackendError::Oversize {
                unit: "event",
                limit: MAX_EVENT_BYTES,
            },
            EventStreamError::Utf8(_) => BackendError::Garbage {
                excerpt: "bytes that are no UTF-8".to_owned(),
            },
            EventStreamError::Parser(_) => BackendError::Garbage {
                excerpt: "lines that are no server-sent event".to_owned(),
            },
        })
    })
}

/// Measures events while they pass: the parser behind it keeps whatever it is given until a line ends.
#[derive(Debug, Default)]
struct EventLength {
    event: usize,
    line: usize,
}

impl EventLength {
    /// Whether no event is longer than allowed, up to the end of `part`.
    fn passes(&mut self, part: &[u8]) -> bool {
        for byte in part {
            self.event += 1;
            match byte {
                b'\n' => {
                    if self.line == 0 {
                        self.event = 0;
                    }
                    self.line = 0;
                }
                b'\r' => {}
                _ => self.line += 1,
            }
            if self.event > MAX_EVENT_BYTES {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_one_event() {
        let mut length = EventLength::default();
        let event = [b"data: ".as_slice(), &[b'x'; 1000], b"\r\n\r\n"].concat();
        for _ in 0..1000 {
            assert!(length.passes(&event), "many events are no long one");
        }
        for _ in 0..MAX_EVENT_BYTES / 8 {
            assert!(length.passes(b"data: x\n"));
        }
        assert!(
            !length.passes(b"data: x\n"),
            "many lines without a blank one are one event"
        );
    }
}
