use std::io;

use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::NetworkHandle;

/// A stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Opens inference streams.
pub trait Connect: Send + Sync {
    /// A new stream to `peer`.
    fn open(&self, peer: PeerId) -> BoxFuture<'_, io::Result<Box<dyn Duplex>>>;
}

impl Connect for NetworkHandle {
    fn open(&self, peer: PeerId) -> BoxFuture<'_, io::Result<Box<dyn Duplex>>> {
        Box::pin(async move {
            let stream = self.open_inference_stream(peer).await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}
