//! Accepting connections: as many as there are slots, and of one range of addresses a part of them; and a cut that ends all of them.
//!
//! Guarantees: a connection holds its slot for as long as it is open; when all are taken, newcomers wait in the
//! system's queue. Whoever has many addresses of one range takes its part of the slots and no more: what is beyond is closed at once.
//! After the cut, reading and writing fail, so that no connection outlives the gateway.

use crate::metrics::{Entered, Gauge};
use axum::serve::Listener;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use pasture_rt::ShutdownToken;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Addresses that mostly belong to one owner: 256 of them, or with IPv6 what a customer gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Range {
    V4([u8; 3]),
    V6([u16; 3]),
}

impl Range {
    /// The range of an address; `None` for this machine's own and those of private networks, where one may be a proxy that many are behind.
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(ip) if ip == Ipv4Addr::LOCALHOST || ip.is_private() || ip.is_link_local() => None,
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Some(Self::V4([a, b, c]))
            }
            IpAddr::V6(ip) if ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() => None,
            IpAddr::V6(ip) => {
                let [a, b, c, ..] = ip.segments();
                Some(Self::V6([a, b, c]))
            }
        }
    }
}

/// How many connections of each range are open. A lock and no owner task: it is held for one look-up, by whoever accepts and whoever closes.
#[derive(Default, Debug)]
struct Ranges(Mutex<HashMap<Range, usize>>);

impl Ranges {
    fn lock(&self) -> MutexGuard<'_, HashMap<Range, usize>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place of a range; `None` if all `most` are taken.
    fn enter(self: &Arc<Self>, range: Range, most: usize) -> Option<Place> {
        let mut open = self.lock();
        let count = open.entry(range).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { ranges: Arc::clone(self), range })
    }
}

/// A place of a range, given back when it is dropped.
struct Place {
    ranges: Arc<Ranges>,
    range: Range,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.ranges.lock();
        if let Some(count) = open.get_mut(&self.range) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.range);
            }
        }
    }
}

/// Slots that several listeners may share.
#[derive(Clone)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    ranges: Arc<Ranges>,
    most_of_range: usize,
}

impl Slots {
    pub(crate) fn new(most: usize, most_of_range: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(most)), ranges: Arc::default(), most_of_range }
    }
}

/// A listener with slots.
pub(crate) struct BoundedListener {
    inner: TcpListener,
    slots: Slots,
    open: Arc<Gauge>,
    cut: ShutdownToken,
}

impl BoundedListener {
    pub(crate) const fn new(inner: TcpListener, slots: Slots, open: Arc<Gauge>, cut: ShutdownToken) -> Self {
        Self { inner, slots, open, cut }
    }

    /// The next connection whose range has a place, with that.
    async fn next(&mut self) -> (TcpStream, SocketAddr, Option<Place>) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.inner).await;
            let Some(range) = Range::of(peer.ip()) else { return (stream, peer, None) };
            match self.slots.ranges.enter(range, self.slots.most_of_range) {
                Some(place) => return (stream, peer, Some(place)),
                // Dropped, which closes it.
                None => tracing::debug!(%peer, "its range of addresses has too many connections"),
            }
        }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let slot = match Arc::clone(&self.slots.all).acquire_owned().await {
            Ok(slot) => slot,
            Err(_) => std::future::pending().await, // nobody closes the semaphore
        };
        let (stream, peer, place) = self.next().await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays without TCP_NODELAY");
        }
        let cut = self.cut.clone();
        let cut = async move { cut.requested().await }.boxed();
        (Connection { stream, cut: Some(cut), _slot: slot, _place: place, _entered: self.open.enter() }, peer)
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
    _place: Option<Place>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_owner_are_of_one_range_and_proxies_of_none() {
        let range = |text: &str| Range::of(text.parse().unwrap());
        assert_eq!(range("203.0.113.7"), range("203.0.113.200"));
        assert_eq!(range("203.0.113.7"), range("::ffff:203.0.113.9"));
        assert_ne!(range("203.0.113.7"), range("203.0.114.7"));
        assert_eq!(range("2001:db8:1:2::3"), range("2001:db8:1:ffff::1"));
        assert_ne!(range("2001:db8:1::3"), range("2001:db8:2::3"));
        for own in ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "172.17.0.1", "fd00::1", "fe80::1", "::ffff:127.0.0.1"] {
            assert_eq!(range(own), None, "{own}");
        }
    }

    #[test]
    fn a_range_has_its_places_and_gives_them_back() {
        let ranges = Arc::<Ranges>::default();
        let [one, other] = [Range::V4([1, 2, 3]), Range::V4([1, 2, 4])];
        let held: Vec<_> = (0..2).map(|_| ranges.enter(one, 2).unwrap()).collect();
        assert!(ranges.enter(one, 2).is_none() && ranges.enter(other, 2).is_some());
        drop(held);
        assert!(ranges.lock().is_empty(), "what is closed is forgotten");
        assert!(ranges.enter(one, 2).is_some());
    }
}
