use std::{io, marker::PhantomData, time::Duration};

use bytes::{Buf, BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use super::MAX_FRAME;

/// Bytes of a frame's length.
const LENGTH: usize = 4;

/// A frame nested deeper than this is no frame of ours; keeps a hostile one from using up the stack.
const MAX_NESTING: usize = 32;

/// How much is asked of the stream at a time.
const READ_AHEAD: usize = 16 << 10;

/// Reads frames of type `F`. [`next`](Self::next) may be dropped and called again without losing bytes.
#[derive(Debug)]
pub struct FrameReader<R, F> {
    stream: R,
    buffer: BytesMut,
    frames: PhantomData<fn() -> F>,
}

impl<R: AsyncRead + Unpin, F: DeserializeOwned> FrameReader<R, F> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(READ_AHEAD),
            frames: PhantomData,
        }
    }

    #[cfg(test)]
    pub(crate) fn of<G>(self) -> FrameReader<R, G> {
        FrameReader {
            stream: self.stream,
            buffer: self.buffer,
            frames: PhantomData,
        }
    }

    /// The next frame, or `None` where the stream ends between two frames.
    ///
    /// # Errors
    /// After [`WireError::Malformed`] the next frame can be read; after any other error nothing can.
    pub async fn next(&mut self) -> Result<Option<F>, WireError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_AHEAD);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.len() {
                    0 => Ok(None),
                    received => Err(WireError::Truncated {
                        received: received as u64,
                        length: self.announced().map_or(LENGTH as u64, |length| length + LENGTH as u64),
                    }),
                };
            }
        }
    }

    fn announced(&self) -> Option<u64> {
        let length: [u8; LENGTH] = self.buffer.get(..LENGTH)?.try_into().ok()?;
        Some(u64::from(u32::from_be_bytes(length)))
    }

    fn buffered(&mut self) -> Result<Option<F>, WireError> {
        let Some(length) = self.announced() else {
            return Ok(None);
        };
        if length > MAX_FRAME as u64 {
            return Err(WireError::Oversize { length });
        }
        let end = LENGTH + length as usize;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(end);
        frame.advance(LENGTH);
        decode(&frame).map(Some)
    }
}

fn decode<F: DeserializeOwned>(mut bytes: &[u8]) -> Result<F, WireError> {
    let frame = ciborium::de::from_reader_with_recursion_limit(&mut bytes, MAX_NESTING).map_err(|error| {
        WireError::Malformed {
            detail: match error {
                ciborium::de::Error::Io(_) => "the CBOR is cut off".to_owned(),
                ciborium::de::Error::Syntax(offset) => format!("no CBOR at byte {offset}"),
                ciborium::de::Error::Semantic(_, detail) => detail,
                ciborium::de::Error::RecursionLimitExceeded => "nested too deeply".to_owned(),
            },
        }
    })?;
    if bytes.is_empty() {
        Ok(frame)
    } else {
        Err(WireError::Malformed {
            detail: format!("{} bytes follow the frame's content", bytes.len()),
        })
    }
}

/// One frame as it looks on the wire.
///
/// # Errors
/// [`WireError::Oversize`] when the frame is longer than [`MAX_FRAME`].
pub fn encode<F: Serialize>(frame: &F) -> Result<BytesMut, WireError> {
    let mut bytes = BytesMut::with_capacity(512);
    append(frame, &mut bytes)?;
    Ok(bytes)
}

fn append<F: Serialize>(frame: &F, buffer: &mut BytesMut) -> Result<(), WireError> {
    let start = buffer.len();
    buffer.put_u32(0);
    let encoded = ciborium::into_writer(frame, (&mut *buffer).writer());
    let length = buffer.len() - start - LENGTH;
    if encoded.is_err() || length > MAX_FRAME {
        buffer.truncate(start);
        return Err(match encoded {
            Ok(()) => WireError::Oversize { length: length as u64 },
            Err(error) => WireError::Io(io::Error::other(error.to_string())),
        });
    }
    // MAX_FRAME fits u32.
    buffer[start..start + LENGTH].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

/// Writes frames. What is queued leaves by [`drain`](Self::drain), which may be dropped and called again without
/// losing or repeating bytes, so that a session can read and write at the same time.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    buffer: BytesMut,
    unflushed: bool,
    progress: Instant,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `stream`.
    pub fn new(stream: W) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            unflushed: false,
            progress: Instant::now(),
        }
    }

    /// The stream below. What is written to it directly overtakes what is queued.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.stream
    }

    /// Puts a frame behind those that wait.
    ///
    /// # Errors
    /// [`WireError::Oversize`]; what waits stays as it was.
    pub fn queue<F: Serialize>(&mut self, frame: &F) -> Result<(), WireError> {
        append(frame, &mut self.buffer)?;
        if !self.unflushed {
            self.unflushed = true;
            self.progress = Instant::now();
        }
        Ok(())
    }

    /// How many bytes wait.
    pub fn queued(&self) -> usize {
        self.buffer.len()
    }

    /// Whether everything queued has left.
    pub fn is_drained(&self) -> bool {
        !self.unflushed
    }

    /// Writes and flushes what is queued.
    ///
    /// # Errors
    /// The stream's; [`WireError::Stalled`] when for `patience` not a byte could be written.
    pub async fn drain(&mut self, patience: Duration) -> Result<(), WireError> {
        while !self.buffer.is_empty() {
            match timeout_at(self.progress + patience, self.stream.write_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(Ok(_)) => self.progress = Instant::now(),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(WireError::Stalled { patience }),
            }
        }
        timeout_at(self.progress + patience, self.stream.flush())
            .await
            .map_err(|_| WireError::Stalled { patience })??;
        self.unflushed = false;
        Ok(())
    }

    /// Queues one frame and drains.
    ///
    /// # Errors
    /// As [`queue`](Self::queue) and [`drain`](Self::drain).
    pub async fn send<F: Serialize>(&mut self, frame: &F, patience: Duration) -> Result<(), WireError> {
        self.queue(frame)?;
        self.drain(patience).await
    }

    /// Says that nothing more will come.
    ///
    /// # Errors
    /// The stream's; [`WireError::Stalled`] when it takes longer than `patience`.
    pub async fn close(&mut self, patience: Duration) -> Result<(), WireError> {
        Ok(tokio::time::timeout(patience, self.stream.shutdown())
            .await
            .map_err(|_| WireError::Stalled { patience })??)
    }
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[from] io::Error),
    /// The frame's content is not what it has to be.
    #[error("the frame is malformed: {detail}")]
    Malformed {
        /// For a person.
        detail: String,
    },
    /// Longer than [`MAX_FRAME`].
    #[error("a frame of {length} bytes is over the limit of {MAX_FRAME}")]
    Oversize {
        /// Its length.
        length: u64,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame: {received} of {length} bytes came")]
    Truncated {
        /// Bytes that came.
        received: u64,
        /// Bytes of the frame, the length included.
        length: u64,
    },
    /// The other side takes nothing any more.
    #[error("the other side has taken nothing for {} s", patience.as_secs_f32())]
    Stalled {
        /// How long it was waited for.
        patience: Duration,
    },
}
