//! Bodies on their way: what a client sends, within its limits, and what comes back.
//!
//! Guarantees: a body that falls silent, or is longer than its owner allows, ends the request, and the client is told which of the two it was.
//! Nothing is changed and nothing kept.

use super::kept::Sender;
use super::table::Replica;
use super::visitors::Visit;
use super::{Answer, table::Busy};
use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Longest silence in the middle of a body that a client sends.
const SILENCE: Duration = Duration::from_secs(30);

/// What became of a client's body.
#[derive(Clone, Default, Debug)]
pub(super) struct Fate(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl Fate {
    pub(super) fn is_too_large(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TOO_LARGE
    }
    pub(super) fn is_too_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TOO_SLOW
    }
    fn end(&self, why: u8) -> io::Error {
        self.0.store(why, Ordering::Relaxed);
        io::Error::new(io::ErrorKind::ConnectionAborted, "the body is longer or slower than is allowed")
    }
}

/// The body of a client's request.
pub(super) struct Sent {
    /// `None`: there is none.
    body: Option<Incoming>,
    left: u64,
    silence: Pin<Box<Sleep>>,
    fate: Fate,
}

impl Sent {
    pub(super) fn new(body: Incoming, most: Option<u64>, fate: Fate) -> Self {
        let silence = Box::pin(tokio::time::sleep(SILENCE));
        Self { body: Some(body), left: most.unwrap_or(u64::MAX), silence, fate }
    }

    /// None, for a request that is sent once more.
    pub(super) fn none() -> Self {
        Self { body: None, left: 0, silence: Box::pin(tokio::time::sleep(Duration::ZERO)), fate: Fate::default() }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            return match self.silence.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(self.fate.end(TOO_SLOW)))),
                Poll::Pending => Poll::Pending,
            };
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(io::Error::other)?;
        let bytes = frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        let Some(left) = self.left.checked_sub(bytes) else { return Poll::Ready(Some(Err(self.fate.end(TOO_LARGE)))) };
        self.left = left;
        self.silence.as_mut().reset(Instant::now() + SILENCE);
        Poll::Ready(Some(Ok(frame)))
    }
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }
    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// A body from a job; until it has ended it counts as a request of its replica and of its visitor, and has its connection for itself.
pub(super) struct Held {
    body: Incoming,
    has_ended: bool,
    of: Option<(Replica, Sender)>,
    _busy: Busy,
    _visit: Visit,
}

/// What a client gets.
pub(super) fn held(response: Response<Incoming>, replica: Replica, sender: Sender, busy: Busy, visit: Visit) -> Answer {
    use http_body_util::BodyExt as _;
    response.map(|body| {
        let has_ended = body.is_end_stream();
        Held { body, has_ended, of: Some((replica, sender)), _busy: busy, _visit: visit }.boxed()
    })
}

impl Body for Held {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.has_ended = frame.is_none() || self.body.is_end_stream();
        Poll::Ready(frame)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((replica, sender)) = self.of.take()
            && self.has_ended
        {
            replica.load.kept.give_back(sender);
        }
    }
}
