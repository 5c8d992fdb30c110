//! Connections to a replica that are kept for the next request.
//!
//! Guarantees: one that is taken has nothing of another request in it; none is kept for longer than [`KEPT_FOR`], and few of them.

use super::body::Sent;
use hyper::client::conn::http1::SendRequest;
use pasture_rt::TaskKind;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a connection waits for the next request: shorter than servers commonly do, so that few are closed just when they are used.
const KEPT_FOR: Duration = Duration::from_secs(4);
/// Most of one replica.
const MOST: usize = 32;

pub(super) type Sender = SendRequest<Sent>;

/// Those of one replica. A lock and no owner task: it is held to put one in or take one out.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<(Sender, Instant)>>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.lock().len()).finish()
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<(Sender, Instant)>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last, if one is still open.
    pub(super) fn take(&self, now: Instant) -> Option<Sender> {
        let mut all = self.lock();
        while let Some((sender, since)) = all.pop() {
            if sender.is_ready() && now.saturating_duration_since(since) < KEPT_FOR {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps one for the next request, once it has done with the last.
    pub(super) fn give_back(&self, mut sender: Sender) {
        let kept = self.clone();
        pasture_rt::spawn(TaskKind::Connection, async move {
            if sender.ready().await.is_err() {
                return;
            }
            let mut all = kept.lock();
            if all.len() < MOST {
                all.push((sender, Instant::now()));
            }
        });
    }

    /// Closes those that waited long enough.
    pub(super) fn sweep(&self, now: Instant) {
        self.lock().retain(|(sender, since)| !sender.is_closed() && now.saturating_duration_since(*since) < KEPT_FOR);
    }
}
