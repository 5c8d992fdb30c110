//! Answers that stay open: how many there may be, and what becomes of them when the gateway stops.
//!
//! Guarantees: a stream counts from before its first byte until its body is dropped, and ends when the gateway stops.

use crate::metrics::Entered;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream};
use futures::{FutureExt as _, StreamExt as _};
use pasture_api::Problem;
use pasture_rt::ShutdownToken;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An error that a body ends with.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The stream was cut off, so that its reader does not take what it has for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the gateway is shutting down")]
struct ShuttingDown;

/// How many streams there may be.
pub(crate) struct StreamSlots {
    free: Arc<Semaphore>,
    most: usize,
}

/// One of the slots.
pub(crate) struct StreamSlot {
    _permit: OwnedSemaphorePermit,
}

impl StreamSlots {
    pub(crate) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most }
    }
    /// Takes a slot; refuses when there is none, since a stream may last for days.
    pub(crate) fn take(&self) -> Result<StreamSlot, Problem> {
        match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => Ok(StreamSlot { _permit: permit }),
            Err(_) => Err(Problem::new(
                503,
                "busy",
                format!("{} streams are open at this gateway, which is the most: try again later", self.most),
            )),
        }
    }
}

/// What a reader sees of a stream that ends because the gateway stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtStop {
    /// A clean end: the stream has no last item anyway.
    End,
    /// A connection that breaks off: an end would look like the end of what is being sent.
    Break,
}

/// A stream that holds its slot and ends when the gateway stops.
pub(crate) struct Held<T> {
    inner: BoxStream<'static, Result<T, BodyError>>,
    stop: BoxFuture<'static, ()>,
    at_stop: AtStop,
    ended: bool,
    _slot: StreamSlot,
    _entered: Entered,
}

impl<T> Held<T> {
    pub(crate) fn new<S, E>(inner: S, at_stop: AtStop, stop: ShutdownToken, slot: StreamSlot, entered: Entered) -> Self
    where
        S: Stream<Item = Result<T, E>> + Send + 'static,
        E: Into<BodyError>,
    {
        let inner = inner.map(|item| item.map_err(Into::into)).boxed();
        let stop = async move { stop.requested().await }.boxed();
        Self { inner, stop, at_stop, ended: false, _slot: slot, _entered: entered }
    }
}

impl<T> Stream for Held<T> {
    type Item = Result<T, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What is there already still goes out: a stop cuts only what would have to be waited for.
        if let Poll::Ready(item) = self.inner.poll_next_unpin(cx) {
            self.ended = item.is_none();
            return Poll::Ready(item);
        }
        ready!(self.stop.poll_unpin(cx));
        self.ended = true;
        Poll::Ready(match self.at_stop {
            AtStop::End => None,
            AtStop::Break => Some(Err(ShuttingDown.into())),
        })
    }
}
