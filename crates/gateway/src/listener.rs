//! Accepting connections: as many as there are slots; and a cut that ends all of them.
//!
//! Guarantees: a connection holds its slot for as long as it is open; when all are taken, newcomers wait in the
//! system's queue. After the cut, reading and writing fail, so that no connection outlives the gateway.

use crate::metrics::{Entered, Gauge};
use axum::serve::Listener;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use pasture_rt::ShutdownToken;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A listener with slots.
pub(crate) struct BoundedListener {
    inner: TcpListener,
    slots: Arc<Semaphore>,
    open: Arc<Gauge>,
    cut: ShutdownToken,
}

impl BoundedListener {
    pub(crate) fn new(inner: TcpListener, most: usize, open: Arc<Gauge>, cut: ShutdownToken) -> Self {
        Self { inner, slots: Arc::new(Semaphore::new(most)), open, cut }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let slot = match Arc::clone(&self.slots).acquire_owned().await {
            Ok(slot) => slot,
            Err(_) => std::future::pending().await, // nobody closes the semaphore
        };
        let (stream, peer) = Listener::accept(&mut self.inner).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays without TCP_NODELAY");
        }
        let cut = self.cut.clone();
        let cut = async move { cut.requested().await }.boxed();
        (Connection { stream, cut: Some(cut), _slot: slot, _entered: self.open.enter() }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// `None` once the cut was made.
    cut: Option<BoxFuture<'static, ()>>,
    _slot: OwnedSemaphorePermit,
    _entered: Entered,
}

impl Connection {
    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().is_some_and(|cut| cut.poll_unpin(cx).is_ready()) {
            self.cut = None;
        }
        if self.cut.is_some() { Ok(()) } else { Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the gateway has stopped")) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
