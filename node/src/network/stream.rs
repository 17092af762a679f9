use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use alloy::primitives::Address;
use libp2p::PeerId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use super::error::OpenStreamError;

/// A stream of `/lloom/inference/1.0.0`. Dropping it resets it; shutting its writing half down first tells the peer that
/// nothing more comes.
#[derive(Debug)]
pub struct InferenceStream {
    stream: Compat<libp2p::Stream>,
    /// Gives the stream's place on its connection back.
    _permit: OwnedSemaphorePermit,
}

impl InferenceStream {
    /// Takes a place among the streams of a connection; nothing when there is none left.
    pub(super) fn new(stream: libp2p::Stream, places: &Arc<Semaphore>) -> Option<Self> {
        let permit = Arc::clone(places).try_acquire_owned().ok()?;
        Some(Self {
            stream: stream.compat(),
            _permit: permit,
        })
    }
}

impl AsyncRead for InferenceStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for InferenceStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream somebody opened to this node.
#[derive(Debug)]
pub struct IncomingStream {
    /// Who, as the connection's handshake has proven.
    pub address: Address,
    /// The same, as libp2p knows it.
    pub peer: PeerId,
    /// The stream.
    pub stream: InferenceStream,
}

/// The streams others open, in the order of their arrival. A node that drops this serves no inference: streams to it
/// fail with [`OpenStreamError::Unsupported`].
#[derive(Debug)]
pub struct IncomingStreams {
    pub(super) receiver: mpsc::Receiver<IncomingStream>,
}

impl IncomingStreams {
    /// The next stream; nothing once the network has been shut down. Cancel safe.
    pub async fn next(&mut self) -> Option<IncomingStream> {
        self.receiver.recv().await
    }
}

/// Where an opened stream goes.
pub(super) type OpenReply = oneshot::Sender<Result<InferenceStream, OpenStreamError>>;
